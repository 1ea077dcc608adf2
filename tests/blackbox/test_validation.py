"""What is no request: AWS's error for each, and nothing is changed."""

from __future__ import annotations

import base64
import hashlib
import zlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.blackbox.expect import s3_error
from tests.blackbox.raw import RawAnswer, RawClient
from tests.blackbox.signer import Signer

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

BODY = b"body"
CRC32 = base64.b64encode(zlib.crc32(BODY).to_bytes(4, "big")).decode()
OTHER_CRC32 = base64.b64encode(zlib.crc32(b"other").to_bytes(4, "big")).decode()
SHA256 = base64.b64encode(hashlib.sha256(BODY).digest()).decode()
OTHER_SHA256 = base64.b64encode(hashlib.sha256(b"other").digest()).decode()


@pytest.mark.parametrize(
    ("algorithm", "claim", "code", "message"),
    [
        ("CRC32", {"ChecksumCRC32": OTHER_CRC32}, "InvalidPart", "could not be found"),
        ("CRC32", {"ChecksumSHA256": SHA256}, "BadDigest", "The sha256 you specified for part 1 did not match what we received."),
        ("CRC32", {"ChecksumCRC32": "gibberish"}, "InvalidArgument", "Invalid Base64 or multiple checksums present in request"),
        ("CRC32", {"ChecksumCRC32": SHA256}, "InvalidArgument", "Invalid Base64 or multiple checksums present in request"),
        ("CRC32", {"ChecksumCRC32": CRC32, "ChecksumSHA256": SHA256}, "InvalidArgument", "multiple checksums"),
        ("CRC32", {}, "InvalidRequest", "It was missing for part 1 in the request."),
        ("CRC64NVME", {"ChecksumSHA256": SHA256}, "BadDigest", "The sha256 you specified for part 1 did not match what we received."),
        (None, {"ChecksumCRC32": OTHER_CRC32}, "InvalidPart", "could not be found"),
        (None, {"ChecksumSHA256": OTHER_SHA256}, "BadDigest", "The sha256 you specified for part 1 did not match what we received."),
        (None, {"ChecksumSHA256": "a"}, "InvalidArgument", "Invalid Base64 or multiple checksums present in request"),
    ],
)
def test_a_part_is_completed_with_the_checksum_it_came_with_or_none(
    s3: S3Client, plain_s3: S3Client, bucket: str, algorithm: Any, claim: dict[str, str], code: str, message: str
) -> None:
    named = {} if algorithm is None else {"ChecksumAlgorithm": algorithm}
    upload = plain_s3.create_multipart_upload(Bucket=bucket, Key="k", **named)["UploadId"]
    right = {} if algorithm == "CRC64NVME" else {"ChecksumCRC32": CRC32}
    etag = plain_s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=BODY, **right)["ETag"]  # type: ignore[arg-type]

    def complete(claim: dict[str, str]) -> None:
        parts: Any = {"Parts": [{"PartNumber": 1, "ETag": etag, **claim}]}
        s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload=parts)

    with s3_error(code, 400) as caught:
        complete(claim)
    assert message in caught.value.response["Error"]["Message"]
    with s3_error("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key="k")
    complete(right)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == BODY


@pytest.mark.parametrize(("value", "code"), [("-a", "InvalidRequest"), ("-", "InvalidRequest"), ("-2", "BadDigest"), ("-1", "")])
def test_a_composite_checksum_counts_the_parts(s3: S3Client, bucket: str, value: str, code: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k", ChecksumAlgorithm="CRC32")["UploadId"]
    part = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=BODY, ChecksumCRC32=CRC32)
    parts: Any = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"], "ChecksumCRC32": CRC32}]}
    of_parts = base64.b64encode(zlib.crc32(zlib.crc32(BODY).to_bytes(4, "big")).to_bytes(4, "big")).decode()
    claim = {"Bucket": bucket, "Key": "k", "UploadId": upload, "MultipartUpload": parts, "ChecksumCRC32": of_parts + value}
    if not code:
        assert s3.complete_multipart_upload(**claim)["ChecksumCRC32"] == of_parts + value
        return
    with s3_error(code, 400):
        s3.complete_multipart_upload(**claim)


@pytest.mark.parametrize("key", ["../a", "a/../../b", ".."])
def test_a_key_does_not_climb_above_the_bucket(raw: RawClient, s3: S3Client, bucket: str, key: str) -> None:
    for method in ("PUT", "GET", "HEAD", "DELETE"):
        assert raw.request(method, f"/{bucket}/{key}", body=b"x" if method == "PUT" else b"").status == 400
    assert raw.request("PUT", f"/{bucket}/{key}", body=b"x").verdict == (400, "InvalidURI")
    assert raw.request("POST", f"/{bucket}/{key}", [("uploads", "")]).verdict == (400, "InvalidURI")
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
    source = {"x-amz-copy-source": f"/{bucket}/{key}"}
    assert raw.request("PUT", f"/{bucket}/k", headers=source).verdict == (400, "InvalidArgument")


def test_a_key_that_stays_in_the_bucket_is_a_key(raw: RawClient, s3: S3Client, bucket: str) -> None:
    assert raw.request("PUT", f"/{bucket}/a/../b", body=b"x").verdict == (200, "")
    assert [one["Key"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["a/../b"]
    deleted = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "../b"}, {"Key": "a/../b"}]})
    assert ([one["Code"] for one in deleted["Errors"]], [one["Key"] for one in deleted["Deleted"]]) == (["InvalidURI"], ["a/../b"])


