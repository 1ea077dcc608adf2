"""The read path: from a version's extents to authenticated plaintext, whatever up to m stores do.

A range is cut into windows of whole stripes. Of each window, only the data cells it covers are asked for: one store, for a small range.
When one of them fails, is forged or is late, any k columns of the window are gathered instead and its stripes decoded. The next window is
on its way while one is being sent. Nothing leaves before its cells have been authenticated.

The source of a copy is read in the memory of the segment it is copied into: in runs as long as that segment. Nothing of the next run is on
its way, and nothing of the last one kept, while the copy waits for the memory of its next segment.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import dataclass

from proxy.codec.format import CELL_SIZE, shard_name
from proxy.codec.geometry import Scheme, SegmentGeometry
from proxy.codec.segment import ColumnReader, SegmentKeys
from proxy.engine.budget import Budget, Grant
from proxy.engine.fleet import Fleet
from proxy.engine.flight import Flight
from proxy.errors import IntegrityError, NotEnoughShards, ProxyError, StoreError
from proxy.keyring import TenantCipher
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Extent, ExtentRef, Segment, Version
from proxy.stores.observe import ObservedStore
from proxy.stores.protocol import ShardName

logger = logging.getLogger(__name__)

WINDOW_SIZE = 4 * 1024 * 1024  # plaintext: a store is asked for 1 MiB at a time at 4+2
FIRST_WINDOW_SIZE = 1024 * 1024  # the first byte leaves sooner
SOURCE_WINDOW_SIZE = 2 * 1024 * 1024  # of a copy: no less than a stripe of 32 cells
INLINE_SIZE = 256 * 1024  # sealed bytes; opening them takes less time than handing them to a thread
MIN_HEDGE_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Window:
    """A run of stripes of one segment, and the plaintext start .. start+length-1 (counted in the segment) wanted of it."""

    extent: Extent
    segment: Segment
    start: int
    length: int


def plan_windows(
    extents: Sequence[Extent], start: int, length: int, *, first_size: int = FIRST_WINDOW_SIZE, size: int = WINDOW_SIZE
) -> Iterator[Window]:
    """Cut the plaintext start .. start+length-1 of the concatenated extents into windows, in order."""
    position, end, size_limit = 0, start + length, first_size
    for extent in extents:
        for segment in extent.layout.segments:
            low, high = max(start, position), min(end, position + segment.size)
            while low < high:
                stop = min(_window_end(extent, low - position, size_limit) + position, high)
                yield Window(extent, segment, low - position, stop - low)
                low, size_limit = stop, size
            position += segment.size


def touched_cells(geometry: SegmentGeometry, start: int, length: int) -> tuple[range, int]:
    """Return the data columns of a window, all of them if it goes beyond one stripe, and the bytes of each column's cells."""
    first, last = geometry.stripes_of(start, length)
    cells_size = (last - first) * CELL_SIZE + geometry.cell_size(last)
    if first < last:
        return range(geometry.scheme.k), cells_size
    return geometry.columns_of(first, start - first * geometry.scheme.stripe_size, length), cells_size


def source_memory(size: int) -> int:
    """Return what a copy's source holds at most in a run of `size` bytes: one window that is being written, while the next one's sealed
    cells are opened, and decoded if they must be."""
    return 4 * min(size, SOURCE_WINDOW_SIZE)


def touched_extents(extents: Sequence[ExtentRef], start: int, length: int) -> tuple[list[ExtentRef], int]:
    """Return the extents that hold the range, and its start counted in the first of them: a version of many parts has as many extents."""
    touched: list[ExtentRef] = []
    position = first = 0
    for extent in extents:
        if position < start + length and start < position + extent.size:
            first = first if touched else position
            touched.append(extent)
        position += extent.size
    return touched, start - first


