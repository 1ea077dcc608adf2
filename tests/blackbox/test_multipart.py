"""Multipart uploads: parts in any order, one object at the end, nothing before it."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.blackbox.expect import AWKWARD_KEYS, MIB, content, s3_error
from tests.blackbox.raw import RawClient

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import CompletedPartTypeDef

FIVE = 5 * MIB


def begin(s3: S3Client, bucket: str, key: str = "k", **options: object) -> str:
    return s3.create_multipart_upload(Bucket=bucket, Key=key, **options)["UploadId"]  # type: ignore[arg-type]


def put_parts(s3: S3Client, bucket: str, upload: str, bodies: dict[int, bytes], key: str = "k") -> list[CompletedPartTypeDef]:
    parts: list[CompletedPartTypeDef] = []
    for number, body in bodies.items():
        etag = s3.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=body)["ETag"]
        assert etag == f'"{hashlib.md5(body).hexdigest()}"'
        parts.append({"PartNumber": number, "ETag": etag})
    return sorted(parts, key=lambda part: part["PartNumber"])


def complete(
    s3: S3Client, bucket: str, upload: str, parts: list[CompletedPartTypeDef], key: str = "k", **options: object
) -> dict[str, object]:
    return s3.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts}, **options)  # type: ignore[arg-type,return-value]


def test_parts_in_any_order_make_one_object(s3: S3Client, bucket: str) -> None:
    bodies = {7: content(1000, 7), 1: content(FIVE, 1), 3: content(FIVE + 17, 3)}
    upload = begin(s3, bucket, Metadata={"a": "b"}, ContentType="text/plain")
    parts = put_parts(s3, bucket, upload, bodies)
    answer = complete(s3, bucket, upload, parts)
    md5s = b"".join(hashlib.md5(bodies[number]).digest() for number in sorted(bodies))
    etag = f'"{hashlib.md5(md5s).hexdigest()}-3"'
    assert (answer["ETag"], answer["Bucket"], answer["Key"]) == (etag, bucket, "k")
    whole = s3.get_object(Bucket=bucket, Key="k")
    assert whole["Body"].read() == bodies[1] + bodies[3] + bodies[7]
    assert (whole["ETag"], whole["Metadata"], whole["ContentType"]) == (etag, {"a": "b"}, "text/plain")


def test_nothing_is_visible_before_completion(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"before")
    upload = begin(s3, bucket)
    parts = put_parts(s3, bucket, upload, {1: b"after"})
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"before"
    complete(s3, bucket, upload, parts)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"after"


def test_a_part_sent_again_replaces_the_first(s3: S3Client, bucket: str) -> None:
    upload = begin(s3, bucket)
    put_parts(s3, bucket, upload, {1: b"first"})
    parts = put_parts(s3, bucket, upload, {1: b"second"})
    complete(s3, bucket, upload, parts)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"second"


def test_the_etag_of_a_replaced_part_is_refused(s3: S3Client, bucket: str) -> None:
    upload = begin(s3, bucket)
    old = put_parts(s3, bucket, upload, {1: b"first"})
    put_parts(s3, bucket, upload, {1: b"second"})
    with s3_error("InvalidPart", 400):
        complete(s3, bucket, upload, old)


def test_parts_left_out_are_left_out(s3: S3Client, bucket: str) -> None:
    upload = begin(s3, bucket)
    parts = put_parts(s3, bucket, upload, {1: content(FIVE), 2: b"dropped", 3: b"end"})
    complete(s3, bucket, upload, [parts[0], parts[2]])
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == content(FIVE) + b"end"


def test_part_out_of_order_is_refused(s3: S3Client, bucket: str) -> None:
    upload = begin(s3, bucket)
    parts = put_parts(s3, bucket, upload, {1: content(FIVE), 2: b"end"})
    with s3_error("InvalidPartOrder", 400):
        complete(s3, bucket, upload, parts[::-1])
    with s3_error("InvalidPartOrder", 400):
        complete(s3, bucket, upload, [parts[0], parts[0]])


def test_unknown_part_is_refused(s3: S3Client, bucket: str) -> None:
    upload = begin(s3, bucket)
    parts = put_parts(s3, bucket, upload, {1: b"x"})
    with s3_error("InvalidPart", 400):
        complete(s3, bucket, upload, [*parts, {"PartNumber": 2, "ETag": parts[0]["ETag"]}])
    with s3_error("InvalidPart", 400):
        complete(s3, bucket, upload, [{"PartNumber": 1, "ETag": '"00000000000000000000000000000000"'}])


def test_small_part_before_the_last_is_refused(s3: S3Client, bucket: str) -> None:
    upload = begin(s3, bucket)
    parts = put_parts(s3, bucket, upload, {1: b"small", 2: b"last"})
    with s3_error("EntityTooSmall", 400):
        complete(s3, bucket, upload, parts)


def test_completion_without_parts_is_malformed(s3: S3Client, bucket: str) -> None:
    upload = begin(s3, bucket)
    with s3_error("MalformedXML", 400):
        complete(s3, bucket, upload, [])


@pytest.mark.parametrize("number", [0, 10001, -1])
def test_part_number_outside_1_to_10000_is_refused(s3: S3Client, bucket: str, number: int) -> None:
    upload = begin(s3, bucket)
    with s3_error("InvalidArgument", 400):
        s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=number, Body=b"x")


def test_part_number_10000_is_the_last(s3: S3Client, bucket: str) -> None:
    upload = begin(s3, bucket)
    complete(s3, bucket, upload, put_parts(s3, bucket, upload, {10000: b"end"}))
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"end"


def test_unknown_upload_is_said_to_be_unknown(s3: S3Client, bucket: str) -> None:
    upload = begin(s3, bucket)
    s3.abort_multipart_upload(Bucket=bucket, Key="k", UploadId=upload)
    for unknown in (upload, "no-such-upload", "x" * 64):
        with s3_error("NoSuchUpload", 404):
            s3.upload_part(Bucket=bucket, Key="k", UploadId=unknown, PartNumber=1, Body=b"x")
        with s3_error("NoSuchUpload", 404):
            s3.list_parts(Bucket=bucket, Key="k", UploadId=unknown)
        with s3_error("NoSuchUpload", 404):
            s3.abort_multipart_upload(Bucket=bucket, Key="k", UploadId=unknown)
        with s3_error("NoSuchUpload", 404):
            complete(s3, bucket, unknown, [{"PartNumber": 1, "ETag": '"00000000000000000000000000000000"'}])


def test_an_upload_belongs_to_its_key(s3: S3Client, bucket: str) -> None:
    upload = begin(s3, bucket)
    with s3_error("NoSuchUpload", 404):
        s3.upload_part(Bucket=bucket, Key="other", UploadId=upload, PartNumber=1, Body=b"x")
    with s3_error("NoSuchUpload", 404):
        s3.list_parts(Bucket=bucket, Key="other", UploadId=upload)


def test_completing_again_gives_the_same_answer(s3: S3Client, bucket: str) -> None:
    upload = begin(s3, bucket)
    parts = put_parts(s3, bucket, upload, {1: b"x"})
    first = complete(s3, bucket, upload, parts)
    assert complete(s3, bucket, upload, parts)["ETag"] == first["ETag"]


def test_parts_are_listed_by_page(s3: S3Client, bucket: str) -> None:
    upload = begin(s3, bucket)
    put_parts(s3, bucket, upload, {number: bytes(number) for number in (2, 9, 4, 30, 5)})
    first = s3.list_parts(Bucket=bucket, Key="k", UploadId=upload, MaxParts=2)
    assert [part["PartNumber"] for part in first["Parts"]] == [2, 4]
    assert (first["IsTruncated"], first["NextPartNumberMarker"], first["MaxParts"]) == (True, 4, 2)
    rest = s3.list_parts(Bucket=bucket, Key="k", UploadId=upload, PartNumberMarker=4)
    assert [(part["PartNumber"], part["Size"]) for part in rest["Parts"]] == [(5, 5), (9, 9), (30, 30)]
    assert rest["IsTruncated"] is False
    assert rest["Parts"][0]["ETag"] == f'"{hashlib.md5(bytes(5)).hexdigest()}"'
    assert rest["Initiator"]["ID"]
    assert rest["StorageClass"] == "STANDARD"


def test_uploads_are_listed_in_order_of_key_and_start(s3: S3Client, bucket: str) -> None:
    uploads = [(key, begin(s3, bucket, key)) for key in ("b", "a/1", "a/2", "b", "c")]
    found = s3.list_multipart_uploads(Bucket=bucket)["Uploads"]
    assert [(one["Key"], one["UploadId"]) for one in found] == [uploads[1], uploads[2], uploads[0], uploads[3], uploads[4]]
    grouped = s3.list_multipart_uploads(Bucket=bucket, Delimiter="/")
    assert [one["Prefix"] for one in grouped["CommonPrefixes"]] == ["a/"]
    assert [one["Key"] for one in grouped["Uploads"]] == ["b", "b", "c"]
    assert [one["Key"] for one in s3.list_multipart_uploads(Bucket=bucket, Prefix="a/")["Uploads"]] == ["a/1", "a/2"]
    paged = [
        one["UploadId"]
        for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, MaxUploads=2)
        for one in page["Uploads"]
    ]
    assert paged == [one["UploadId"] for one in found]


def test_finished_and_aborted_uploads_are_not_listed(s3: S3Client, bucket: str) -> None:
    done, aborted = begin(s3, bucket), begin(s3, bucket)
    complete(s3, bucket, done, put_parts(s3, bucket, done, {1: b"x"}))
    assert s3.abort_multipart_upload(Bucket=bucket, Key="k", UploadId=aborted)["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def test_uploads_of_one_key_end_on_their_own(s3: S3Client, bucket: str) -> None:
    one, two = begin(s3, bucket), begin(s3, bucket)
    parts_one, parts_two = put_parts(s3, bucket, one, {1: b"one"}), put_parts(s3, bucket, two, {1: b"two"})
    complete(s3, bucket, two, parts_two)
    complete(s3, bucket, one, parts_one)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"one"


def test_bucket_with_an_open_upload_can_be_deleted(s3: S3Client, bucket: str) -> None:
    begin(s3, bucket)
    s3.delete_bucket(Bucket=bucket)


@pytest.mark.parametrize("key", [AWKWARD_KEYS[3], AWKWARD_KEYS[10], AWKWARD_KEYS[14], AWKWARD_KEYS[-1]], ids=lambda key: ascii(key[:24]))
def test_awkward_keys_upload_in_parts(s3: S3Client, bucket: str, key: str) -> None:
    upload = begin(s3, bucket, key)
    assert s3.list_multipart_uploads(Bucket=bucket)["Uploads"][0]["Key"] == key
    parts = put_parts(s3, bucket, upload, {1: b"x"}, key)
    assert s3.list_parts(Bucket=bucket, Key=key, UploadId=upload)["Key"] == key
    assert complete(s3, bucket, upload, parts, key)["Key"] == key
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == b"x"


def test_ranges_cross_parts(s3: S3Client, bucket: str) -> None:
    bodies = {1: content(FIVE + 3, 1), 2: content(FIVE + 5, 2), 3: content(77, 3)}
    whole = b"".join(bodies.values())
    upload = begin(s3, bucket)
    complete(s3, bucket, upload, put_parts(s3, bucket, upload, bodies))
    for start, end in ((FIVE, FIVE + 10), (0, 0), (FIVE + 2, FIVE + 3), (FIVE + 3, 2 * FIVE + 8), (len(whole) - 100, len(whole) - 1)):
        answer = s3.get_object(Bucket=bucket, Key="k", Range=f"bytes={start}-{end}")
        assert answer["Body"].read() == whole[start : end + 1]


def test_part_number_reads_one_part(s3: S3Client, bucket: str) -> None:
    bodies = {1: content(FIVE, 1), 2: b"the end"}
    upload = begin(s3, bucket)
    complete(s3, bucket, upload, put_parts(s3, bucket, upload, bodies))
    for number, body in bodies.items():
        answer = s3.get_object(Bucket=bucket, Key="k", PartNumber=number)
        assert answer["Body"].read() == body
        assert answer["PartsCount"] == 2
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206
        assert s3.head_object(Bucket=bucket, Key="k", PartNumber=number)["ContentLength"] == len(body)


def test_parts_upload_at_once(s3: S3Client, bucket: str) -> None:
    bodies = {number: content(FIVE, number) for number in range(1, 5)}
    upload = begin(s3, bucket)
    with ThreadPoolExecutor(4) as threads:
        parts = list(threads.map(lambda item: put_parts(s3, bucket, upload, dict([item]))[0], bodies.items()))
    complete(s3, bucket, upload, parts)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"".join(bodies.values())


def test_object_size_claimed_at_completion_is_checked(s3: S3Client, bucket: str) -> None:
    upload = begin(s3, bucket)
    parts = put_parts(s3, bucket, upload, {1: b"12345"})
    with s3_error("InvalidRequest", 400):
        complete(s3, bucket, upload, parts, MpuObjectSize=6)
    complete(s3, bucket, upload, parts, MpuObjectSize=5)


def test_copied_parts(s3: S3Client, bucket: str) -> None:
    body = content(6 * MIB)
    s3.put_object(Bucket=bucket, Key="source with space", Body=body)
    upload = begin(s3, bucket)
    source = {"Bucket": bucket, "Key": "source with space"}
    parts: list[CompletedPartTypeDef] = []
    for number, byte_range in ((1, f"bytes=0-{FIVE - 1}"), (2, "bytes=100-199"), (3, None)):
        options = {"CopySourceRange": byte_range} if byte_range else {}
        answer = s3.upload_part_copy(Bucket=bucket, Key="k", UploadId=upload, PartNumber=number, CopySource=source, **options)  # type: ignore[arg-type]
        parts.append({"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]})
    with s3_error("EntityTooSmall", 400):
        complete(s3, bucket, upload, parts)
    complete(s3, bucket, upload, parts[:2])
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == body[:FIVE] + body[100:200]


@pytest.mark.parametrize("byte_range", ["bytes=5-", "bytes=-5", "bytes=9-2", "0-5", "bytes=0-100"])
def test_bad_copy_range_is_refused(s3: S3Client, bucket: str, byte_range: str) -> None:
    s3.put_object(Bucket=bucket, Key="source", Body=b"0123456789")
    upload = begin(s3, bucket)
    with s3_error(("InvalidArgument", "InvalidRange"), 400):
        s3.upload_part_copy(
            Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, CopySource=f"{bucket}/source", CopySourceRange=byte_range
        )


def test_malformed_completion_is_refused(raw: RawClient, s3: S3Client, bucket: str) -> None:
    upload = begin(s3, bucket)
    for body in (b"", b"not xml", b"<CompleteMultipartUpload><Part>", b"<Other/>"):
        answer = raw.request("POST", f"/{bucket}/k", [("uploadId", upload)], body=body)
        assert answer.status == 400
        assert answer.error["Code"] in ("MalformedXML", "InvalidRequest", "MissingRequestBodyError"), body


def test_an_upload_marker_must_look_like_one(raw: RawClient, s3: S3Client, bucket: str) -> None:
    upload = begin(s3, bucket)
    for marker, status in (("nonsense", 400), ("\u00e9" * 64, 400), (upload, 200), (f"{upload[:-1]}.", 200), ("", 200)):
        assert raw.request("GET", f"/{bucket}", [("uploads", ""), ("key-marker", "k"), ("upload-id-marker", marker)]).status == status, (
            marker
        )
    assert raw.request("GET", f"/{bucket}", [("uploads", ""), ("upload-id-marker", "nonsense")]).verdict == (200, "")


def test_a_part_marker_is_a_number(raw: RawClient, s3: S3Client, bucket: str) -> None:
    upload = begin(s3, bucket)
    for marker, status in (("", 200), ("10001", 200), ("-1", 400), ("x", 400), ("9" * 19, 400), ("9" * 5000, 400)):
        answer = raw.request("GET", f"/{bucket}/k", [("uploadId", upload), ("part-number-marker", marker)])
        assert answer.status == status, marker


@pytest.mark.parametrize("root", ["CompletedMultipartUpload", "MultipartUpload"])
def test_completion_under_the_names_older_clients_give_it(raw: RawClient, s3: S3Client, bucket: str, root: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    etag = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=b"x")["ETag"]
    body = f"<{root}><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></{root}>".encode()
    assert raw.request("POST", f"/{bucket}/k", [("uploadId", upload)], body=body).verdict == (200, "")


def test_only_a_page_that_others_follow_says_where_they_begin(s3: S3Client, bucket: str) -> None:
    upload = begin(s3, bucket)
    put_parts(s3, bucket, upload, {1: b"a", 2: b"b"})
    first = s3.list_parts(Bucket=bucket, Key="k", UploadId=upload, MaxParts=1)
    assert (first["IsTruncated"], first["NextPartNumberMarker"]) == (True, 1)
    for options in ({"PartNumberMarker": 1}, {}, {"MaxParts": 0}):
        page = s3.list_parts(Bucket=bucket, Key="k", UploadId=upload, **options)  # type: ignore[arg-type]
        assert (page["IsTruncated"], "NextPartNumberMarker" in page) == (False, False), options


def test_only_a_page_of_attributes_that_others_follow_says_where_they_begin(s3: S3Client, bucket: str) -> None:
    upload = begin(s3, bucket, ChecksumAlgorithm="SHA256")
    parts = []
    for number, body in ((1, content(FIVE)), (2, b"end")):
        part = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=number, Body=body, ChecksumAlgorithm="SHA256")
        parts.append({"PartNumber": number, "ETag": part["ETag"], "ChecksumSHA256": part["ChecksumSHA256"]})
    complete(s3, bucket, upload, parts)  # type: ignore[arg-type]
    for limit, more in ((1, True), (2, False), (1000, False)):
        told = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["ObjectParts"], MaxParts=limit)["ObjectParts"]
        assert (told["IsTruncated"], "NextPartNumberMarker" in told) == (more, more), limit
