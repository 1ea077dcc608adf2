"""The ACLs that requests ask for: read, resolved against the accounts there are, and held against what the bucket allows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from proxy.manifest.records import Bucket, Tenant
from proxy.s3.errors import S3Error
from proxy.s3.policy.acl import ANONYMOUS_ID, Acl, acl_text, bucket_acl, private_acl
from proxy.s3.policy.acl_requests import NO_ACCOUNTS, Accounts, AclRequest, read_headers, resolve
from proxy.s3.policy.lists import ACL, object_acl
from proxy.s3.policy.ownership import OWNERSHIP, ownership_header, ownership_of
from proxy.s3.policy.public_access import PUBLIC_ACCESS_BLOCK, public_access_block
from proxy.server.call import Call

_OWNERSHIP_HEADER = "x-amz-object-ownership"
_OWNERS_ALONE = frozenset({"bucket-owner-full-control"})


async def acl_of_write(call: Call) -> Acl | None:
    """Return the ACL that an object is written with; None: it is the bucket's owner's, and nobody else has anything."""
    request = read_headers(call.headers)
    ownership = ownership_of(call.bucket.settings.get(OWNERSHIP))
    if ownership == "BucketOwnerEnforced":
        if request is not None and request.canned != "private":  # that is true anyway, and clients send it with every write
            check_enforced(request, call.owner)
        return None
    bucket_owner = call.owner.canonical_id
    handed_over = ownership == "BucketOwnerPreferred" and request is not None and request.canned == "bucket-owner-full-control"
    owner = bucket_owner if handed_over else _asker_id(call)
    if request is None:
        return None if owner == bucket_owner else private_acl(owner)
    return kept_of_object(await resolved(call, request, owner=owner, bucket_owner=bucket_owner), call.owner)


def owner_of_marker(call: Call) -> Acl | None:
    """Return whose a delete marker is; None: the bucket owner's."""
    owned = ownership_of(call.bucket.settings.get(OWNERSHIP)) == "BucketOwnerEnforced"
    return None if owned or _asker_id(call) == call.owner.canonical_id else Acl(owner=_asker_id(call))


async def access_settings(call: Call) -> dict[str, str]:
    """Return what CreateBucket says of ownership and ACL, as the bucket's settings keep it. A new bucket blocks public access."""
    request, asked = read_headers(call.headers), call.headers.get(_OWNERSHIP_HEADER)
    ownership = None if asked is None else ownership_header(asked)
    settings: dict[str, str] = {} if ownership is None else {OWNERSHIP: ownership}
    if request is None:
        return settings
    owner = call.tenant.canonical_id
    acl = resolve(request, await find_accounts(call, request), owner=owner)
    if acl == private_acl(owner):
        return settings
    if ownership_of(ownership) == "BucketOwnerEnforced":
        raise S3Error("InvalidBucketAclWithObjectOwnership")
    if acl.public:
        raise S3Error("InvalidBucketAclWithBlockPublicAccessError")
    return {**settings, ACL: acl_text(acl)}


async def resolved(call: Call, request: AclRequest, *, owner: str, bucket_owner: str | None = None) -> Acl:
    """Return the ACL asked for of an object, or, without `bucket_owner`, of a bucket. AccessDenied for a public one that is blocked."""
    acl = resolve(request, await find_accounts(call, request), owner=owner, bucket_owner=bucket_owner)
    block = public_access_block(call.bucket.settings.get(PUBLIC_ACCESS_BLOCK))
    if acl.public and block.block_public_acls:
        message = "Access Denied: public ACLs are prevented by the BlockPublicAcls setting in S3 Block Public Access"
        raise S3Error("AccessDenied", message)
    return acl


async def find_accounts(call: Call, request: AclRequest) -> Accounts:
    """Return what there is of the accounts that a request names."""
    if not request.ids and not request.emails:
        return NO_ACCOUNTS
    found = await call.services.engine.find_accounts(request.ids, request.emails)
    by_email = {email: tuple(one.canonical_id for one in found if one.email.lower() == email.lower()) for email in request.emails}
    return Accounts(frozenset(one.canonical_id for one in found), by_email)


def check_enforced(request: AclRequest, owner: Tenant) -> None:
    """Where the bucket's owner owns everything, only the ACL that says so is taken. AccessControlListNotSupported, InvalidArgument."""
    if request.canned is not None:
        resolve(request, NO_ACCOUNTS, owner=owner.canonical_id)  # a name there is
        allowed = request.canned in _OWNERS_ALONE
    else:
        granted = {(grant.kind, grant.grantee, grant.permission) for grant in request.grants}
        allowed = granted == {("id", owner.canonical_id, "FULL_CONTROL")}
    if not allowed:
        raise S3Error("AccessControlListNotSupported")


def kept_of_object(acl: Acl, bucket_owner: Tenant) -> Acl | None:
    """Return what is kept of an object's ACL: nothing of the one that an object has without being told."""
    return None if acl == private_acl(bucket_owner.canonical_id) else acl


def acl_of_bucket(bucket: Bucket, owner: Tenant) -> Acl:
    """Return a bucket's ACL as it holds: where the owner owns everything it grants nothing further, whatever it said before."""
    if ownership_of(bucket.settings.get(OWNERSHIP)) == "BucketOwnerEnforced":
        return private_acl(owner.canonical_id)
    return bucket_acl(bucket.settings.get(ACL), owner.canonical_id)


def acl_of_object(kept: Acl | None, bucket: Bucket, owner: Tenant) -> Acl:
    """Return an object's ACL as it holds; `owner` is the bucket's."""
    return object_acl(kept, bucket.settings, owner.canonical_id)


async def find_names(call: Call, canonical_ids: Iterable[str]) -> Mapping[str, str]:
    """Return the display names of those of these accounts that there are."""
    wanted = set(canonical_ids) - {call.owner.canonical_id}
    found = await call.services.engine.find_accounts(wanted) if wanted else ()
    return {one.canonical_id: one.display_name for one in (call.owner, *found)}


def _asker_id(call: Call) -> str:
    return ANONYMOUS_ID if call.asker is None else call.asker.canonical_id
