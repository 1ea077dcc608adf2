"""Intents: segment ids on record before a shard is written under them.

An id must be in the manifest before the first shard bears it, or a crash would leave shards nobody knows of. One durable step a write would
double a small PUT's cost, so ids are leased sixty at a time; the commit that makes them visible ticks them off in the same step. A worker
that dies leaves the rest: the lease expires, is revoked (a late commit under it then fails), and the ids are searched for and deleted.

A worker may find its own lease revoked, when it was stopped, its clock was set forward, or the manifest was locked for longer than a lease.
No id of that lease may be used again: it may have been collected already, and nobody would look for shards that come later. So a write
under way fails, to be tried again by its client, and its ids are abandoned, like those of any other failed write; free ids are dropped.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress

from proxy.clock import Clock
from proxy.codec.format import SEGMENT_ID_SIZE
from proxy.engine.tasks import BackgroundTasks
from proxy.engine.workers import Progress
from proxy.errors import IntentRevoked, ManifestUnavailable, ProxyError
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import GarbageSegment, IntentId, SegmentId, Settlement

LEASE_SIZE = 60  # bits of one signed 64-bit column, with room to spare
LOW_WATER = 20  # ids left when the next are leased, so that no write waits for that


class IntentLedger:
    """This worker's leases."""

    def __init__(self, manifest: Manifest, clock: Clock, tasks: BackgroundTasks, *, owner: str, lease_seconds: float) -> None:
        self.owner = owner
        self._tasks = tasks
        self._manifest = manifest
        self._clock = clock
        self._lease_ms = int(lease_seconds * 1000)
        self._free: deque[tuple[SegmentId, IntentId, int]] = deque()
        self._taken: dict[SegmentId, tuple[IntentId, int]] = {}
        self._leasing = asyncio.Lock()
        self._failures = 0
        self._failure = ""
        self._good_until_ms = 0
        self._unsettled: list[GarbageSegment] = []

    async def take(self) -> SegmentId:
        """Return a fresh segment id that is already on record."""
        while not self._has_free():
            await self._lease_now()
        segment_id, intent_id, bit = self._free.popleft()
        self._taken[segment_id] = (intent_id, bit)
        if len(self._free) < LOW_WATER and not self._leasing.locked():
            self._tasks.start(self._lease_ahead())
        return segment_id

    def settlements(self, segment_ids: Iterable[SegmentId]) -> tuple[Settlement, ...]:
        """Return what a commit of these ids must settle."""
        masks: dict[IntentId, int] = {}
        for segment_id in segment_ids:
            if segment_id not in self._taken:
                raise IntentRevoked(f"segment {segment_id.hex()} is not leased any more")
            intent_id, bit = self._taken[segment_id]
            masks[intent_id] = masks.get(intent_id, 0) | 1 << bit
        return tuple(Settlement(intent_id=intent_id, mask=mask) for intent_id, mask in masks.items())

    def forget(self, segment_ids: Iterable[SegmentId]) -> None:
        """Drop ids that a commit has settled."""
        for segment_id in segment_ids:
            self._taken.pop(segment_id, None)

    async def abandon(self, segments: Sequence[GarbageSegment]) -> None:
        """Settle ids of an attempt that failed and queue whatever was stored under them. If that fails, `renew` tries again."""
        known = [segment for segment in segments if segment.id in self._taken]
        if not known:
            return
        try:
            await self._manifest.settle(self.settlements(segment.id for segment in known), known, now_ms=self._clock.now_ms())
        except BaseException:
            self._unsettled += known  # while this worker lives it renews their leases, and nobody else would collect them
            raise
        self.forget(segment.id for segment in known)

    async def renew(self) -> bool:
        """Keep the leases alive; to be called well within their length. Return whether it was."""
        async with self._leasing:  # a lease made meanwhile would be missing among those that were renewed
            now = self._clock.now_ms()
            alive = await self._manifest.renew_intents(owner=self.owner, expires_ms=now + self._lease_ms)
            self._free = deque(leased for leased in self._free if leased[1] in alive)
            in_time = now <= self._good_until_ms
            self._good_until_ms = now + self._lease_ms - self._lease_ms // 3
        unsettled, self._unsettled = self._unsettled, []
        await self.abandon(unsettled)
        return in_time

    async def give_back(self) -> None:
        """Give back the ids that were never used, so that nobody searches the stores for them. No write may come after this."""
        async with self._leasing:
            self._taken = {segment_id: (intent_id, bit) for segment_id, intent_id, bit in self._free}
            self._free.clear()
        if self._taken:
            await self._manifest.release_unused(self.settlements(self._taken))

    def _has_free(self) -> bool:
        return bool(self._free) and self._clock.now_ms() <= self._good_until_ms

    async def _lease_now(self) -> None:
        failures = self._failures
        async with self._leasing:
            if self._has_free():
                return
            if self._failures != failures:  # or each would wait in its turn until a manifest that is locked says so
                raise ManifestUnavailable(self._failure)
            await self._lease()

    async def _lease_ahead(self) -> None:
        async with self._leasing:
            if len(self._free) < LOW_WATER:
                with suppress(ProxyError):  # whoever finds no id left tries again, and says why
                    await self._lease()

    async def _lease(self) -> None:
        drawn = secrets.token_bytes(SEGMENT_ID_SIZE * LEASE_SIZE)  # each draw lets go of the interpreter, which others take then
        ids = [SegmentId(drawn[at : at + SEGMENT_ID_SIZE]) for at in range(0, len(drawn), SEGMENT_ID_SIZE)]
        until = self._clock.now_ms() + self._lease_ms
        try:
            intent = await self._manifest.lease_segments(owner=self.owner, segment_ids=ids, expires_ms=until)
        except ProxyError as error:
            self._failures, self._failure = self._failures + 1, str(error)
            raise
        if self._clock.now_ms() > self._good_until_ms:
            self._free.clear()  # older leases may be expiring: let them be collected
        self._good_until_ms = until - self._lease_ms // 3
        self._free.extend((segment_id, intent.id, bit) for bit, segment_id in enumerate(intent.segment_ids))


class LeaseRenewal:
    """The worker that keeps a process's leases alive."""

    name = "renew-leases"
    everywhere = True

    def __init__(self, ledger: IntentLedger, *, lease_seconds: float) -> None:
        self._ledger = ledger
        self.idle_seconds = lease_seconds / 3

    async def step(self) -> Progress:
        await self._ledger.renew()
        return Progress(idle=True, done=1)
