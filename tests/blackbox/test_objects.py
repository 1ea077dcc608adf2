"""Objects: every byte, header and key comes back as it was put."""

from __future__ import annotations

import hashlib
import io
import socket
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.blackbox.expect import AWKWARD_KEYS, MIB, content, s3_error
from tests.blackbox.raw import RawClient

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.literals import StorageClassType

SIZES = [0, 1, 15, 4096, 65535, 65536, 65537, 4 * 65536, 4 * 65536 + 1, MIB + 1, 16 * MIB, 16 * MIB + 1, 20 * MIB + 12345]


@pytest.mark.parametrize("size", SIZES)
def test_object_comes_back_whole(s3: S3Client, bucket: str, size: int) -> None:
    body = content(size)
    etag = f'"{hashlib.md5(body).hexdigest()}"'
    assert s3.put_object(Bucket=bucket, Key="k", Body=body)["ETag"] == etag
    answer = s3.get_object(Bucket=bucket, Key="k")
    assert (answer["ContentLength"], answer["ETag"], answer["AcceptRanges"]) == (size, etag, "bytes")
    assert answer["Body"].read() == body


@pytest.mark.parametrize("key", AWKWARD_KEYS, ids=lambda key: ascii(key[:24]))
def test_awkward_key_is_a_key_like_any_other(s3: S3Client, bucket: str, key: str) -> None:
    s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()
    assert s3.head_object(Bucket=bucket, Key=key)["ContentLength"] == len(key.encode())
    assert [one["Key"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [key]
    s3.delete_object(Bucket=bucket, Key=key)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_keys_that_look_alike_are_distinct(s3: S3Client, bucket: str) -> None:
    keys = ["a/b", "a//b", "/a/b", "a/b/", "a/./b", "a/../b", "a%2Fb", "A/b", "a+b", "a b", "a%20b", "\u00e9", "e\u0301"]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    for key in keys:
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()


def test_key_over_1024_bytes_is_refused(s3: S3Client, bucket: str) -> None:
    with s3_error("KeyTooLongError", 400):
        s3.put_object(Bucket=bucket, Key="k" * 1025, Body=b"")
    with s3_error("KeyTooLongError", 400):
        s3.put_object(Bucket=bucket, Key="\u4e2d" * 342, Body=b"")


def test_headers_and_metadata_come_back(s3: S3Client, bucket: str) -> None:
    expires = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
    sent = {
        "CacheControl": "max-age=60, private",
        "ContentDisposition": 'attachment; filename="x y.txt"',
        "ContentEncoding": "gzip",
        "ContentLanguage": "de-CH",
        "ContentType": "text/plain; charset=utf-8",
    }
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Expires=expires, Metadata={"Colour": "Blue", "empty": ""}, **sent)  # type: ignore[arg-type]
    for answer in (s3.head_object(Bucket=bucket, Key="k"), s3.get_object(Bucket=bucket, Key="k")):
        assert {name: answer[name] for name in sent} == sent  # type: ignore[literal-required]
        assert answer["ExpiresString"] == "Tue, 06 May 2031 07:08:09 GMT"
        assert answer["Metadata"] == {"colour": "Blue", "empty": ""}


def test_content_type_is_binary_unless_said(raw: RawClient, s3: S3Client, bucket: str) -> None:
    raw.request("PUT", f"/{bucket}/k", body=b"x")
    assert s3.head_object(Bucket=bucket, Key="k")["ContentType"] == "binary/octet-stream"


def test_head_says_what_get_says(raw: RawClient, s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=content(5000), Metadata={"a": "b"}, ContentType="image/png")
    volatile = {"date", "x-amz-request-id", "x-amz-id-2", "connection", "server"}
    head, get = (raw.request(method, f"/{bucket}/k") for method in ("HEAD", "GET"))
    assert head.body == b""
    assert {k: v for k, v in head.headers.items() if k not in volatile} == {k: v for k, v in get.headers.items() if k not in volatile}


def test_last_modified_is_now(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    modified = s3.head_object(Bucket=bucket, Key="k")["LastModified"]
    assert abs(modified - datetime.now(UTC)) < timedelta(seconds=30)
    assert s3.list_objects_v2(Bucket=bucket)["Contents"][0]["LastModified"] == modified
    assert s3.list_object_versions(Bucket=bucket)["Versions"][0]["LastModified"] == modified
    assert s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["ETag"])["LastModified"] == modified


def test_metadata_may_be_two_kibibytes_and_no_more(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"", Metadata={"a": "x" * 2047})
    assert s3.head_object(Bucket=bucket, Key="k")["Metadata"] == {"a": "x" * 2047}
    with s3_error("MetadataTooLarge", 400):
        s3.put_object(Bucket=bucket, Key="k", Body=b"", Metadata={"a": "x" * 2048})


def test_metadata_outside_ascii_comes_back_as_rfc_2047(raw: RawClient, s3: S3Client, bucket: str) -> None:
    answer = raw.request("PUT", f"/{bucket}/k", headers={"x-amz-meta-name": "=?UTF-8?B?w4TDpMO2?="}, body=b"")
    assert answer.status == 200
    returned = raw.request("HEAD", f"/{bucket}/k").headers["x-amz-meta-name"]
    assert returned.upper().startswith("=?UTF-8?")
    assert returned.isascii()


def test_overwriting_replaces_contents_and_metadata(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"one", Metadata={"a": "1"}, ContentType="text/plain")
    s3.put_object(Bucket=bucket, Key="k", Body=b"second")
    answer = s3.get_object(Bucket=bucket, Key="k")
    assert (answer["Body"].read(), answer["Metadata"]) == (b"second", {})
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 1


def test_missing_object_is_said_to_be_missing(s3: S3Client, bucket: str) -> None:
    with s3_error("NoSuchKey", 404) as caught:
        s3.get_object(Bucket=bucket, Key="nothing/here")
    assert caught.value.response["Error"]["Key"] == "nothing/here"  # type: ignore[typeddict-item]
    with s3_error("404", 404):
        s3.head_object(Bucket=bucket, Key="nothing/here")


def test_delete_succeeds_whether_or_not_there_was_an_object(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    for _ in range(2):
        assert s3.delete_object(Bucket=bucket, Key="k")["ResponseMetadata"]["HTTPStatusCode"] == 204
    with s3_error("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key="k")


def test_delete_objects_deletes_what_exists_and_confirms_the_rest(s3: S3Client, bucket: str) -> None:
    keys = ["a", "b c", "d//e", "<f>&", "\U0001f600"]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in [*keys, "missing"]]})
    assert {one["Key"] for one in answer["Deleted"]} == {*keys, "missing"}
    assert "Errors" not in answer
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_quiet_delete_objects_names_nothing(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"x")
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "a"}], "Quiet": True})
    assert "Deleted" not in answer
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_delete_objects_takes_a_thousand_and_no_more(s3: S3Client, bucket: str) -> None:
    names = [{"Key": f"k{number}"} for number in range(1001)]
    assert len(s3.delete_objects(Bucket=bucket, Delete={"Objects": names[:1000]})["Deleted"]) == 1000  # type: ignore[typeddict-item]
    with s3_error("MalformedXML", 400):
        s3.delete_objects(Bucket=bucket, Delete={"Objects": names})  # type: ignore[typeddict-item]


