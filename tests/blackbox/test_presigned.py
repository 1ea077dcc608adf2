"""Presigned requests: whoever holds the address may do what it says, while it lasts."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import pytest

from tests.blackbox.expect import AWKWARD_KEYS, MIB, content
from tests.blackbox.raw import RawClient
from tests.blackbox.signer import Signer
from tests.patience import PATIENCE_SECONDS
from tests.servers import Shardgate

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


@pytest.fixture(scope="module", params=[None, "s3v4"], ids=["default", "s3v4"])
def presigner(request: pytest.FixtureRequest, new_client: Callable[..., S3Client]) -> S3Client:
    """By boto3's default here, which is version 2, and by version 4."""
    return new_client() if request.param is None else new_client(signature_version=request.param)


def fetch(
    url: str, method: str = "GET", body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Send with no header but those given: urllib would add a Content-Type, which version 2 signs."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.netloc, timeout=PATIENCE_SECONDS)
    try:
        connection.request(method, f"{parts.path}?{parts.query}", body, headers or {})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("key", AWKWARD_KEYS, ids=lambda key: ascii(key[:24]))
def test_get_put_head_and_delete(presigner: S3Client, bucket: str, key: str) -> None:
    def url(method: str, **params: str) -> str:
        return presigner.generate_presigned_url(method, Params={"Bucket": bucket, "Key": key, **params}, ExpiresIn=3600)

    assert fetch(url("put_object", ContentType="text/x-test"), "PUT", b"presigned", {"Content-Type": "text/x-test"})[0] == 200
    status, headers, body = fetch(url("get_object"))
    assert (status, headers["content-type"], body) == (200, "text/x-test", b"presigned")
    status, headers, _ = fetch(url("head_object"), "HEAD")
    assert (status, headers["content-length"]) == (200, "9")
    assert fetch(url("delete_object"), "DELETE")[0] == 204
    assert fetch(url("get_object"))[0] == 404


DISPOSITIONS = (
    "attachment; filename*=UTF-8''%C3%A9.pdf",
    'attachment; filename="a  b+c%20d&e=f.pdf"',
    "inline; filename=%25.txt",
)


@pytest.mark.parametrize("disposition", DISPOSITIONS)
@pytest.mark.parametrize("key", ["k", "a b/\u00e9+%2F"])
def test_any_content_disposition_can_be_asked_for(presigner: S3Client, bucket: str, key: str, disposition: str) -> None:
    presigner.put_object(Bucket=bucket, Key=key, Body=b"x")
    params = {"Bucket": bucket, "Key": key, "ResponseContentDisposition": disposition, "ResponseContentType": "application/pdf"}
    status, headers, _ = fetch(presigner.generate_presigned_url("get_object", Params=params))
    assert (status, headers.get("content-disposition"), headers["content-type"]) == (200, disposition, "application/pdf")


def test_requests_of_buckets(presigner: S3Client, bucket: str) -> None:
    presigner.put_object(Bucket=bucket, Key="dir/k", Body=b"x")

    def answer(operation: str, method: str = "GET", **params: str) -> tuple[int, dict[str, str], bytes]:
        return fetch(presigner.generate_presigned_url(operation, Params={"Bucket": bucket, **params}), method)

    assert b"<Key>dir/k</Key>" in answer("list_objects")[2]
    assert b"<Prefix>dir/</Prefix>" in answer("list_objects_v2", Delimiter="/")[2]
    assert b"<Key>dir/k</Key>" in answer("list_object_versions")[2]
    assert answer("head_bucket", "HEAD")[0] == 200
    assert answer("get_bucket_location")[0] == 200
    assert answer("list_multipart_uploads")[0] == 200
    assert answer("delete_bucket", "DELETE")[0] == 409
    assert fetch(presigner.generate_presigned_url("list_buckets"))[0] == 200


def test_metadata_is_signed_as_it_is(new_client: Callable[..., S3Client], bucket: str) -> None:
    client = new_client()
    params = {"Bucket": bucket, "Key": "k", "Metadata": {"role": "one  two"}}
    assert fetch(client.generate_presigned_url("put_object", Params=params), "PUT", b"x")[0] == 200
    assert client.head_object(Bucket=bucket, Key="k")["Metadata"] == {"role": "one  two"}


def test_content_md5_in_an_address_is_checked(new_client: Callable[..., S3Client], bucket: str) -> None:
    md5 = base64.b64encode(hashlib.md5(b"x").digest()).decode()
    url = new_client().generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "k", "ContentMD5": md5})
    assert "content-md5=" in url
    assert fetch(url, "PUT", b"y")[0] == 400
    assert fetch(url, "PUT", b"x")[0] == 200


