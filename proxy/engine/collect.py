"""Collection: deleting the shards nobody refers to any more.

Three things make garbage, all of them through the manifest: a version that was replaced or deleted, a write that failed, and the leased ids
of a worker that died. Each shard is queued for its store, and forgotten when that store has confirmed. So a store that is down keeps its
own deletes queued and no others, and one that was taken out of the configuration keeps them until it is back. Where a shard lies is not
always known: then every store is searched for it, and each search is finished on its own. The delay between queueing and deleting lets
readers that began before finish.

What a store does not delete goes to the end of its queue: an object that a provider holds fast must not keep the others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from proxy.clock import Clock
from proxy.engine.fleet import Fleet
from proxy.engine.intents import IntentLedger
from proxy.engine.throttle import Throttle
from proxy.engine.workers import Progress
from proxy.errors import StoreError
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Garbage
from proxy.stores.protocol import ShardName, Store

logger = logging.getLogger(__name__)

BATCH = 200  # rows of one store in memory, and in one step of the manifest
AT_ONCE = 16  # deletes of one store under way: at 50 ms each, some 300 a second
STEP_SECONDS = 15.0  # as long as others have work while a store that hangs is waited for
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
        *,
        delay_seconds: float,
        idle_seconds: float,
    ) -> None:
        self._manifest = manifest
        self._ledger = ledger
        self._fleet = fleet
        self._clock = clock
        self._throttle = throttle
        self._delay_ms = int(delay_seconds * 1000)
        self.idle_seconds = idle_seconds

    async def step(self) -> Progress:
        """Revoke dead workers' leases, and delete what is due, each store at its own pace for a bounded time."""
        # Whatever has kept this worker from renewing in time may have kept the others too: they get until the next run.
        if await self._ledger.renew():
            await self._manifest.revoke_expired_intents(now_ms=self._clock.now_ms())
        more = await self._manifest.spread_garbage(self._fleet.stores, limit=BATCH) == BATCH
        until = self._clock.monotonic() + STEP_SECONDS
        sweeps = [_Sweep(store) for store in self._fleet.stores.values()]
        await asyncio.gather(*(self._sweep(sweep, until) for sweep in sweeps))
        left = await self._manifest.count_garbage()
        return Progress(
            idle=not more and not any(sweep.more for sweep in sweeps),
            done=sum(sweep.done for sweep in sweeps),
            remaining=sum(left.values()),
            requests=sum(sweep.requests for sweep in sweeps),
            trouble="; ".join([*(sweep.trouble for sweep in sweeps if sweep.trouble), *self._homeless(left)]),
        )

    async def _sweep(self, sweep: _Sweep, until: float) -> None:
        """Delete what is due in one store until there is no more, it deletes nothing, or the time is up."""
        name = str(sweep.store.info.name)
        before = self._clock.now_ms() - self._delay_ms
        while sweep.more and self._fleet[name].ready_for("delete"):
            if self._clock.monotonic() > until:
                return
            rows = await self._manifest.due_garbage(name, before_ms=before, limit=BATCH)
            gone, kept = await self._delete_all(sweep, rows)
            if rows:
                await self._manifest.finish_garbage(gone, put_off=kept, due_ms=before + RETRY_MS)
            sweep.done += len(gone)
            sweep.more = len(rows) == BATCH and bool(gone)
        if sweep.more:
            sweep.more, sweep.trouble = False, f"store {name} fails, and is not asked for now"

    async def _delete_all(self, sweep: _Sweep, rows: Sequence[Garbage]) -> tuple[list[Garbage], list[Garbage]]:
        """Return those that are gone, and those that the store has not deleted."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def delete(row: Garbage) -> Exception | None:
            async with gate:
                try:
                    await self._delete(sweep, row)
                except Exception as error:
                    sweep.trouble = sweep.trouble or str(error) or type(error).__name__
                    _tell(row, error)
                    return error
            return None

        failures = await asyncio.gather(*(delete(row) for row in rows))
        gone = [row for row, failure in zip(rows, failures, strict=True) if failure is None]
        return gone, [row for row, failure in zip(rows, failures, strict=True) if failure is not None]

    async def _delete(self, sweep: _Sweep, row: Garbage) -> None:
        names = [ShardName(row.name)]
        if row.search:
            await self._ask(sweep)
            names = [name async for name, _ in sweep.store.list(row.name)]
        for name in names:
            await self._ask(sweep)
            await sweep.store.delete(name)

    async def _ask(self, sweep: _Sweep) -> None:
        await self._throttle.take()
        sweep.requests += 1

    def _homeless(self, left: Mapping[str, int]) -> list[str]:
        gone = sorted(store for store in left if store and store not in self._fleet)
        return [f"{left[store]} wait for store {store}, which is not configured" for store in gone]


@dataclass(slots=True)
class _Sweep:
    """What has been done in one store."""

    store: Store
    more: bool = True
    done: int = 0
    requests: int = 0
    trouble: str = ""


def _tell(row: Garbage, failure: Exception) -> None:
    if isinstance(failure, StoreError):
        logger.debug("%s stays queued: %s", row.name, failure)
    else:  # it must not keep the other rows, nor go unnoticed
        logger.error("%s stays queued for store %s", row.name, row.store, exc_info=failure)