def test_storage_class_is_kept_and_shown(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=content(100_000), StorageClass="REDUCED_REDUNDANCY")
    answer = s3.get_object(Bucket=bucket, Key="k")
    assert answer["StorageClass"] == "REDUCED_REDUNDANCY"
    assert answer["Body"].read() == content(100_000)
    assert s3.list_objects_v2(Bucket=bucket)["Contents"][0]["StorageClass"] == "REDUCED_REDUNDANCY"
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    assert "StorageClass" not in s3.head_object(Bucket=bucket, Key="k")
    assert s3.list_objects_v2(Bucket=bucket)["Contents"][0]["StorageClass"] == "STANDARD"


def test_unknown_storage_class_is_refused(s3: S3Client, bucket: str) -> None:
    with s3_error("InvalidStorageClass", 400):
        s3.put_object(Bucket=bucket, Key="k", Body=b"", StorageClass="COSY")  # type: ignore[arg-type]


def test_response_headers_can_be_overridden(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ContentType="text/plain")
    answer = s3.get_object(
        Bucket=bucket,
        Key="k",
        ResponseContentType="image/gif",
        ResponseContentDisposition="attachment",
        ResponseCacheControl="no-cache",
        ResponseContentEncoding="identity",
        ResponseContentLanguage="fr",
    )
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    assert answer["ContentType"] == "image/gif"
    assert (headers["content-disposition"], headers["cache-control"]) == ("attachment", "no-cache")
    assert (headers["content-encoding"], headers["content-language"]) == ("identity", "fr")
    assert s3.head_object(Bucket=bucket, Key="k")["ContentType"] == "text/plain"


def test_overridden_expires_is_given_back_as_it_was_asked_for(raw: RawClient, bucket: str) -> None:
    raw.request("PUT", f"/{bucket}/k", body=b"x")
    wanted = "Tue, 01 Jan 2030 00:00:00 GMT"
    answer = raw.request("GET", f"/{bucket}/k", [("response-expires", wanted)])
    assert (answer.status, answer.headers["expires"]) == (200, wanted)


def test_folder_marker_is_an_empty_object(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="folder/")
    s3.put_object(Bucket=bucket, Key="folder", Body=b"beside")
    assert s3.get_object(Bucket=bucket, Key="folder/")["Body"].read() == b""
    assert s3.get_object(Bucket=bucket, Key="folder")["Body"].read() == b"beside"


def test_writers_at_once_leave_one_whole_object(s3: S3Client, bucket: str) -> None:
    bodies = [bytes([number]) * 300_000 for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda body: s3.put_object(Bucket=bucket, Key="k", Body=body), bodies))
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() in bodies


def test_a_reader_of_a_replaced_object_sees_one_object_only(s3: S3Client, bucket: str) -> None:
    old, new = content(8 * MIB, 1), content(8 * MIB, 2)
    s3.put_object(Bucket=bucket, Key="k", Body=old)
    answer = s3.get_object(Bucket=bucket, Key="k")
    first = answer["Body"].read(1000)
    s3.put_object(Bucket=bucket, Key="k", Body=new)
    assert first + answer["Body"].read() == old
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == new


