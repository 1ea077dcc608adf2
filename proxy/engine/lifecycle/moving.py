"""Moving versions to another storage class: what one uses is stored anew under the scheme of that class, then it gets the class.

In this order a crash leaves a version whose data lies as the new class has it, and that still bears the old one: the next pass finds it due
again, and nothing left to move. Each extent is moved as a campaign moves it to another policy. Its ETag, its id and its dates stay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from proxy.clock import Clock
from proxy.codec.geometry import Scheme
from proxy.engine.campaigns.rewriting import Rewriter
from proxy.engine.lifecycle.deeds import cause_of
from proxy.engine.placement import Policy
from proxy.errors import BucketMissing, ExtentMissing, PolicyMissing, ProxyError
from proxy.manifest.campaigns import ExtentUser
from proxy.manifest.events import Cause
from proxy.manifest.lifecycle import DueVersion, Outcome
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Bucket, Layout, UploadId
from proxy.s3.lifecycle.rules import Configuration

REFS = 50  # extents of one version that are looked at together


class Transitions:
    """Moves what is due."""

    moves = True

    def __init__(self, manifest: Manifest, policies: Mapping[str, Policy], rewriter: Rewriter, clock: Clock) -> None:
        self._manifest = manifest
        self._policies = policies
        self._rewriter = rewriter
        self._clock = clock

    def wants(self, configuration: Configuration) -> bool:
        return any(rule.transitions or rule.noncurrent_transitions for rule in configuration.enabled)

    async def on_versions(self, bucket: Bucket, due: Sequence[DueVersion], done: Counter[str]) -> str:
        cause = await cause_of(self._manifest, bucket, "LifecycleTransition") if due else None
        trouble = ""
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
        policy = self._policies.get(bucket.policy)
        if policy is None:
            raise PolicyMissing(f"the policy {bucket.policy} of bucket {bucket.name} is not configured any more")
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

    async def _place(self, bucket: Bucket, due: DueVersion, policy: Policy, scheme: Scheme) -> bool:
        """Store anew what is not stored under the scheme yet; tell whether the version is still there."""
        version = await self._manifest.find_version(bucket.id, due.key, due.version_id)
        if version is None or version.sequence != due.sequence:
            return False
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


def _is_under(layout: Layout, policy: Policy, scheme: Scheme) -> bool:
    return (layout.policy, layout.k, layout.m) == (policy.name, scheme.k, scheme.m)
