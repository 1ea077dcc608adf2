"""Access control lists of buckets and of objects' versions."""

from __future__ import annotations

from collections.abc import Mapping

from proxy.manifest.drafts import AttributeChange
from proxy.s3.errors import S3Error
from proxy.s3.policy.acl import GROUPS, Acl, acl_text, private_acl
from proxy.s3.policy.acl_requests import AclRequest, read_document, read_headers
from proxy.s3.policy.lists import ACL
from proxy.s3.policy.ownership import OWNERSHIP, ownership_of
from proxy.s3.policy.public_access import PUBLIC_ACCESS_BLOCK
from proxy.server.call import Call
from proxy.server.handlers.grants import (
    acl_of_bucket,
    acl_of_object,
    check_enforced,
    find_names,
    kept_of_object,
    resolved,
)  # fmt: skip
from proxy.server.handlers.versions import find_object, shown_id


async def get_bucket_acl(call: Call) -> dict[str, object]:
    return await _told(call, acl_of_bucket(call.bucket, call.owner))


async def get_object_acl(call: Call) -> dict[str, object]:
    version = await find_object(call, call.bucket, key=call.key, version_id=call.text("VersionId"))
    told = await _told(call, acl_of_object(version.attributes.acl, call.bucket, call.owner))
    return {**told, "VersionId": shown_id(call.bucket, version)}


async def put_bucket_acl(call: Call) -> dict[str, object]:
    """Replace a bucket's ACL."""
    request, owner = _request(call), call.owner.canonical_id
    if _enforced(call):
        check_enforced(request, call.owner)
        return {}
    _check_owner(request, owner)
    acl = await resolved(call, request, owner=owner)
    kept = None if acl == private_acl(owner) else acl_text(acl)
    await call.services.engine.put_bucket_setting(call.bucket, ACL, kept, because_of=[OWNERSHIP, PUBLIC_ACCESS_BLOCK])
    return {}


async def put_object_acl(call: Call) -> dict[str, object]:
    """Replace the ACL of one version; whose it is stays."""
    request = _request(call)
    version = await find_object(call, call.bucket, key=call.key, version_id=call.text("VersionId"))
    if _enforced(call):
        check_enforced(request, call.owner)
        return {}
    owner = acl_of_object(version.attributes.acl, call.bucket, call.owner).owner
    _check_owner(request, owner)
    acl = await resolved(call, request, owner=owner, bucket_owner=call.owner.canonical_id)
    change = AttributeChange(acl=kept_of_object(acl, call.owner))
    await call.services.engine.change_attributes(call.bucket, version.key, version.id, change, cause=call.cause("ObjectAcl:Put"))
    return {}


def _request(call: Call) -> AclRequest:
    """Return the ACL that the request asks for, in the headers or in the body, but not in both."""
    document, in_headers = call.params.get("AccessControlPolicy"), read_headers(call.headers)
    if not isinstance(document, dict):
        if in_headers is None:
            raise S3Error("MissingSecurityHeader", MissingHeaderName="x-amz-acl")
        return in_headers
    if in_headers is not None:
        raise S3Error("UnexpectedContent")
    return read_document(document)


def _enforced(call: Call) -> bool:
    return ownership_of(call.bucket.settings.get(OWNERSHIP)) == "BucketOwnerEnforced"


def _check_owner(request: AclRequest, owner: str) -> None:
    """A document names the owner, and cannot change who that is."""
    if request.owner is not None and request.owner.lower() != owner:
        raise S3Error("AccessDenied")


async def _told(call: Call, acl: Acl) -> dict[str, object]:
    names = await find_names(call, {acl.owner, *(grant.grantee for grant in acl.grants)} - GROUPS)
    grants = [{"Grantee": _grantee(grant.grantee, names), "Permission": grant.permission} for grant in acl.grants]
    return {"Owner": {"ID": acl.owner, "DisplayName": names.get(acl.owner)}, "Grants": grants}


def _grantee(grantee: str, names: Mapping[str, str]) -> dict[str, object]:
    if grantee in GROUPS:
        return {"URI": grantee, "Type": "Group"}
    return {"ID": grantee, "DisplayName": names.get(grantee), "Type": "CanonicalUser"}
