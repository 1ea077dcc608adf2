"""The tally: how many segments can lose how many shards, and what each store holds of what is alive. Counted by a walk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

import msgspec

from proxy.clock import Clock
from proxy.codec.geometry import Scheme, SegmentGeometry
from proxy.engine.walking.walk import Positions
from proxy.manifest.packs import Pack
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Extent, Layout, Segment, SegmentId
from proxy.manifest.tally import TALLY, Tally

_tallies = msgspec.msgpack.Decoder(Tally)


async def load_tally(positions: Positions) -> Tally | None:
    """Return what the last whole pass has counted; None before the first has ended."""
    kept = await positions.load_state(TALLY)
    return None if kept is None else _tallies.decode(kept)


class TallyObserver:
    """Counts. At the end of a pass, the tally takes the place of the one before."""

    name = "tally"

    def __init__(self, manifest: Manifest, clock: Clock, stores: Collection[str]) -> None:
        """`stores` are those that are configured: a shard in any other cannot be read."""
        self._manifest = manifest
        self._clock = clock
        self._stores = stores
        self.begin(None)

    def begin(self, kept: bytes | None) -> None:
        tally = Tally(begun_ms=self._clock.now_ms()) if kept is None else _tallies.decode(kept)
        self._begun_ms, self._extents, self._plaintext_bytes = tally.begun_ms, tally.extents, tally.plaintext_bytes
        self._packs, self._packed_bytes, self._dead_bytes = tally.packs, tally.packed_bytes, tally.dead_bytes
        self._shards = tally.shards
        self._by_redundancy = Counter(tally.by_redundancy)
        self._by_store = Counter(tally.by_store)
        self._placed = Counter(tally.placed)

    async def see(self, extents: Sequence[Extent]) -> None:
        first, last = extents[0].id, extents[-1].id
        lost = await self._manifest.lost_shards(first=first, last=last)
        packs = {pack.extent_id: pack for pack in await self._manifest.packs_between(first=first, last=last)}
        for extent in extents:
            self._extents += 1
            self._count_bytes(extent, packs.get(extent.id))
            for segment in extent.layout.segments:
                self._count(extent.layout, segment, lost)

    def keep(self) -> bytes:
        return msgspec.msgpack.encode(self._tally(0))

    async def finish(self) -> None:
        await self._manifest.save_state(TALLY, msgspec.msgpack.encode(self._tally(self._clock.now_ms())))

    def _count_bytes(self, extent: Extent, pack: Pack | None) -> None:
        """A pack's own size tells little: slots are sealed, columns are filled up, and some of what is in it may be deleted."""
        if not extent.layout.slots:
            self._plaintext_bytes += extent.layout.size
        elif pack is not None:  # it may have gone since the walk met it
            self._packs += 1
            self._plaintext_bytes += pack.live
            self._packed_bytes += pack.live
            self._dead_bytes += pack.dead

    def _count(self, layout: Layout, segment: Segment, lost: Collection[tuple[SegmentId, int]]) -> None:
        size = SegmentGeometry(Scheme(layout.k, layout.m), segment.size).cells_size + segment.footer_size
        there = [store for index, store in enumerate(segment.stores) if index not in segment.missing and (segment.id, index) not in lost]
        self._shards += len(there)
        self._placed.update(segment.stores)
        for store in there:
            self._by_store[store] += size
        self._by_redundancy[sum(store in self._stores for store in there) - layout.k] += 1

    def _tally(self, ended_ms: int) -> Tally:
        return Tally(
            begun_ms=self._begun_ms,
            ended_ms=ended_ms,
            extents=self._extents,
            segments=self._by_redundancy.total(),
            shards=self._shards,
            plaintext_bytes=self._plaintext_bytes,
            packs=self._packs,
            packed_bytes=self._packed_bytes,
            dead_bytes=self._dead_bytes,
            by_redundancy=self._by_redundancy,
            by_store=self._by_store,
            placed=self._placed,
        )
