"""Stragglers: puts still under way when their version was committed. Each has an owner here until it ends."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from proxy.clock import Clock
from proxy.engine.memory.budget import Budget
from proxy.engine.memory.grant import Grant
from proxy.engine.tasks import BackgroundTasks
from proxy.engine.writing.quorum import Placed
from proxy.errors import ProxyError
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import ExtentId
from proxy.notice import Notice

logger = logging.getLogger(__name__)


class LatePuts:
    """The memory of puts that go on after their segment's promise was met: each gives its share back when it ends.

    Together they may hold a quarter of the budget. Beyond that the oldest is given up, so that a store which hangs
    cannot take the memory of those that answer; its shard stays on record as missing.
    """

    def __init__(self, budget: Budget) -> None:
        self._limit_bytes = budget.capacity_bytes // 4
        self._held_bytes = 0
        self._puts: dict[asyncio.Task[None], int] = {}

    def keep(self, puts: Iterable[asyncio.Task[None]], grant: Grant, share_bytes: int) -> None:
        """Release `share_bytes` of the grant at the end of each put."""
        for put in puts:
            self._puts[put] = share_bytes
            self._held_bytes += share_bytes
            put.add_done_callback(lambda ended: self._ended(ended, grant, share_bytes))
        while self._held_bytes > self._limit_bytes:
            oldest = next(iter(self._puts))
            self._forget(oldest)
            oldest.cancel()

    def _ended(self, put: asyncio.Task[None], grant: Grant, share_bytes: int) -> None:
        self._forget(put)
        grant.release(share_bytes)

    def _forget(self, put: asyncio.Task[None]) -> None:
        self._held_bytes -= self._puts.pop(put, 0)


class Stragglers:
    """Follows tails to their end and records what arrived."""

    def __init__(self, manifest: Manifest, tasks: BackgroundTasks, clock: Clock) -> None:
        self._manifest = manifest
        self._tasks = tasks
        self._clock = clock
        self._missed: Counter[str] = Counter()  # shards, by the store they did not arrive at, since that was last said to be over
        self._notices: defaultdict[str, Notice] = defaultdict(Notice)

    def adopt(self, extent_id: ExtentId, segments: Sequence[Placed]) -> None:
        """Follow the tails of a committed extent."""
        for placed in segments:
            if placed.tail:
                self._tasks.start(self._follow(extent_id, placed))

    async def disown(self, segments: Sequence[Placed]) -> None:
        """Cancel the tails of a write that failed."""
        for placed in segments:
            late = (*placed.tail.values(), *placed.spare)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _follow(self, extent_id: ExtentId, placed: Placed) -> None:
        try:
            for index, task in placed.tail.items():
                await self._record(extent_id, placed, index, task)
        finally:
            for task in placed.tail.values():
                task.cancel()

    async def _record(self, extent_id: ExtentId, placed: Placed, index: int, task: asyncio.Task[None]) -> None:
        await asyncio.wait([task])
        store = placed.stores[index]
        failure = "given up, for others needed the memory" if task.cancelled() else task.exception()
        if failure is not None and not isinstance(failure, str | ProxyError):
            raise failure
        self._tell(store, failure)
        if failure is not None:
            return  # it stays on record as missing, for repair
        try:
            await self._manifest.record_shard(extent_id, placed.segment_id, index, store=store, now_ms=self._clock.now_ms())
        except ProxyError as error:
            logger.warning("shard %d of segment %s arrived, and stays on record as missing: %s", index, placed.segment_id.hex(), error)

    def _tell(self, store: str, failure: str | BaseException | None) -> None:
        """Log the first of a store's late shards that does not arrive, and the first that does again. There may be hundreds between."""
        notice = self._notices[store]
        if failure is None:
            if notice.ends():
                logger.info("late shards arrive again at store %s; %d did not, and wait for repair", store, self._missed.pop(store))
            return
        self._missed[store] += 1
        if (more := notice.meets(1, self._clock.monotonic())) is not None:
            logger.warning("late shards do not arrive at store %s, and wait for repair: %s%s", store, failure, more)
