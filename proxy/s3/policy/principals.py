"""Principal elements: whom a statement is about.

Source: IAM User Guide, "AWS JSON policy elements: Principal" and "NotPrincipal"
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from proxy.s3.policy.principal import Principal, is_account_id, root_arn

Match = Literal["none", "account", "direct"]

_ARN = re.compile(r"arn:aws:(iam|sts)::([0-9]{12}):(root|user|role|assumed-role)(?:/([A-Za-z0-9_+=,.@/-]{1,512}))?")
_CANONICAL = re.compile(r"[0-9a-f]{64}")
_SERVICE = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+){0,4}\.amazonaws\.com")
_FEDERATED = re.compile(r"[A-Za-z0-9:/._-]{1,512}")


class Principals(NamedTuple):
    """Whom a Principal or NotPrincipal element names. `accounts` are ids, `arns` of users, roles and sessions."""

    everybody: bool = False
    accounts: frozenset[str] = frozenset()
    arns: frozenset[str] = frozenset()
    canonical_ids: frozenset[str] = frozenset()
    services: frozenset[str] = frozenset()
    federated: frozenset[str] = frozenset()

    def match(self, principal: Principal) -> Match:
        """Tell whether a principal is meant: itself, or everybody, or by its account alone."""
        if principal.federated:
            return "direct" if principal.federated in self.federated else "none"
        if self.everybody:
            return "direct"
        if principal.anonymous:
            return "none"
        if self.arns and not self.arns.isdisjoint(_names(principal)):
            return "direct"
        if principal.account_id in self.accounts or principal.canonical_id in self.canonical_ids:
            return "direct" if principal.is_root else "account"
        return "none"

    def spares(self, principal: Principal) -> bool:
        """Tell whether a NotPrincipal element leaves a principal out: as on AWS, it must name its account and each of its own names."""
        if self.everybody:
            return True
        if principal.anonymous or not (principal.account_id in self.accounts or principal.canonical_id in self.canonical_ids):
            return False
        return self.arns.issuperset(_names(principal))

    @property
    def named(self) -> frozenset[str]:
        """All that must exist: account ids, canonical ids, ARNs."""
        return self.accounts | self.canonical_ids | self.arns


class Named(NamedTuple):
    """A principal's ARN, taken apart."""

    account_id: str
    kind: str  # root, user, role or assumed-role
    name: str


def read_arn(text: str) -> Named | None:
    """Take apart the ARN of a principal; None for what is none."""
    found = _ARN.fullmatch(text)
    if found is None:
        return None
    service, account_id, kind, name = found[1], found[2], found[3], found[4] or ""
    if (kind == "root") is bool(name) or (service == "sts") is not (kind == "assumed-role"):
        return None
    return None if kind == "assumed-role" and name.count("/") != 1 else Named(account_id, kind, name)


def read_principals(element: object) -> Principals:
    """Read a Principal or NotPrincipal element. Raises ValueError for one that is none."""
    if element == "*":
        return Principals(everybody=True)
    if not isinstance(element, dict) or not element:
        raise ValueError("a principal is neither * nor a map")
    read = Principals()
    for kind, value in element.items():
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not values or not all(isinstance(one, str) for one in values):
            raise ValueError("a principal is no text")
        read = _with(read, kind, frozenset(values))
    return read


def _with(read: Principals, kind: str, values: frozenset[str]) -> Principals:
    match kind:
        case "AWS":
            return _with_aws(read, values)
        case "CanonicalUser" if all(map(_CANONICAL.fullmatch, values)):
            return read._replace(canonical_ids=values)
        case "Service" if all(map(_SERVICE.fullmatch, values)):
            return read._replace(services=values)
        case "Federated" if all(map(_FEDERATED.fullmatch, values)):
            return read._replace(federated=values)
    raise ValueError("no such principal")


def _with_aws(read: Principals, values: frozenset[str]) -> Principals:
    accounts, arns, everybody = set[str](), set[str](), False
    for value in values:
        named = read_arn(value)
        if value == "*":
            everybody = True
        elif is_account_id(value):
            accounts.add(value)
        elif named is None:
            raise ValueError("no ARN of a principal")
        elif named.kind == "root":
            accounts.add(named.account_id)
        else:
            arns.add(value)
    return read._replace(everybody=everybody, accounts=frozenset(accounts), arns=frozenset(arns))


def _names(principal: Principal) -> frozenset[str]:
    """Return a principal's own names, beside its account's: none of the root."""
    return frozenset({principal.arn, principal.role_arn} - {"", root_arn(principal.account_id)})
