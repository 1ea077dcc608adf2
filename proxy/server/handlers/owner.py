"""The Owner element of answers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from proxy.manifest.records import ListedAcl, Tenant
from proxy.s3.policy.acl import Acl
from proxy.s3.policy.ownership import OWNERSHIP, ownership_of
from proxy.server.call import Call
from proxy.server.handlers.grants import find_names


class Owners:
    """Whose the objects of a page are: the bucket's owner's, where ACLs are off or their own say nothing else."""

    def __init__(self, owner: Tenant, others: Mapping[str, dict[str, object]]) -> None:
        self._owner = owner_element(owner)
        self._others = others

    def of(self, acl: ListedAcl | Acl | None) -> dict[str, object]:
        return self._owner if acl is None else self.named(acl.owner)

    def named(self, identity: str | None) -> dict[str, object]:
        """Return the owner of an object whose ACL names this account, if there is one."""
        return self._owner if identity is None else self._others.get(identity, self._owner)


async def find_owners(call: Call, acls: Iterable[ListedAcl | Acl | None]) -> Owners:
    """Return the owners of objects that have these ACLs. An account that is gone has no name any more."""
    return await find_named_owners(call, {acl.owner for acl in acls if acl is not None})


async def find_named_owners(call: Call, ids: Collection[str]) -> Owners:
    """Return the owners of objects whose ACLs name these accounts."""
    if ownership_of(call.bucket.settings.get(OWNERSHIP)) == "BucketOwnerEnforced":
        return Owners(call.owner, {})
    names = await find_names(call, ids)
    return Owners(call.owner, {one: {"ID": one, "DisplayName": names.get(one)} for one in ids})


def owner_element(tenant: Tenant) -> dict[str, object]:
    """Return an account as S3's Owner and Initiator elements tell it."""
    return {"ID": tenant.canonical_id, "DisplayName": tenant.display_name}
