"""Ownership controls and the public access block of a bucket, and whether its policy makes it public."""

from __future__ import annotations

from proxy.s3.errors import S3Error
from proxy.s3.policy.acl import bucket_acl, owner_alone
from proxy.s3.policy.lists import ACL
from proxy.s3.policy.ownership import OWNERSHIP, REMOVED, ownership_of, parse_ownership
from proxy.s3.policy.public_access import PUBLIC_ACCESS_BLOCK, PublicAccessBlock, block_text, public_access_block
from proxy.s3.policy.public_access import REMOVED as BLOCK_REMOVED
from proxy.server.call import Call, rows


async def get_bucket_ownership_controls(call: Call) -> dict[str, object]:
    setting = call.bucket.settings.get(OWNERSHIP)
    if setting == REMOVED:
        raise S3Error("OwnershipControlsNotFoundError", BucketName=call.bucket.name)
    return {"OwnershipControls": {"Rules": [{"ObjectOwnership": ownership_of(setting)}]}}


async def put_bucket_ownership_controls(call: Call) -> dict[str, object]:
    """Set whose the objects are. A bucket whose ACL gives anything to others cannot have its ACLs turned off."""
    rules = rows(call.document("OwnershipControls"), "Rules")
    ownership = parse_ownership(rules[0].get("ObjectOwnership")) if len(rules) == 1 else None
    if ownership is None:
        raise S3Error("MalformedXML")
    if ownership == "BucketOwnerEnforced" and not owner_alone(bucket_acl(call.bucket.settings.get(ACL), call.owner.canonical_id)):
        raise S3Error("InvalidBucketAclWithObjectOwnership")
    await call.services.engine.put_bucket_setting(call.bucket, OWNERSHIP, ownership, because_of=[ACL])
    return {}


async def delete_bucket_ownership_controls(call: Call) -> dict[str, object]:
    await call.services.engine.put_bucket_setting(call.bucket, OWNERSHIP, REMOVED)
    return {}


async def get_public_access_block(call: Call) -> dict[str, object]:
    setting = call.bucket.settings.get(PUBLIC_ACCESS_BLOCK)
    if setting == BLOCK_REMOVED:
        raise S3Error("NoSuchPublicAccessBlockConfiguration", BucketName=call.bucket.name)
    block = public_access_block(setting)
    told = {
        "BlockPublicAcls": block.block_public_acls,
        "IgnorePublicAcls": block.ignore_public_acls,
        "BlockPublicPolicy": block.block_public_policy,
        "RestrictPublicBuckets": block.restrict_public_buckets,
    }
    return {"PublicAccessBlockConfiguration": told}


async def put_public_access_block(call: Call) -> dict[str, object]:
    """Replace all four settings: one that is left out is off."""
    document = call.document("PublicAccessBlockConfiguration")
    block = PublicAccessBlock(
        block_public_acls=document.get("BlockPublicAcls") is True,
        ignore_public_acls=document.get("IgnorePublicAcls") is True,
        block_public_policy=document.get("BlockPublicPolicy") is True,
        restrict_public_buckets=document.get("RestrictPublicBuckets") is True,
    )
    await call.services.engine.put_bucket_setting(call.bucket, PUBLIC_ACCESS_BLOCK, block_text(block))
    return {}


async def delete_public_access_block(call: Call) -> dict[str, object]:
    await call.services.engine.put_bucket_setting(call.bucket, PUBLIC_ACCESS_BLOCK, BLOCK_REMOVED)
    return {}
