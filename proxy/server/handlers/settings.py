"""Settings of a bucket, or of an object, that are not served yet: what AWS says where they are not set, and what is true anyway.

Terraform and graphical clients read them all. A setting that cannot be made need not be removed either: that succeeds, as on AWS.
"""

from __future__ import annotations

from proxy.s3.errors import S3Error
from proxy.server.call import Call, Handle, rows
from proxy.server.handlers.versions import ENCRYPTION


class NotSet:
    """Answers that the bucket has no such setting."""

    def __init__(self, code: str) -> None:
        self.code = code

    async def __call__(self, call: Call) -> dict[str, object]:
        raise S3Error(self.code, BucketName=call.bucket.name)


def not_set(code: str) -> Handle:
    """Return what answers with this code."""
    return NotSet(code)


async def nothing(_call: Call) -> dict[str, object]:
    """Answer with an empty document: of a setting that is off, or of one that was removed."""
    return {}


async def empty_list(_call: Call) -> dict[str, object]:
    return {"IsTruncated": False}


async def get_bucket_request_payment(_call: Call) -> dict[str, object]:
    return {"Payer": "BucketOwner"}


async def get_bucket_encryption(_call: Call) -> dict[str, object]:
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": ENCRYPTION}, "BucketKeyEnabled": False}
    return {"ServerSideEncryptionConfiguration": {"Rules": [rule]}}


async def put_bucket_encryption(call: Call) -> dict[str, object]:
    """Take the one configuration that is true already."""
    rules = rows(call.document("ServerSideEncryptionConfiguration"), "Rules")
    if len(rules) != 1:
        raise S3Error("MalformedXML")
    default, blocked = rules[0].get("ApplyServerSideEncryptionByDefault"), rules[0].get("BlockedEncryptionTypes")
    if not isinstance(default, dict) or default.get("SSEAlgorithm") != ENCRYPTION:
        raise S3Error("InvalidEncryptionAlgorithmError")
    if "KMSMasterKeyID" in default:
        raise S3Error("InvalidArgument", "a KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms or aws:kms:dsse")
    if isinstance(blocked, dict) and blocked.get("EncryptionType") != ["SSE-C"]:
        raise S3Error("InvalidRequest", "SSE-C is not served, and so it is always blocked")
    return {}