@pytest.mark.parametrize("more", ["x-amz-copy-source=evil%2Fprivate", "X-Amz-Copy-Source=evil%2Fprivate", "x-amz-meta-role=admin"])
@pytest.mark.parametrize("behind", [False, True])
def test_what_an_address_signs_cannot_be_given_again(s3: S3Client, bucket: str, more: str, *, behind: bool) -> None:
    s3.put_object(Bucket=bucket, Key="public", Body=b"public")
    params = {"Bucket": bucket, "Key": "k", "Metadata": {"role": "user"}, "CopySource": f"{bucket}/public"}
    url = s3.generate_presigned_url("copy_object", Params=params)
    changed = f"{url}&{more}" if behind else url.replace("?", f"?{more}&")
    status, _, body = fetch(changed, "PUT")
    assert (status, b"<Code>InvalidArgument</Code>" in body) == (400, True)
    assert fetch(url, "PUT")[0] == 200


@pytest.mark.parametrize("name", ["versionId", "partNumber", "response-content-type"])
def test_a_parameter_given_twice_is_refused_in_every_way_of_signing(raw: RawClient, signer: Signer, present: str, name: str) -> None:
    query = [(name, "1"), (name, "2")]
    assert raw.request("GET", present, query).verdict == (400, "InvalidArgument")
    assert raw.send("GET", present, signer.presign("GET", present, query=query)).verdict == (400, "InvalidArgument")


def test_another_operation_cannot_be_made_of_an_address(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"})
    for more in ("attributes", "acl", "retention", "uploadId=a"):
        assert fetch(f"{url}&{more}")[0] == 403


def test_checksums_of_an_empty_body_in_an_address_are_passed_over(raw: RawClient, signer: Signer, s3: S3Client, bucket: str) -> None:
    """As the JavaScript SDK signs them."""
    more = [("x-amz-checksum-crc32", "AAAAAA=="), ("x-amz-sdk-checksum-algorithm", "CRC32")]
    path = f"/{bucket}/k"
    assert raw.send("PUT", path, signer.presign("PUT", path, query=more), body=b"hello").verdict == (200, "")
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    query = signer.presign("PUT", path, query=[("partNumber", "1"), ("uploadId", upload), *more])
    assert raw.send("PUT", path, query, body=b"hello").verdict == (200, "")


def test_an_unsigned_content_sha256_beside_an_address_is_refused(raw: RawClient, signer: Signer, present: str) -> None:
    """It would say that the body was agreed on, or that it comes in chunks."""
    for value in (hashlib.sha256(b"other").hexdigest(), "STREAMING-UNSIGNED-PAYLOAD-TRAILER"):
        headers = {"x-amz-content-sha256": value}
        assert raw.send("PUT", present, signer.presign("PUT", present), headers, b"other").status == 403
    assert raw.request("GET", present).body == b"x"
    headers = {"x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
    assert raw.send("PUT", present, signer.presign("PUT", present), headers, b"other").verdict == (200, "")


def test_response_overrides_are_part_of_what_is_signed(presigner: S3Client, bucket: str) -> None:
    presigner.put_object(Bucket=bucket, Key="k", Body=b"x")
    params = {"Bucket": bucket, "Key": "k", "ResponseContentDisposition": 'attachment; filename="a b"'}
    url = presigner.generate_presigned_url("get_object", Params=params)
    assert fetch(url)[1]["content-disposition"] == 'attachment; filename="a b"'
    assert fetch(url.replace("a%20b", "evil"))[0] == 403


def test_ranges_need_no_signature(presigner: S3Client, bucket: str) -> None:
    presigner.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    url = presigner.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"})
    assert fetch(url, headers={"Range": "bytes=2-4"})[::2] == (206, b"234")


def test_signed_metadata_must_be_sent(presigner: S3Client, bucket: str) -> None:
    url = presigner.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "k", "Metadata": {"a": "b"}})
    headers = {} if "x-amz-meta-a" in url.split("SignedHeaders")[0] else {"x-amz-meta-a": "b"}
    assert fetch(url, "PUT", b"x", headers)[0] == 200
    assert presigner.head_object(Bucket=bucket, Key="k")["Metadata"] == {"a": "b"}
    if headers:
        assert fetch(url, "PUT", b"x")[0] == 403
        assert fetch(url, "PUT", b"x", {"x-amz-meta-a": "other"})[0] == 403


