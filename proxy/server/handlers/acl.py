"""Access control lists, read only: the owner has everything, nobody else has anything."""

from __future__ import annotations

from proxy.server.call import Call
from proxy.server.handlers.owner import owner_element
from proxy.server.handlers.versions import find_object, shown_id


async def get_bucket_acl(call: Call) -> dict[str, object]:
    return _private(call)


async def get_object_acl(call: Call) -> dict[str, object]:
    version = await find_object(call, call.bucket, key=call.key, version_id=call.text("VersionId"))
    return {**_private(call), "VersionId": shown_id(call.bucket, version)}


def _private(call: Call) -> dict[str, object]:
    owner = owner_element(call.owner)
    return {"Owner": owner, "Grants": [{"Grantee": {**owner, "Type": "CanonicalUser"}, "Permission": "FULL_CONTROL"}]}
