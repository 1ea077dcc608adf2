"""Access control lists: an owner, and up to a hundred grants of five permissions to accounts and groups.

A grantee is one word here: an account's canonical id, or a group's URI. An e-mail address stands for an account, and is never kept.
Source: Amazon S3 User Guide, "Access control list (ACL) overview": groups, permissions and the actions that they stand for, canned ACLs.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Literal, get_args

import msgspec

from proxy.s3.errors import S3Error

Permission = Literal["READ", "WRITE", "READ_ACP", "WRITE_ACP", "FULL_CONTROL"]
PERMISSIONS: frozenset[str] = frozenset(get_args(Permission))
MAX_GRANTS = 100

ALL_USERS = "http://acs.amazonaws.com/groups/global/AllUsers"
AUTHENTICATED_USERS = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers"
LOG_DELIVERY = "http://acs.amazonaws.com/groups/s3/LogDelivery"
GROUPS = frozenset({ALL_USERS, AUTHENTICATED_USERS, LOG_DELIVERY})
_PUBLIC = frozenset({ALL_USERS, AUTHENTICATED_USERS})

ANONYMOUS_ID = "65a011a29cdf8ec533ec3d1ccaae921c"  # who owns what nobody in particular wrote, on AWS too
EXEC_READ_ID = "6aa5a366c34c1cbe25dc49211496e913e0351eb0e8c37aa3477e40942ec6b97c"  # whom aws-exec-read means: EC2's account "za-team"


class Grant(msgspec.Struct, frozen=True):
    """One permission of one grantee."""

    grantee: str
    permission: Permission


class Acl(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The list of a bucket or of an object's version. `owner` is a canonical id."""

    owner: str
    grants: tuple[Grant, ...] = ()

    @property
    def public(self) -> bool:
        """Whether it grants anything to everybody, or to everybody who has an account here. AWS calls exactly that a public ACL."""
        return any(grant.grantee in _PUBLIC for grant in self.grants)


def private_acl(owner: str) -> Acl:
    """Return the list that everything has unless it is told otherwise."""
    return Acl(owner=owner, grants=(Grant(owner, "FULL_CONTROL"),))


def canned_acl(name: str, *, owner: str, bucket_owner: str | None = None) -> Acl:
    """Return the list that x-amz-acl names: of an object, or, without `bucket_owner`, of a bucket. InvalidArgument for an unknown name.

    What is of the bucket's owner says nothing more of a bucket, and log-delivery-write is of buckets only.
    """
    further = _CANNED.get(name)
    if further is None or (name == "log-delivery-write" and bucket_owner is not None):
        raise S3Error("InvalidArgument", ArgumentName="x-amz-acl", ArgumentValue=name)
    grants = (*private_acl(owner).grants, *(Grant(grantee, permission) for grantee, permission in further))
    if name in _BUCKET_OWNERS and bucket_owner is not None and bucket_owner != owner:
        grants = (*grants, Grant(bucket_owner, _BUCKET_OWNERS[name]))
    return Acl(owner=owner, grants=grants)


def gives(acl: Acl, asker: str | None, permission: Permission, *, ignore_public: bool) -> bool:
    """Tell whether the list gives an account, or None for nobody in particular, this permission.

    With `ignore_public`, grants to everybody and to all accounts count for nothing.
    """
    grantees = {ALL_USERS} if asker is None else {asker, ALL_USERS, AUTHENTICATED_USERS}
    if ignore_public:
        grantees -= _PUBLIC
    return any(grant.grantee in grantees and grant.permission in {permission, "FULL_CONTROL"} for grant in acl.grants)


def owner_alone(acl: Acl) -> bool:
    """Tell whether nobody but the owner has anything, and the owner everything."""
    return {(grant.grantee, grant.permission) for grant in acl.grants} == {(acl.owner, "FULL_CONTROL")}


def check_count(grants: int) -> None:
    """Raise MalformedACLError over 100 grants."""
    if grants > MAX_GRANTS:
        raise S3Error("MalformedACLError", f"An access control list may have {MAX_GRANTS} grants at most")


def bucket_acl(text: str | None, owner: str) -> Acl:
    """Return a bucket's list as its setting keeps it; None is the private one. `owner` is the bucket's."""
    return private_acl(owner) if text is None else _parsed(text)


def acl_text(acl: Acl) -> str:
    """Return what a bucket's setting keeps."""
    return msgspec.json.encode(acl).decode()


@lru_cache(maxsize=1000)
def _parsed(text: str) -> Acl:
    return msgspec.json.decode(text, type=Acl)


_CANNED: Mapping[str, tuple[tuple[str, Permission], ...]] = {
    "private": (),
    "public-read": ((ALL_USERS, "READ"),),
    "public-read-write": ((ALL_USERS, "READ"), (ALL_USERS, "WRITE")),
    "authenticated-read": ((AUTHENTICATED_USERS, "READ"),),
    "aws-exec-read": ((EXEC_READ_ID, "READ"),),
    "bucket-owner-read": (),
    "bucket-owner-full-control": (),
    "log-delivery-write": ((LOG_DELIVERY, "WRITE"), (LOG_DELIVERY, "READ_ACP")),
}
_BUCKET_OWNERS: Mapping[str, Permission] = {"bucket-owner-read": "READ", "bucket-owner-full-control": "FULL_CONTROL"}
