"""Replication: the worker that makes other buckets have the versions that their rules want.

A version is queued by the step that makes it, in the same transaction, and is PENDING until every destination has it. Of one key the
versions are copied in their order, so the latest of the source becomes the latest of the copy. A change of tags, ACL or lock is queued like
a version, and makes the copy's the same; but it never weakens a lock.

What cannot be copied now is tried again for a day, then it is FAILED, also if other destinations have it. A version that is gone by then is
passed over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from msgspec import UNSET

from proxy.clock import Clock
from proxy.engine.engine import Engine
from proxy.engine.throttle import Throttle
from proxy.engine.workers import Progress
from proxy.errors import ProxyError, ReplicaRefused
from proxy.manifest.drafts import AttributeChange
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Bucket, BucketName, Retention, Tenant, Version
from proxy.manifest.replication import LONGEST_DELAY_MS, PendingReplica

AT_ONCE = 16
FIRST_DELAY_SECONDS = 5.0
TRIED_SECONDS = 24 * 3600.0
RUNNING_SECONDS = 3600.0  # that a process tries at least: a server that was off for a day has not tried
IDLE_SECONDS = 2.0
REST_SECONDS = 30.0  # of a destination that takes nothing: what waits for it is not in the way of others


class Replicator:
    """The worker that copies versions to other buckets."""

    name = "replication"
    everywhere = False
    idle_seconds = IDLE_SECONDS

    def __init__(self, manifest: Manifest, engine: Engine, clock: Clock, throttle: Throttle) -> None:
        self._manifest = manifest
        self._engine = engine
        self._clock = clock
        self._throttle = throttle
        self._started = clock.monotonic()
        self._resting: dict[BucketName, float] = {}  # destinations that take nothing, and until when they are left alone

    async def is_wanted(self) -> bool:
        return bool(await self._due(1))

    async def step(self) -> Progress:
        due = await self._due(AT_ONCE)
        if not due:
            return Progress(idle=True, remaining=(await self._manifest.count_replicas())[0])
        outcomes = await asyncio.gather(*(self._copy(replica) for replica in due))
        waiting, _ = await self._manifest.count_replicas()
        moved = [outcome for outcome in outcomes if isinstance(outcome, int)]
        return Progress(idle=not moved, done=len(moved), remaining=waiting, size_bytes=sum(moved), trouble=_trouble(outcomes))

    async def _due(self, limit: int) -> Sequence[PendingReplica]:
        now = self._clock.monotonic()
        self._resting = {destination: until for destination, until in self._resting.items() if until > now}
        return await self._manifest.due_replicas(now_ms=self._clock.now_ms(), limit=limit, but_for=self._resting)

    async def _copy(self, replica: PendingReplica) -> int | str:
        """Make one destination the same; return how many bytes it took, or why it could not be done."""
        try:
            moved = await self._make_same(replica)
        except ProxyError as error:
            return await self._put_off(replica, error)
        await self._manifest.finish_replica(replica, "COMPLETED")
        return moved

    async def _make_same(self, replica: PendingReplica) -> int:
        if replica.bucket is None:
            return 0
        source = await self._manifest.find_version(replica.bucket.id, replica.key, replica.version_id)
        if source is None:
            return 0
        bucket, owner = await self._destination(replica, replica.bucket)
        present = await self._manifest.find_version(bucket.id, replica.key, replica.version_id)
        if present is not None:
            await self._change(bucket, present, source)
            return 0
        if source.is_delete_marker:
            await self._mark(bucket, source)
            return 0
        await self._throttle.take(source.size)
        await self._engine.replicate(source, replica.bucket, bucket, owner, replica.storage_class)
        return source.size

    async def _destination(self, replica: PendingReplica, source: Bucket) -> tuple[Bucket, Tenant]:
        bucket = await self._manifest.find_bucket(replica.destination)
        owner = None if bucket is None else await self._manifest.find_tenant(bucket.tenant_id)
        if bucket is None or owner is None or bucket.tenant_id != source.tenant_id:
            raise self._rested(replica.destination, "is gone, or not of the same owner")
        if bucket.versioning != "Enabled":
            raise self._rested(replica.destination, "keeps no versions: enable versioning")
        return bucket, owner

    def _rested(self, destination: BucketName, why: str) -> ReplicaRefused:
        self._resting[destination] = self._clock.monotonic() + REST_SECONDS
        return ReplicaRefused(f"bucket {destination} {why}")

    async def _change(self, bucket: Bucket, present: Version, source: Version) -> None:
        """Make what a copy says of itself the same as its source does. A version that a client put there under this id is left alone.

        Its lock becomes as strong as the source's, and no weaker than it is: who may unlock here need not have that right there.
        """
        told, wanted = present.attributes, source.attributes
        if present.is_delete_marker or told.replication != "REPLICA":
            return
        now_ms = self._clock.now_ms()
        retention = stronger(told.retention, wanted.retention, now_ms)
        hold = "ON" if told.legal_hold == "ON" else wanted.legal_hold or told.legal_hold
        change = AttributeChange(
            tags=wanted.tags,
            acl=wanted.acl,
            retention=retention,
            legal_hold=UNSET if hold is None else hold,
            replication="REPLICA",
            bypass_governance=True,  # only to make it COMPLIANCE, which changes its mode
        )
        if (told.tags, told.acl, told.retention, told.legal_hold) != (wanted.tags, wanted.acl, retention, hold):
            await self._manifest.change_attributes(bucket.id, present.key, present.id, change, now_ms=now_ms)

    async def _mark(self, bucket: Bucket, marker: Version) -> None:
        await self._manifest.delete_latest(bucket.id, marker.key, marker_id=marker.id, now_ms=marker.modified_ms, replicates=False)

    async def _put_off(self, replica: PendingReplica, error: ProxyError) -> str:
        now = self._clock.now_ms()
        age_seconds = (now - replica.since_ms) / 1000
        if age_seconds > TRIED_SECONDS and self._clock.monotonic() - self._started > RUNNING_SECONDS:
            await self._manifest.finish_replica(replica, "FAILED")
        else:
            delay_ms = min(int(max(age_seconds, FIRST_DELAY_SECONDS) * 1000), LONGEST_DELAY_MS)  # so it doubles
            await self._manifest.put_off_replica(replica.sequence, due_ms=now + delay_ms)
        return f"{replica.key} to {replica.destination}: {error}"


def stronger(told: Retention | None, wanted: Retention | None, now_ms: int) -> Retention | None:
    """Return the retention that is wanted, unless the one that is there would be weakened by it."""
    if told is None or (wanted is not None and told.until_ms <= now_ms):
        return wanted
    if wanted is None or wanted.until_ms < told.until_ms or (told.mode == "COMPLIANCE" and wanted.mode != "COMPLIANCE"):
        return told
    return wanted


def _trouble(outcomes: Sequence[int | str]) -> str:
    failed = [outcome for outcome in outcomes if isinstance(outcome, str)]
    more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    return failed[0] + more if failed else ""
