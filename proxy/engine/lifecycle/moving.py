"""Moving versions to another storage class: what one uses is stored anew under the scheme of that class, then it gets the class.

In this order a crash leaves a version whose data lies as the new class has it, and that still bears the old one: the next pass finds it due
again, and nothing left to move. Each extent is moved as a campaign moves it to another policy. Its ETag, its id and its dates stay.
What lies in packs is moved slot by slot: those of one page that go to the same scheme become packs together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from proxy.clock import Clock
from proxy.codec.geometry import Scheme
from proxy.engine.campaigns.rewriting import Rewriter
from proxy.engine.lifecycle.deeds import cause_of
from proxy.engine.placing.placement import Policy
from proxy.engine.repack.bundles import LiveSlot, PackSlots, bundles_of
from proxy.engine.repack.rewriting import SlotRewriter
from proxy.errors import BucketMissing, ExtentMissing, PolicyMissing, ProxyError
from proxy.manifest.campaigns import ExtentUser
from proxy.manifest.events import Cause
from proxy.manifest.lifecycle import DueVersion, Outcome
from proxy.manifest.packs import SlotUser
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Bucket, Extent, ExtentId, Layout, UploadId, Version
from proxy.s3.lifecycle.rules import Configuration

REFS = 50  # extents of one version that are looked at together


class Transitions:
    """Moves what is due."""

    moves = True

    def __init__(
        self, manifest: Manifest, policies: Mapping[str, Policy], rewriter: Rewriter, slot_rewriter: SlotRewriter, clock: Clock
    ) -> None:
        self._manifest = manifest
        self._policies = policies
        self._rewriter = rewriter
        self._slot_rewriter = slot_rewriter
        self._clock = clock

    def wants(self, configuration: Configuration) -> bool:
        return any(rule.transitions or rule.noncurrent_transitions for rule in configuration.enabled)

    async def on_versions(self, bucket: Bucket, due: Sequence[DueVersion], done: Counter[str]) -> str:
        cause = await cause_of(self._manifest, bucket, "LifecycleTransition") if due else None
        trouble = await self._place_slots(bucket, due) if due else ""
        for one in due:
            try:
                done["moved"] += await self._move(bucket, one, cause) == "moved"
            except BucketMissing:
                raise
            except ProxyError as error:  # the others can be moved all the same; the next pass tries this one again
                trouble = trouble or str(error)
        return trouble

    async def on_uploads(self, bucket: Bucket, due: Sequence[UploadId], done: Counter[str]) -> None:
        """Uploads have no class to move to: their parts lie as their object will."""

    async def _move(self, bucket: Bucket, due: DueVersion, cause: Cause | None) -> Outcome:
        """Move a version, unless it has changed meanwhile."""
        policy = self._policy(bucket)
        if due.storage_class not in policy.storage_classes:
            raise PolicyMissing(
                f"a rule of bucket {bucket.name} names {due.storage_class}, which policy {policy.name} does not have any more"
            )
        scheme = policy.scheme_of(due.storage_class)
        if not await self._place(bucket, due, policy, scheme):
            return "left"
        return await self._manifest.change_class(
            bucket.id, due, policy=policy.name, k=scheme.k, m=scheme.m, now_ms=self._clock.now_ms(), cause=cause
        )

    def _policy(self, bucket: Bucket) -> Policy:
        policy = self._policies.get(bucket.policy)
        if policy is None:
            raise PolicyMissing(f"the policy {bucket.policy} of bucket {bucket.name} is not configured any more")
        return policy

    # What lies in slots

    async def _place_slots(self, bucket: Bucket, due: Sequence[DueVersion]) -> str:
        """Store anew what lies in packs of another scheme than it is to have; return the first trouble."""
        policy = self._policies.get(bucket.policy)
        if policy is None:
            return ""  # each of them tells
        moving = _Moving(policy)
        for one in due:
            if one.storage_class in policy.storage_classes:
                version = await self._find(bucket, one)
                if version is not None and version.extents and version.extents[0].offset is not None:
                    moving.add(bucket, version, one)
        trouble = ""
        packs = await self._manifest.load_counted(list(moving.users))
        for bundle in bundles_of((moving.slots_of(counted.extent) for counted in packs), moving.wants):
            try:
                trouble = trouble or (await self._slot_rewriter.rewrite(bundle, policy)).trouble
            except ProxyError as error:
                trouble = trouble or str(error)
        return trouble

    async def _find(self, bucket: Bucket, due: DueVersion) -> Version | None:
        """Return the very version that is due; None if it has gone."""
        version = await self._manifest.find_version(bucket.id, due.key, due.version_id)
        return version if version is not None and version.sequence == due.sequence else None

    # What has extents of its own

    async def _place(self, bucket: Bucket, due: DueVersion, policy: Policy, scheme: Scheme) -> bool:
        """Store anew what is not stored under the scheme yet; tell whether the version is still there."""
        version = await self._find(bucket, due)
        if version is None:
            return False
        if any(ref.offset is not None for ref in version.extents):
            return True  # it was stored anew with others, or is tried again with the next pass: the change of class looks
        user = ExtentUser(bucket_id=bucket.id, key=due.key, version_id=due.version_id, sequence=due.sequence)
        for start in range(0, len(version.extents), REFS):
            counted = await self._manifest.load_counted([ref.id for ref in version.extents[start : start + REFS]])
            for one in counted:
                if _is_under(one.extent.layout, policy, scheme):
                    continue
                now_ms = self._clock.now_ms()
                if await self._manifest.share_successor(user, one.extent.id, policy.name, scheme.k, scheme.m, now_ms=now_ms):
                    continue
                try:
                    await self._rewriter.rewrite(bucket, user, one.extent, policy, scheme)
                except ExtentMissing:  # deleted or replaced meanwhile
                    return False
        return True


class _Moving:
    """Versions of one page that lie in packs, by pack, and the class that each is to have."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.users: dict[ExtentId, list[SlotUser]] = {}
        self._schemes: dict[ExtentUser, Scheme] = {}

    def add(self, bucket: Bucket, version: Version, due: DueVersion) -> None:
        user = ExtentUser(bucket_id=bucket.id, key=due.key, version_id=due.version_id, sequence=due.sequence)
        (ref,) = version.extents
        self._schemes[user] = self._policy.scheme_of(due.storage_class)
        self.users.setdefault(ref.id, []).append(
            SlotUser(user=user, ref=ref, policy=bucket.policy, storage_class=version.attributes.storage_class)
        )

    def slots_of(self, extent: Extent) -> PackSlots:
        """Return the slots of a pack that are stored anew: none if it has the scheme already."""
        slots: dict[int, LiveSlot] = {}
        for user in self.users[extent.id]:
            if not _is_under(extent.layout, self._policy, self._schemes[user.user]):
                known = slots.get(user.offset, LiveSlot(user.offset, user.ref.size, ()))
                slots[user.offset] = replace(known, users=(*known.users, user))
        return PackSlots(extent, tuple(slots.values()))

    def wants(self, user: SlotUser) -> tuple[str, Scheme]:
        return self._policy.name, self._schemes[user.user]


def _is_under(layout: Layout, policy: Policy, scheme: Scheme) -> bool:
    return (layout.policy, layout.k, layout.m) == (policy.name, scheme.k, scheme.m)
