"""The catalogue: all actions of S3 that policies can name, and which condition keys go with which.

Source: docs.aws.amazon.com/service-authorization/latest/reference/list_s3.html, "Actions" and "Condition keys"
"""

from __future__ import annotations

from collections.abc import Mapping

from proxy.s3.policy.actions import Action
from proxy.s3.policy.patterns import Glob, read_tokens

_OBJECT = """
    AbortMultipartUpload BypassGovernanceRetention DeleteObject DeleteObjectTagging DeleteObjectVersion DeleteObjectVersionTagging GetObject
    GetObjectAcl GetObjectAttributes GetObjectLegalHold GetObjectRetention GetObjectTagging GetObjectTorrent GetObjectVersion
    GetObjectVersionAcl GetObjectVersionAttributes GetObjectVersionForReplication GetObjectVersionTagging GetObjectVersionTorrent
    InitiateReplication ListMultipartUploadParts ObjectOwnerOverrideToBucketOwner PutObject PutObjectAcl PutObjectLegalHold
    PutObjectRetention PutObjectTagging PutObjectVersionAcl PutObjectVersionTagging ReplicateDelete ReplicateObject ReplicateTags
    RestoreObject
"""
_BUCKET = """
    CreateBucketMetadataTableConfiguration DeleteBucket DeleteBucketMetadataTableConfiguration DeleteBucketPolicy DeleteBucketWebsite
    GetAccelerateConfiguration GetAnalyticsConfiguration GetBucketAbac GetBucketAcl GetBucketCORS GetBucketLocation GetBucketLogging
    GetBucketMetadataTableConfiguration GetBucketNotification GetBucketObjectLockConfiguration GetBucketOwnershipControls GetBucketPolicy
    GetBucketPolicyStatus GetBucketPublicAccessBlock GetBucketRequestPayment GetBucketTagging GetBucketVersioning GetBucketWebsite
    GetEncryptionConfiguration GetIntelligentTieringConfiguration GetInventoryConfiguration GetLifecycleConfiguration
    GetMetricsConfiguration GetReplicationConfiguration ListBucket ListBucketMultipartUploads ListBucketVersions PutAccelerateConfiguration
    PutAnalyticsConfiguration PutBucketAbac PutBucketAcl PutBucketCORS PutBucketLogging PutBucketNotification
    PutBucketObjectLockConfiguration
    PutBucketOwnershipControls PutBucketPolicy PutBucketPublicAccessBlock PutBucketRequestPayment PutBucketTagging PutBucketVersioning
    PutBucketWebsite PutEncryptionConfiguration PutIntelligentTieringConfiguration PutInventoryConfiguration PutLifecycleConfiguration
    PutMetricsConfiguration PutReplicationConfiguration
"""
OBJECT_ACTIONS = frozenset(Action(f"s3:{name}") for name in _OBJECT.split())
BUCKET_ACTIONS = frozenset(Action(f"s3:{name}") for name in _BUCKET.split())
# An account's: no policy of a bucket can give them.
_ACCOUNT = "CreateBucket ListAllMyBuckets GetAccountPublicAccessBlock PutAccountPublicAccessBlock"
ACCOUNT_ACTIONS = frozenset(Action(f"s3:{name}") for name in _ACCOUNT.split())

_BY_LOWER_CASE = {action.lower(): action for action in OBJECT_ACTIONS | BUCKET_ACTIONS | ACCOUNT_ACTIONS}


def _named(*names: str) -> frozenset[str]:
    return frozenset(f"s3:{name}" for name in names)


