"""The decision: one pure function over who asks, what for, on which resource, and the facts.

Nothing is allowed unless a grant says so. Today there is one: a tenant may do everything with what it owns.
Bucket policies, access control lists and the policies of keys will be further grants, and denials that come before all of them.
"""

from __future__ import annotations

from typing import NamedTuple

from proxy.s3.errors import S3Error
from proxy.s3.policy.actions import Action


class Principal(NamedTuple):
    """Who asks: a tenant, by one of its access keys, or nobody in particular."""

    tenant_id: str | None = None
    access_key: str | None = None

    @property
    def anonymous(self) -> bool:
        return self.tenant_id is None


ANONYMOUS = Principal()


class Resource(NamedTuple):
    """What is asked for. Without a bucket it is the service itself, without a key the bucket."""

    bucket: str | None = None
    key: str | None = None


class Facts(NamedTuple):
    """What the decision may rest on besides. `owner_id`: the tenant whose bucket it is, or will be when it is made."""

    owner_id: str | None = None


def authorise(principal: Principal, action: Action, resource: Resource, facts: Facts) -> None:
    """Raise AccessDenied unless the principal may do this."""
    del action, resource  # an owner may do everything with everything
    if not _owns(principal, facts):
        raise S3Error("AccessDenied")


def _owns(principal: Principal, facts: Facts) -> bool:
    return not principal.anonymous and principal.tenant_id == facts.owner_id
