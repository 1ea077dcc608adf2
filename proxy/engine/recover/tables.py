"""The tables of packs whose labels were read: which versions lie in which slot.

A table is read as an object in a pack is: by one request, or from k other shards where that store fails or lies, so that a liar is known
by then (see `slot_fetch`). What that says of shards goes on record with the pack. A few tables are read side by side, and noted with the
position behind them, in one step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

import msgspec
from msgspec.structs import replace

from proxy.codec.geometry import Scheme, SegmentGeometry
from proxy.engine.damage import kind_of
from proxy.engine.placing.fleet import Fleet
from proxy.engine.reading.fetch import Upstream
from proxy.engine.reading.keys_in_use import KeysInUse
from proxy.engine.reading.slot_fetch import SlotFetch
from proxy.engine.reading.windows import SlotWindow
from proxy.engine.recover.assembly import pack_subject, slots_of
from proxy.engine.recover.notes import Notes, Tell
from proxy.engine.recover.placing import place_shards
from proxy.errors import IntegrityError, NotEnoughShards, ProxyError
from proxy.keyring import TenantCipher
from proxy.manifest.damage import DamageKind
from proxy.manifest.records import BucketName, Extent, ExtentId, Layout, Segment, SegmentId
from proxy.manifest.recovery import Finding, FoundPack, FoundSlot, Labelled
from proxy.manifest.sqlite.notebook import Notebook

AT_ONCE = 16  # tables: one has up to some 2 MiB
TRIES = 2
POSITION = "tables"
_positions = msgspec.msgpack.Decoder(tuple[bytes, SegmentId])


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """What decides where a pack belongs: the policies of buckets, the stores of each, and which stores were silent."""

    policies: Mapping[BucketName, str]
    stores_of: Mapping[BucketName, Sequence[str]]
    silent: Collection[str]


@dataclass(slots=True)
class _Pins:
    """Takes reports of damage, for the one pack that is being read."""

    kinds: dict[int, DamageKind] = field(default_factory=dict)

    def found(self, _extent_id: ExtentId, _segment: Segment, shard_index: int, failure: ProxyError) -> None:
        kind = kind_of(failure)
        if kind is not None:
            self.kinds[shard_index] = kind


@dataclass(frozen=True, slots=True)
class _Told:
    pack: FoundPack | None
    findings: Sequence[Finding]


class TableReader:
    """Reads the tables of all packs that the notebook has labels of."""

    def __init__(
        self, fleet: Fleet, ciphers: Mapping[str, TenantCipher], places: Places, notes: Notes, threads: Executor, tell: Tell
    ) -> None:
        self._fleet = fleet
        self._ciphers = ciphers
        self._places = places
        self._notes = notes
        self._threads = threads
        self._tell = tell

    async def run(self) -> None:
        """Go on from where the notebook says."""
        kept = await self._notes.run(Notebook.load, POSITION)
        position = (b"", SegmentId(b"")) if kept is None else _positions.decode(kept)
        total, done = await self._notes.run(Notebook.count_packs), 0
        while batch := await self._notes.run(Notebook.packs, position, AT_ONCE):
            told = await asyncio.gather(*(self._read(pack) for pack in batch))
            position = batch[-1].body, batch[-1].segment.id
            await self._notes.run(
                Notebook.add_packs,
                [one.pack for one in told if one.pack is not None],
                [finding for one in told for finding in one.findings],
                name=POSITION,
                position=msgspec.msgpack.encode(position),
            )
            done += len(batch)
            self._tell("packs", done, total)

    async def _read(self, pack: Labelled) -> _Told:
        pins = _Pins()
        try:
            table = await self._table(pack, pins)
        except (NotEnoughShards, IntegrityError) as error:
            return _Told(None, [Finding(sort="unread", subject=pack_subject(pack), reason=f"its table: {error}")])
        slots, findings = slots_of(pack, table)
        return _Told(await self._found(pack, slots, pins) if slots else None, findings)

    async def _table(self, pack: Labelled, pins: _Pins) -> bytes:
        extent = Extent(id=ExtentId(0), layout=_layout(pack))
        window = SlotWindow(extent, pack.segment, pack.table_offset, pack.table_size, 0, pack.table_size)
        cipher, upstream = self._ciphers[pack.tenant_key_id], Upstream(self._fleet, self._threads, pins, KeysInUse())
        for _ in range(TRIES - 1):
            try:
                return b"".join(await SlotFetch(window, cipher, upstream).run())
            except NotEnoughShards:  # a store that failed may answer now
                continue
        return b"".join(await SlotFetch(window, cipher, upstream).run())

    async def _found(self, pack: Labelled, slots: Sequence[FoundSlot], pins: _Pins) -> FoundPack:
        """All that share a pack were written under one policy, so any bucket of theirs that is still there tells which."""
        known = [slot.bucket for slot in slots if slot.bucket in self._places.policies]
        segment = await self._placed(pack, known[0]) if known and pack.segment.missing else pack.segment
        layout = replace(
            _layout(pack),
            policy=self._places.policies[known[0]] if known else "",
            slots=len(slots),
            content_size=sum(slot.draft.size for slot in slots),
            segments=(segment,),
        )
        return FoundPack(layout=layout, slots=tuple(slots), damage=tuple(pins.kinds.items()))

    async def _placed(self, pack: Labelled, bucket: BucketName) -> Segment:
        """Return the segment with a place for its missing shards in stores of the policy: the label alone did not tell which that is."""
        segment = pack.segment
        geometry = SegmentGeometry(Scheme(pack.k, pack.m), segment.size)
        placed = place_shards(
            segment.id,
            size=segment.size,
            shard_count=geometry.scheme.n,
            shard_size=geometry.cells_size + segment.footer_size,
            sightings=(await self._notes.run(Notebook.sightings, [segment.id]))[segment.id],
            silent=self._places.silent,
            stores=self._places.stores_of[bucket],
        )
        return replace(placed, footer_size=segment.footer_size)


def _layout(pack: Labelled) -> Layout:
    return Layout(
        size=pack.segment.size,
        k=pack.k,
        m=pack.m,
        tenant_key_id=pack.tenant_key_id,
        wrapped_key=pack.wrapped_key,
        segments=(pack.segment,),
    )
