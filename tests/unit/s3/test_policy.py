"""Who may do what."""

from __future__ import annotations

import pytest

from proxy.s3.errors import S3Error
from proxy.s3.policy.actions import Action, required_actions
from proxy.s3.policy.decision import Grants, Question, Resource, authorise
from proxy.s3.policy.principal import ANONYMOUS, Principal
from proxy.server.handlers import HANDLERS

OWNER, OTHER = Principal("owner", "AK1"), Principal("other", "AK2")
OBJECT = Resource("bucket", "key")

# As AWS's "API operations defined by Amazon S3" has it: the action, and the one with a version named, where that is another.
EXPECTED: dict[str, tuple[str, str | None]] = {
    "PutObjectLockConfiguration": ("PutBucketObjectLockConfiguration", None),
    "PutObjectRetention": ("PutObjectRetention", None),
    "PutObjectLegalHold": ("PutObjectLegalHold", None),
    "ListBuckets": ("ListAllMyBuckets", None),
    "CreateBucket": ("CreateBucket", None),
    "HeadBucket": ("ListBucket", None),
    "DeleteBucket": ("DeleteBucket", None),
    "GetBucketLocation": ("GetBucketLocation", None),
    "GetBucketVersioning": ("GetBucketVersioning", None),
    "PutBucketVersioning": ("PutBucketVersioning", None),
    "GetBucketTagging": ("GetBucketTagging", None),
    "PutBucketTagging": ("PutBucketTagging", None),
    "DeleteBucketTagging": ("PutBucketTagging", None),
    "GetBucketAcl": ("GetBucketAcl", None),
    "ListObjects": ("ListBucket", None),
    "ListObjectsV2": ("ListBucket", None),
    "ListObjectVersions": ("ListBucketVersions", None),
    "PostObject": ("PutObject", None),
    "PutObject": ("PutObject", None),
    "GetObject": ("GetObject", "GetObjectVersion"),
    "HeadObject": ("GetObject", "GetObjectVersion"),
    "GetObjectAttributes": ("GetObject GetObjectAttributes", "GetObjectVersion GetObjectVersionAttributes"),
    "GetObjectAcl": ("GetObjectAcl", "GetObjectVersionAcl"),
    "GetObjectTagging": ("GetObjectTagging", "GetObjectVersionTagging"),
    "PutObjectTagging": ("PutObjectTagging", "PutObjectVersionTagging"),
    "DeleteObjectTagging": ("DeleteObjectTagging", "DeleteObjectVersionTagging"),
    "DeleteObject": ("DeleteObject", "DeleteObjectVersion"),
    "DeleteObjects": ("", None),  # each key is asked for on its own
    "CopyObject": ("PutObject", None),
    "UploadPartCopy": ("PutObject", None),
    "CreateMultipartUpload": ("PutObject", None),
    "UploadPart": ("PutObject", None),
    "CompleteMultipartUpload": ("PutObject", None),
    "AbortMultipartUpload": ("AbortMultipartUpload", None),
    "ListParts": ("ListMultipartUploadParts", None),
    "ListMultipartUploads": ("ListBucketMultipartUploads", None),
    "PutBucketAcl": ("PutBucketAcl", None),
    "PutObjectAcl": ("PutObjectAcl", "PutObjectVersionAcl"),
    "GetBucketEncryption": ("GetEncryptionConfiguration", None),
    "PutBucketEncryption": ("PutEncryptionConfiguration", None),
    "DeleteBucketEncryption": ("PutEncryptionConfiguration", None),
    "GetBucketOwnershipControls": ("GetBucketOwnershipControls", None),
    "PutBucketOwnershipControls": ("PutBucketOwnershipControls", None),
    "DeleteBucketOwnershipControls": ("PutBucketOwnershipControls", None),
    "GetBucketRequestPayment": ("GetBucketRequestPayment", None),
    "GetBucketPolicy": ("GetBucketPolicy", None),
    "GetBucketPolicyStatus": ("GetBucketPolicyStatus", None),
    "DeleteBucketPolicy": ("DeleteBucketPolicy", None),
    "PutBucketCors": ("PutBucketCORS", None),
    "PutBucketPolicy": ("PutBucketPolicy", None),
    "PutBucketLifecycleConfiguration": ("PutLifecycleConfiguration", None),
    "PutBucketWebsite": ("PutBucketWebsite", None),
    "PutBucketReplication": ("PutReplicationConfiguration", None),
    "PutPublicAccessBlock": ("PutBucketPublicAccessBlock", None),
    "PutBucketLogging": ("PutBucketLogging", None),
    "PutBucketNotificationConfiguration": ("PutBucketNotification", None),
    "PutBucketAccelerateConfiguration": ("PutAccelerateConfiguration", None),
    "PutBucketRequestPayment": ("PutBucketRequestPayment", None),
    "PutBucketInventoryConfiguration": ("PutInventoryConfiguration", None),
    "RestoreObject": ("RestoreObject", None),
    "SelectObjectContent": ("GetObject", None),
    "GetBucketCors": ("GetBucketCORS", None),
    "DeleteBucketCors": ("PutBucketCORS", None),
    "GetBucketLifecycleConfiguration": ("GetLifecycleConfiguration", None),
    "DeleteBucketLifecycle": ("PutLifecycleConfiguration", None),
    "GetBucketWebsite": ("GetBucketWebsite", None),
    "DeleteBucketWebsite": ("DeleteBucketWebsite", None),
    "GetBucketReplication": ("GetReplicationConfiguration", None),
    "DeleteBucketReplication": ("PutReplicationConfiguration", None),
    "GetPublicAccessBlock": ("GetBucketPublicAccessBlock", None),
    "DeletePublicAccessBlock": ("PutBucketPublicAccessBlock", None),
    "GetObjectLockConfiguration": ("GetBucketObjectLockConfiguration", None),
    "GetBucketAbac": ("GetBucketAbac", None),
    "GetBucketLogging": ("GetBucketLogging", None),
    "GetBucketNotificationConfiguration": ("GetBucketNotification", None),
    "GetBucketAccelerateConfiguration": ("GetAccelerateConfiguration", None),
    "ListBucketAnalyticsConfigurations": ("GetAnalyticsConfiguration", None),
    "ListBucketIntelligentTieringConfigurations": ("GetIntelligentTieringConfiguration", None),
    "ListBucketInventoryConfigurations": ("GetInventoryConfiguration", None),
    "ListBucketMetricsConfigurations": ("GetMetricsConfiguration", None),
    "GetBucketAnalyticsConfiguration": ("GetAnalyticsConfiguration", None),
    "GetBucketIntelligentTieringConfiguration": ("GetIntelligentTieringConfiguration", None),
    "GetBucketInventoryConfiguration": ("GetInventoryConfiguration", None),
    "GetBucketMetricsConfiguration": ("GetMetricsConfiguration", None),
    "DeleteBucketAnalyticsConfiguration": ("PutAnalyticsConfiguration", None),
    "DeleteBucketIntelligentTieringConfiguration": ("PutIntelligentTieringConfiguration", None),
    "DeleteBucketInventoryConfiguration": ("PutInventoryConfiguration", None),
    "DeleteBucketMetricsConfiguration": ("PutMetricsConfiguration", None),
    "GetObjectRetention": ("GetObjectRetention", None),
    "GetObjectLegalHold": ("GetObjectLegalHold", None),
}


