"""Grants: what a bucket's settings, and the credentials that sign, say to each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from proxy.s3.policy.decision import Grants
from proxy.s3.policy.evaluate import Judge
from proxy.s3.policy.judges import Judges
from proxy.s3.policy.lists import bucket_lists
from proxy.s3.policy.ownership import OWNERSHIP
from proxy.s3.policy.public_access import PUBLIC_ACCESS_BLOCK, public_access_block

POLICY = "policy"  # its name among a bucket's settings
GOVERNING = frozenset({POLICY, OWNERSHIP})  # without them a bucket is its owner's alone


class Restrictions(NamedTuple):
    """What the credentials that sign may do, at most: texts of policies.

    Each of `limits` has the name of its kind; `role` is None for what is no session of a role.
    """

    limits: tuple[tuple[str, str], ...] = ()
    role: tuple[str, ...] | None = None


UNRESTRICTED = Restrictions()


class Holder(NamedTuple):
    """A bucket, as far as access to it goes, and whose it is."""

    bucket: str
    settings: Mapping[str, str]
    owner_id: str
    canonical_id: str


def bucket_grants(judges: Judges, holder: Holder, restrictions: Restrictions, *, creates: bool = False, initiated: bool = False) -> Grants:
    """Return what counts for requests about a bucket. `creates`: the request makes an object. `initiated`: see `Grants`."""
    text = holder.settings.get(POLICY)
    policy = None if text is None else judges.of_bucket(text, holder.bucket)
    own = own_grants(judges, holder.owner_id, restrictions)
    return own._replace(
        bucket_policy=policy,
        lists=bucket_lists(holder.settings, holder.canonical_id, creates=creates),
        restricted=policy is not None and _is_restricted(policy, holder.settings),
        initiated=initiated,
    )


def own_grants(judges: Judges, owner_id: str | None, restrictions: Restrictions) -> Grants:
    """Return what counts for what an account owns, and has no bucket yet."""
    limits = tuple((kind, judges.of_identity(text)) for kind, text in restrictions.limits)
    role = None if restrictions.role is None else tuple(judges.of_identity(text) for text in restrictions.role)
    return Grants(owner_id, limits=limits, role=role)


def _is_restricted(policy: Judge, settings: Mapping[str, str]) -> bool:
    return policy.public and public_access_block(settings.get(PUBLIC_ACCESS_BLOCK)).restrict_public_buckets