@pytest.mark.parametrize(("method", "query"), [("GET", ()), ("DELETE", ()), ("PUT", [("tagging", "")]), ("GET", [("acl", "")])])
def test_a_copy_source_is_for_copies(raw: RawClient, s3: S3Client, bucket: str, method: str, query: Any) -> None:
    s3.put_object(Bucket=bucket, Key="k")
    answer = raw.request(method, f"/{bucket}/k", query, {"x-amz-copy-source": f"/{bucket}/k"})
    assert (answer.verdict, answer.error["ArgumentName"]) == ((400, "InvalidArgument"), "x-amz-copy-source")
    assert answer.error["Message"] == "You can only specify a copy source header for copy requests."
    s3.head_object(Bucket=bucket, Key="k")


@pytest.mark.parametrize("source", ["192.168.1.1/foo", "AB/foo", "a/foo", "bad_name/foo", "-x-/foo"])
def test_the_source_of_a_copy_is_in_a_bucket_that_can_be(raw: RawClient, bucket: str, source: str) -> None:
    answer = raw.request("PUT", f"/{bucket}/k", headers={"x-amz-copy-source": source})
    assert (answer.verdict, answer.error["Message"]) == ((400, "InvalidArgument"), "Invalid copy source bucket name")


@pytest.mark.parametrize("location", ["ftp://x", "x", "", "//" + "x" * 2048])
def test_a_redirect_leads_somewhere(raw: RawClient, bucket: str, location: str) -> None:
    answer = raw.request("PUT", f"/{bucket}/k", headers={"x-amz-website-redirect-location": location}, body=b"x")
    assert answer.verdict == (400, "InvalidRedirectLocation")
    assert raw.request("HEAD", f"/{bucket}/k").status == 404


