"""Actions: which of IAM's names a principal needs for an operation.

Source: docs.aws.amazon.com/service-authorization/latest/reference/list_s3.html, "API operations defined by Amazon S3"
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import NewType

from proxy.s3.object_lock import bypasses_governance

Action = NewType("Action", str)  # IAM's name, as s3:GetObject
BYPASS_GOVERNANCE = Action("s3:BypassGovernanceRetention")


def required_actions(operation: str, headers: Mapping[str, str], *, of_version: bool) -> tuple[Action, ...]:
    """Return what a principal must be allowed to do, all of it. `of_version`: the request names a version; header names are in lower case.

    What is not in the table is not served, and needs the action that is called as it is.
    """
    actions = _actions(operation, of_version)
    if operation in _BYPASSING and bypasses_governance(headers):
        return (*actions, BYPASS_GOVERNANCE)
    if operation not in _BY_HEADER:
        return actions
    return (*actions, *dict.fromkeys(Action(f"s3:{name}") for header, name in _BY_HEADER[operation] if header in headers))


def source_action(*, of_version: bool) -> Action:
    """Return what a copy needs on its source."""
    return Action("s3:GetObjectVersion" if of_version else "s3:GetObject")


def deletion_action(*, of_version: bool) -> Action:
    """Return what DeleteObjects needs on each key that it lists."""
    return Action("s3:DeleteObjectVersion" if of_version else "s3:DeleteObject")


@cache
def _actions(operation: str, of_version: bool) -> tuple[Action, ...]:  # noqa: FBT001 - a cache's key; asked for every request
    names = _ACTIONS.get(operation, (operation,))
    if of_version:
        names = _OF_VERSION.get(operation, names)
    return tuple(Action(f"s3:{name}") for name in names)


_ACTIONS: Mapping[str, tuple[str, ...]] = {
    "ListBuckets": ("ListAllMyBuckets",),
    "CreateBucket": ("CreateBucket",),
    "HeadBucket": ("ListBucket",),
    "DeleteBucket": ("DeleteBucket",),
    "GetBucketLocation": ("GetBucketLocation",),
    "GetBucketVersioning": ("GetBucketVersioning",),
    "PutBucketVersioning": ("PutBucketVersioning",),
    "GetBucketTagging": ("GetBucketTagging",),
    "PutBucketTagging": ("PutBucketTagging",),
    "DeleteBucketTagging": ("PutBucketTagging",),
    "GetBucketAcl": ("GetBucketAcl",),
    "ListObjects": ("ListBucket",),
    "ListObjectsV2": ("ListBucket",),
    "ListObjectVersions": ("ListBucketVersions",),
    "PutObject": ("PutObject",),
    "PostObject": ("PutObject",),
    "GetObject": ("GetObject",),
    "HeadObject": ("GetObject",),
    "GetObjectAttributes": ("GetObject", "GetObjectAttributes"),
    "GetObjectAcl": ("GetObjectAcl",),
    "GetObjectTagging": ("GetObjectTagging",),
    "PutObjectTagging": ("PutObjectTagging",),
    "DeleteObjectTagging": ("DeleteObjectTagging",),
    "DeleteObject": ("DeleteObject",),
    "DeleteObjects": (),  # the handler asks for each key
    "CopyObject": ("PutObject",),
    "UploadPartCopy": ("PutObject",),
    "CreateMultipartUpload": ("PutObject",),
    "UploadPart": ("PutObject",),
    "CompleteMultipartUpload": ("PutObject",),
    "AbortMultipartUpload": ("AbortMultipartUpload",),
    "ListParts": ("ListMultipartUploadParts",),
    "ListMultipartUploads": ("ListBucketMultipartUploads",),
    "PutBucketAcl": ("PutBucketAcl",),
    "PutObjectAcl": ("PutObjectAcl",),
    "GetBucketEncryption": ("GetEncryptionConfiguration",),
    "PutBucketEncryption": ("PutEncryptionConfiguration",),
    "DeleteBucketEncryption": ("PutEncryptionConfiguration",),
    "GetBucketOwnershipControls": ("GetBucketOwnershipControls",),
    "PutBucketOwnershipControls": ("PutBucketOwnershipControls",),
    "DeleteBucketOwnershipControls": ("PutBucketOwnershipControls",),
    "GetBucketRequestPayment": ("GetBucketRequestPayment",),
    "GetBucketPolicy": ("GetBucketPolicy",),
    "GetBucketPolicyStatus": ("GetBucketPolicyStatus",),
    "DeleteBucketPolicy": ("DeleteBucketPolicy",),
    "GetBucketCors": ("GetBucketCORS",),
    "DeleteBucketCors": ("PutBucketCORS",),
    "GetBucketLifecycleConfiguration": ("GetLifecycleConfiguration",),
    "DeleteBucketLifecycle": ("PutLifecycleConfiguration",),
    "GetBucketWebsite": ("GetBucketWebsite",),
    "DeleteBucketWebsite": ("DeleteBucketWebsite",),
    "GetBucketReplication": ("GetReplicationConfiguration",),
    "DeleteBucketReplication": ("PutReplicationConfiguration",),
    "GetPublicAccessBlock": ("GetBucketPublicAccessBlock",),
    "DeletePublicAccessBlock": ("PutBucketPublicAccessBlock",),
    "GetObjectLockConfiguration": ("GetBucketObjectLockConfiguration",),
    "GetBucketLogging": ("GetBucketLogging",),
    "GetBucketNotificationConfiguration": ("GetBucketNotification",),
    "GetBucketAbac": ("GetBucketAbac",),
    "GetBucketAccelerateConfiguration": ("GetAccelerateConfiguration",),
    "ListBucketAnalyticsConfigurations": ("GetAnalyticsConfiguration",),
    "ListBucketIntelligentTieringConfigurations": ("GetIntelligentTieringConfiguration",),
    "ListBucketInventoryConfigurations": ("GetInventoryConfiguration",),
    "ListBucketMetricsConfigurations": ("GetMetricsConfiguration",),
    "GetBucketAnalyticsConfiguration": ("GetAnalyticsConfiguration",),
    "GetBucketIntelligentTieringConfiguration": ("GetIntelligentTieringConfiguration",),
    "GetBucketInventoryConfiguration": ("GetInventoryConfiguration",),
    "GetBucketMetricsConfiguration": ("GetMetricsConfiguration",),
    "DeleteBucketAnalyticsConfiguration": ("PutAnalyticsConfiguration",),
    "DeleteBucketIntelligentTieringConfiguration": ("PutIntelligentTieringConfiguration",),
    "DeleteBucketInventoryConfiguration": ("PutInventoryConfiguration",),
    "DeleteBucketMetricsConfiguration": ("PutMetricsConfiguration",),
    "GetObjectRetention": ("GetObjectRetention",),
    "GetObjectLegalHold": ("GetObjectLegalHold",),
    "PutBucketPolicy": ("PutBucketPolicy",),
    "PutBucketCors": ("PutBucketCORS",),
    "PutBucketLifecycleConfiguration": ("PutLifecycleConfiguration",),
    "PutBucketWebsite": ("PutBucketWebsite",),
    "PutBucketReplication": ("PutReplicationConfiguration",),
    "PutPublicAccessBlock": ("PutBucketPublicAccessBlock",),
    "PutObjectLockConfiguration": ("PutBucketObjectLockConfiguration",),
    "PutBucketLogging": ("PutBucketLogging",),
    "PutBucketNotificationConfiguration": ("PutBucketNotification",),
    "PutBucketAccelerateConfiguration": ("PutAccelerateConfiguration",),
    "PutBucketRequestPayment": ("PutBucketRequestPayment",),
    "PutBucketAnalyticsConfiguration": ("PutAnalyticsConfiguration",),
    "PutBucketIntelligentTieringConfiguration": ("PutIntelligentTieringConfiguration",),
    "PutBucketInventoryConfiguration": ("PutInventoryConfiguration",),
    "PutBucketMetricsConfiguration": ("PutMetricsConfiguration",),
    "PutObjectRetention": ("PutObjectRetention",),
    "PutObjectLegalHold": ("PutObjectLegalHold",),
    "RestoreObject": ("RestoreObject",),
    "SelectObjectContent": ("GetObject",),
    "RenameObject": ("GetObject", "PutObject", "DeleteObject"),
}
_OF_VERSION: Mapping[str, tuple[str, ...]] = {
    "GetObject": ("GetObjectVersion",),
    "HeadObject": ("GetObjectVersion",),
    "GetObjectAttributes": ("GetObjectVersion", "GetObjectVersionAttributes"),
    "GetObjectAcl": ("GetObjectVersionAcl",),
    "PutObjectAcl": ("PutObjectVersionAcl",),
    "GetObjectTagging": ("GetObjectVersionTagging",),
    "PutObjectTagging": ("PutObjectVersionTagging",),
    "DeleteObjectTagging": ("DeleteObjectVersionTagging",),
    "DeleteObject": ("DeleteObjectVersion",),
}
_GRANTS = tuple(f"x-amz-grant-{right}" for right in ("full-control", "read", "read-acp", "write", "write-acp"))
_OBJECT_ACL = tuple((header, "PutObjectAcl") for header in ("x-amz-acl", *_GRANTS))
_WITH_OBJECT = (
    ("x-amz-tagging", "PutObjectTagging"),
    *_OBJECT_ACL,
    ("x-amz-object-lock-mode", "PutObjectRetention"),
    ("x-amz-object-lock-legal-hold", "PutObjectLegalHold"),
)
_BYPASSING = frozenset({"DeleteObject", "PutObjectRetention"})  # DeleteObjects needs it of each key: see `deletion_action`
_BY_HEADER: Mapping[str, tuple[tuple[str, str], ...]] = {
    "CreateBucket": (
        *((header, "PutBucketAcl") for header in ("x-amz-acl", *_GRANTS)),
        ("x-amz-object-ownership", "PutBucketOwnershipControls"),
        ("x-amz-bucket-object-lock-enabled", "PutBucketObjectLockConfiguration"),
    ),
    "PutObject": _WITH_OBJECT,
    "PostObject": _WITH_OBJECT,
    "CopyObject": _WITH_OBJECT,
    "CreateMultipartUpload": _WITH_OBJECT,
}
