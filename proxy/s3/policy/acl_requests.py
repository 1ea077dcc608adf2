"""Requests for an ACL: a canned one, grants in headers, or a document; read first, then resolved against the accounts there are.

Source: Amazon S3 API Reference, PutBucketAcl and PutObjectAcl: the three ways exclude each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple, cast

from proxy.s3.errors import S3Error
from proxy.s3.policy.acl import (
    ANONYMOUS_ID,
    EXEC_READ_ID,
    GROUPS,
    PERMISSIONS,
    Acl,
    Grant,
    Permission,
    canned_acl,
    check_count,
)  # fmt: skip

CANNED_HEADER = "x-amz-acl"
GRANT_HEADERS: Mapping[str, Permission] = {
    "x-amz-grant-full-control": "FULL_CONTROL",
    "x-amz-grant-read": "READ",
    "x-amz-grant-read-acp": "READ_ACP",
    "x-amz-grant-write": "WRITE",
    "x-amz-grant-write-acp": "WRITE_ACP",
}
Kind = Literal["id", "uri", "emailAddress"]
_KINDS: frozenset[str] = frozenset({"id", "uri", "emailAddress"})
_TYPES: Mapping[object, tuple[Kind, str]] = {
    "CanonicalUser": ("id", "ID"),
    "Group": ("uri", "URI"),
    "AmazonCustomerByEmail": ("emailAddress", "EmailAddress"),
}
_OF_NOBODY_HERE = frozenset({EXEC_READ_ID, ANONYMOUS_ID})  # ids that mean something without an account


class WantedGrant(NamedTuple):
    """A grant as a request names it. `argument`: what to call the grantee in an error."""

    kind: Kind
    grantee: str
    permission: Permission
    argument: str


class AclRequest(NamedTuple):
    """What a request says of an ACL: a canned one's name, or grants; a document names the owner, too."""

    canned: str | None = None
    grants: tuple[WantedGrant, ...] = ()
    owner: str | None = None

    @property
    def ids(self) -> frozenset[str]:
        """The accounts that must be there."""
        return frozenset(grant.grantee for grant in self.grants if grant.kind == "id") - _OF_NOBODY_HERE

    @property
    def emails(self) -> frozenset[str]:
        """The addresses that must be those of accounts."""
        return frozenset(grant.grantee for grant in self.grants if grant.kind == "emailAddress")


class Accounts(NamedTuple):
    """What was found of the accounts that a request names: the canonical ids that there are, and those of each address."""

    ids: frozenset[str] = frozenset()
    by_email: Mapping[str, tuple[str, ...]] = {}


NO_ACCOUNTS = Accounts()


def read_headers(headers: Mapping[str, str]) -> AclRequest | None:
    """Return what the headers ask for; None if nothing. Names are in lower case. InvalidRequest for both ways at once.

    An empty x-amz-acl is none: some file systems send it so.
    """
    canned = headers.get(CANNED_HEADER, "").strip()
    granting = [name for name in GRANT_HEADERS if name in headers]
    if canned and granting:
        raise S3Error("InvalidRequest", "Specifying both Canned ACLs and Header Grants is not allowed")
    if canned:
        return AclRequest(canned=canned)
    if not granting:
        return None
    grants = tuple(grant for name in granting for grant in _header_grants(name, headers[name]))
    check_count(len(grants))
    return AclRequest(grants=grants)


def read_document(document: Mapping[str, object]) -> AclRequest:
    """Return what an AccessControlPolicy asks for. MalformedACLError, InvalidArgument."""
    owner, grants = document.get("Owner"), document.get("Grants")
    if not isinstance(owner, dict) or not isinstance(owner.get("ID"), str) or not isinstance(grants, list):
        raise S3Error("MalformedACLError")
    check_count(len(grants))
    return AclRequest(grants=tuple(_document_grant(grant) for grant in grants), owner=str(owner["ID"]))


def resolve(request: AclRequest, accounts: Accounts, *, owner: str, bucket_owner: str | None = None) -> Acl:
    """Return the list, of an object, or, without `bucket_owner`, of a bucket.

    InvalidArgument for a canned ACL or an account that does not exist, UnresolvableGrantByEmailAddress for an address that is nobody's.
    """
    if request.canned is not None:
        return canned_acl(request.canned, owner=owner, bucket_owner=bucket_owner)
    return Acl(owner=owner, grants=tuple(Grant(_grantee(grant, accounts), grant.permission) for grant in request.grants))


def _grantee(grant: WantedGrant, accounts: Accounts) -> str:
    if grant.kind == "uri":
        return grant.grantee
    if grant.kind == "id":
        if grant.grantee not in accounts.ids and grant.grantee not in _OF_NOBODY_HERE:
            raise S3Error("InvalidArgument", "Invalid id", ArgumentName=grant.argument, ArgumentValue=grant.grantee)
        return grant.grantee
    found = accounts.by_email.get(grant.grantee, ())
    if not found:
        raise S3Error("UnresolvableGrantByEmailAddress")
    if len(found) > 1:
        raise S3Error("AmbiguousGrantByEmailAddress")
    return found[0]


def _header_grants(name: str, value: str) -> Iterator[WantedGrant]:
    """Yield the grants of a header: a list of type="value", where the quotes may be left out."""
    for item in _items(value):
        kind, mark, grantee = item.partition("=")
        kind, grantee = kind.strip(), grantee.strip().strip('"')
        if not mark or kind not in _KINDS or not grantee:
            raise S3Error("InvalidArgument", "Argument format not recognized", ArgumentName=name, ArgumentValue=item)
        yield _checked(WantedGrant(cast("Kind", kind), grantee, GRANT_HEADERS[name], kind))


def _items(value: str) -> list[str]:
    """Split at commas, but not within quotes."""
    runs = value.split('"')
    runs[1::2] = [run.replace(",", "\0") for run in runs[1::2]]
    return [item.replace("\0", ",").strip() for item in '"'.join(runs).split(",")]


def _document_grant(grant: object) -> WantedGrant:
    grantee = grant.get("Grantee") if isinstance(grant, dict) else None
    if not isinstance(grant, dict) or not isinstance(grantee, dict) or grant.get("Permission") not in PERMISSIONS:
        raise S3Error("MalformedACLError")
    kind, member = _TYPES.get(grantee.get("Type"), (None, ""))
    if kind is None or not isinstance(grantee.get(member), str):
        raise S3Error("MalformedACLError")
    argument = f"{grantee['Type']}/{member}"
    return _checked(WantedGrant(kind, str(grantee[member]).strip(), cast("Permission", grant["Permission"]), argument))


def _checked(grant: WantedGrant) -> WantedGrant:
    """Return a grant whose group there is, and with the id in the case in which ids are kept."""
    if grant.kind == "uri" and grant.grantee not in GROUPS:
        raise S3Error("InvalidArgument", "Invalid group uri", ArgumentName=grant.argument, ArgumentValue=grant.grantee)
    return grant._replace(grantee=grant.grantee.lower()) if grant.kind == "id" else grant
