"""Collection: deleting the shards nobody refers to any more.

Four things make garbage, all of them through the manifest: a version that was replaced or deleted, a write that failed, the leased ids of
a worker that died, and a shard that was moved or rebuilt. Each shard is queued for its store, and forgotten when that store has confirmed.
So a store that is down keeps its own deletes queued and no others, and one that was taken out of the configuration keeps them until it is
back. Where a shard lies is not always known: then every store is searched for it, and each search is finished on its own. The delay
between queueing and deleting lets readers that began before finish.

The delay ends with the journal: what became garbage since that was stored last is not deleted, however long ago that was. If the manifest
were lost then, the journal would tell of data that was moved as lying where it lay before, and there would be nothing any more.

What a store does not delete goes to the end of its queue: one object that a provider does not let go must not hold up the others. Nor
does a store that takes its time, or lists names without end, keep the other stores' garbage: they go on, and a step ends, whatever one
store does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from proxy.clock import Clock
from proxy.codec.format import is_shard_name
from proxy.engine.memory.background import BackgroundMemory
from proxy.engine.placing.fleet import Fleet
from proxy.engine.throttle import Throttle
from proxy.engine.workers import Progress
from proxy.engine.writing.intents import IntentLedger
from proxy.errors import StoreError, StoreUnavailable
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Garbage
from proxy.stores.protocol import ShardName, Store

logger = logging.getLogger(__name__)

BATCH = 200  # rows of one store in memory, and in one step of the manifest
AT_ONCE = 16  # deletes of one store under way: at 50 ms each, some 300 a second
STEP_SECONDS = 15.0  # as long as others have work while a store that hangs is waited for
ROW_SECONDS = 60.0  # for one shard, or one search and what it finds: more than the usual timeout of a call
NAMES = 1000  # of one segment: 32 shards, each of which may have been put anew some times. A store that lists more makes them up
NAME_SIZE = 160  # bytes of one name in memory
RETRY_MS = 10 * 60 * 1000  # until what a store did not delete is tried again


class Collector:
    """The worker that deletes queued garbage."""

    name = "collect"
    everywhere = False

    def __init__(
        self,
        manifest: Manifest,
        fleet: Fleet,
        ledger: IntentLedger,
        clock: Clock,
        throttle: Throttle,
        memory: BackgroundMemory,
        *,
        delay_seconds: float,
        idle_seconds: float,
        journaled: bool,
    ) -> None:
        self._manifest = manifest
        self._ledger = ledger
        self._fleet = fleet
        self._clock = clock
        self._throttle = throttle
        self._memory = memory
        self._delay_ms = int(delay_seconds * 1000)
        self._journaled = journaled
        self._splitting = asyncio.Lock()
        self.idle_seconds = idle_seconds

    async def step(self) -> Progress:
        """Revoke the leases of workers and moves that died, and delete what is due, each store at its own pace for a bounded time."""
        # Whatever has kept this worker from renewing in time may have kept the others too: they get until the next run.
        if await self._ledger.renew():
            await self._manifest.revoke_expired_intents(now_ms=self._clock.now_ms())
        await self._manifest.revoke_expired_draws(now_ms=self._clock.now_ms())
        more = await self._manifest.bury_extents(now_ms=self._clock.now_ms()) > 0
        more |= await self._manifest.spread_garbage(self._fleet.stores, limit=BATCH) == BATCH
        until, before = self._clock.monotonic() + STEP_SECONDS, await self._before_ms()
        sweeps = [_Sweep(store) for store in self._fleet.stores.values()]
        await self._sweep_all(sweeps, until, before)
        left = await self._manifest.count_garbage()
        return Progress(
            idle=not more and not any(sweep.more for sweep in sweeps),
            done=sum(sweep.done for sweep in sweeps),
            remaining=sum(left.values()),
            requests=sum(sweep.requests for sweep in sweeps),
            trouble="; ".join([*(sweep.trouble for sweep in sweeps if sweep.trouble), *self._homeless(left)]),
        )

    async def _before_ms(self) -> int:
        """Return until when what became garbage may be deleted."""
        now = self._clock.now_ms()
        if self._journaled:
            position = await self._manifest.journal_position()
            now = min(now, position.stored_ms) if position.rows else now
        return now - self._delay_ms

    async def _sweep_all(self, sweeps: Sequence[_Sweep], until: float, before: int) -> None:
        """Sweep all stores at once. When one sweep fails, as when the manifest does not answer, the others end before that is raised."""
        try:
            async with asyncio.TaskGroup() as group:
                for sweep in sweeps:
                    group.create_task(self._sweep(sweep, until, before))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def _sweep(self, sweep: _Sweep, until: float, before: int) -> None:
        """Delete what is due in one store until there is no more, it deletes nothing, or the time is up."""
        name = str(sweep.store.info.name)
        while sweep.more and self._fleet[name].ready_for("delete"):
            if self._clock.monotonic() > until:
                return
            rows = await self._due(sweep, name, before)
            gone, kept = await self._delete_all(sweep, rows, until)
            if rows:
                await self._manifest.finish_garbage(gone, put_off=kept, due_ms=before + RETRY_MS)
            sweep.done += len(gone)
            if not gone:
                sweep.more = sweep.has_split
                return
        if sweep.more:
            sweep.more, sweep.trouble = False, f"store {name} fails, and is not asked for now"

    async def _due(self, sweep: _Sweep, name: str, before: int) -> Sequence[Garbage]:
        """Return what is due in one store. If that is nothing, shards of further segments are queued, and it is looked for once more.

        So they are queued as fast as the fastest store deletes. One at a time does that: clients' commits wait for it.
        """
        sweep.has_split = False
        if rows := await self._manifest.due_garbage(name, before_ms=before, limit=BATCH):
            return rows
        async with self._splitting:
            if rows := await self._manifest.due_garbage(name, before_ms=before, limit=BATCH):
                return rows  # of segments that another store has come to
            sweep.has_split = await self._manifest.split_garbage(before_ms=before, limit=BATCH) > 0
        return await self._manifest.due_garbage(name, before_ms=before, limit=BATCH) if sweep.has_split else ()

    async def _delete_all(self, sweep: _Sweep, rows: Sequence[Garbage], until: float) -> tuple[list[Garbage], list[Garbage]]:
        """Return those that are gone, and those that the store has not deleted. What the time was too short for is neither."""
        gate = asyncio.Semaphore(AT_ONCE)
        gone: list[Garbage] = []
        kept: list[Garbage] = []

        async def delete(row: Garbage) -> None:
            async with gate:
                if self._clock.monotonic() > until:
                    return
                try:
                    async with asyncio.timeout(ROW_SECONDS):
                        await self._delete(sweep, row)
                except Exception as error:
                    sweep.trouble = sweep.trouble or str(error) or f"store {row.store}: no end in {ROW_SECONDS:g} s"
                    _tell(row, error)
                    kept.append(row)
                else:
                    gone.append(row)

        await asyncio.gather(*(delete(row) for row in rows))
        return gone, kept

    async def _delete(self, sweep: _Sweep, row: Garbage) -> None:
        if not row.search:
            await self._delete_shard(sweep, ShardName(row.name))
            return
        async with self._memory.held(NAMES * NAME_SIZE):
            for name in await self._found(sweep, row):
                await self._delete_shard(sweep, name)

    async def _delete_shard(self, sweep: _Sweep, name: ShardName) -> None:
        await self._ask(sweep)
        await sweep.store.delete(name)

    async def _found(self, sweep: _Sweep, row: Garbage) -> list[ShardName]:
        """Search a store for shards. What else it lists is none of ours."""
        await self._ask(sweep)
        found: list[ShardName] = []
        listed = 0
        async for name, _ in sweep.store.list(row.name):
            listed += 1
            if listed > NAMES:
                raise StoreUnavailable(row.store, f"lists more names that begin with {row.name} than a segment can have")
            if is_shard_name(name):
                found.append(name)
        return found

    async def _ask(self, sweep: _Sweep) -> None:
        await self._throttle.take()
        sweep.requests += 1

    def _homeless(self, left: Mapping[str, int]) -> list[str]:
        gone = sorted(store for store in left if store and store not in self._fleet)
        return [f"{left[store]} shards wait for store {store}, which is not configured" for store in gone]


@dataclass(slots=True)
class _Sweep:
    """What has been done in one store."""

    store: Store
    more: bool = True
    has_split: bool = False  # segments, when it had nothing left to delete: some may be of stores that are done
    done: int = 0
    requests: int = 0
    trouble: str = ""


def _tell(row: Garbage, failure: Exception) -> None:
    if isinstance(failure, StoreError | TimeoutError):
        logger.debug("%s stays queued: %s", row.name, failure)
    else:  # it must not keep the other rows, nor go unnoticed
        logger.error("%s stays queued for store %s", row.name, row.store, exc_info=failure)
