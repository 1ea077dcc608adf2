"""Versioning: nothing overwritten is lost, nothing deleted is gone, and null is a version like others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.blackbox.expect import MIB, content, s3_error
from tests.blackbox.raw import RawClient

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


def put(s3: S3Client, bucket: str, body: bytes, key: str = "k") -> str | None:
    return s3.put_object(Bucket=bucket, Key=key, Body=body).get("VersionId")


def get(s3: S3Client, bucket: str, key: str = "k", **options: str) -> bytes:
    return s3.get_object(Bucket=bucket, Key=key, **options)["Body"].read()  # type: ignore[arg-type]


def suspend(s3: S3Client, bucket: str) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})


def history(s3: S3Client, bucket: str) -> list[tuple[str, str, bool, bool]]:
    """Return (key, version id, is latest, is delete marker), in the order of the listing's kinds."""
    answer = s3.list_object_versions(Bucket=bucket)
    found = [(one["Key"], one["VersionId"], one["IsLatest"], False) for one in answer.get("Versions", [])]
    return found + [(one["Key"], one["VersionId"], one["IsLatest"], True) for one in answer.get("DeleteMarkers", [])]


def test_bucket_starts_without_versioning(s3: S3Client, bucket: str) -> None:
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    assert put(s3, bucket, b"x") is None
    assert "VersionId" not in s3.head_object(Bucket=bucket, Key="k")
    assert history(s3, bucket) == [("k", "null", True, False)]


def test_status_is_kept(s3: S3Client, bucket: str) -> None:
    for status in ("Enabled", "Suspended", "Enabled"):
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})  # type: ignore[typeddict-item]
        assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == status


def test_bad_status_is_refused(raw: RawClient, bucket: str) -> None:
    body = b"<VersioningConfiguration><Status>Perhaps</Status></VersioningConfiguration>"
    assert raw.request("PUT", f"/{bucket}", [("versioning", "")], body=body).verdict in [
        (400, "MalformedXML"),
        (400, "IllegalVersioningConfigurationException"),
    ]


def test_every_put_makes_a_version(s3: S3Client, versioned: str) -> None:
    ids = [put(s3, versioned, body) for body in (b"one", b"two", b"three")]
    assert len(set(ids)) == 3
    assert get(s3, versioned) == b"three"
    for version, body in zip(ids, (b"one", b"two", b"three"), strict=True):
        assert get(s3, versioned, VersionId=str(version)) == body
        assert s3.head_object(Bucket=versioned, Key="k", VersionId=str(version))["VersionId"] == version
    assert history(s3, versioned) == [("k", version, version == ids[2], False) for version in reversed(ids)]
    assert s3.list_objects_v2(Bucket=versioned)["KeyCount"] == 1


def test_delete_leaves_a_marker_that_can_be_taken_away(s3: S3Client, versioned: str) -> None:
    version = put(s3, versioned, b"kept")
    answer = s3.delete_object(Bucket=versioned, Key="k")
    assert answer["DeleteMarker"] is True
    with s3_error("NoSuchKey", 404) as caught:
        get(s3, versioned)
    headers = caught.value.response["ResponseMetadata"]["HTTPHeaders"]
    assert (headers["x-amz-delete-marker"], headers["x-amz-version-id"]) == ("true", answer["VersionId"])
    assert s3.list_objects_v2(Bucket=versioned)["KeyCount"] == 0
    assert get(s3, versioned, VersionId=str(version)) == b"kept"
    undone = s3.delete_object(Bucket=versioned, Key="k", VersionId=answer["VersionId"])
    assert (undone["DeleteMarker"], undone["VersionId"]) == (True, answer["VersionId"])
    assert get(s3, versioned) == b"kept"


def test_a_delete_marker_cannot_be_read(s3: S3Client, versioned: str) -> None:
    put(s3, versioned, b"x")
    marker = s3.delete_object(Bucket=versioned, Key="k")["VersionId"]
    with s3_error("MethodNotAllowed", 405) as caught:
        get(s3, versioned, VersionId=marker)
    assert caught.value.response["ResponseMetadata"]["HTTPHeaders"]["x-amz-delete-marker"] == "true"
    with s3_error("405", 405):
        s3.head_object(Bucket=versioned, Key="k", VersionId=marker)