def test_an_upload_cut_short_leaves_nothing(raw: RawClient, s3: S3Client, bucket: str) -> None:
    signed = raw.sign("PUT", f"/{bucket}/k", {"content-length": "100000"})
    lines = [f"PUT /{bucket}/k HTTP/1.1", *(f"{name}: {value}" for name, value in signed.headers.items()), "", ""]
    with raw.connect() as connection:
        connection.sendall("\r\n".join(lines).encode() + b"x" * 50_000)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(MIB):  # until the server has seen the end, and hangs up
            pass
    with s3_error("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key="k")


def test_file_objects_of_unknown_length_upload_through_the_transfer_manager(s3: S3Client, bucket: str) -> None:
    body = content(9 * MIB)
    s3.upload_fileobj(io.BytesIO(body), bucket, "k", ExtraArgs={"Metadata": {"a": "b"}})
    target = io.BytesIO()
    s3.download_fileobj(bucket, "k", target)
    assert target.getvalue() == body
    assert s3.head_object(Bucket=bucket, Key="k")["Metadata"] == {"a": "b"}


def test_object_attributes(s3: S3Client, bucket: str) -> None:
    body = content(5000)
    s3.put_object(Bucket=bucket, Key="k", Body=body, ChecksumAlgorithm="SHA256")
    wanted = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"]
    answer = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=wanted)  # type: ignore[arg-type]
    assert answer["ETag"] == hashlib.md5(body).hexdigest()  # without quotes here, as AWS answers
    assert answer["ObjectSize"] == 5000
    assert answer["StorageClass"] == "STANDARD"
    assert answer["Checksum"]["ChecksumSHA256"]
    only = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["ObjectSize"])
    assert "ETag" not in only
    assert "Checksum" not in only


def test_object_attributes_of_a_version(s3: S3Client, versioned: str) -> None:
    first = s3.put_object(Bucket=versioned, Key="k", Body=b"12345")["VersionId"]
    s3.put_object(Bucket=versioned, Key="k", Body=b"")
    answer = s3.get_object_attributes(Bucket=versioned, Key="k", VersionId=first, ObjectAttributes=["ObjectSize", "ETag"])
    assert (answer["VersionId"], answer["ObjectSize"], answer["ETag"]) == (first, 5, hashlib.md5(b"12345").hexdigest())
    marker = s3.delete_object(Bucket=versioned, Key="k")["VersionId"]
    with s3_error("NoSuchKey", 404) as caught:
        s3.get_object_attributes(Bucket=versioned, Key="k", ObjectAttributes=["ETag"])
    assert caught.value.response["ResponseMetadata"]["HTTPHeaders"]["x-amz-delete-marker"] == "true"
    with s3_error("MethodNotAllowed", 405):
        s3.get_object_attributes(Bucket=versioned, Key="k", VersionId=marker, ObjectAttributes=["ETag"])


def test_object_attributes_are_asked_for_by_name(raw: RawClient, s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"12345")
    for headers in ({}, {"x-amz-object-attributes": " , "}):
        assert raw.request("GET", f"/{bucket}/k", [("attributes", "")], headers).verdict == (400, "InvalidRequest")
    answer = raw.request("GET", f"/{bucket}/k", [("attributes", "")], {"x-amz-object-attributes": "ETag,Colour"})
    assert (answer.verdict, answer.error["ArgumentValue"]) == ((400, "InvalidArgument"), "ETag,Colour")
    both = raw.request("GET", f"/{bucket}/k", [("attributes", "")], {"x-amz-object-attributes": "ETag, ObjectSize"})
    assert b"<ETag>" in both.body
    assert b"<ObjectSize>5</ObjectSize>" in both.body


def test_objects_are_not_renamed_in_a_bucket_of_this_kind(s3: S3Client, bucket: str) -> None:
    """On AWS only directory buckets have RenameObject."""
    s3.put_object(Bucket=bucket, Key="a", Body=b"x")
    with s3_error("NotImplemented", 501):
        s3.rename_object(Bucket=bucket, Key="b", RenameSource="/a")
    assert [item["Key"] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["a"]


def test_object_attributes_of_a_missing_key(s3: S3Client, bucket: str) -> None:
    with s3_error("NoSuchKey", 404):
        s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["ObjectSize"])


@pytest.mark.parametrize("storage_class", ["STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR", "REDUCED_REDUNDANCY"])
def test_the_storage_class_asked_for_is_told_everywhere(s3: S3Client, bucket: str, storage_class: StorageClassType) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", StorageClass=storage_class)
    assert s3.head_object(Bucket=bucket, Key="k")["StorageClass"] == storage_class
    assert s3.get_object(Bucket=bucket, Key="k")["StorageClass"] == storage_class
    assert s3.list_objects_v2(Bucket=bucket)["Contents"][0]["StorageClass"] == storage_class
    assert s3.list_object_versions(Bucket=bucket)["Versions"][0]["StorageClass"] == storage_class
