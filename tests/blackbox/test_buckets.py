"""Buckets: their names, owners, places and ends."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import boto3
import pytest

from tests.blackbox.conftest import LOCATION
from tests.blackbox.expect import s3_error
from tests.blackbox.raw import RawClient
from tests.servers import Shardgate

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


def test_new_bucket_is_listed_with_its_date_and_owner(s3: S3Client, bucket: str) -> None:
    answer = s3.list_buckets()
    [found] = [one for one in answer["Buckets"] if one["Name"] == bucket]
    assert abs(found["CreationDate"] - datetime.now(UTC)) < timedelta(minutes=5)
    assert answer["Owner"]["ID"]


def test_create_answers_the_location(s3: S3Client) -> None:
    name = f"test-{uuid.uuid4()}"
    assert s3.create_bucket(Bucket=name)["Location"] == f"/{name}"


def test_buckets_are_listed_in_order_and_by_page(s3: S3Client) -> None:
    prefix = f"page-{uuid.uuid4().hex[:8]}-"
    names = [f"{prefix}{letter}" for letter in "cabed"]
    for name in names:
        s3.create_bucket(Bucket=name)
    pages = list(s3.get_paginator("list_buckets").paginate(Prefix=prefix, PaginationConfig={"PageSize": 2}))
    assert [len(page["Buckets"]) for page in pages] == [2, 2, 1]
    assert [one["Name"] for page in pages for one in page["Buckets"]] == sorted(names)


def test_head_bucket_names_the_region(s3: S3Client, bucket: str) -> None:
    headers = s3.head_bucket(Bucket=bucket)["ResponseMetadata"]["HTTPHeaders"]
    assert headers["x-amz-bucket-region"] == "us-east-1"


def test_creating_ones_own_bucket_again_succeeds_as_in_us_east_1(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="kept", Body=b"1")
    assert s3.create_bucket(Bucket=bucket)["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert s3.get_object(Bucket=bucket, Key="kept")["Body"].read() == b"1"


def test_a_bucket_of_another_tenant_is_taken_and_closed(s3: S3Client, other_s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="secret", Body=b"1")
    with s3_error("BucketAlreadyExists", 409):
        other_s3.create_bucket(Bucket=bucket)
    with s3_error("403", 403):
        other_s3.head_bucket(Bucket=bucket)
    with s3_error("AccessDenied", 403):
        other_s3.list_objects_v2(Bucket=bucket)
    with s3_error("AccessDenied", 403):
        other_s3.get_object(Bucket=bucket, Key="secret")
    with s3_error("AccessDenied", 403):
        other_s3.put_object(Bucket=bucket, Key="mine", Body=b"2")
    with s3_error("AccessDenied", 403):
        other_s3.delete_object(Bucket=bucket, Key="secret")
    with s3_error("AccessDenied", 403):
        other_s3.delete_bucket(Bucket=bucket)
    assert bucket not in [one["Name"] for one in other_s3.list_buckets()["Buckets"]]


@pytest.mark.parametrize(
    "name",
    [
        "ab",
        "Upper-case",
        "under_score",
        "192.168.5.4",
        "two..dots",
        "-dash-first",
        "dash-last-",
        "xn--bucket",
        "alias-s3alias",
        "a" * 64,
    ],
)
def test_bad_bucket_name_is_refused(raw: RawClient, name: str) -> None:
    assert raw.request("PUT", f"/{name}").verdict == (400, "InvalidBucketName")


@pytest.mark.parametrize("name", ["abc", "a.b.c", "1bucket", "a" * 63, "with-dash.and.dot"])
def test_good_bucket_name_is_taken(raw: RawClient, name: str) -> None:
    assert raw.request("PUT", f"/{name}").verdict == (200, "")
    assert raw.request("DELETE", f"/{name}").verdict == (204, "")


def test_deleted_bucket_is_gone(s3: S3Client, bucket: str) -> None:
    assert s3.delete_bucket(Bucket=bucket)["ResponseMetadata"]["HTTPStatusCode"] == 204
    with s3_error("404", 404):
        s3.head_bucket(Bucket=bucket)
    with s3_error("NoSuchBucket", 404):
        s3.delete_bucket(Bucket=bucket)


def test_bucket_with_objects_cannot_be_deleted(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    with s3_error("BucketNotEmpty", 409):
        s3.delete_bucket(Bucket=bucket)
    s3.delete_object(Bucket=bucket, Key="k")
    s3.delete_bucket(Bucket=bucket)


def test_bucket_with_old_versions_cannot_be_deleted(s3: S3Client, versioned: str) -> None:
    s3.put_object(Bucket=versioned, Key="k", Body=b"")
    s3.delete_object(Bucket=versioned, Key="k")
    with s3_error("BucketNotEmpty", 409):
        s3.delete_bucket(Bucket=versioned)


@pytest.mark.parametrize(
    "call",
    [
        lambda s3, name: s3.list_objects_v2(Bucket=name),
        lambda s3, name: s3.list_objects(Bucket=name),
        lambda s3, name: s3.get_object(Bucket=name, Key="k"),
        lambda s3, name: s3.put_object(Bucket=name, Key="k", Body=b"x"),
        lambda s3, name: s3.delete_object(Bucket=name, Key="k"),
        lambda s3, name: s3.create_multipart_upload(Bucket=name, Key="k"),
        lambda s3, name: s3.get_bucket_location(Bucket=name),
        lambda s3, name: s3.get_bucket_versioning(Bucket=name),
        lambda s3, name: s3.get_bucket_tagging(Bucket=name),
        lambda s3, name: s3.delete_objects(Bucket=name, Delete={"Objects": [{"Key": "k"}]}),
    ],
)
def test_missing_bucket_is_said_to_be_missing(s3: S3Client, call: Callable[[S3Client, str], object]) -> None:
    with s3_error("NoSuchBucket", 404) as caught:
        call(s3, "no-such-bucket-here")
    assert caught.value.response["Error"]["BucketName"] == "no-such-bucket-here"  # type: ignore[typeddict-item]


def test_location_of_a_default_bucket_is_empty(s3: S3Client, bucket: str) -> None:
    assert s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] is None


def test_location_names_a_policy(s3: S3Client) -> None:
    name = f"test-{uuid.uuid4()}"
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "standard"})  # type: ignore[typeddict-item]
    assert s3.get_bucket_location(Bucket=name)["LocationConstraint"] == "standard"
    s3.put_object(Bucket=name, Key="k", Body=b"placed")
    assert s3.get_object(Bucket=name, Key="k")["Body"].read() == b"placed"


def test_unknown_location_is_refused(s3: S3Client) -> None:
    with s3_error("InvalidLocationConstraint", 400):
        s3.create_bucket(Bucket=f"test-{uuid.uuid4()}", CreateBucketConfiguration={"LocationConstraint": "mars"})  # type: ignore[typeddict-item]


def test_malformed_configuration_is_refused(raw: RawClient) -> None:
    answer = raw.request("PUT", f"/test-{uuid.uuid4()}", body=b"<CreateBucketConfiguration><Loc")
    assert answer.verdict == (400, "MalformedXML")


@pytest.mark.parametrize(
    ("method", "query", "headers"),
    [
        ("DELETE", [("uploadId", "u")], {}),
        ("DELETE", [("versionId", "null")], {}),
        ("PUT", [("partNumber", "1"), ("uploadId", "u")], {}),
        ("PUT", [("versionId", "null")], {}),
        ("PUT", [], {"x-amz-copy-source": "/b/k"}),
        ("POST", [("uploadId", "u")], {}),
    ],
)
def test_a_request_whose_key_got_lost_is_none_of_its_bucket(
    raw: RawClient, s3: S3Client, bucket: str, method: str, query: list[tuple[str, str]], headers: dict[str, str]
) -> None:
    """A script's empty variable must not delete a bucket, nor make one."""
    for name in (bucket, f"{bucket}-new"):
        answer = raw.request(method, f"/{name}/", query, headers)
        assert (answer.verdict, answer.error["Message"]) == ((400, "InvalidRequest"), "A key must be specified")
    assert [one["Name"] for one in s3.list_buckets(Prefix=bucket)["Buckets"]] == [bucket]