def test_attributes_are_asked_for_by_name(raw: RawClient, s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k")
    assert raw.request("GET", f"/{bucket}/k", [("attributes", "")]).verdict == (400, "InvalidRequest")
    named = raw.request("GET", f"/{bucket}/k", [("attributes", "")], {"x-amz-object-attributes": "ETag,Weight"})
    assert named.verdict == (400, "InvalidArgument")


def test_a_listing_of_a_bucket_is_not_one_of_a_key(raw: RawClient, s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k")
    assert raw.request("GET", f"/{bucket}/k", [("uploads", "")]).verdict == (400, "InvalidRequest")
    assert raw.request("GET", f"/{bucket}/k", [("versions", "")]).verdict == (400, "InvalidRequest")


def test_half_of_a_part_is_not_put(raw: RawClient, s3: S3Client, bucket: str) -> None:
    assert raw.request("PUT", f"/{bucket}/k", [("uploadId", "x")], body=b"x").verdict == (405, "MethodNotAllowed")
    without = raw.request("PUT", f"/{bucket}/k", [("partNumber", "1")], body=b"x")
    assert (without.verdict, without.error["Message"]) == (
        (400, "InvalidArgument"),
        "This operation does not accept partNumber without uploadId",
    )
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_an_expired_url_says_how_long_it_was_good(raw: RawClient, signer: Signer, bucket: str) -> None:
    query = signer.presign("GET", f"/{bucket}/k", expires=60, when=datetime.now(UTC) - timedelta(seconds=1000))
    answer = raw.send("GET", f"/{bucket}/k", query, {"host": signer.host})
    assert answer.verdict == (403, "AccessDenied")
    assert answer.error["Message"] == "Request has expired"
    assert answer.error["X-Amz-Expires"] == "60"
    assert answer.error["Expires"] < answer.error["ServerTime"]


def test_a_digest_that_is_none_is_told(raw: RawClient, bucket: str) -> None:
    answer = raw.request("PUT", f"/{bucket}/k", headers={"content-md5": "gibberish"}, body=b"x")
    assert (answer.verdict, answer.error["Content-MD5"]) == ((400, "InvalidDigest"), "gibberish")


@pytest.mark.parametrize(("sub", "methods"), [("tagging", ("GET", "PUT", "DELETE")), ("acl", ("GET", "PUT"))])
def test_a_delete_marker_refuses_the_method_that_was_tried(
    raw: RawClient, s3: S3Client, versioned: str, sub: str, methods: tuple[str, ...]
) -> None:
    s3.put_object(Bucket=versioned, Key="k")
    marker = s3.delete_object(Bucket=versioned, Key="k")["VersionId"]
    documents = {"tagging": b"<Tagging><TagSet/></Tagging>", "acl": b""}
    for method in methods:
        extra = {"x-amz-acl": "bucket-owner-full-control"} if (sub, method) == ("acl", "PUT") else {}
        body = documents[sub] if method == "PUT" else b""
        answer: RawAnswer = raw.request(method, f"/{versioned}/k", [(sub, ""), ("versionId", marker)], extra, body)
        assert (answer.verdict, answer.error["Method"]) == ((405, "MethodNotAllowed"), method)


def test_any_version_matches_a_star(raw: RawClient, s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=BODY)
    assert raw.request("GET", f"/{bucket}/k", headers={"if-match": "*"}).body == BODY
    assert raw.request("GET", f"/{bucket}/k", headers={"if-none-match": "*"}).status == 304
    assert raw.request("GET", f"/{bucket}/none", headers={"if-match": "*"}).verdict == (404, "NoSuchKey")
    assert raw.request("PUT", f"/{bucket}/k", headers={"if-match": "*"}, body=b"new").verdict == (200, "")
    assert raw.request("PUT", f"/{bucket}/none", headers={"if-match": "*"}, body=b"new").verdict == (404, "NoSuchKey")


@pytest.mark.parametrize("ranges", ["bytes=0-0,2-2", "bytes=0-1, -1", "bytes=100-,0-0"])
def test_several_ranges_are_the_whole_object(raw: RawClient, s3: S3Client, bucket: str, ranges: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=BODY)
    answer = raw.request("GET", f"/{bucket}/k", headers={"range": ranges})
    assert (answer.status, answer.body, "content-range" in answer.headers) == (200, BODY, False)


def test_multi_region_signatures_are_not_supported(raw: RawClient, bucket: str) -> None:
    authorization = "AWS4-ECDSA-P256-SHA256 Credential=A/20260101/s3/aws4_request, SignedHeaders=host, Signature=00"
    headers = {"host": raw.signer.host, "authorization": authorization, "x-amz-date": "20260101T000000Z"}
    answer = raw.send("GET", f"/{bucket}/k", (), headers)
    assert (answer.verdict, "AWS4-HMAC-SHA256" in answer.error["Message"]) == ((400, "InvalidRequest"), True)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ("-1", "Value for x-amz-mp-object-size header is less than zero: '-1'"),
        ("x", "Value for x-amz-mp-object-size header is invalid: 'x'"),
        ("5", "The provided 'x-amz-mp-object-size' header value 5 does not match what was computed: 4"),
    ],
)
def test_the_size_of_a_completed_object_is_the_one_it_has(raw: RawClient, s3: S3Client, bucket: str, size: str, message: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    etag = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=BODY)["ETag"]
    body = f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>".encode()
    answer = raw.request("POST", f"/{bucket}/k", [("uploadId", upload)], {"x-amz-mp-object-size": size}, body)
    assert (answer.verdict, answer.error["Message"]) == ((400, "InvalidRequest"), message)


def test_parts_are_counted_from_one(s3: S3Client, bucket: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    parts: Any = {"Parts": [{"PartNumber": 0, "ETag": "0" * 32}]}
    with s3_error("InvalidArgument", 400) as caught:
        s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload=parts)
    assert caught.value.response["Error"]["Message"] == "PartNumber must be >= 1"


@pytest.mark.parametrize("value", ["x", "1.5", "99999999999999999999"])
def test_what_is_no_number_of_keys_is_called_so(raw: RawClient, bucket: str, value: str) -> None:
    answer = raw.request("GET", f"/{bucket}", [("list-type", "2"), ("max-keys", value)])
    assert (answer.verdict, answer.error["ArgumentName"], answer.error["ArgumentValue"]) == ((400, "InvalidArgument"), "max-keys", value)


def test_a_versioned_bucket_is_empty_without_its_versions_only(s3: S3Client, versioned: str) -> None:
    s3.put_object(Bucket=versioned, Key="k")
    s3.delete_object(Bucket=versioned, Key="k")
    with s3_error("BucketNotEmpty", 409) as caught:
        s3.delete_bucket(Bucket=versioned)
    assert "You must delete all versions in the bucket." in caught.value.response["Error"]["Message"]
