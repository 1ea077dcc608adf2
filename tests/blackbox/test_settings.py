"""Settings that are not served: what clients that read all of them are told, and what is true of every bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.blackbox.expect import s3_error
from tests.blackbox.raw import RawClient

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

PUBLIC = ("public-read", "public-read-write", "authenticated-read")


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
        ("get_public_access_block", "NoSuchPublicAccessBlockConfiguration"),
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
    controls = s3.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"]
    assert controls == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    assert s3.get_bucket_request_payment(Bucket=bucket)["Payer"] == "BucketOwner"
    s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration=encryption)
    s3.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls=controls)


def test_another_encryption_or_ownership_is_refused(s3: S3Client, bucket: str) -> None:
    with s3_error("InvalidEncryptionAlgorithmError", 400):
        s3.put_bucket_encryption(
            Bucket=bucket,
            ServerSideEncryptionConfiguration={"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}]},
        )
    for ownership in ("ObjectWriter", "BucketOwnerPreferred"):
        with s3_error("InvalidRequest", 400):
            s3.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls={"Rules": [{"ObjectOwnership": ownership}]})  # type: ignore[typeddict-item]


def test_an_object_has_neither_retention_nor_legal_hold(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k")
    with s3_error("InvalidRequest", 400):
        s3.get_object_retention(Bucket=bucket, Key="k")
    with s3_error("InvalidRequest", 400):
        s3.get_object_legal_hold(Bucket=bucket, Key="k")


@pytest.mark.parametrize("acl", PUBLIC)
def test_a_public_acl_is_not_supported(s3: S3Client, bucket: str, acl: str) -> None:
    s3.put_object(Bucket=bucket, Key="k")
    with s3_error("AccessControlListNotSupported", 400):
        s3.put_object(Bucket=bucket, Key="new", ACL=acl)  # type: ignore[arg-type]
    with s3_error("AccessControlListNotSupported", 400):
        s3.put_bucket_acl(Bucket=bucket, ACL=acl)  # type: ignore[arg-type]
    with s3_error("AccessControlListNotSupported", 400):
        s3.put_object_acl(Bucket=bucket, Key="k", ACL=acl)  # type: ignore[arg-type]
    assert [item["Key"] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["k"]


def test_the_acl_that_is_true_may_be_put(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k")
    for acl in ("private", "bucket-owner-full-control"):
        s3.put_bucket_acl(Bucket=bucket, ACL=acl)  # type: ignore[arg-type]
        s3.put_object_acl(Bucket=bucket, Key="k", ACL=acl)  # type: ignore[arg-type]
    told = s3.get_object_acl(Bucket=bucket, Key="k")
    policy = {"Owner": told["Owner"], "Grants": told["Grants"]}
    s3.put_bucket_acl(Bucket=bucket, AccessControlPolicy=policy)  # type: ignore[arg-type]
    s3.put_object_acl(Bucket=bucket, Key="k", AccessControlPolicy=policy)  # type: ignore[arg-type]
    with s3_error("NoSuchKey", 404):
        s3.put_object_acl(Bucket=bucket, Key="other", ACL="private")


def test_an_acl_document_for_everyone_is_not_supported(s3: S3Client, bucket: str) -> None:
    everyone = {"Grantee": {"Type": "Group", "URI": "http://acs.amazonaws.com/groups/global/AllUsers"}, "Permission": "READ"}
    told = s3.get_bucket_acl(Bucket=bucket)
    for grants in ([*told["Grants"], everyone], []):
        with s3_error("AccessControlListNotSupported", 400):
            s3.put_bucket_acl(Bucket=bucket, AccessControlPolicy={"Owner": told["Owner"], "Grants": grants})  # type: ignore[typeddict-item]


def test_an_acl_is_given_in_one_place(raw: RawClient, bucket: str) -> None:
    assert raw.request("PUT", f"/{bucket}", [("acl", "")]).verdict == (400, "MissingSecurityHeader")
