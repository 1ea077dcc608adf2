// What the AWS SDK for JavaScript does with its defaults. Arguments: endpoint; credentials from the environment.
import { createReadStream, writeFileSync } from "node:fs";
import { randomBytes, createHash } from "node:crypto";
import * as S3 from "@aws-sdk/client-s3";
import { getSignedUrl } from "@aws-sdk/s3-request-presigner";
import { createPresignedPost } from "@aws-sdk/s3-presigned-post";
import { Upload } from "@aws-sdk/lib-storage";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import http from "node:http";

const endpoint = process.argv[2];
let failed = 0;
async function check(name, work) {
  try { await work(); console.log(`ok   ${name}`); }
  catch (error) { failed++; console.log(`FAIL ${name}: ${error.name} ${error.$metadata?.httpStatusCode ?? ""} ${error.message}`); }
}
function same(a, b, what) { if (a !== b) throw new Error(`${what}: ${a} is not ${b}`); }
// Node has no resolver for *.localhost; everything is on this machine.
async function fetchRaw(url, method = "GET", body, headers = {}) {
  const u = new URL(url);
  return await new Promise((resolve, reject) => {
    const request = http.request({ host: "127.0.0.1", port: u.port, path: u.pathname + u.search, method, headers: { host: u.host, ...headers, ...(body ? {"content-length": Buffer.byteLength(body)} : {}) } }, (response) => {
      const pieces = []; response.on("data", (d) => pieces.push(d)); response.on("end", () => resolve({ status: response.statusCode, body: Buffer.concat(pieces).toString(), headers: response.headers }));
    });
    request.on("error", reject); if (body) request.write(body); request.end();
  });
}
// Encodes a form as browsers do, and sends it as a page of another origin would.
async function submit(url, fields, file) {
  const form = new FormData(); for (const [name, value] of Object.entries(fields)) form.append(name, value);
  form.append("file", file, file.name); form.append("submit", "Upload");
  const encoded = new Response(form);
  return await fetchRaw(url, "POST", Buffer.from(await encoded.arrayBuffer()), { "content-type": encoded.headers.get("content-type"), origin: "https://app.test" });
}
async function ok(url, method, body) { const a = await fetchRaw(url, method, body); if (a.status !== 200) throw new Error(`${a.status} ${a.body}`); return a; }
for (const forcePathStyle of [true, false]) {
  const style = forcePathStyle ? "path" : "virtual";
  // Node has no resolver for *.localhost; everything is on this machine.
  const lookup = (_, options, done) => (options.all ? done(null, [{ address: "127.0.0.1", family: 4 }]) : done(null, "127.0.0.1", 4));
  const s3 = new S3.S3Client({ endpoint, region: "us-east-1", forcePathStyle, requestHandler: { httpAgent: new http.Agent({ lookup }) } });
  const Bucket = `js-${style}-${randomBytes(6).toString("hex")}`;
  const send = (command) => s3.send(command);
  await check(`${style} create bucket`, () => send(new S3.CreateBucketCommand({ Bucket })));
  await check(`${style} put and get`, async () => {
    await send(new S3.PutObjectCommand({ Bucket, Key: "a b/é+%.txt", Body: "hello", Metadata: { a: "b" }, ContentType: "text/plain" }));
    const got = await send(new S3.GetObjectCommand({ Bucket, Key: "a b/é+%.txt" }));
    same(await got.Body.transformToString(), "hello", "body"); same(got.Metadata.a, "b", "metadata");
  });
  await check(`${style} put empty`, () => send(new S3.PutObjectCommand({ Bucket, Key: "empty", Body: "" })));
  await check(`${style} last byte of nothing`, async () => { const a = await send(new S3.GetObjectCommand({ Bucket, Key: "empty", Range: "bytes=-1" })); same(a.ContentLength, 0, "length"); });
  await check(`${style} put a stream with a trailer`, async () => {
    const file = join(tmpdir(), `js-${process.pid}`); const data = randomBytes(300_000); writeFileSync(file, data);
    await send(new S3.PutObjectCommand({ Bucket, Key: "stream", Body: createReadStream(file), ContentLength: data.length }));
    const got = await send(new S3.GetObjectCommand({ Bucket, Key: "stream" }));
    same(createHash("md5").update(await got.Body.transformToByteArray()).digest("hex"), createHash("md5").update(data).digest("hex"), "md5");
  });
  for (const ChecksumAlgorithm of ["CRC32", "CRC32C", "SHA1", "SHA256", "CRC64NVME"])
    await check(`${style} checksum ${ChecksumAlgorithm}`, () => send(new S3.PutObjectCommand({ Bucket, Key: "sum", Body: "x".repeat(9000), ChecksumAlgorithm })));
  await check(`${style} multipart upload`, async () => {
    await new Upload({ client: s3, params: { Bucket, Key: "big", Body: Readable.from([randomBytes(6 << 20), randomBytes(6 << 20)]) }, partSize: 5 << 20 }).done();
    same((await send(new S3.HeadObjectCommand({ Bucket, Key: "big" }))).ContentLength, 12 << 20, "length");
  });
  await check(`${style} list pages`, async () => {
    const keys = []; for await (const page of S3.paginateListObjectsV2({ client: s3, pageSize: 2 }, { Bucket })) keys.push(...(page.Contents ?? []).map((c) => c.Key));
    same(keys.length, 5, "keys");
  });
  await check(`${style} list parts pages`, async () => {
    const { UploadId } = await send(new S3.CreateMultipartUploadCommand({ Bucket, Key: "parts" }));
    for (const PartNumber of [1, 2, 3]) await send(new S3.UploadPartCommand({ Bucket, Key: "parts", UploadId, PartNumber, Body: "x" }));
    let parts = 0, pages = 0;
    for await (const page of S3.paginateListParts({ client: s3, pageSize: 2 }, { Bucket, Key: "parts", UploadId })) { parts += page.Parts?.length ?? 0; if (++pages > 5) throw new Error("endless"); }
    same(parts, 3, "parts");
    await send(new S3.AbortMultipartUploadCommand({ Bucket, Key: "parts", UploadId }));
  });
  await check(`${style} copy`, () => send(new S3.CopyObjectCommand({ Bucket, Key: "copy", CopySource: `${Bucket}/${encodeURIComponent("a b/é+%.txt")}` })));
  await check(`${style} delete many`, async () => { const a = await send(new S3.DeleteObjectsCommand({ Bucket, Delete: { Objects: [{ Key: "copy" }, { Key: "sum" }] } })); same(a.Deleted.length, 2, "deleted"); });
  await check(`${style} presigned put and get`, async () => {
    await ok(await getSignedUrl(s3, new S3.PutObjectCommand({ Bucket, Key: "p é" })), "PUT", "presigned");
    const got = await ok(await getSignedUrl(s3, new S3.GetObjectCommand({ Bucket, Key: "p é", ResponseContentDisposition: "attachment; filename*=UTF-8''%C3%A9.pdf" })));
    same(got.body, "presigned", "body"); same(got.headers["content-disposition"], "attachment; filename*=UTF-8''%C3%A9.pdf", "disposition");
  });
  await check(`${style} presigned part`, async () => {
    const { UploadId } = await send(new S3.CreateMultipartUploadCommand({ Bucket, Key: "pp" }));
    const a = await ok(await getSignedUrl(s3, new S3.UploadPartCommand({ Bucket, Key: "pp", UploadId, PartNumber: 1 })), "PUT", "part");
    await send(new S3.CompleteMultipartUploadCommand({ Bucket, Key: "pp", UploadId, MultipartUpload: { Parts: [{ PartNumber: 1, ETag: a.headers.etag }] } }));
  });
  await check(`${style} presigned list`, async () => { const a = await ok(await getSignedUrl(s3, new S3.ListObjectsV2Command({ Bucket }))); if (!a.body.includes("<Key>pp</Key>")) throw new Error(a.body); });
  await check(`${style} presigned post`, async () => {
    const rules = [{ AllowedOrigins: ["https://*.test"], AllowedMethods: ["POST", "PUT"], AllowedHeaders: ["*"], ExposeHeaders: ["ETag"] }];
    await send(new S3.PutBucketCorsCommand({ Bucket, CORSConfiguration: { CORSRules: rules } }));
    const { url, fields } = await createPresignedPost(s3, { Bucket, Key: "form/${filename}", Fields: { acl: "private", success_action_status: "201" },
      Conditions: [["content-length-range", 1, 9 << 20], ["starts-with", "$Content-Type", "image/"]] });
    const data = randomBytes(3 << 20);
    const a = await submit(url, { ...fields, "Content-Type": "image/png" }, new File([data], "é \"x\".png"));
    same(a.status, 201, "status"); same(a.headers["access-control-allow-origin"], "https://app.test", "origin");
    const Key = /<Key>(.*)<\/Key>/.exec(a.body)[1].replaceAll("&quot;", '"');
    const got = await send(new S3.GetObjectCommand({ Bucket, Key }));
    same(Buffer.compare(Buffer.from(await got.Body.transformToByteArray()), data), 0, "content"); same(got.ContentType, "image/png", "type");
    const wrong = await submit(url, { ...fields, "Content-Type": "text/html" }, new File(["x"], "x"));
    same(wrong.status, 403, "status"); same(wrong.headers["access-control-allow-origin"], "https://app.test", "origin of an error");
    const empty = await submit(url, { ...fields, "Content-Type": "image/png" }, new File([], "x"));
    same(empty.status, 400, "status of an empty file");
  });
  await check(`${style} a browser's upload to a presigned address`, async () => {
    const url = await getSignedUrl(s3, new S3.PutObjectCommand({ Bucket, Key: "page", ContentType: "text/plain" }));
    const page = { origin: "https://app.test" };
    const asked = { ...page, "access-control-request-method": "PUT", "access-control-request-headers": "content-type" };
    const preflight = await fetchRaw(url, "OPTIONS", undefined, asked);
    same(preflight.status, 200, "preflight"); same(preflight.headers["access-control-allow-headers"], "content-type", "allowed");
    same((await fetchRaw(url, "OPTIONS", undefined, { ...asked, origin: "https://other.example" })).status, 403, "another origin");
    const put = await fetchRaw(url, "PUT", "from a page", { ...page, "content-type": "text/plain" });
    same(put.status, 200, "put"); same(put.headers["access-control-expose-headers"], "ETag", "exposed");
  });
  await check(`${style} missing key`, async () => { try { await send(new S3.GetObjectCommand({ Bucket, Key: "nothing" })); } catch (e) { same(e.name, "NoSuchKey", "error"); return; } throw new Error("found"); });
  await check(`${style} empty and delete bucket`, async () => {
    const all = await send(new S3.ListObjectsV2Command({ Bucket })); for (const { Key } of all.Contents ?? []) await send(new S3.DeleteObjectCommand({ Bucket, Key }));
    await send(new S3.DeleteBucketCommand({ Bucket }));
  });
}
process.exit(failed ? 1 : 0);