def test_multipart_upload_by_addresses_alone(presigner: S3Client, bucket: str) -> None:
    bodies = [content(5 * MIB, 1), b"end"]
    upload = presigner.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    parts = []
    for number, body in enumerate(bodies, 1):
        params = {"Bucket": bucket, "Key": "k", "UploadId": upload, "PartNumber": number}
        status, headers, _ = fetch(presigner.generate_presigned_url("upload_part", Params=params), "PUT", body)
        assert status == 200
        parts.append(f"<Part><PartNumber>{number}</PartNumber><ETag>{headers['etag']}</ETag></Part>")
    url = presigner.generate_presigned_url("complete_multipart_upload", Params={"Bucket": bucket, "Key": "k", "UploadId": upload})
    document = f"<CompleteMultipartUpload>{''.join(parts)}</CompleteMultipartUpload>".encode()
    assert fetch(url, "POST", document)[0] == 200
    assert presigner.get_object(Bucket=bucket, Key="k")["Body"].read() == b"".join(bodies)


def test_listing_can_be_presigned(presigner: S3Client, bucket: str) -> None:
    presigner.put_object(Bucket=bucket, Key="k", Body=b"x")
    url = presigner.generate_presigned_url("list_objects_v2", Params={"Bucket": bucket, "Prefix": "k"})
    assert b"<Key>k</Key>" in fetch(url)[2]


@pytest.fixture
def present(s3: S3Client, bucket: str) -> str:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    return f"/{bucket}/k"


def test_address_works_while_it_lasts(raw: RawClient, signer: Signer, present: str) -> None:
    for age, expires in ((0, 60), (500, 600), (6 * 86400, 7 * 86400), (1, 604800)):
        when = datetime.now(UTC) - timedelta(seconds=age)
        assert raw.send("GET", present, signer.presign("GET", present, when=when, expires=expires)).verdict == (200, "")


def test_address_ends(raw: RawClient, signer: Signer, present: str) -> None:
    query = signer.presign("GET", present, when=datetime.now(UTC) - timedelta(seconds=61), expires=60)
    answer = raw.send("GET", present, query)
    assert answer.verdict == (403, "AccessDenied")
    assert answer.error["Message"] == "Request has expired"


def test_address_from_the_future_is_not_valid_yet(raw: RawClient, signer: Signer, present: str) -> None:
    query = signer.presign("GET", present, when=datetime.now(UTC) + timedelta(minutes=30), expires=3600)
    assert raw.send("GET", present, query).verdict == (403, "AccessDenied")


@pytest.mark.parametrize("expires", ["604801", "-1", "abc", "", "1.5"])
def test_bad_expiry_is_refused(raw: RawClient, signer: Signer, present: str, expires: str) -> None:
    query = signer.presign("GET", present, expires=expires)
    assert raw.send("GET", present, query).verdict == (400, "AuthorizationQueryParametersError")