_RIGHTS = ("full-control", "read", "read-acp", "write", "write-acp")
_LISTINGS = _named("ListBucket", "ListBucketVersions")
_WRITES = _named("PutObject", "BypassGovernanceRetention", "ReplicateObject")
_LISTS = _named("PutObjectAcl", "PutObjectVersionAcl", "PutBucketAcl", "CreateBucket") | _WRITES
_TAG_WRITES = _named("PutObjectTagging", "PutObjectVersionTagging")
# Condition keys of S3 that go with some actions only, in lower case; what ends in "/" is followed by a tag's key.
_OF_ACTIONS: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(("s3:prefix", "s3:delimiter", "s3:max-keys"), _LISTINGS),
    **dict.fromkeys(("s3:x-amz-acl", *(f"s3:x-amz-grant-{right}" for right in _RIGHTS)), _LISTS),
    **dict.fromkeys(
        (
            "s3:x-amz-copy-source", "s3:x-amz-metadata-directive", "s3:x-amz-server-side-encryption",
            "s3:x-amz-server-side-encryption-aws-kms-key-id", "s3:x-amz-server-side-encryption-customer-algorithm",
            "s3:x-amz-storage-class", "s3:x-amz-website-redirect-location",
        ),
        _WRITES,
    ),
    **dict.fromkeys(("s3:if-none-match", "s3:objectcreationoperation"), _named("PutObject")),
    "s3:if-match": _named("PutObject", "DeleteObject"),
    "s3:versionid": frozenset(name for name in OBJECT_ACTIONS if "ObjectVersion" in name),
    **dict.fromkeys(("s3:object-lock-mode", "s3:object-lock-retain-until-date"), _WRITES | _named("PutObjectRetention")),
    "s3:object-lock-remaining-retention-days": _WRITES | _named("PutObjectRetention", "PutBucketObjectLockConfiguration"),
    "s3:object-lock-legal-hold": _WRITES | _named("PutObjectLegalHold"),
    **dict.fromkeys(("s3:requestobjecttag/", "s3:requestobjecttagkeys"), _WRITES | _TAG_WRITES | _named("ReplicateTags")),
    "s3:existingobjecttag/": _TAG_WRITES
    | _named(
        "GetObject", "GetObjectVersion", "GetObjectAcl", "GetObjectVersionAcl", "GetObjectTagging", "GetObjectVersionTagging",
        "GetObjectAttributes", "GetObjectVersionAttributes", "PutObjectAcl", "PutObjectVersionAcl", "DeleteObjectTagging",
        "DeleteObjectVersionTagging",
    ),
    "s3:locationconstraint": _named("CreateBucket"),
    "s3:x-amz-object-ownership": _named("CreateBucket", "PutBucketOwnershipControls"),
    "s3:inventoryaccessibleoptionalfields": _named("PutInventoryConfiguration"),
}  # fmt: skip
# Those of any action. The ones of access points and grants are known, and never there.
_OF_ALL = frozenset(
    {
        "s3:authtype", "s3:signatureage", "s3:signatureversion", "s3:tlsversion", "s3:x-amz-content-sha256", "s3:resourceaccount",
        "s3:accesspointnetworkorigin", "s3:dataaccesspointaccount", "s3:dataaccesspointarn", "s3:accessgrantsinstancearn",
    }
)  # fmt: skip
# IAM User Guide, "AWS global condition context keys", in lower case.
_GLOBAL_NAMES = """
    CalledVia CalledViaFirst CalledViaLast ChatbotSourceArn CurrentTime Ec2InstanceSourcePrivateIPv4 Ec2InstanceSourceVpc EpochTime
    FederatedProvider MultiFactorAuthAge MultiFactorAuthPresent PrincipalAccount PrincipalArn PrincipalIsAWSService PrincipalOrgID
    PrincipalOrgPaths PrincipalServiceName PrincipalServiceNamesList PrincipalType referer RequestedRegion ResourceAccount ResourceOrgID
    ResourceOrgPaths SecureTransport SourceAccount SourceArn SourceIdentity SourceIp SourceOrgID SourceOrgPaths SourceOwner SourceVpc
    SourceVpcArn SourceVpce TagKeys TokenIssueTime UserAgent userid username ViaAWSService VpceAccount VpceOrgID VpceOrgPaths VpcSourceIp
    AssumedRoot
"""
_GLOBAL = frozenset(f"aws:{name.lower()}" for name in _GLOBAL_NAMES.split())
_GLOBAL_TAGS = ("aws:principaltag/", "aws:requesttag/", "aws:resourcetag/")


def is_condition_key(key: str) -> bool:
    """Tell whether AWS knows such a key, which is in lower case."""
    prefix, slash, rest = key.partition("/")
    if slash:
        return bool(rest) and (prefix + slash in _OF_ACTIONS or prefix + slash in _GLOBAL_TAGS)
    return key in _OF_ACTIONS or key in _OF_ALL or key in _GLOBAL


def goes_with(key: str, action: str) -> bool:
    """Tell whether requests for an action can have this condition key, which is in lower case."""
    actions = _OF_ACTIONS.get(key.partition("/")[0] + "/" if "/" in key else key)
    return actions is None or action in actions


def named_actions(pattern: str) -> frozenset[Action]:
    """Return the actions of S3 that a pattern names, in any case."""
    lower = pattern.lower()
    if lower in _BY_LOWER_CASE:
        return frozenset({_BY_LOWER_CASE[lower]})
    glob = Glob(read_tokens(lower, variables=False))
    return frozenset(action for name, action in _BY_LOWER_CASE.items() if glob.matches(name))
