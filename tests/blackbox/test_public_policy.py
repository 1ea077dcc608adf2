"""Public bucket policies, and the settings that block them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from tests.blackbox.expect import s3_error

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


def policy(bucket: str, principal: object = "*", **more: object) -> str:
    statement = {"Effect": "Allow", "Principal": principal, "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket}/*", **more}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def test_a_new_bucket_takes_no_public_policy(s3: S3Client, bucket: str) -> None:
    with s3_error("AccessDenied", 403) as caught:
        s3.put_bucket_policy(Bucket=bucket, Policy=policy(bucket))
    message = caught.value.response["Error"]["Message"]
    assert re.fullmatch(
        r"User: arn:aws:iam::\d{12}:root is not authorized to perform: s3:PutBucketPolicy on resource: "
        rf'"arn:aws:s3:::{bucket}" because public policies are prevented by the BlockPublicPolicy setting in S3 Block Public Access\.',
        message,
    )
    with s3_error("NoSuchBucketPolicy", 404):
        s3.get_bucket_policy(Bucket=bucket)
    narrow = {"Condition": {"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}}}
    s3.put_bucket_policy(Bucket=bucket, Policy=policy(bucket, **narrow))


def test_the_status_of_a_policy_is_told(s3: S3Client, bucket: str) -> None:
    with s3_error("NoSuchBucketPolicy", 404):
        s3.get_bucket_policy_status(Bucket=bucket)
    s3.delete_public_access_block(Bucket=bucket)
    for narrow, public in (({}, True), ({"Condition": {"StringEquals": {"aws:SourceVpc": "vpc-1"}}}, False)):
        s3.put_bucket_policy(Bucket=bucket, Policy=policy(bucket, **narrow))
        assert s3.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"]["IsPublic"] is public


def test_a_public_policy_can_be_restricted_to_the_account(s3: S3Client, other_s3: S3Client, stranger: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    s3.delete_public_access_block(Bucket=bucket)
    s3.put_bucket_policy(Bucket=bucket, Policy=policy(bucket))
    for client in (s3, other_s3, stranger):
        assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration={"RestrictPublicBuckets": True})
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"
    for client in (other_s3, stranger):
        with s3_error("AccessDenied", 403):
            client.get_object(Bucket=bucket, Key="k")
    assert s3.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"]["IsPublic"] is True
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration={"BlockPublicPolicy": True})
    assert stranger.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"  # what was there before stays