@pytest.mark.parametrize(
    "name", ["X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature"]
)
def test_every_parameter_is_needed(raw: RawClient, signer: Signer, present: str, name: str) -> None:
    query = [(key, value) for key, value in signer.presign("GET", present) if key != name]
    answer = raw.send("GET", present, query)
    assert answer.status in (400, 403), answer


@pytest.mark.parametrize(
    ("name", "value", "verdict"),
    [
        ("X-Amz-Algorithm", "AWS4-HMAC-MD5", (400, "AuthorizationQueryParametersError")),
        ("X-Amz-Credential", "only", (400, "AuthorizationQueryParametersError")),
        ("X-Amz-Date", "yesterday", (400, "AuthorizationQueryParametersError")),
        ("X-Amz-Signature", "0" * 64, (403, "SignatureDoesNotMatch")),
        ("X-Amz-Signature", "\u00e9", (403, "SignatureDoesNotMatch")),
    ],
)
def test_wrong_parameter_is_refused(raw: RawClient, signer: Signer, present: str, name: str, value: str, verdict: tuple[int, str]) -> None:
    query = [(key, value if key == name else old) for key, old in signer.presign("GET", present)]
    assert raw.send("GET", present, query).verdict == verdict


def test_address_is_for_one_method_one_key_and_one_query(raw: RawClient, signer: Signer, present: str) -> None:
    query = signer.presign("GET", present)
    assert raw.send("PUT", present, query, body=b"x").verdict == (403, "SignatureDoesNotMatch")
    assert raw.send("GET", f"{present}2", query).verdict == (403, "SignatureDoesNotMatch")
    assert raw.send("GET", present, [*query, ("versionId", "null")]).verdict == (403, "SignatureDoesNotMatch")


def test_amz_headers_sent_beside_an_address_must_be_signed(raw: RawClient, signer: Signer, present: str) -> None:
    query = signer.presign("PUT", present)
    assert raw.send("PUT", present, query, {"x-amz-meta-a": "b"}, b"x").verdict == (403, "AccessDenied")


@pytest.mark.parametrize(
    "parameter",
    [
        ("x-amz-meta-a", "b\r\nSet-Cookie: c"),
        ("x-amz-meta-a b", "c"),
        ("x-amz-website-redirect-location", "/a\nb"),
        ("x-amz-meta-\u00e9", "b"),
    ],
)
def test_address_that_carries_what_no_header_can_be_is_refused(
    raw: RawClient, signer: Signer, present: str, parameter: tuple[str, str]
) -> None:
    query = signer.presign("PUT", present, query=[parameter])
    assert raw.send("PUT", present, query, body=b"y").verdict == (400, "InvalidArgument")
    assert raw.request("GET", present).body == b"x"


def test_address_may_carry_the_copy_source(raw: RawClient, signer: Signer, present: str) -> None:
    query = signer.presign("PUT", f"{present}2", query=[("x-amz-copy-source", present)])
    assert raw.send("PUT", f"{present}2", query).verdict == (200, "")
    assert raw.request("GET", f"{present}2").body == b"x"


def test_address_and_header_exclude_each_other(raw: RawClient, signer: Signer, present: str) -> None:
    query = signer.presign("GET", present)
    headers = signer.sign("GET", present, query).headers
    assert raw.send("GET", present, query, headers).verdict == (400, "InvalidArgument")


def test_virtual_hosted_address(server: Shardgate, raw: RawClient, s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a b", Body=b"x")
    host = f"{bucket}.s3.test:{server.port}"
    signer = Signer(server.access_key, server.secret_key, host=host)
    path = f"/{quote('a b')}"
    assert raw.send("GET", path, signer.presign("GET", path), {"host": host}).body == b"x"
    assert raw.send("GET", path, (), signer.sign("GET", path).headers).body == b"x"
    assert b"<Key>a b</Key>" in raw.send("GET", "/", (), signer.sign("GET", "/").headers).body
