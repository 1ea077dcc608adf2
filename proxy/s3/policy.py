"""Who may do what: one pure decision over who asks, what for, on which resource, and the facts.

Nothing is allowed unless a grant says so. Today there is one: a tenant may do everything with what it owns.
Bucket policies, access control lists and the policies of keys will be further grants, and denials that come before all of them.

Which operation needs which action is AWS's own table.
Source: docs.aws.amazon.com/service-authorization/latest/reference/list_s3.html, "API operations defined by Amazon S3"
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple, NewType

from proxy.s3.errors import S3Error

Action = NewType("Action", str)  # IAM's name, as s3:GetObject


class Principal(NamedTuple):
    """Who asks: a tenant, by one of its access keys, or nobody in particular."""

    tenant_id: str | None = None
    access_key: str | None = None

    @property
    def anonymous(self) -> bool:
        return self.tenant_id is None


ANONYMOUS = Principal()


class Resource(NamedTuple):
    """What is asked for. Without a bucket it is the service itself, without a key the bucket."""

    bucket: str | None = None
    key: str | None = None


class Facts(NamedTuple):
    """What the decision may rest on besides. `owner_id`: the tenant whose bucket it is, or will be when it is made."""

    owner_id: str | None = None


def authorise(principal: Principal, action: Action, resource: Resource, facts: Facts) -> None:
    """Raise AccessDenied unless the principal may do this."""
    del action, resource  # an owner may do everything with everything
    if not _owns(principal, facts):
        raise S3Error("AccessDenied")


def required_actions(operation: str, headers: Mapping[str, str], *, of_version: bool) -> tuple[Action, ...]:
    """Return what a principal must be allowed to do, all of it. `of_version`: the request names a version; header names are in lower case.

    What is not in the table is not served, and needs the action that is called as it is.
    """
    actions = _actions(operation, of_version)
    if operation not in _BY_HEADER:
        return actions
    return (*actions, *(Action(f"s3:{name}") for header, name in _BY_HEADER[operation] if header in headers))


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


def _owns(principal: Principal, facts: Facts) -> bool:
    return not principal.anonymous and principal.tenant_id == facts.owner_id


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
    "GetObject": ("GetObject",),
    "HeadObject": ("GetObject",),
    "GetObjectAttributes": ("GetObject", "GetObjectAttributes"),
    "GetObjectAcl": ("GetObjectAcl",),
    "GetObjectTagging": ("GetObjectTagging",),
    "PutObjectTagging": ("PutObjectTagging",),
    "DeleteObjectTagging": ("DeleteObjectTagging",),
    "DeleteObject": ("DeleteObject",),
    "DeleteObjects": ("DeleteObject",),
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
_WITH_OBJECT = (("x-amz-tagging", "PutObjectTagging"), ("x-amz-acl", "PutObjectAcl"))
_BY_HEADER: Mapping[str, tuple[tuple[str, str], ...]] = {
    "CreateBucket": (("x-amz-acl", "PutBucketAcl"), ("x-amz-object-ownership", "PutBucketOwnershipControls")),
    "PutObject": _WITH_OBJECT,
    "CopyObject": _WITH_OBJECT,
    "CreateMultipartUpload": _WITH_OBJECT,
}
