"""Details in which AWS answers as few would guess, and clients rely on it."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
from awscrt import checksums

from tests.blackbox.conftest import DOMAIN
from tests.blackbox.expect import MIB, content, s3_error
from tests.blackbox.raw import RawClient
from tests.blackbox.signer import Signer
from tests.servers import Shardgate

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import CompletedMultipartUploadTypeDef, CopySourceTypeDef

BODIES = (content(5 * MIB, 1), content(1000, 2))


def crc64(data: bytes) -> str:
    return base64.b64encode(checksums.crc64nvme(data).to_bytes(8, "big")).decode()


def assert_whole_is_described(s3: S3Client, bucket: str, key: str) -> None:
    head = s3.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
    assert (head["ChecksumCRC64NVME"], head["ChecksumType"]) == (crc64(b"".join(BODIES)), "FULL_OBJECT")
    attributes = s3.get_object_attributes(Bucket=bucket, Key=key, ObjectAttributes=["Checksum", "ObjectParts"])
    assert attributes["Checksum"] == {"ChecksumCRC64NVME": crc64(b"".join(BODIES)), "ChecksumType": "FULL_OBJECT"}
    assert attributes["ObjectParts"] == {"TotalPartsCount": len(BODIES)}


@pytest.mark.parametrize("claims", [False, True], ids=["parts without a checksum", "parts with boto3's CRC32"])
def test_multipart_upload_that_names_no_algorithm_is_given_crc64nvme(s3: S3Client, plain_s3: S3Client, bucket: str, claims: bool) -> None:
    client = s3 if claims else plain_s3
    upload = plain_s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    parts = []
    for number, body in enumerate(BODIES, 1):
        answer = client.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=number, Body=body)
        told = {name: value for name, value in answer.items() if name.startswith("Checksum")}
        assert told.keys() == {"ChecksumCRC32" if claims else "ChecksumCRC64NVME"}
        parts.append({"PartNumber": number, "ETag": answer["ETag"], **told})
    done = s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": parts})  # type: ignore[typeddict-item]
    assert (done["ChecksumCRC64NVME"], done["ChecksumType"]) == (crc64(b"".join(BODIES)), "FULL_OBJECT")
    assert_whole_is_described(s3, bucket, "k")


def test_copied_parts_have_the_crc64nvme_of_their_source_which_is_told_of_the_object_alone(
    s3: S3Client, plain_s3: S3Client, bucket: str
) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    etags = []
    for number, body in enumerate(BODIES, 1):
        plain_s3.put_object(Bucket=bucket, Key="source", Body=body)
        source: CopySourceTypeDef = {"Bucket": bucket, "Key": "source"}
        copied = s3.upload_part_copy(Bucket=bucket, Key="k", UploadId=upload, PartNumber=number, CopySource=source)["CopyPartResult"]
        assert not any(name.startswith("Checksum") for name in copied)  # nobody asked for one
        etags.append(copied["ETag"])
    parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
    s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": parts})  # type: ignore[typeddict-item]
    assert_whole_is_described(s3, bucket, "k")


def test_crc64nvme_claimed_at_completion_is_checked_though_no_algorithm_was_named(s3: S3Client, bucket: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    etag = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=b"body")["ETag"]

    def complete(**claim: str) -> str:
        parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
        answer = s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload=parts, **claim)  # type: ignore[arg-type]
        return answer["ChecksumCRC64NVME"]

    with s3_error("BadDigest", 400):
        complete(ChecksumCRC64NVME=crc64(b"other"))
    with s3_error("InvalidRequest", 400):
        complete(ChecksumCRC64NVME="gibberish")
    with s3_error("InvalidRequest", 400):
        complete(ChecksumSHA256=base64.b64encode(bytes(32)).decode())
    with s3_error("InvalidRequest", 400):
        complete(ChecksumType="COMPOSITE")
    assert complete(ChecksumCRC64NVME=crc64(b"body"), ChecksumType="FULL_OBJECT") == crc64(b"body")


@pytest.mark.parametrize("version", ["", "garbage", "x" * 33])
def test_deleting_what_is_no_version_id_is_refused(raw: RawClient, s3: S3Client, versioned: str, version: str) -> None:
    s3.put_object(Bucket=versioned, Key="k", Body=b"x")
    assert raw.request("DELETE", f"/{versioned}/k", [("versionId", version)]).verdict == (400, "InvalidArgument")
    deleted = s3.delete_objects(Bucket=versioned, Delete={"Objects": [{"Key": "k", "VersionId": version}]})
    assert "Deleted" not in deleted
    assert [(error["Key"], error["VersionId"], error["Code"]) for error in deleted["Errors"]] == [("k", version, "NoSuchVersion")]
    assert s3.head_object(Bucket=versioned, Key="k")["ContentLength"] == 1


def test_marker_that_is_no_version_id_is_refused(s3: S3Client, versioned: str) -> None:
    with s3_error("InvalidArgument", 400):
        s3.list_object_versions(Bucket=versioned, KeyMarker="k", VersionIdMarker="garbage")


def test_metadata_may_be_hundreds_of_short_headers(raw: RawClient, bucket: str) -> None:
    metadata = {f"x-amz-meta-n{number}": "v" for number in range(200)}  # 7 KiB with their names in the signature
    assert raw.request("PUT", f"/{bucket}/k", headers=metadata, body=b"x").verdict == (200, "")
    signed = raw.sign("GET", f"/{bucket}/k").headers
    lines = [f"GET /{bucket}/k HTTP/1.1", *(f"{name}: {value}" for name, value in signed.items()), "\r\n"]
    answer = raw.exchange("\r\n".join(lines).encode())  # Python's own client gives up at 100 headers
    assert answer.count(b"x-amz-meta-n") == len(metadata)


def test_a_download_resumed_after_the_object_changed_starts_again(raw: RawClient, s3: S3Client, bucket: str) -> None:
    before = s3.put_object(Bucket=bucket, Key="k", Body=b"before")["ETag"]
    s3.put_object(Bucket=bucket, Key="k", Body=b"after!")
    head = raw.request("HEAD", f"/{bucket}/k").headers
    current, modified = head["etag"], head["last-modified"]
    for validator, rest in (
        (current, b"ter!"),
        (modified, b"ter!"),
        (before, b"after!"),
        (f"W/{current}", b"after!"),
        ("Mon, 01 Jan 2001 00:00:00 GMT", b"after!"),
        ("Fri, 01 Jan 2100 00:00:00 GMT", b"after!"),
        ("gibberish", b"after!"),
    ):
        answer = raw.request("GET", f"/{bucket}/k", headers={"range": "bytes=2-", "if-range": validator})
        assert (answer.status, answer.body) == (206 if len(rest) == 4 else 200, rest), validator
    too_far = {"range": "bytes=100-", "if-range": before}
    assert raw.request("GET", f"/{bucket}/k", headers=too_far).body == b"after!"


def test_versions_and_delete_markers_are_listed_in_one_order(raw: RawClient, s3: S3Client, versioned: str) -> None:
    for key in ("a", "b"):
        s3.put_object(Bucket=versioned, Key=key, Body=b"1")
        s3.delete_object(Bucket=versioned, Key=key)
        s3.put_object(Bucket=versioned, Key=key, Body=b"2")
    document = ElementTree.fromstring(raw.request("GET", f"/{versioned}", [("versions", "")]).body)
    entries = [(entry.tag.partition("}")[2], entry.findtext("{*}Key")) for entry in document if entry.find("{*}VersionId") is not None]
    assert entries == [(kind, key) for key in ("a", "b") for kind in ("Version", "DeleteMarker", "Version")]
    listed = s3.list_object_versions(Bucket=versioned)
    assert (len(listed["Versions"]), len(listed["DeleteMarkers"])) == (4, 2)


@pytest.mark.parametrize("path", ["/plain", "//leading", "///", "/a//b/", "//a/../b", "/-/health", "/-/metrics"])
def test_every_key_can_be_reached_where_the_host_names_the_bucket(
    server: Shardgate, raw: RawClient, s3: S3Client, bucket: str, path: str
) -> None:
    signer = Signer(server.access_key, server.secret_key, host=f"{bucket}.{DOMAIN}")
    assert raw.send("PUT", path, (), signer.sign("PUT", path).headers, b"x").verdict == (200, "")
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [path[1:]]
    assert raw.send("GET", path, (), signer.sign("GET", path).headers).body == b"x"
    assert raw.send("GET", path, signer.presign("GET", path), {"host": signer.host}).body == b"x"


def test_internal_paths_are_read_only_and_of_this_machine_alone(server: Shardgate, raw: RawClient, bucket: str) -> None:
    for method in ("GET", "HEAD"):
        assert raw.send(method, "/-/health").status == 200
        assert raw.send(method, "/-/health", (), {"host": f"{bucket}.{DOMAIN}"}).status == 403  # no signature
        for name in ("x-forwarded-for", "forwarded", "via", "x-real-ip", "x-forwarded-host", "cf-connecting-ip"):
            assert raw.send(method, "/-/metrics", (), {name: "for=192.0.2.1"}).status == 403
    for method in ("PUT", "DELETE"):
        assert raw.send(method, "/-/health").status == 404  # a bucket that does not exist
    assert raw.request("PUT", "/-/health", body=b"x").verdict == (404, "NoSuchBucket")


def test_completed_upload_tells_its_address_in_the_style_it_was_asked_in(
    server: Shardgate, raw: RawClient, s3: S3Client, bucket: str
) -> None:
    for host, location in (
        (f"{bucket}.{DOMAIN}:{server.port}", f"http://{bucket}.{DOMAIN}:{server.port}/a/k"),
        (f"127.0.0.1:{server.port}", f"http://127.0.0.1:{server.port}/{bucket}/a/k"),
    ):
        upload = s3.create_multipart_upload(Bucket=bucket, Key="a/k")["UploadId"]
        etag = s3.upload_part(Bucket=bucket, Key="a/k", UploadId=upload, PartNumber=1, Body=b"x")["ETag"]
        path = "/a/k" if host.startswith(bucket) else f"/{bucket}/a/k"
        body = f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>".encode()
        query = [("uploadId", upload)]
        signed = Signer(server.access_key, server.secret_key, host=host).sign("POST", path, query)
        answer = raw.send("POST", path, query, signed.headers, body)
        assert ElementTree.fromstring(answer.body).findtext("{*}Location") == location


@pytest.mark.parametrize(
    "name", ["content-type", "content-disposition", "cache-control", "content-language", "content-encoding", "expires"]
)
def test_system_headers_may_be_in_latin_1(raw: RawClient, bucket: str, name: str) -> None:
    """Python's and Java's HTTP clients send headers so."""
    path = f"/{bucket}/k"
    sent = [*raw.sign("PUT", path).headers.items(), ("content-length", "1"), (name, 'attachment; filename="caf\xe9"')]
    lines = [f"PUT {path} HTTP/1.1", *(f"{header}: {value}" for header, value in sent), "\r\n"]
    assert raw.exchange("\r\n".join(lines).encode("latin-1") + b"x").startswith(b"HTTP/1.1 200 ")
    told = raw.request("GET", path).headers[name]
    assert told.encode("latin-1").decode() == 'attachment; filename="caf\xe9"'


@pytest.mark.parametrize("elsewhere", ["another key", "another bucket"])
def test_completing_an_upload_elsewhere_is_refused_and_harms_nothing(
    s3: S3Client, new_bucket: Callable[[], str], bucket: str, elsewhere: str
) -> None:
    wrong_bucket, wrong_key = (bucket, "other") if elsewhere == "another key" else (new_bucket(), "k")
    s3.put_object(Bucket=wrong_bucket, Key=wrong_key, Body=b"precious")
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    etag = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=b"part")["ETag"]
    parts: CompletedMultipartUploadTypeDef = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    with s3_error("NoSuchUpload", 404):
        s3.complete_multipart_upload(Bucket=wrong_bucket, Key=wrong_key, UploadId=upload, MultipartUpload=parts)
    assert s3.get_object(Bucket=wrong_bucket, Key=wrong_key)["Body"].read() == b"precious"
    s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload=parts)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"part"


def test_repeated_completion_tells_of_its_own_object_only(s3: S3Client, new_bucket: Callable[[], str], bucket: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    etag = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=b"part")["ETag"]
    parts: CompletedMultipartUploadTypeDef = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    done = s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload=parts)
    again = s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload=parts)
    assert (again["ETag"], again["ChecksumCRC64NVME"]) == (done["ETag"], done["ChecksumCRC64NVME"])
    for other_bucket, other_key in ((bucket, "other"), (new_bucket(), "k"), (bucket, "k")):
        s3.put_object(Bucket=other_bucket, Key=other_key, Body=b"another object, or the next one of this key")
        with s3_error("NoSuchUpload", 404):
            s3.complete_multipart_upload(Bucket=other_bucket, Key=other_key, UploadId=upload, MultipartUpload=parts)


def test_versions_deleted_page_by_page_are_all_found(s3: S3Client, versioned: str) -> None:
    for _ in range(7):
        s3.put_object(Bucket=versioned, Key="k", Body=b"x")
    s3.put_object(Bucket=versioned, Key="z", Body=b"x")
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=versioned, PaginationConfig={"PageSize": 3}):
        for version in page["Versions"]:
            s3.delete_object(Bucket=versioned, Key=version["Key"], VersionId=version["VersionId"])
    assert "Versions" not in s3.list_object_versions(Bucket=versioned)


def test_uploads_aborted_page_by_page_are_all_found(s3: S3Client, bucket: str) -> None:
    for key in "kkkkkkkz":
        s3.create_multipart_upload(Bucket=bucket, Key=key)
    for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, PaginationConfig={"PageSize": 3}):
        for upload in page["Uploads"]:
            s3.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def test_an_upload_without_parts_is_not_completed_elsewhere(s3: S3Client, bucket: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    parts: CompletedMultipartUploadTypeDef = {"Parts": [{"PartNumber": 1, "ETag": "0" * 32}]}
    with s3_error("NoSuchUpload", 404):
        s3.complete_multipart_upload(Bucket=bucket, Key="other", UploadId=upload, MultipartUpload=parts)


def test_a_request_line_may_name_the_server(s3: S3Client, raw: RawClient, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"here")
    signed = raw.sign("GET", f"/{bucket}/k")
    answer = raw.send("GET", f"http://{raw.host}:{raw.port}/{bucket}/k", (), signed.headers)
    assert (answer.status, answer.body) == (200, b"here")


@pytest.mark.parametrize(
    "host", ["{bucket}.localhost:{port}", "{bucket}.127.0.0.1", "{bucket}.not{domain}", ".{domain}", "elsewhere.example"]
)
def test_a_host_that_is_not_ours_is_another_operation_for_nobody(
    server: Shardgate, raw: RawClient, s3: S3Client, bucket: str, host: str
) -> None:
    """An SDK that puts the bucket before such a host must not list all buckets, nor make one of a key."""
    name = host.format(bucket=bucket, port=server.port, domain=DOMAIN)
    signer = Signer(server.access_key, server.secret_key, host=name)
    key = f"key-{uuid.uuid4()}"
    for method, path in (("GET", "/"), ("PUT", f"/{key}"), ("GET", f"/{key}"), ("DELETE", f"/{bucket}")):
        answer = raw.send(method, path, (), signer.sign(method, path).headers)
        assert answer.verdict == (400, "InvalidRequest")
        assert "path-style" in answer.error["Message"]
    assert bucket in [one["Name"] for one in s3.list_buckets()["Buckets"]]
    assert raw.send("GET", "/-/health", (), {"host": name}).status == 200


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:{port}", "127.0.0.1", "[::1]:{port}", "203.0.113.7", DOMAIN, f"{DOMAIN.upper()}.:80"]
)
def test_a_host_of_ours_leaves_the_bucket_to_the_path(server: Shardgate, raw: RawClient, bucket: str, host: str) -> None:
    name = host.format(port=server.port)
    signer = Signer(server.access_key, server.secret_key, host=name)
    assert raw.send("GET", f"/{bucket}", (), signer.sign("GET", f"/{bucket}").headers).verdict == (200, "")


def test_a_request_of_http_1_0_needs_no_host(raw: RawClient) -> None:
    assert b"<Code>NoSuchBucket</Code>" in raw.exchange(b"GET /no-such-bucket-here HTTP/1.0\r\n\r\n")


@pytest.mark.parametrize("version", ["0.9", "1.2", "2.0", "3.0"])
def test_a_version_that_is_not_spoken_here_is_refused_in_one_that_is(raw: RawClient, version: str) -> None:
    answer = raw.exchange(f"GET /no-such-bucket-here HTTP/{version}\r\nHost: 127.0.0.1\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 400 Bad Request")
    assert b"<Code>BadRequest</Code>" in answer
