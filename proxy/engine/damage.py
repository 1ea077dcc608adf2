"""Damage found while shards are read: one place for whoever finds it.

A reader must not wait for the manifest, and a store that lies at every request must not flood it. So a report is counted and noted at once,
and written soon after, many together and seldom. What was told a while ago is not told again: it is on record. What there is no room for is
dropped: whoever reads the shard next finds it as well.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import NamedTuple

from proxy.clock import Clock
from proxy.engine.tasks import BackgroundTasks
from proxy.errors import IntegrityError, ProxyError, ShardMissing, ShardTruncated
from proxy.manifest.damage import Damage, DamageKind
from proxy.manifest.plans.damage import generation_of
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import ExtentId, Segment, SegmentId

logger = logging.getLogger(__name__)

QUEUE = 1000  # reports that wait to be written
BATCH = 200  # of them in one step of the manifest
WRITE_SECONDS = 1.0  # between two such steps
REMEMBERED = 4096  # reports that are not made again
AGAIN_SECONDS = 600.0  # until they are: the segment may have been settled meanwhile, wrongly

RecordDamage = Callable[[str, str], None]


class _Told(NamedTuple):
    segment_id: SegmentId
    shard_index: int
    generation: int
    kind: DamageKind


def kind_of(failure: BaseException) -> DamageKind | None:
    """Return what a failed read says of the shard; None if it says nothing, as when the store did not answer."""
    if isinstance(failure, ShardTruncated):
        return "truncated"
    if isinstance(failure, ShardMissing):
        return "missing"
    return "forged" if isinstance(failure, IntegrityError) else None


class DamageReporter:
    """Takes reports and writes them to the manifest. `record` is told of each: store and kind."""

    def __init__(self, manifest: Manifest, tasks: BackgroundTasks, clock: Clock, *, record: RecordDamage | None = None) -> None:
        self._manifest = manifest
        self._tasks = tasks
        self._clock = clock
        self._record = record
        self._queue: deque[Damage] = deque()
        self._told: OrderedDict[_Told, float] = OrderedDict()
        self._writing = False
        self._next_write = 0.0

    def found(self, extent_id: ExtentId, segment: Segment, shard_index: int, failure: ProxyError) -> None:
        """Take note of a read that failed, if that is the shard's fault. Returns at once."""
        kind = kind_of(failure)
        if kind is None:
            return
        store = segment.stores[shard_index]
        if self._record is not None:
            self._record(store, kind)
        told = _Told(segment.id, shard_index, generation_of(segment, shard_index), kind)
        if self._is_known(told) or len(self._queue) >= QUEUE:
            return
        logger.error("shard %d of segment %s in store %s is %s: %s", shard_index, segment.id.hex(), store, kind, failure)
        self._remember(told)
        self._queue.append(
            Damage(
                extent_id=extent_id,
                segment_id=segment.id,
                shard_index=shard_index,
                kind=kind,
                store=store,
                generation=told.generation,
            )
        )
        if not self._writing:
            self._writing = True
            self._tasks.start(self._write())

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._queue:
                await asyncio.sleep(max(self._next_write - loop.time(), 0))
                self._next_write = loop.time() + WRITE_SECONDS
                batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
                await self._write_batch(batch)
        finally:
            self._writing = False

    async def _write_batch(self, batch: list[Damage]) -> None:
        try:
            await self._manifest.report_damage(batch, now_ms=self._clock.now_ms())
        except ProxyError as error:  # a manifest that is locked or fenced: the next reader reports it again
            logger.debug("%d damaged shards could not be put on record: %s", len(batch), error)
            for damage in batch:
                self._told.pop(_Told(damage.segment_id, damage.shard_index, damage.generation, damage.kind), None)

    def _is_known(self, told: _Told) -> bool:
        at = self._told.get(told)
        return at is not None and asyncio.get_running_loop().time() - at < AGAIN_SECONDS

    def _remember(self, told: _Told) -> None:
        self._told.pop(told, None)
        self._told[told] = asyncio.get_running_loop().time()
        if len(self._told) > REMEMBERED:
            self._told.popitem(last=False)
