"""Tags of objects and of buckets."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.blackbox.expect import s3_error
from tests.blackbox.raw import RawClient

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import TagTypeDef


def tag_set(**tags: str) -> list[TagTypeDef]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def tags_of(s3: S3Client, bucket: str, **options: str) -> dict[str, str]:
    answer = s3.get_object_tagging(Bucket=bucket, Key="k", **options)  # type: ignore[arg-type]
    return {one["Key"]: one["Value"] for one in answer["TagSet"]}


def test_tags_of_an_object(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    assert tags_of(s3, bucket) == {}
    s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": tag_set(colour="blue", shape="")})
    assert tags_of(s3, bucket) == {"colour": "blue", "shape": ""}
    s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": tag_set(size="10")})
    assert tags_of(s3, bucket) == {"size": "10"}
    assert s3.get_object(Bucket=bucket, Key="k")["TagCount"] == 1
    s3.delete_object_tagging(Bucket=bucket, Key="k")
    assert tags_of(s3, bucket) == {}
    assert "TagCount" not in s3.get_object(Bucket=bucket, Key="k")


def test_tags_given_with_the_object(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"", Tagging="a=1&b%20c=d%2Be&f=")
    assert tags_of(s3, bucket) == {"a": "1", "b c": "d+e", "f": ""}
    assert s3.get_object(Bucket=bucket, Key="k")["TagCount"] == 3
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    assert tags_of(s3, bucket) == {}


def test_tags_given_with_a_multipart_upload(s3: S3Client, bucket: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k", Tagging="a=1")["UploadId"]
    etag = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=b"x")["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload=parts)  # type: ignore[arg-type]
    assert tags_of(s3, bucket) == {"a": "1"}


def test_tags_belong_to_a_version(s3: S3Client, versioned: str) -> None:
    old = s3.put_object(Bucket=versioned, Key="k", Body=b"", Tagging="v=1")["VersionId"]
    s3.put_object(Bucket=versioned, Key="k", Body=b"", Tagging="v=2")
    s3.put_object_tagging(Bucket=versioned, Key="k", VersionId=old, Tagging={"TagSet": tag_set(v="one")})
    assert tags_of(s3, versioned) == {"v": "2"}
    assert tags_of(s3, versioned, VersionId=old) == {"v": "one"}


def test_tagging_changes_neither_contents_nor_date(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Metadata={"a": "b"})
    before = s3.head_object(Bucket=bucket, Key="k")
    s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": tag_set(a="b")})
    after = s3.head_object(Bucket=bucket, Key="k")
    assert [before[name] for name in ("ETag", "LastModified", "Metadata")] == [after[name] for name in ("ETag", "LastModified", "Metadata")]  # type: ignore[literal-required]


@pytest.mark.parametrize(
    "tags",
    [
        [{"Key": "", "Value": "x"}],
        [{"Key": "k" * 129, "Value": "x"}],
        [{"Key": "k", "Value": "v" * 257}],
        [{"Key": "k", "Value": "1"}, {"Key": "k", "Value": "2"}],
        [{"Key": "aws:mine", "Value": "x"}],
        [{"Key": "k", "Value": "no<angle>"}],
    ],
    ids=["empty key", "long key", "long value", "twice", "reserved", "character"],
)
def test_bad_tag_is_refused(new_client: Callable[..., S3Client], bucket: str, tags: list[TagTypeDef]) -> None:
    s3 = new_client(parameter_validation=False)
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    with s3_error("InvalidTag", 400):
        s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": tags})


def test_ten_tags_are_the_most_of_an_object(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"", Tagging="&".join(f"k{number}=v" for number in range(10)))
    eleven = {f"k{number}": "v" for number in range(11)}
    with s3_error("BadRequest", 400):
        s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": tag_set(**eleven)})
    with s3_error(("BadRequest", "InvalidTag"), 400):
        s3.put_object(Bucket=bucket, Key="k", Body=b"", Tagging="&".join(f"k{number}=v" for number in range(11)))


def test_bad_tagging_header_is_refused(s3: S3Client, bucket: str) -> None:
    for header in ("a=1&a=2", "=x", "a=%zz"):
        with s3_error(("InvalidArgument", "InvalidTag"), 400):
            s3.put_object(Bucket=bucket, Key="k", Body=b"", Tagging=header)


def test_tags_of_a_missing_key(s3: S3Client, bucket: str) -> None:
    with s3_error("NoSuchKey", 404):
        tags_of(s3, bucket)
    with s3_error("NoSuchKey", 404):
        s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": tag_set(a="b")})


def test_tags_of_a_bucket(s3: S3Client, bucket: str) -> None:
    with s3_error("NoSuchTagSet", 404):
        s3.get_bucket_tagging(Bucket=bucket)
    put = s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": tag_set(team="a", cost="b")})
    assert put["ResponseMetadata"]["HTTPStatusCode"] == 204
    found = {one["Key"]: one["Value"] for one in s3.get_bucket_tagging(Bucket=bucket)["TagSet"]}
    assert found == {"team": "a", "cost": "b"}
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": tag_set(**{f"k{number}": "v" for number in range(50)})})
    s3.delete_bucket_tagging(Bucket=bucket)
    with s3_error("NoSuchTagSet", 404):
        s3.get_bucket_tagging(Bucket=bucket)


def test_malformed_tagging_is_refused(raw: RawClient, s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    for body in (b"", b"<Tagging", b"<Other/>", b'<!DOCTYPE x [<!ENTITY a "b">]><Tagging><TagSet/></Tagging>'):
        assert raw.request("PUT", f"/{bucket}/k", [("tagging", "")], body=body).verdict in [
            (400, "MalformedXML"),
            (400, "MissingRequestBodyError"),
        ], body
