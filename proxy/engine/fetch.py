"""Fetching one window: from the stores that hold its cells or, where one fails, lies or is late, from any others.

Only the data cells that the window covers are asked for: one store, for a small range. When one of them fails, is forged or is late, any k
columns of the window are gathered instead and its stripes decoded. Nothing leaves before its cells have been authenticated.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor

from proxy.codec.geometry import Scheme, SegmentGeometry
from proxy.codec.segment import ColumnReader, SegmentKeys
from proxy.engine.damage import DamageReporter
from proxy.engine.fleet import Fleet
from proxy.engine.flight import Flight
from proxy.engine.windows import Window, touched_cells
from proxy.errors import IntegrityError, NotEnoughShards, ProxyError, ShardTruncated, StoreError, StoreNotAsked
from proxy.keyring import TenantCipher
from proxy.stores.observe import ObservedStore
from proxy.stores.protocol import ShardName

INLINE_SIZE = 2 * 1024 * 1024  # sealed bytes, a column of a window: 0.4 ms to open, and a thread would have to be woken for it
MIN_HEDGE_SECONDS = 0.02


class WindowFetch:
    """One window's requests, from the first to the last that is needed. Runs once."""

    def __init__(self, window: Window, cipher: TenantCipher, fleet: Fleet, threads: Executor, reporter: DamageReporter) -> None:
        layout, self._segment = window.extent.layout, window.segment
        self._window = window
        self._fleet = fleet
        self._threads = threads
        self._reporter = reporter
        self._scheme = Scheme(layout.k, layout.m)
        geometry = SegmentGeometry(self._scheme, self._segment.size)
        self._first, self._last = geometry.stripes_of(window.start, window.length)
        self._offset, self._span = geometry.cells_span(self._first, self._last)
        keys = SegmentKeys(
            geometry, segment_id=self._segment.id, data_key=cipher.unwrap(layout.wrapped_key), tenant_key_id=layout.tenant_key_id
        )
        self._reader = ColumnReader(keys, first=self._first, last=self._last)
        self._wanted, self._cells_size = touched_cells(geometry, window.start, window.length)
        self._reads: Flight[bytes | memoryview] = Flight()
        self._late: set[int] = set()
        self._untried: list[int] = []
        self._unasked: list[int] = []  # their stores failed just now, and were not asked
        self._insisted = False
        self._hedge_seconds = 0.0
        self._reasons: list[str] = []

    @property
    def memory_bytes(self) -> int:
        """The memory of the sealed and the opened cells of the columns asked for. If one of their stores is known to be down, it is that of
        k columns and of the decoded stripes. A store that fails later is not counted in advance."""
        if all(self._is_readable(column) for column in self._wanted):
            return 2 * len(self._wanted) * self._cells_size
        return 3 * self._scheme.k * self._cells_size

    async def run(self) -> list[memoryview]:
        """Return the window's plaintext in pieces. Raises `NotEnoughShards`."""
        try:
            self._begin()
            while not self._enough():
                await self._step()
            self._note_overtaken()
            return self._reader.plaintext(self._window.start, self._window.length)
        finally:
            await self._reads.cancel()

    def _candidates(self) -> list[int]:
        """Return the other shard indexes, the best to read from first; those known to be missing are left out."""
        stores = [(index, store) for index, store in enumerate(self._segment.stores) if index not in self._segment.missing]
        return self._fleet.by_readiness(stores)

    def _patience(self) -> float:
        """Return how long to wait before others are asked too: until k others would have answered twice over, by their 95th percentile.

        The late store's own percentile does not count: with a store that is always slow, the others would never be asked.
        """
        usual = sorted(self._store(index).latency_p95("get_range") for index in self._untried)
        return max(2 * usual[min(self._scheme.k, len(usual)) - 1], MIN_HEDGE_SECONDS) if usual else MIN_HEDGE_SECONDS

    def _is_readable(self, index: int) -> bool:
        return index not in self._segment.missing and self._fleet.readable(self._segment.stores[index])

    def _begin(self) -> None:
        self._untried = self._candidates()
        self._hedge_seconds = self._patience()
        healthy = [index for index in self._wanted if self._is_readable(index)]
        for index in healthy:
            self._start(index)
        if len(healthy) < len(self._wanted):
            self._top_up()

    def _enough(self) -> bool:
        have = self._reader.indexes
        return self._wanted <= have or len(have) >= self._scheme.k

    async def _step(self) -> None:
        if not self._reads.running and not self._insist():
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
                if isinstance(failure, StoreNotAsked):
                    self._unasked.append(index)
                self._do_without(index, failure)
            else:
                raise failure

    def _note_overtaken(self) -> None:
        # Only now, when others have answered: a store that the client did not wait for may not have been slow.
        for task, index in self._reads.running.items():
            if index in self._late and not task.done():
                self._store(index).overtaken("get_range")

    async def _open(self, index: int, sealed: bytes | memoryview) -> None:
        try:
            if len(sealed) != self._span:
                raise ShardTruncated(self._segment.stores[index], f"answered {len(sealed)} bytes of a shard, not {self._span}")
            if len(sealed) <= INLINE_SIZE:
                self._reader.add(index, sealed)
            else:
                await asyncio.get_running_loop().run_in_executor(self._threads, self._reader.add, index, sealed)
        except (IntegrityError, ShardTruncated) as error:
            self._do_without(index, error)

    def _do_without(self, index: int, error: ProxyError) -> None:
        self._reporter.found(self._window.extent.id, self._segment, index, error)
        self._reasons.append(str(error))
        self._top_up()

    def _top_up(self, *, extra: int = 0) -> None:
        """Start as many other shards as are needed to have k columns, and `extra` beside the late ones."""
        short = self._scheme.k - len(self._reader.indexes) - len(self._reads.running)
        for index in self._untried[: max(short, 0) + extra]:
            self._start(index)

    def _insist(self) -> bool:
        """Without them k shards are out of reach: ask, once, the stores that were not asked because they failed just now."""
        unasked, self._unasked = self._unasked, []
        if self._insisted:
            return False
        self._insisted = True
        for index in unasked:
            self._read(index, insist=True)
        return bool(unasked)

    def _start(self, index: int) -> None:
        self._untried.remove(index)
        self._read(index, insist=False)

    def _read(self, index: int, *, insist: bool) -> None:
        name = ShardName(self._segment.shard_name(index))
        self._reads.start(index, self._store(index).get_range(name, self._offset, self._span, insist=insist))

    def _store(self, index: int) -> ObservedStore:
        return self._fleet[self._segment.stores[index]]