def _window_end(extent: Extent, start: int, size_limit: int) -> int:
    stripe = extent.layout.k * 64 * 1024
    return (start // stripe + max(size_limit // stripe, 1)) * stripe


class Reader:
    """Streams versions out of the fleet."""

    def __init__(self, *, manifest: Manifest, fleet: Fleet, budget: Budget, threads: Executor) -> None:
        self._manifest = manifest
        self._fleet = fleet
        self._budget = budget
        self._threads = threads

    async def open(self, version: Version, cipher: TenantCipher, start: int, length: int) -> AsyncIterator[memoryview]:
        """Return the plaintext bytes start .. start+length-1, as they are fetched. `ExtentMissing` if the version is gone.

        The iterator raises `NotEnoughShards` or `KeyUnavailable`, perhaps in the middle.
        """
        extents, start = await self._load(version, start, length)
        return self._read(plan_windows(extents, start, length), cipher, charged=True)

    async def open_source(
        self, version: Version, cipher: TenantCipher, start: int, length: int, *, run_size: int
    ) -> AsyncGenerator[memoryview]:
        """As `open`, for a copy into segments of `run_size`, whose writer has memory for the source as well: see `source_memory`."""
        extents, start = await self._load(version, start, length)
        return self._read_runs(extents, cipher, start, length, run_size)

    async def _load(self, version: Version, start: int, length: int) -> tuple[Sequence[Extent], int]:
        # All extents that will be read, at once: were the version deleted meanwhile, its shards stay a while, but not its extents.
        refs, start = touched_extents(version.extents, start, length)
        return await self._manifest.load_extents([ref.id for ref in refs]), start

    async def _read_runs(
        self, extents: Sequence[Extent], cipher: TenantCipher, start: int, length: int, run_size: int
    ) -> AsyncGenerator[memoryview]:
        for low in range(start, start + length, run_size):
            run = min(run_size, start + length - low)
            windows = plan_windows(extents, low, run, first_size=SOURCE_WINDOW_SIZE, size=SOURCE_WINDOW_SIZE)
            async with aclosing(self._read(windows, cipher, charged=False)) as pieces:
                async for piece in pieces:
                    yield piece

    async def _read(self, windows: Iterator[Window], cipher: TenantCipher, *, charged: bool) -> AsyncGenerator[memoryview]:
        window = next(windows, None)
        ahead = None if window is None else asyncio.create_task(self._fetch(window, cipher, charged=charged))
        try:
            while ahead is not None:
                pieces, held = await ahead
                try:
                    window = next(windows, None)
                    ahead = None if window is None else asyncio.create_task(self._fetch(window, cipher, charged=charged))
                    pieces.reverse()
                    while pieces:  # what has been passed on is not kept beside the rest
                        yield pieces.pop()
                finally:
                    held.release()
        finally:
            if ahead is not None:
                await self._drop(ahead)
            ahead = None  # its error holds this frame

    async def _drop(self, ahead: asyncio.Task[tuple[list[memoryview], Grant]]) -> None:
        ahead.cancel()
        outcome = (await asyncio.gather(ahead, return_exceptions=True))[0]
        if isinstance(outcome, tuple):
            outcome[1].release()

    async def _fetch(self, window: Window, cipher: TenantCipher, *, charged: bool) -> tuple[list[memoryview], Grant]:
        """Return a window's plaintext and the memory granted for it."""
        held = await self._budget.acquire(self._memory(window) if charged else 0)
        try:
            return await _WindowRead(window, cipher, self._fleet, self._threads).run(), held
        except BaseException:
            held.release()
            raise

    def _memory(self, window: Window) -> int:
        """Return what a window takes: the sealed and the opened cells of the columns asked for, or where one of their stores is known to be
        down, of k columns, and the decoded stripes. A store that fails only then is not foreseen."""
        segment, scheme = window.segment, Scheme(window.extent.layout.k, window.extent.layout.m)
        columns, cells_size = touched_cells(SegmentGeometry(scheme, segment.size), window.start, window.length)
        if all(self._is_readable(segment, column) for column in columns):
            return 2 * len(columns) * cells_size
        return 3 * scheme.k * cells_size

    def _is_readable(self, segment: Segment, shard_index: int) -> bool:
        return shard_index not in segment.missing and self._fleet.readable(segment.stores[shard_index])


class _WindowRead:
    """One window's requests, from the first to the last that is needed."""

    def __init__(self, window: Window, cipher: TenantCipher, fleet: Fleet, threads: Executor) -> None:
        layout, self._segment = window.extent.layout, window.segment
        self._window = window
        self._fleet = fleet
        self._threads = threads
        self._scheme = Scheme(layout.k, layout.m)
        geometry = SegmentGeometry(self._scheme, self._segment.size)
        self._first, self._last = geometry.stripes_of(window.start, window.length)
        self._offset, self._span = geometry.cells_span(self._first, self._last)
        keys = SegmentKeys(
            geometry, segment_id=self._segment.id, data_key=cipher.unwrap(layout.wrapped_key), tenant_key_id=layout.tenant_key_id
        )
        self._reader = ColumnReader(geometry, keys, first=self._first, last=self._last)
        self._wanted = frozenset(self._wanted_columns(geometry))
        self._reads: Flight[bytes | memoryview] = Flight()
        self._late: set[int] = set()
        self._untried = self._candidates()
        self._hedge_seconds = self._patience()
        self._reasons: list[str] = []

    async def run(self) -> list[memoryview]:
        try:
            self._begin()
            while not self._enough():
                await self._step()
            self._note_overtaken()
            return self._reader.plaintext(self._window.start, self._window.length)
        finally:
            await self._reads.cancel()

    def _wanted_columns(self, geometry: SegmentGeometry) -> Iterator[int]:
        """Yield the data columns the range touches."""
        for stripe in {self._first, self._last, min(self._first + 1, self._last)}:
            base = stripe * self._scheme.stripe_size
            low = max(self._window.start - base, 0)
            high = min(self._window.start + self._window.length - base, geometry.stripe_size(stripe))
            yield from geometry.columns_of(stripe, low, high - low)

    def _candidates(self) -> list[int]:
        """Return the other shard indexes, the best to read from first; those known to be missing are left out."""
        stores = [(index, store) for index, store in enumerate(self._segment.stores) if index not in self._segment.missing]
        return self._fleet.by_readiness(stores)

    def _patience(self) -> float:
        """Return how long to wait before others are asked too: until k others would have answered twice over, by their 95th percentile.

        Not until a late store's own: of one that is always slow the others would never be asked.
        """
        usual = sorted(self._store(index).latency_p95("get_range") for index in self._untried)
        return max(2 * usual[min(self._scheme.k, len(usual)) - 1], MIN_HEDGE_SECONDS) if usual else MIN_HEDGE_SECONDS

    def _begin(self) -> None:
        healthy = [index for index in self._wanted if index in self._untried and self._fleet.readable(self._segment.stores[index])]
        for index in healthy:
            self._start(index)
        if len(healthy) < len(self._wanted):
            self._top_up()

    def _enough(self) -> bool:
        have = self._reader.indexes
        return self._wanted <= have or len(have) >= self._scheme.k

    async def _step(self) -> None:
        if not self._reads.running:
            raise NotEnoughShards(
                needed=self._scheme.k, found=len(self._reader.indexes), segment=self._segment.id.hex(), reasons=tuple(self._reasons)
            )
        ended = await self._reads.ended(self._hedge_seconds if self._untried else None)
        if not ended:
            self._late.update(self._reads.running.values())
            self._top_up(extra=1)
        for index, task in ended:
            failure = task.exception()  # raised here, it would hold this frame, which holds it
            if failure is None:
                await self._open(index, task.result())
            elif isinstance(failure, StoreError):
                self._do_without(failure)
            else:
                raise failure

    def _note_overtaken(self) -> None:
        # Only now that others have answered: of those whom the client did not wait for, this cannot be said.
        for task, index in self._reads.running.items():
            if index in self._late and not task.done():
                self._store(index).overtaken("get_range")

    async def _open(self, index: int, sealed: bytes | memoryview) -> None:
        try:
            if len(sealed) <= INLINE_SIZE:
                self._reader.add(index, sealed)
            else:
                await asyncio.get_running_loop().run_in_executor(self._threads, self._reader.add, index, sealed)
        except IntegrityError as error:
            self._report_forged(index, error)
            self._do_without(error)

    def _report_forged(self, index: int, error: IntegrityError) -> None:
        store = self._segment.stores[index]
        logger.error("shard %d of segment %s in store %s is forged: %s", index, self._segment.id.hex(), store, error)

    def _do_without(self, error: ProxyError) -> None:
        self._reasons.append(str(error))
        self._top_up()

    def _top_up(self, *, extra: int = 0) -> None:
        """Start as many other shards as are needed to have k columns, and `extra` beside the late ones."""
        short = self._scheme.k - len(self._reader.indexes) - len(self._reads.running)
        for index in self._untried[: max(short, 0) + extra]:
            self._start(index)

    def _start(self, index: int) -> None:
        self._untried.remove(index)
        name = ShardName(shard_name(self._segment.id, index))
        self._reads.start(index, self._store(index).get_range(name, self._segment.header_size + self._offset, self._span))

    def _store(self, index: int) -> ObservedStore:
        return self._fleet[self._segment.stores[index]]
