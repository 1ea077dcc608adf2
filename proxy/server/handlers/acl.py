"""Access control lists: the owner has everything, nobody else has anything. That one may be put, too; no other."""

from __future__ import annotations

from proxy.manifest.records import Tenant
from proxy.s3.errors import S3Error
from proxy.s3.parsing import Params
from proxy.server.call import Call, rows
from proxy.server.handlers.owner import owner_element
from proxy.server.handlers.versions import find_object, shown_id


async def get_bucket_acl(call: Call) -> dict[str, object]:
    return _private(call)


async def get_object_acl(call: Call) -> dict[str, object]:
    version = await find_object(call, call.bucket, key=call.key, version_id=call.text("VersionId"))
    return {**_private(call), "VersionId": shown_id(call.bucket, version)}


async def put_bucket_acl(call: Call) -> dict[str, object]:
    _check_private(call)
    return {}


async def put_object_acl(call: Call) -> dict[str, object]:
    _check_private(call)
    await find_object(call, call.bucket, key=call.key, version_id=call.text("VersionId"))
    return {}


def _check_private(call: Call) -> None:
    """Refuse any list but the one that is true. Of the canned ones and the grants in headers, only a true one comes as far as this."""
    document = call.params.get("AccessControlPolicy")
    if not isinstance(document, dict):
        if "x-amz-acl" not in call.headers:
            raise S3Error("MissingSecurityHeader", MissingHeaderName="x-amz-acl")
        return
    if "x-amz-acl" in call.headers:
        raise S3Error("UnexpectedContent")
    grants = rows(document, "Grants")
    if not grants or not all(_is_owners(grant, call.owner) for grant in grants):
        raise S3Error("AccessControlListNotSupported")


def _is_owners(grant: Params, owner: Tenant) -> bool:
    grantee = grant.get("Grantee")
    return isinstance(grantee, dict) and grantee.get("ID") == owner.canonical_id and grant.get("Permission") == "FULL_CONTROL"


def _private(call: Call) -> dict[str, object]:
    owner = owner_element(call.owner)
    return {"Owner": owner, "Grants": [{"Grantee": {**owner, "Type": "CanonicalUser"}, "Permission": "FULL_CONTROL"}]}
