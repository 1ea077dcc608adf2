"""Moving shards of a stored segment: putting them anew, in other stores or in the same, while everybody reads and writes.

Two ways lead to a new shard. It is **copied**: its own store is read once, each cell is opened to prove it, and the same bytes are put
elsewhere with another generation in the footer. Or it is **rebuilt** from k others: stripe by stripe they are decoded and coded again, and
only the wanted columns are sealed. Its share of the data key comes from k other shares. Both give the very bytes of the first write.

The order, and what a crash after each step leaves:

1. The next generation is drawn: a lease on the segment, with the names that will be used. *Crash: it expires, and the names are collected.*
2. The shards are put under their new names. Nothing refers to them, and nothing of the old is touched. *Crash: as 1.*
3. One manifest transaction points the segment to them and queues the old ones. *Crash: it happened or it did not.*

So at every instant the segment is either as it was or as it is meant to be, and whatever is in no layout is in a queue. If it is unknown
whether the transaction happened, the draw is given up all the same: what the segment points to by then is kept.

Whoever calls has chosen the targets, and has counted for each hand what it may still hold of the segment (`replacing`). That choice is
good for the segment as it was then. So the draw, which returns the segment as it is, must show the same one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from msgspec.structs import replace

from proxy.clock import Clock
from proxy.codec.column import Column
from proxy.codec.footer import pack_footer
from proxy.codec.format import SEALED_CELL_SIZE, shard_name
from proxy.codec.rebuild import rebuild_columns
from proxy.engine.ciphers import cipher_of
from proxy.engine.damage import DamageReporter
from proxy.engine.memory.background import BackgroundMemory
from proxy.engine.moving.sources import SegmentSources, shard_size
from proxy.engine.placing.fleet import Fleet
from proxy.engine.tasks import BackgroundTasks
from proxy.engine.throttle import Throttle
from proxy.errors import IntegrityError, MoveFailed, MoveRefused, StoreError, StoreNotAsked
from proxy.keyring import Keyring
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Extent, Segment
from proxy.stores.protocol import ShardName

DRAW_MS = 15 * 60 * 1000  # a segment takes seconds; at a throttle of 1 MiB a second, and among others, some minutes
WINDOW_CELLS = 16  # of a column, 1 MiB, are read at a time
IN_MEMORY = 4  # times a window of k columns: sealed, opened, decoded, coded anew

Pieces = Sequence[bytes | memoryview]
MayStand = Callable[[Mapping[int, str]], bool]  # whether some of the targets may be all that the segment gets


@dataclass(slots=True)
class Moved:
    """What a move did. `stores`: by shard index, where shards were put. `trouble`: why others were not, each in words."""

    stores: dict[int, str] = field(default_factory=dict)
    requests: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    refused: set[str] = field(default_factory=set)  # stores that did not take what was put
    trouble: list[str] = field(default_factory=list)

    @property
    def size_bytes(self) -> int:
        return self.read_bytes + self.written_bytes


@dataclass(slots=True)
class _Draw:
    """A move under way: the segment as it is, where its shards are to go, and under which generation, once it is drawn."""

    extent: Extent
    segment: Segment
    targets: Mapping[int, str]
    sources: SegmentSources
    generation: int = 0
    is_given_up: bool = False
    sent: dict[int, str] = field(default_factory=dict)  # what may have been put, and has to be deleted if this comes to nothing


class ShardMover:
    """Copies and rebuilds shards, with the throttle's share of the worker that it works for."""

    def __init__(
        self,
        *,
        manifest: Manifest,
        keyring: Keyring,
        fleet: Fleet,
        clock: Clock,
        threads: Executor,
        throttle: Throttle,
        memory: BackgroundMemory,
        reporter: DamageReporter,
        tasks: BackgroundTasks,
    ) -> None:
        self._manifest = manifest
        self._keyring = keyring
        self._fleet = fleet
        self._clock = clock
        self._threads = threads
        self._throttle = throttle
        self._memory = memory
        self._reporter = reporter
        self._tasks = tasks

    async def rebuild(
        self,
        extent: Extent,
        segment: Segment,
        targets: Mapping[int, str],
        *,
        suspect: Collection[int] = (),
        may_stand: MayStand = lambda _: True,
    ) -> Moved:
        """Put shards anew, made from the k cheapest others; those suspect, and those that are to be replaced, are read last of all.

        `segment` is as the targets were chosen for it. Raises `MoveRefused` if it is not so any more, or a move of it is under way;
        `NotEnoughShards`; and `MoveFailed` if nothing could be put at all, or only what may not stand. What only some of the stores refuse
        is told.
        """
        async with self._drawn(extent, segment, targets) as draw:
            wanted = len(targets) * shard_size(extent.layout, segment)
            a_cell = IN_MEMORY * extent.layout.k * SEALED_CELL_SIZE
            async with self._memory.held(wanted + min(WINDOW_CELLS, draw.sources.geometry.stripe_count) * a_cell) as granted:
                cells = max(min((granted - wanted) // a_cell, WINDOW_CELLS), 1)
                shards = await self._rebuilt(draw, cells, {*suspect, *targets})
                return await self._put_all(draw, shards, Moved(), may_stand)

    async def copy(self, extent: Extent, segment: Segment, targets: Mapping[int, str], *, may_stand: MayStand = lambda _: True) -> Moved:
        """Put shards anew, each a copy of its own. One that cannot be read, or does not open, stays where it is, and is told of.

        Otherwise as `rebuild`.
        """
        async with (
            self._drawn(extent, segment, targets) as draw,
            self._memory.held(len(targets) * shard_size(extent.layout, segment)),
        ):
            moved = Moved()
            shards = await self._copies(draw, moved)
            return await self._put_all(draw, shards, moved, may_stand)

    @asynccontextmanager
    async def _drawn(self, extent: Extent, segment: Segment, targets: Mapping[int, str]) -> AsyncIterator[_Draw]:
        sources = SegmentSources(
            extent,
            segment,
            await cipher_of(self._manifest, self._keyring, extent.layout),
            fleet=self._fleet,
            threads=self._threads,
            throttle=self._throttle,
            reporter=self._reporter,
        )
        draw = _Draw(extent, segment, targets, sources)
        try:
            await self._tasks.run(self._take(draw))
            yield draw
        except BaseException:
            draw.is_given_up = True
            if draw.generation:
                await self._tasks.run(self._give_up(draw))
            raise

    async def _take(self, draw: _Draw) -> None:
        """Draw; if the caller was cancelled meanwhile, give it up again."""
        extent, segment = draw.extent, draw.segment
        expires_ms = self._clock.now_ms() + DRAW_MS
        drawn = await self._manifest.draw_generation(extent.id, segment.id, draw.targets, expires_ms=expires_ms)
        if drawn is None:
            raise MoveRefused(f"segment {segment.id.hex()} is gone, or somebody else moves its shards")
        draw.generation = drawn.drawn
        if draw.is_given_up:
            await self._give_up(draw)
        if drawn != replace(segment, drawn=segment.drawn + 1):  # a draw between may have left shards that nobody has counted
            raise MoveRefused(f"segment {segment.id.hex()} has changed since it was looked at")

    async def _give_up(self, draw: _Draw) -> None:
        """If this fails, too, the draw expires by itself."""
        await self._manifest.give_up_draw(draw.extent.id, draw.segment.id, draw.sent, draw.generation, now_ms=self._clock.now_ms())

    async def _rebuilt(self, draw: _Draw, cells: int, suspect: Collection[int]) -> dict[int, Pieces]:
        """Return the wanted shards, in pieces, made of k others, some cells of each column at a time."""
        sources, keys, loop = draw.sources, draw.sources.keys, asyncio.get_running_loop()
        count = sources.geometry.stripe_count
        columns = {index: Column(sources.geometry.cells_size) for index in draw.targets}
        for first in range(0, count, cells):
            last = min(first + cells, count) - 1
            reader = await sources.columns(first, last, suspect=suspect)
            await loop.run_in_executor(self._threads, rebuild_columns, keys, reader, first, last, columns)
        label = next(iter(sources.footers.values())).sealed_label
        return {
            index: [*column.runs, pack_footer(label, sources.share(index), keys.fixed_part(index), generation=draw.generation)]
            for index, column in columns.items()
        }

    async def _copies(self, draw: _Draw, moved: Moved) -> dict[int, Pieces]:
        shards: dict[int, Pieces] = {}
        for index in draw.targets:
            try:
                cells, footer = await draw.sources.whole(index)
            except (StoreError, IntegrityError) as error:
                moved.trouble.append(str(error))
            else:
                fixed = draw.sources.keys.fixed_part(index)
                shards[index] = [cells, pack_footer(footer.sealed_label, footer.wrapped_share, fixed, generation=draw.generation)]
        return shards

    async def _put_all(self, draw: _Draw, shards: Mapping[int, Pieces], moved: Moved, may_stand: MayStand) -> Moved:
        outcomes = await asyncio.gather(*(self._put(draw, index, shard, moved) for index, shard in shards.items()), return_exceptions=True)
        for index, failure in zip(shards, outcomes, strict=True):
            if isinstance(failure, StoreError):
                moved.refused.add(draw.targets[index])
                moved.trouble.append(str(failure))
            elif failure is not None:
                raise failure
        moved.requests += draw.sources.requests
        moved.read_bytes += draw.sources.read_bytes
        if not moved.stores or (len(moved.stores) < len(draw.targets) and not may_stand(moved.stores)):
            which = "of the shards of segment {} only some" if moved.stores else "no shard of segment {}"
            message = f"{which.format(draw.segment.id.hex())} could be moved: {'; '.join(moved.trouble)}"
            raise MoveFailed(message, stores=frozenset(moved.refused))
        await self._tasks.run(self._replace(draw, moved.stores))
        return moved

    async def _put(self, draw: _Draw, index: int, shard: Pieces, moved: Moved) -> None:
        size, store = sum(len(piece) for piece in shard), draw.targets[index]
        await self._throttle.take(size)
        moved.requests += 1
        draw.sent[index] = store
        try:
            await self._fleet[store].put(ShardName(shard_name(draw.segment.id, index, draw.generation)), shard)
        except StoreNotAsked:
            del draw.sent[index]
            raise
        moved.stores[index] = store
        moved.written_bytes += size

    async def _replace(self, draw: _Draw, stores: Mapping[int, str]) -> None:
        now_ms = self._clock.now_ms()
        if not await self._manifest.replace_shards(draw.extent.id, draw.segment.id, stores, draw.generation, now_ms=now_ms):
            raise MoveRefused(f"segment {draw.segment.id.hex()} went, or the draw expired, while its shards were moved")
