"""Settings that are not served: what clients that read all of them are told, and what is true of every bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.blackbox.expect import s3_error

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


@pytest.mark.parametrize(
    ("read", "code"),
    [
        ("get_bucket_policy", "NoSuchBucketPolicy"),
        ("get_bucket_policy_status", "NoSuchBucketPolicy"),
        ("get_bucket_cors", "NoSuchCORSConfiguration"),
        ("get_bucket_lifecycle_configuration", "NoSuchLifecycleConfiguration"),
        ("get_bucket_website", "NoSuchWebsiteConfiguration"),
        ("get_bucket_replication", "ReplicationConfigurationNotFoundError"),
        ("get_object_lock_configuration", "ObjectLockConfigurationNotFoundError"),
    ],
)
def test_a_setting_that_is_not_there_is_called_as_aws_calls_it(s3: S3Client, bucket: str, read: str, code: str) -> None:
    with s3_error(code, 404):
        getattr(s3, read)(Bucket=bucket)


@pytest.mark.parametrize("kind", ["analytics", "intelligent_tiering", "inventory", "metrics"])
def test_a_configuration_by_id_is_not_there(s3: S3Client, bucket: str, kind: str) -> None:
    for verb in ("get", "delete"):
        with s3_error("NoSuchConfiguration", 404):
            getattr(s3, f"{verb}_bucket_{kind}_configuration")(Bucket=bucket, Id="x")


@pytest.mark.parametrize(
    "read",
    [
        "get_bucket_logging",
        "get_bucket_notification_configuration",
        "get_bucket_accelerate_configuration",
        "list_bucket_analytics_configurations",
        "list_bucket_intelligent_tiering_configurations",
        "list_bucket_inventory_configurations",
        "list_bucket_metrics_configurations",
    ],
)
def test_a_setting_that_is_off_is_an_empty_document(s3: S3Client, bucket: str, read: str) -> None:
    answer = getattr(s3, read)(Bucket=bucket)
    assert answer.keys() - {"ResponseMetadata"} <= {"IsTruncated"}
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_tags_of_a_bucket_play_no_part_in_who_may_do_what(s3: S3Client, bucket: str) -> None:
    assert s3.get_bucket_abac(Bucket=bucket)["AbacStatus"] == {"Status": "Disabled"}


@pytest.mark.parametrize(
    "remove",
    [
        "delete_bucket_policy",
        "delete_bucket_cors",
        "delete_bucket_lifecycle",
        "delete_bucket_website",
        "delete_bucket_replication",
        "delete_bucket_encryption",
        "delete_bucket_ownership_controls",
        "delete_public_access_block",
    ],
)
def test_what_is_not_set_is_removed_as_often_as_one_likes(s3: S3Client, bucket: str, remove: str) -> None:
    for _ in range(2):
        assert getattr(s3, remove)(Bucket=bucket)["ResponseMetadata"]["HTTPStatusCode"] == 204


def test_settings_are_for_the_owner_of_a_bucket_that_exists(s3: S3Client, other_s3: S3Client, bucket: str) -> None:
    with s3_error("AccessDenied", 403):
        other_s3.get_bucket_policy(Bucket=bucket)
    with s3_error("NoSuchBucket", 404):
        s3.delete_bucket_cors(Bucket="there-is-no-such-bucket")


def test_what_is_true_of_every_bucket_is_told_and_may_be_put(s3: S3Client, bucket: str) -> None:
    encryption = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]
    assert encryption["Rules"][0]["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    assert s3.get_bucket_request_payment(Bucket=bucket)["Payer"] == "BucketOwner"
    s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration=encryption)


def test_an_object_has_neither_retention_nor_legal_hold(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k")
    with s3_error("InvalidRequest", 400):
        s3.get_object_retention(Bucket=bucket, Key="k")
    with s3_error("InvalidRequest", 400):
        s3.get_object_legal_hold(Bucket=bucket, Key="k")