def test_an_empty_acl_means_none(s3: S3Client) -> None:
    """s3fs sends one with every bucket and upload."""
    name = f"acl-{uuid.uuid4()}"
    s3.create_bucket(Bucket=name, ACL="")  # type: ignore[arg-type]
    s3.create_multipart_upload(Bucket=name, Key="k", ACL="")  # type: ignore[arg-type]


def test_a_location_of_the_configuration_stands_for_its_policy(server: Shardgate, s3: S3Client) -> None:
    name = f"test-{uuid.uuid4()}"
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": LOCATION})  # type: ignore[typeddict-item]
    assert s3.get_bucket_location(Bucket=name)["LocationConstraint"] == LOCATION
    s3.put_object(Bucket=name, Key="k", Body=b"x")
    with s3_error("InvalidLocationConstraint", 400) as caught:
        s3.create_bucket(Bucket=f"{name}-2", CreateBucketConfiguration={"LocationConstraint": "mars-north-1"})  # type: ignore[typeddict-item]
    there = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        region_name=LOCATION,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
    )
    assert there.get_object(Bucket=name, Key="k")["Body"].read() == b"x"
    assert "one of eu-west-1, standard" in caught.value.response["Error"]["Message"]


@pytest.mark.parametrize("operation", ["head_bucket", "head_object", "list_objects_v2"])
def test_a_client_that_signs_for_a_wrong_region_finds_the_right_one(server: Shardgate, s3: S3Client, bucket: str, operation: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    wrong = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        region_name="ap-south-1",
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
    )
    key = {"Key": "k"} if operation == "head_object" else {}
    assert getattr(wrong, operation)(Bucket=bucket, **key)["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_a_refused_head_tells_the_region_of_a_bucket_that_exists(raw: RawClient, bucket: str) -> None:
    answer = raw.send("HEAD", f"/{bucket}")
    assert (answer.status, answer.headers["x-amz-bucket-region"]) == (403, "us-east-1")
    assert raw.send("HEAD", "/there-is-no-such-bucket").status == 404


@pytest.mark.parametrize(("region", "count"), [("us-east-1", 1), ("eu-central-1", 0)])
def test_buckets_are_listed_by_region(s3: S3Client, bucket: str, region: str, count: int) -> None:
    assert len(s3.list_buckets(BucketRegion=region, Prefix=bucket)["Buckets"]) == count


def test_what_is_no_region_is_refused(s3: S3Client) -> None:
    with s3_error("InvalidArgument", 400):
        s3.list_buckets(BucketRegion="abc")
