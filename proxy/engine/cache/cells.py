"""One window in the cache: what is there of its cells, and what it is to keep of what was fetched."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from concurrent.futures import Executor

from proxy.codec.format import TAG_SIZE
from proxy.codec.rebuild import rebuild_cells
from proxy.codec.segment import ColumnReader, SegmentKeys
from proxy.engine.cache.cache import SealedCache
from proxy.engine.cache.keys import CacheKey, cell_key
from proxy.errors import CellForged
from proxy.manifest.records import SegmentId


class CachedCells:
    """The columns of a window's reader, with the cells of those `wanted` taken from the cache, and put into it."""

    def __init__(
        self, cache: SealedCache, reader: ColumnReader, keys: SegmentKeys, *, wanted: frozenset[int], first: int, last: int
    ) -> None:
        self._cache = cache
        self._reader = reader
        self._keys = keys
        self._wanted = wanted
        self._first, self._last = first, last
        self._recalled: set[int] = set()
        self._sealed: dict[int, memoryview] = {}  # as it was fetched

    @property
    def indexes(self) -> frozenset[int]:
        return self._reader.indexes

    def add(self, shard_index: int, sealed: bytes | memoryview) -> None:
        """Open one shard's sealed cells. Raises `CellForged`."""
        self._reader.add(shard_index, sealed)
        if shard_index in self._wanted:
            self._sealed[shard_index] = memoryview(sealed)

    async def recall(self) -> None:
        """Open the columns of which the cache has every cell."""
        sizes = {self._key(column, stripe): self._size(stripe) for column in self._wanted for stripe in self._stripes()}
        found = await self._cache.recall(sizes)
        for column in self._wanted:
            cells = [found.pop(self._key(column, stripe), None) for stripe in self._stripes()]  # as few at once as can be
            whole = [cell for cell in cells if cell is not None]
            if len(whole) == len(cells):
                self._open(column, b"".join(whole))

    async def keep(self, threads: Executor) -> None:
        """Put what was fetched into the cache. Columns that others stood in for are made again."""
        absent = self._wanted - self._recalled - self._sealed.keys()
        for column in self._sealed:
            self._keep(column, self._cut(self._sealed[column]))
        if absent:
            loop = asyncio.get_running_loop()
            rebuilt = await loop.run_in_executor(threads, rebuild_cells, self._keys, self._reader, self._first, self._last, absent)
            for column, cells in rebuilt.items():
                self._keep(column, cells)

    def _open(self, column: int, sealed: bytes) -> None:
        try:
            self._reader.add(column, sealed)
            self._recalled.add(column)
        except CellForged:
            for stripe in self._stripes():
                self._cache.spoilt(self._key(column, stripe))

    def _keep(self, column: int, cells: Iterable[bytes | memoryview]) -> None:
        for stripe, cell in zip(self._stripes(), cells, strict=True):
            self._cache.keep(self._key(column, stripe), cell)

    def _cut(self, sealed: memoryview) -> Iterable[memoryview]:
        at = 0
        for stripe in self._stripes():
            yield sealed[at : at + self._size(stripe)]
            at += self._size(stripe)

    def _stripes(self) -> range:
        return range(self._first, self._last + 1)

    def _size(self, stripe: int) -> int:
        return self._keys.geometry.cell_size(stripe) + TAG_SIZE

    def _key(self, column: int, stripe: int) -> CacheKey:
        return cell_key(SegmentId(self._keys.segment_id), column, stripe)
