"""Fetching one slot of a pack: one request to one store, and what is done when that store fails, is late, or lies.

The slot's bytes are asked of the store of its column, and of no other. If it fails or is late, the same bytes of any k others give the slot
back. These bytes bear no tags of cells, so it is the slot's own tag that says whether the outcome is right, and it does not say which store
lied:

- What came of the column itself does not open. That is a suspicion, and k others are asked. If the slot opens with these, the suspicion is
  proved, and told. (A slot that is wrong on record would not open with these either, and no store be blamed for it.)
- What k others give does not open. Then one of them lies, or several. The cells that the slot lies in are read whole, with their tags: that
  pins each liar. A slot of 128 KiB lies in three cells at most, so this stays small whatever the scheme.
"""

from __future__ import annotations

from typing import NamedTuple

from proxy.codec.format import TAG_SIZE
from proxy.codec.geometry import Scheme, SegmentGeometry
from proxy.codec.segment import SegmentKeys
from proxy.codec.slots import Slot
from proxy.engine.cache.cache import SealedCache
from proxy.engine.cache.keys import slot_key
from proxy.engine.fetch import ColumnFetch, DamageReports, Upstream, WindowFetch
from proxy.engine.windows import SlotWindow, Window
from proxy.errors import IntegrityError, NotEnoughShards, ProxyError, SlotForged
from proxy.keyring import TenantCipher
from proxy.manifest.records import ExtentId, Segment


class SlotFetch:
    """The fetch of one slot, or of a range of it: it is always fetched whole, or there would be no tag. Runs once."""

    def __init__(self, window: SlotWindow, cipher: TenantCipher, upstream: Upstream) -> None:
        """Raises `ShardMismatch` if there is no such slot in the pack."""
        layout, segment = window.extent.layout, window.segment
        geometry = SegmentGeometry(Scheme(layout.k, layout.m), segment.size)
        keys = SegmentKeys(geometry, segment_id=segment.id, data_key=cipher.unwrap(layout.wrapped_key), tenant_key_id=layout.tenant_key_id)
        self._window = window
        self._cipher = cipher
        self._upstream = upstream
        self._keys = keys
        self._slot = slot = Slot(geometry, window.slot_offset, window.size)
        self._runs = _Runs(slot, keys)
        self._key = slot_key(segment.id, slot.offset)
        self._suspicion = _Suspicion(slot.column, upstream.reporter)
        self._columns = ColumnFetch(
            window.extent,
            segment,
            self._runs,
            wanted=frozenset((slot.column,)),
            span=(slot.start, slot.length),
            upstream=upstream._replace(reporter=self._suspicion),
        )

    @property
    def memory_bytes(self) -> int:
        """The memory of the sealed and the opened slot or, if its store is known to be down, that of k columns as they are decoded."""
        return 2 * self._slot.length if self._columns.is_healthy else 3 * self._slot.geometry.scheme.k * self._slot.length

    async def run(self) -> list[memoryview]:
        """Return the plaintext wanted, in one piece. Raises `NotEnoughShards`."""
        plaintext, start = await self._whole(), self._window.start
        return [memoryview(plaintext)[start : start + self._window.length]]

    async def _whole(self) -> bytes:
        cache = self._upstream.cache
        if cache is None:
            return (await self._fetched()).plaintext
        recalled = await self._recalled(cache)
        if recalled is not None:
            return recalled
        fetched = await self._fetched()
        cache.keep(self._key, fetched.sealed)
        return fetched.plaintext

    async def _recalled(self, cache: SealedCache) -> bytes | None:
        sealed = (await cache.recall({self._key: self._slot.size + TAG_SIZE})).get(self._key)
        try:
            return None if sealed is None else self._slot.open_sealed(self._keys, sealed)
        except SlotForged:
            cache.spoilt(self._key)
            return None

    async def _fetched(self) -> _Opened:
        try:
            await self._columns.gather()
            opened = self._runs.opened()
        except SlotForged:
            return await self._by_cells()
        except NotEnoughShards:
            if self._suspicion.is_raised:  # only tags tell whether it is right
                return await self._by_cells()
            raise
        self._suspicion.confirm()
        return opened

    async def _by_cells(self) -> _Opened:
        """Read the slot out of cells whose tags are checked. Whoever lies is told of, and done without."""
        pieces: list[memoryview] = []
        for start, length in self._slot.plaintext_runs():
            cell = Window(self._window.extent, self._window.segment, start, length)
            pieces += await WindowFetch(cell, self._cipher, self._upstream).run()
        return _Opened.of(self._slot, self._keys, b"".join(pieces))


class _Opened(NamedTuple):
    """A slot as it is sealed, and what it holds."""

    sealed: bytes
    plaintext: bytes

    @classmethod
    def of(cls, slot: Slot, keys: SegmentKeys, sealed: bytes) -> _Opened:
        """Open a slot. Raises `SlotForged`."""
        return cls(sealed, slot.open_sealed(keys, sealed))


class _Runs:
    """What shards have where the slot lies: that of its own column opened, those of others as they came."""

    def __init__(self, slot: Slot, keys: SegmentKeys) -> None:
        self._slot = slot
        self._keys = keys
        self._own: _Opened | None = None
        self._others: dict[int, bytes | memoryview] = {}

    @property
    def indexes(self) -> frozenset[int]:
        own = () if self._own is None else (self._slot.column,)
        return frozenset((*self._others, *own))

    def add(self, shard_index: int, sealed: bytes | memoryview) -> None:
        """Take one shard's bytes. Raises `SlotForged` if those of the slot's own column do not open; others cannot be checked alone."""
        if shard_index == self._slot.column:
            self._own = _Opened.of(self._slot, self._keys, self._slot.sealed(self._keys, sealed))
        else:
            self._others[shard_index] = sealed

    def opened(self) -> _Opened:
        """Return the slot from its own column, or from k others. Raises `SlotForged` if one of these, or more, is wrong."""
        return self._own or _Opened.of(self._slot, self._keys, self._slot.sealed_by(self._keys, self._others))


class _Suspicion:
    """Reports of damage, where that of the slot's own column waits until it is proved."""

    def __init__(self, column: int, reports: DamageReports) -> None:
        self._column = column
        self._reports = reports
        self._raised: tuple[ExtentId, Segment, IntegrityError] | None = None

    @property
    def is_raised(self) -> bool:
        return self._raised is not None

    def found(self, extent_id: ExtentId, segment: Segment, shard_index: int, failure: ProxyError) -> None:
        if shard_index == self._column and isinstance(failure, IntegrityError):
            self._raised = (extent_id, segment, failure)
        else:
            self._reports.found(extent_id, segment, shard_index, failure)

    def confirm(self) -> None:
        """Tell of it, if there is one: the slot has opened with what others have."""
        if self._raised is not None:
            extent_id, segment, failure = self._raised
            self._reports.found(extent_id, segment, self._column, failure)
