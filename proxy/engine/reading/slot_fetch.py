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

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from proxy.codec.format import TAG_SIZE
from proxy.codec.segment import SegmentKeys
from proxy.codec.slots import Slot
from proxy.engine.cache.cache import SealedCache
from proxy.engine.reading.fetch import ColumnFetch, DamageReports, Upstream, WindowFetch, is_healthy
from proxy.engine.reading.slot_at_hand import SlotAtHand
from proxy.engine.reading.windows import SlotWindow, Window
from proxy.errors import IntegrityError, NotEnoughShards, ProxyError, SlotForged
from proxy.keyring import TenantCipher
from proxy.manifest.records import ExtentId, Segment


class SlotFetch:
    """The fetch of one slot, or of a range of it: it is always fetched whole, or there would be no tag. Runs once."""

    def __init__(self, window: SlotWindow, cipher: TenantCipher, upstream: Upstream, at_hand: SlotAtHand | None = None) -> None:
        """`at_hand` is the slot's, if that is known. Raises `ShardMismatch` if there is no such slot in the pack."""
        self._window = window
        self._cipher = cipher
        self._upstream = upstream
        self._at_hand = at_hand or SlotAtHand(window.extent, window.slot_offset, window.size, cipher, upstream)
        self._keys, self._slot, self._key = self._at_hand.keys, self._at_hand.slot, self._at_hand.key

    def booked(self) -> AbstractContextManager[None]:
        """As of a window: one column is never spread."""
        return nullcontext()

    @property
    def memory_bytes(self) -> int:
        """The memory of the sealed and the opened slot or, if its store is known to be down, that of k columns as they are decoded."""
        slot = self._slot
        if is_healthy(self._upstream.fleet, self._window.segment, slot.column):
            return self._at_hand.memory_bytes
        return 3 * slot.geometry.scheme.k * slot.length

    def at_hand(self) -> list[memoryview] | None:
        """Return the plaintext wanted if the cache or the slot's own store has it at hand. None: `run` will tell."""
        plaintext = self._at_hand.read()
        return None if plaintext is None else self._wanted(plaintext)

    async def run(self) -> list[memoryview]:
        """Return the plaintext wanted, in one piece. Raises `NotEnoughShards`."""
        cache = self._upstream.cache
        if cache is None:
            return self._wanted((await self._fetched()).plaintext)
        recalled = await self._recalled(cache)
        if recalled is not None:
            return self._wanted(recalled)
        fetched = await self._fetched()
        cache.keep(self._key, fetched.sealed)
        return self._wanted(fetched.plaintext)

    def _wanted(self, plaintext: bytes) -> list[memoryview]:
        start = self._window.start
        return [memoryview(plaintext)[start : start + self._window.length]]

    async def _recalled(self, cache: SealedCache) -> bytes | None:
        sealed = (await cache.recall({self._key: self._slot.size + TAG_SIZE})).get(self._key)
        try:
            return None if sealed is None else self._slot.open_sealed(self._keys, sealed)
        except SlotForged:
            cache.spoilt(self._key)
            return None

    async def _fetched(self) -> _Opened:
        slot, runs = self._slot, _Runs(self._slot, self._keys)
        suspicion = _Suspicion(slot.column, self._upstream.reporter)
        columns = ColumnFetch(
            self._window.extent,
            self._window.segment,
            runs,
            wanted=frozenset((slot.column,)),
            span=(slot.start, slot.length),
            upstream=self._upstream._replace(reporter=suspicion),
        )
        try:
            await columns.gather()
            opened = runs.opened()
        except SlotForged:
            return await self._by_cells()
        except NotEnoughShards:
            if suspicion.is_raised:  # only tags tell whether it is right
                return await self._by_cells()
            raise
        suspicion.confirm()
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