def test_deleting_a_version_deletes_only_it(s3: S3Client, versioned: str) -> None:
    one, two, three = (str(put(s3, versioned, body)) for body in (b"one", b"two", b"three"))
    answer = s3.delete_object(Bucket=versioned, Key="k", VersionId=two)
    assert answer["VersionId"] == two
    assert "DeleteMarker" not in answer
    with s3_error("NoSuchVersion", 404):
        get(s3, versioned, VersionId=two)
    s3.delete_object(Bucket=versioned, Key="k", VersionId=three)
    assert get(s3, versioned) == b"one"
    assert history(s3, versioned) == [("k", one, True, False)]


def test_deleting_an_unknown_version_succeeds(s3: S3Client, versioned: str) -> None:
    version = str(put(s3, versioned, b"x"))
    s3.delete_object(Bucket=versioned, Key="k", VersionId=version)
    assert s3.delete_object(Bucket=versioned, Key="k", VersionId=version)["ResponseMetadata"]["HTTPStatusCode"] == 204


def test_a_version_id_of_aws_is_one_that_is_not_here(s3: S3Client, versioned: str) -> None:
    put(s3, versioned, b"x")
    theirs = "QwErTyUi.OpAsDfGh_JkLzXcVbNm1234"
    with s3_error("NoSuchVersion", 404):
        get(s3, versioned, VersionId=theirs)
    assert s3.delete_object(Bucket=versioned, Key="k", VersionId=theirs)["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert get(s3, versioned) == b"x"


def test_malformed_version_id_is_refused(s3: S3Client, versioned: str) -> None:
    put(s3, versioned, b"x")
    with s3_error(("InvalidArgument", "NoSuchVersion"), 400) as caught:
        get(s3, versioned, VersionId="not a version")
    assert caught.value.response["Error"]["Code"] == "InvalidArgument"


def test_deleting_a_missing_key_makes_a_marker(s3: S3Client, versioned: str) -> None:
    marker = s3.delete_object(Bucket=versioned, Key="never")
    assert marker["DeleteMarker"] is True
    assert history(s3, versioned) == [("never", marker["VersionId"], True, True)]


def test_an_object_from_before_versioning_is_null(s3: S3Client, bucket: str) -> None:
    put(s3, bucket, b"old")
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    new = put(s3, bucket, b"new")
    assert get(s3, bucket, VersionId="null") == b"old"
    assert history(s3, bucket) == [("k", new, True, False), ("k", "null", False, False)]
    s3.delete_object(Bucket=bucket, Key="k", VersionId="null")
    assert history(s3, bucket) == [("k", new, True, False)]


def test_suspended_writes_replace_only_the_null_version(s3: S3Client, versioned: str) -> None:
    kept = str(put(s3, versioned, b"kept"))
    suspend(s3, versioned)
    assert put(s3, versioned, b"null one") is None
    put(s3, versioned, b"null two")
    assert get(s3, versioned) == b"null two"
    assert get(s3, versioned, VersionId="null") == b"null two"
    assert get(s3, versioned, VersionId=kept) == b"kept"
    assert history(s3, versioned) == [("k", "null", True, False), ("k", kept, False, False)]


def test_suspended_writes_tell_no_version(s3: S3Client, versioned: str) -> None:
    suspend(s3, versioned)
    put(s3, versioned, b"x")
    copied = s3.copy_object(Bucket=versioned, Key="copy", CopySource=f"{versioned}/k")
    upload = s3.create_multipart_upload(Bucket=versioned, Key="k")["UploadId"]
    etag = s3.upload_part(Bucket=versioned, Key="k", UploadId=upload, PartNumber=1, Body=b"y")["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    done = s3.complete_multipart_upload(Bucket=versioned, Key="k", UploadId=upload, MultipartUpload=parts)  # type: ignore[arg-type]
    assert ("VersionId" in copied, "VersionId" in done, copied["CopySourceVersionId"]) == (False, False, "null")
    assert s3.head_object(Bucket=versioned, Key="k")["VersionId"] == "null"


def test_suspended_delete_puts_a_null_marker(s3: S3Client, versioned: str) -> None:
    kept = str(put(s3, versioned, b"kept"))
    suspend(s3, versioned)
    put(s3, versioned, b"null")
    answer = s3.delete_object(Bucket=versioned, Key="k")
    assert (answer["DeleteMarker"], answer["VersionId"]) == (True, "null")
    assert history(s3, versioned) == [("k", kept, False, False), ("k", "null", True, True)]
    assert get(s3, versioned, VersionId=kept) == b"kept"


def test_delete_objects_speaks_of_versions(s3: S3Client, versioned: str) -> None:
    version = str(put(s3, versioned, b"x", "a"))
    put(s3, versioned, b"y", "b")
    answer = s3.delete_objects(Bucket=versioned, Delete={"Objects": [{"Key": "a", "VersionId": version}, {"Key": "b"}]})
    deleted = {one["Key"]: one for one in answer["Deleted"]}
    assert deleted["a"]["VersionId"] == version
    assert deleted["b"]["DeleteMarker"] is True
    assert [(key, marker) for key, _, _, marker in history(s3, versioned)] == [("b", False), ("b", True)]
    assert deleted["b"]["DeleteMarkerVersionId"] == history(s3, versioned)[1][1]


def test_versions_are_listed_by_page(s3: S3Client, versioned: str) -> None:
    for key in ("a", "b/1", "b/2", "c"):
        for number in range(3):
            put(s3, versioned, b"%d" % number, key)
    s3.delete_object(Bucket=versioned, Key="c")
    paged: list[tuple[str, str]] = []
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=versioned, PaginationConfig={"PageSize": 2}):
        both = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        assert len(both) <= 2
        paged += [(one["Key"], one["VersionId"]) for one in both]  # type: ignore[index]
    assert sorted(paged) == sorted((key, version) for key, version, _, _ in history(s3, versioned))
    assert len(paged) == 13
    grouped = s3.list_object_versions(Bucket=versioned, Delimiter="/")
    assert [one["Prefix"] for one in grouped["CommonPrefixes"]] == ["b/"]
    assert {one["Key"] for one in grouped["Versions"]} == {"a", "c"}
    assert {one["Key"] for one in s3.list_object_versions(Bucket=versioned, Prefix="b/1")["Versions"]} == {"b/1"}


def test_a_version_marker_needs_a_key_marker(s3: S3Client, versioned: str) -> None:
    with s3_error("InvalidArgument", 400):
        s3.list_object_versions(Bucket=versioned, VersionIdMarker="null")


def test_multipart_upload_makes_a_version(s3: S3Client, versioned: str) -> None:
    old = put(s3, versioned, b"old")
    upload = s3.create_multipart_upload(Bucket=versioned, Key="k")["UploadId"]
    body = content(5 * MIB)
    etag = s3.upload_part(Bucket=versioned, Key="k", UploadId=upload, PartNumber=1, Body=body)["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    version = s3.complete_multipart_upload(Bucket=versioned, Key="k", UploadId=upload, MultipartUpload=parts)["VersionId"]  # type: ignore[arg-type]
    assert get(s3, versioned, VersionId=version) == body
    assert get(s3, versioned, VersionId=str(old)) == b"old"


def test_a_copy_can_name_its_version(s3: S3Client, versioned: str) -> None:
    old = str(put(s3, versioned, b"old"))
    put(s3, versioned, b"new")
    answer = s3.copy_object(Bucket=versioned, Key="copy", CopySource={"Bucket": versioned, "Key": "k", "VersionId": old})
    assert answer["CopySourceVersionId"] == old
    assert get(s3, versioned, "copy", VersionId=answer["VersionId"]) == b"old"


def test_restoring_by_copying_an_old_version_onto_its_key(s3: S3Client, versioned: str) -> None:
    old = str(put(s3, versioned, b"old"))
    put(s3, versioned, b"new")
    s3.copy_object(Bucket=versioned, Key="k", CopySource={"Bucket": versioned, "Key": "k", "VersionId": old})
    assert get(s3, versioned) == b"old"
    assert len(history(s3, versioned)) == 3


@pytest.mark.parametrize("status", ["Enabled", "Suspended"])
def test_versions_cannot_be_read_by_another_tenant(s3: S3Client, other_s3: S3Client, versioned: str, status: str) -> None:
    version = str(put(s3, versioned, b"x"))
    s3.put_bucket_versioning(Bucket=versioned, VersioningConfiguration={"Status": status})  # type: ignore[typeddict-item]
    with s3_error("AccessDenied", 403):
        get(other_s3, versioned, VersionId=version)
    with s3_error("AccessDenied", 403):
        other_s3.list_object_versions(Bucket=versioned)