def named(text: str) -> tuple[str, ...]:
    return tuple(f"s3:{name}" for name in text.split())


@pytest.mark.parametrize("operation", sorted(HANDLERS))
def test_each_served_operation_needs_the_action_that_aws_gives_it(operation: str) -> None:
    plain, versioned = EXPECTED[operation]
    assert required_actions(operation, {}, of_version=False) == named(plain)
    assert required_actions(operation, {}, of_version=True) == named(versioned or plain)


@pytest.mark.parametrize("operation", ["PutObject", "CopyObject", "CreateMultipartUpload"])
def test_tags_and_an_acl_beside_an_object_need_their_own_actions(operation: str) -> None:
    actions = required_actions(operation, {"x-amz-tagging": "a=b", "x-amz-acl": "private"}, of_version=False)
    assert actions == named("PutObject PutObjectTagging PutObjectAcl")


@pytest.mark.parametrize("operation", ["PutObject", "CopyObject", "CreateMultipartUpload"])
def test_a_lock_beside_an_object_needs_its_own_actions(operation: str) -> None:
    lock = {"x-amz-object-lock-mode": "GOVERNANCE", "x-amz-object-lock-legal-hold": "ON"}
    assert required_actions(operation, lock, of_version=False) == named("PutObject PutObjectRetention PutObjectLegalHold")


def test_to_pass_over_governance_is_a_right_of_its_own() -> None:
    bypass = {"x-amz-bypass-governance-retention": "true"}
    assert required_actions("PutObjectRetention", bypass, of_version=False) == named("PutObjectRetention BypassGovernanceRetention")
    assert required_actions("DeleteObject", bypass, of_version=True) == named("DeleteObjectVersion BypassGovernanceRetention")
    assert required_actions("DeleteObject", {"x-amz-bypass-governance-retention": "false"}, of_version=False) == named("DeleteObject")
    assert required_actions("GetObject", bypass, of_version=False) == named("GetObject")


@pytest.mark.parametrize("operation", sorted(HANDLERS))
def test_only_the_owner_may(operation: str) -> None:
    grants = Grants("owner")
    for action in required_actions(operation, {}, of_version=False):
        authorise(Question(OWNER, action, OBJECT), grants)
        for principal in (OTHER, ANONYMOUS):
            with pytest.raises(S3Error, match="AccessDenied"):
                authorise(Question(principal, action, OBJECT), grants)


@pytest.mark.parametrize("principal", [OWNER, ANONYMOUS])
def test_what_belongs_to_nobody_is_denied(principal: Principal) -> None:
    with pytest.raises(S3Error, match="AccessDenied"):
        authorise(Question(principal, Action("s3:GetObject"), OBJECT), Grants())
