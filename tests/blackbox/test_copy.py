"""Copies: the same bytes elsewhere, with the same or other words about them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.blackbox.expect import AWKWARD_KEYS, MIB, content, s3_error
from tests.blackbox.raw import RawClient

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


def get(s3: S3Client, bucket: str, key: str) -> bytes:
    return s3.get_object(Bucket=bucket, Key=key)["Body"].read()


@pytest.mark.parametrize("size", [0, 1000, 17 * MIB])
def test_copy_is_the_same_object_under_another_key(s3: S3Client, bucket: str, size: int) -> None:
    body = content(size)
    put = s3.put_object(Bucket=bucket, Key="a", Body=body, Metadata={"m": "1"}, ContentType="text/plain", Tagging="t=1")
    answer = s3.copy_object(Bucket=bucket, Key="b", CopySource={"Bucket": bucket, "Key": "a"})
    assert answer["CopyObjectResult"]["ETag"] == put["ETag"]
    assert answer["CopyObjectResult"]["LastModified"]
    copy = s3.get_object(Bucket=bucket, Key="b")
    assert copy["Body"].read() == body
    assert (copy["Metadata"], copy["ContentType"], copy["TagCount"]) == ({"m": "1"}, "text/plain", 1)


def test_copy_outlives_its_source(s3: S3Client, bucket: str) -> None:
    body = content(MIB)
    s3.put_object(Bucket=bucket, Key="a", Body=body)
    s3.copy_object(Bucket=bucket, Key="b", CopySource=f"{bucket}/a")
    s3.delete_object(Bucket=bucket, Key="a")
    assert get(s3, bucket, "b") == body


def test_copy_between_buckets(s3: S3Client, new_bucket: Callable[[], str]) -> None:
    one, two = new_bucket(), new_bucket()
    body = content(300_000)
    s3.put_object(Bucket=one, Key="a", Body=body)
    s3.copy_object(Bucket=two, Key="a", CopySource={"Bucket": one, "Key": "a"})
    s3.delete_object(Bucket=one, Key="a")
    s3.delete_bucket(Bucket=one)
    assert get(s3, two, "a") == body


@pytest.mark.parametrize("key", AWKWARD_KEYS, ids=lambda key: ascii(key[:24]))
def test_awkward_keys_can_be_copied(s3: S3Client, bucket: str, key: str) -> None:
    s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": key})
    assert get(s3, bucket, "copy") == key.encode()


def test_metadata_can_be_replaced_on_the_way(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"x", Metadata={"m": "1"}, ContentType="text/plain", CacheControl="no-cache")
    s3.copy_object(
        Bucket=bucket, Key="b", CopySource=f"{bucket}/a", MetadataDirective="REPLACE", Metadata={"n": "2"}, ContentType="image/png"
    )
    copy = s3.get_object(Bucket=bucket, Key="b")
    assert (copy["Metadata"], copy["ContentType"], copy.get("CacheControl")) == ({"n": "2"}, "image/png", None)


def test_metadata_sent_without_replace_is_ignored(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"x", Metadata={"m": "1"})
    s3.copy_object(Bucket=bucket, Key="b", CopySource=f"{bucket}/a", Metadata={"n": "2"})
    assert s3.head_object(Bucket=bucket, Key="b")["Metadata"] == {"m": "1"}


def test_tags_can_be_replaced_on_the_way(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"x", Tagging="t=1")
    s3.copy_object(Bucket=bucket, Key="b", CopySource=f"{bucket}/a", TaggingDirective="REPLACE", Tagging="u=2")
    assert s3.get_object_tagging(Bucket=bucket, Key="b")["TagSet"] == [{"Key": "u", "Value": "2"}]


def test_copy_onto_itself_needs_a_change(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"x", Metadata={"m": "1"})
    with s3_error("InvalidRequest", 400):
        s3.copy_object(Bucket=bucket, Key="a", CopySource=f"{bucket}/a")
    s3.copy_object(Bucket=bucket, Key="a", CopySource=f"{bucket}/a", MetadataDirective="REPLACE", Metadata={"m": "2"})
    assert s3.head_object(Bucket=bucket, Key="a")["Metadata"] == {"m": "2"}
    assert get(s3, bucket, "a") == b"x"


def test_copy_can_change_the_storage_class(s3: S3Client, bucket: str) -> None:
    body = content(200_000)
    s3.put_object(Bucket=bucket, Key="a", Body=body)
    s3.copy_object(Bucket=bucket, Key="a", CopySource=f"{bucket}/a", StorageClass="REDUCED_REDUNDANCY")
    assert s3.head_object(Bucket=bucket, Key="a")["StorageClass"] == "REDUCED_REDUNDANCY"
    assert get(s3, bucket, "a") == body


def test_copy_of_a_multipart_object_has_the_etag_of_its_bytes(s3: S3Client, bucket: str) -> None:
    bodies = [content(5 * MIB, 1), content(1000, 2)]
    upload = s3.create_multipart_upload(Bucket=bucket, Key="a")["UploadId"]
    parts = [
        {"PartNumber": number, "ETag": s3.upload_part(Bucket=bucket, Key="a", UploadId=upload, PartNumber=number, Body=body)["ETag"]}
        for number, body in enumerate(bodies, 1)
    ]
    s3.complete_multipart_upload(Bucket=bucket, Key="a", UploadId=upload, MultipartUpload={"Parts": parts})  # type: ignore[typeddict-item]
    etag = s3.copy_object(Bucket=bucket, Key="b", CopySource=f"{bucket}/a")["CopyObjectResult"]["ETag"]
    assert get(s3, bucket, "b") == b"".join(bodies)
    assert s3.head_object(Bucket=bucket, Key="b")["ETag"] == etag


@pytest.mark.parametrize(("source", "code"), [("{bucket}/missing", "NoSuchKey"), ("no-such-bucket-here/a", "NoSuchBucket")])
def test_missing_source(s3: S3Client, bucket: str, source: str, code: str) -> None:
    with s3_error(code, 404):
        s3.copy_object(Bucket=bucket, Key="b", CopySource=source.format(bucket=bucket))


def test_source_of_another_tenant_is_closed(s3: S3Client, other_s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"x")
    theirs = f"{bucket[:20]}-theirs"
    other_s3.create_bucket(Bucket=theirs)
    with s3_error("AccessDenied", 403):
        other_s3.copy_object(Bucket=theirs, Key="b", CopySource=f"{bucket}/a")


@pytest.mark.parametrize("source", ["", "justabucket", "/"])
def test_bad_source_is_refused(raw: RawClient, bucket: str, source: str) -> None:
    answer = raw.request("PUT", f"/{bucket}/b", headers={"x-amz-copy-source": source})
    assert answer.status == 400, answer


def test_source_is_encoded_as_a_form_is(raw: RawClient, s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a b", Body=b"x")
    for source in (f"/{bucket}/a%20b", f"{bucket}/a+b", f"%2F{bucket}%2Fa%20b", f"{bucket}/a%20b?versionId=null"):
        assert raw.request("PUT", f"/{bucket}/b", headers={"x-amz-copy-source": source}).verdict == (200, ""), source
    for source in (f"{bucket}/a%2Bb", f"//{bucket}/a%20b", f"{bucket}/a%20b%3FversionId=null"):
        assert raw.request("PUT", f"/{bucket}/b", headers={"x-amz-copy-source": source}).status in (400, 404), source
    assert get(s3, bucket, "b") == b"x"


def test_bad_directive_is_refused(raw: RawClient, s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"x")
    headers = {"x-amz-copy-source": f"/{bucket}/a", "x-amz-metadata-directive": "MAYBE"}
    assert raw.request("PUT", f"/{bucket}/b", headers=headers).verdict == (400, "InvalidArgument")


def test_conditions_on_the_source(s3: S3Client, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="a", Body=b"x")["ETag"]
    s3.copy_object(Bucket=bucket, Key="b", CopySource=f"{bucket}/a", CopySourceIfMatch=etag)
    for condition in ({"CopySourceIfMatch": '"0"'}, {"CopySourceIfNoneMatch": etag}):
        with s3_error("PreconditionFailed", 412):
            s3.copy_object(Bucket=bucket, Key="c", CopySource=f"{bucket}/a", **condition)  # type: ignore[arg-type]
    with s3_error("NoSuchKey", 404):
        get(s3, bucket, "c")


def test_copy_computes_the_checksum_asked_for(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"hello", ChecksumAlgorithm="CRC32")
    answer = s3.copy_object(Bucket=bucket, Key="b", CopySource=f"{bucket}/a", ChecksumAlgorithm="SHA256")
    assert answer["CopyObjectResult"]["ChecksumSHA256"] == "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="
    assert (
        s3.head_object(Bucket=bucket, Key="b", ChecksumMode="ENABLED")["ChecksumSHA256"] == "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="
    )


def test_copy_of_a_composite_object_computes_the_checksum_of_the_whole(s3: S3Client, bucket: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="a", ChecksumAlgorithm="CRC32")["UploadId"]
    part = s3.upload_part(Bucket=bucket, Key="a", UploadId=upload, PartNumber=1, Body=b"hello", ChecksumAlgorithm="CRC32")
    parts = [{"PartNumber": 1, "ETag": part["ETag"], "ChecksumCRC32": part["ChecksumCRC32"]}]
    made = s3.complete_multipart_upload(Bucket=bucket, Key="a", UploadId=upload, MultipartUpload={"Parts": parts})  # type: ignore[typeddict-item]
    assert (made["ChecksumType"], made["ETag"][-3:]) == ("COMPOSITE", '-1"')
    copied = s3.copy_object(Bucket=bucket, Key="b", CopySource=f"{bucket}/a", ChecksumAlgorithm="CRC32")["CopyObjectResult"]
    assert (copied["ChecksumCRC32"], copied["ChecksumType"]) == ("NhCmhg==", "FULL_OBJECT")
    assert copied["ETag"] == '"5d41402abc4b2a76b9719d911017c592"'
    assert get(s3, bucket, "b") == b"hello"


@pytest.mark.parametrize("name", ["x-amz-copy-source", "X-Amz-Copy-Source"])
def test_a_copy_source_in_the_query_of_a_request_signed_in_its_header_is_refused(
    raw: RawClient, bucket: str, s3: S3Client, name: str
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"kept")

    assert raw.request("PUT", f"/{bucket}/k", [(name, f"{bucket}/other")]).verdict == (400, "InvalidRequest")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"kept"


def test_a_part_that_is_a_part_of_another_object_is_the_same(s3: S3Client, bucket: str) -> None:
    """As the transfer manager copies what it has uploaded: part by part, in ranges of the same size."""
    bodies = [content(5 * MIB, 1), content(5 * MIB, 2), content(1000, 3)]
    upload = s3.create_multipart_upload(Bucket=bucket, Key="a")["UploadId"]
    parts = [
        {"PartNumber": number, "ETag": s3.upload_part(Bucket=bucket, Key="a", UploadId=upload, PartNumber=number, Body=body)["ETag"]}
        for number, body in enumerate(bodies, 1)
    ]
    source = s3.complete_multipart_upload(Bucket=bucket, Key="a", UploadId=upload, MultipartUpload={"Parts": parts})  # type: ignore[typeddict-item]
    upload, start, copied = s3.create_multipart_upload(Bucket=bucket, Key="b")["UploadId"], 0, []
    for number, body in enumerate(bodies, 1):
        wanted = f"bytes={start}-{start + len(body) - 1}"
        options = {"Bucket": bucket, "Key": "b", "UploadId": upload, "PartNumber": number, "CopySource": f"{bucket}/a"}
        etag = s3.upload_part_copy(**options, CopySourceRange=wanted)["CopyPartResult"]["ETag"]  # type: ignore[arg-type]
        copied.append({"PartNumber": number, "ETag": etag})
        start += len(body)
    assert copied == parts
    done = s3.complete_multipart_upload(Bucket=bucket, Key="b", UploadId=upload, MultipartUpload={"Parts": copied})  # type: ignore[typeddict-item]
    assert done["ETag"] == source["ETag"]
    assert done.get("ChecksumCRC64NVME") == source.get("ChecksumCRC64NVME")
    s3.delete_object(Bucket=bucket, Key="a")
    assert get(s3, bucket, "b") == b"".join(bodies)
