"""A bucket's objects that lie in packs, brought under another policy: page by page, the bucket's slots and no others.

A pack may hold objects of several buckets of one tenant. If all are of the bucket that moves, and the scheme stays, the pack itself gets
the other policy, as any extent does. Otherwise the bucket's slots are stored anew, those of several packs together: the first of them that
the walk meets takes along what else its pack holds of the bucket, so that a pack is read once. What stays in the old pack is left to
repacking.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from proxy.codec.geometry import Scheme
from proxy.engine.campaigns.carrying import Done
from proxy.engine.placing.classify import keeps_promises
from proxy.engine.placing.placement import Policy
from proxy.engine.repack.bundles import PackSlots, Wants, bundles_of, with_users
from proxy.engine.repack.gathering import gather_slots
from proxy.engine.repack.rewriting import SlotRewriter
from proxy.errors import ProxyError
from proxy.manifest.campaigns import Used
from proxy.manifest.packs import SlotUser
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Bucket, BucketId, Extent, ExtentId, Layout

ENOUGH = 1024  # slots in memory: some packs full
Carry = Callable[[Extent], Awaitable[bool]]  # brings shards to where the policy wants them; tells whether there was time for all of it


def is_packed(used: Used) -> bool:
    """Tell whether a version lies in a slot."""
    return any(ref.offset is not None for ref in used.extents)


def packs_of(users: Sequence[Used]) -> list[ExtentId]:
    """Return the packs that versions lie in, each once."""
    return list(dict.fromkeys(used.extents[0].id for used in users if is_packed(used)))


class Decision(NamedTuple):
    """What is to be done with a bucket's slots of one pack."""

    pack: PackSlots
    adopt: bool  # the pack gets the policy as it is
    anew: PackSlots  # slots that are stored anew; of a pack that needs nothing else there are none


def decide(pack: PackSlots, policy: Policy) -> Decision:
    """Decide from all slots of a bucket in a pack."""
    layout = pack.extent.layout
    fits = any(_fits(layout, policy, user) for slot in pack.slots for user in slot.users)
    adopt = layout.policy != policy.name and fits and not pack.shared
    if layout.policy != policy.name and not adopt:
        return Decision(pack, adopt=False, anew=pack)
    return Decision(pack, adopt, with_users(pack, lambda user: not _fits(layout, policy, user)))


def wants_of(policy: Policy) -> Wants:
    """Return where a policy has each use."""
    return lambda user: (policy.name, policy.scheme_of(user.storage_class))


async def decisions(manifest: Manifest, extents: Sequence[Extent], bucket_id: BucketId, policy: Policy) -> AsyncIterator[list[Decision]]:
    """Yield what is to be done with packs, as many at a time as should be in memory."""
    made: list[Decision] = []
    for extent in extents:
        pack = await gather_slots(manifest, extent, lambda user: user.user.bucket_id == bucket_id)
        made.append(decide(pack, policy))
        if sum(len(decision.pack.slots) for decision in made) >= ENOUGH:
            yield made
            made = []
    if made:
        yield made


class PackedMover:
    """Carries a campaign of a policy out for what lies in packs."""

    def __init__(self, manifest: Manifest, rewriter: SlotRewriter) -> None:
        self._manifest = manifest
        self._rewriter = rewriter

    async def move(
        self, policy: Policy, bucket: Bucket, users: Sequence[Used], done: Done, *, carry: Carry, is_over: Callable[[], bool]
    ) -> bool:
        """Bring what versions have in packs under a policy; tell whether there was time for all of it."""
        extents = await self._not_kept(policy, users)
        async for made in decisions(self._manifest, extents, bucket.id, policy):
            for decision in made:
                if is_over():
                    return False
                if not await self._keep(policy, decision, done, carry):
                    return False
            if not await self._store_anew(policy, [one.anew for one in made if one.anew.slots and not one.adopt], done, is_over):
                return False
        return True

    async def _not_kept(self, policy: Policy, users: Sequence[Used]) -> list[Extent]:
        """Return the packs of versions that are not under the policy yet."""
        classes: dict[ExtentId, set[Scheme]] = {}
        for used in users:
            if is_packed(used):
                classes.setdefault(used.extents[0].id, set()).add(policy.scheme_of(used.storage_class))
        counted = await self._manifest.load_counted(list(classes))
        return [
            one.extent for one in counted if not all(keeps_promises(policy, scheme, one.extent.layout) for scheme in classes[one.extent.id])
        ]

    async def _keep(self, policy: Policy, decision: Decision, done: Done, carry: Carry) -> bool:
        """Give a pack its policy, if it is to have it as it is, and its shards their places."""
        extent = decision.pack.extent
        if decision.adopt:
            done.left += 1
            user = decision.pack.slots[0].users[0].user
            if not await self._manifest.adopt_extent(user, extent.id, policy.name):
                return True  # somebody else uses it by now: the next round sees that
            done.moved += 1
            extent = replace(extent, layout=replace(extent.layout, policy=policy.name))
        return await carry(extent) if extent.layout.policy == policy.name else True

    async def _store_anew(self, policy: Policy, packs: Sequence[PackSlots], done: Done, is_over: Callable[[], bool]) -> bool:
        done.left += len(packs)
        for bundle in bundles_of(packs, wants_of(policy)):
            if is_over() and done.moved:
                return False
            try:
                rewritten = await self._rewriter.rewrite(bundle, policy)
            except ProxyError as error:
                done.note(error)
                continue
            if rewritten.trouble:
                done.note(rewritten.trouble)
            if rewritten.layouts:
                done.moved += len(bundle.packs)
                made = [(layout.size, layout.segments[0].stores) for layout in rewritten.layouts]
                done.tally.repack(bundle.packs, bundle.target.scheme, made)
        return True


def _fits(layout: Layout, policy: Policy, user: SlotUser) -> bool:
    return policy.scheme_of(user.storage_class) == Scheme(layout.k, layout.m)
