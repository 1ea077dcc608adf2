"""Principals: who asks, and what AWS would call them.

A tenant is an account. What signs with a key that has neither a name nor a policy is the account's root; a key with one of them is a user.

Source: docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

PrincipalType = Literal["Account", "User", "AssumedRole", "Anonymous"]

_ACCOUNT_ID = re.compile(r"[0-9]{12}")


class Principal(NamedTuple):
    """Who asks: a tenant, by one of its access keys or a session, or nobody in particular."""

    tenant_id: str | None = None
    access_key: str | None = None
    account_id: str = ""
    canonical_id: str = ""
    user: str = ""  # none: the root of the account
    role: str = ""  # of a session
    session: str = ""  # its name
    federated: str = ""  # the ARN of the provider that vouches for who is no principal of ours yet

    @property
    def anonymous(self) -> bool:
        return self.tenant_id is None

    @property
    def is_root(self) -> bool:
        return self.tenant_id is not None and not self.user and not self.role

    @property
    def type(self) -> PrincipalType:
        """What aws:PrincipalType says."""
        if self.tenant_id is None:
            return "Anonymous"
        return "AssumedRole" if self.role else "User" if self.user else "Account"

    @property
    def arn(self) -> str:
        """Return the name that GetCallerIdentity tells, and that policies may give; "" of nobody."""
        if self.tenant_id is None:
            return ""
        if self.role:
            return f"arn:aws:sts::{self.account_id}:assumed-role/{self.role}/{self.session}"
        return user_arn(self.account_id, self.user) if self.user else root_arn(self.account_id)

    @property
    def role_arn(self) -> str:
        """Return the role's own name, which a policy gives to mean all its sessions; "" of what is no session of a role."""
        return role_arn(self.account_id, self.role) if self.role else ""


ANONYMOUS = Principal()


def root_arn(account_id: str) -> str:
    return f"arn:aws:iam::{account_id}:root"


def user_arn(account_id: str, name: str) -> str:
    return f"arn:aws:iam::{account_id}:user/{name}"


def role_arn(account_id: str, name: str) -> str:
    return f"arn:aws:iam::{account_id}:role/{name}"


def is_account_id(text: str) -> bool:
    """Tell whether this may be an account's id: 12 digits."""
    return _ACCOUNT_ID.fullmatch(text) is not None
