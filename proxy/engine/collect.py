"""Collection: deleting the shards nobody refers to any more.

Three things make garbage, all of them through the manifest: a version that was replaced or deleted, a write that failed, and the leased ids
of a worker that died. A row is deleted only when every store has confirmed; a store that is down keeps it queued. The delay between
queueing and deleting lets readers that began before finish.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterable

from proxy.clock import Clock
from proxy.codec.format import segment_prefix
from proxy.engine.fleet import Fleet
from proxy.engine.intents import IntentLedger
from proxy.errors import StoreError
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Garbage, GarbageSegment
from proxy.stores.protocol import ShardName, Store

logger = logging.getLogger(__name__)

BATCH = 100  # rows claimed at a time
CLAIM_MS = 10 * 60 * 1000  # after which another worker may take over: deleting twice is harmless
CONCURRENT_SEGMENTS = 16  # at 50 ms a delete, some 300 objects a second


class Collector:
    """Deletes queued garbage."""

    def __init__(self, manifest: Manifest, fleet: Fleet, ledger: IntentLedger, clock: Clock, *, delay_seconds: float) -> None:
        self._manifest = manifest
        self._ledger = ledger
        self._fleet = fleet
        self._clock = clock
        self._delay_ms = int(delay_seconds * 1000)

    async def run_once(self) -> int:
        """Revoke dead workers' leases, delete all garbage that is due, and return how many segments went."""
        # Whatever has kept this worker from renewing in time may have kept the others too: they get until the next run.
        if await self._ledger.renew():
            await self._manifest.revoke_expired_intents(now_ms=self._clock.now_ms())
        collected = 0
        while rows := await self._claim():
            gate = asyncio.Semaphore(CONCURRENT_SEGMENTS)
            deleted = await asyncio.gather(*(self._delete_row(row, gate) for row in rows))
            done = [row for row, gone in zip(rows, deleted, strict=True) if gone]
            await self._manifest.finish_garbage([row.id for row in done])
            collected += sum(len(row.segments) for row in done)
        return collected

    async def _claim(self) -> tuple[Garbage, ...]:
        now = self._clock.now_ms()
        return await self._manifest.claim_garbage(queued_before_ms=now - self._delay_ms, now_ms=now, lease_ms=CLAIM_MS, limit=BATCH)

    async def _delete_row(self, row: Garbage, gate: asyncio.Semaphore) -> bool:
        async def delete(segment: GarbageSegment) -> None:
            async with gate:
                await (self._delete_placed(segment) if segment.stores else self._delete_anywhere(segment))

        outcomes = await asyncio.gather(*(delete(segment) for segment in row.segments), return_exceptions=True)
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        unexpected = next((failure for failure in failures if not isinstance(failure, StoreError)), None)
        if unexpected is not None:  # it must not keep the other rows
            logger.error("garbage %d stays queued", row.id, exc_info=unexpected)
        elif failures:
            logger.warning("%d segments of garbage stay queued: %s", len(failures), failures[0])
        return not failures

    async def _delete_placed(self, segment: GarbageSegment) -> None:
        # A store taken out of the configuration is nobody's to clean from here.
        placed = [(index, self._fleet[store]) for index, store in enumerate(segment.stores) if store in self._fleet]
        await _all(store.delete(ShardName(segment.shard_name(index))) for index, store in placed)

    async def _delete_anywhere(self, segment: GarbageSegment) -> None:
        await _all(_delete_listed(store, segment_prefix(segment.id)) for store in self._fleet.stores.values())


async def _delete_listed(store: Store, prefix: str) -> None:
    async for name, _ in store.list(prefix):
        await store.delete(name)


async def _all(deletions: Iterable[Awaitable[None]]) -> None:
    """Finish all of them, then raise the first failure: one dead store must not keep the others full."""
    for outcome in await asyncio.gather(*deletions, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
