"""Reading a pack to make others of it: k whole shards, every cell authenticated, then the slots opened in memory.

A pack has 4 MiB or little more, and what is rewritten is mostly half of it or all. So it is read as repair reads: the cheapest stores
first, and whoever fails or lies is left out and told of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from msgspec import DecodeError

from proxy.codec.footer import Footer
from proxy.codec.label import decode_label
from proxy.codec.segment import ColumnReader, SegmentKeys
from proxy.codec.slots import PackEntry, Slot, SlotContent, decode_table
from proxy.engine.damage import DamageReporter
from proxy.engine.moving.sources import SegmentSources
from proxy.engine.placing.fleet import Fleet
from proxy.engine.repack.bundles import LiveSlot
from proxy.engine.throttle import Throttle
from proxy.errors import ShardMismatch
from proxy.keyring import TenantCipher
from proxy.manifest.records import Extent


@dataclass(frozen=True, slots=True)
class ReadPack:
    """Objects of a pack, in the order asked, and what reading it took."""

    contents: Sequence[SlotContent]
    requests: int
    read_bytes: int


class PackReader:
    """Reads packs within a throttle. Raises `NotEnoughShards`, and `ShardMismatch` of a pack that is not what the manifest says."""

    def __init__(self, *, fleet: Fleet, threads: Executor, throttle: Throttle, reporter: DamageReporter) -> None:
        self._fleet = fleet
        self._threads = threads
        self._throttle = throttle
        self._reporter = reporter

    async def read(self, extent: Extent, slots: Sequence[LiveSlot], cipher: TenantCipher) -> ReadPack:
        """Return objects of a pack, with what its table says of each."""
        sources = SegmentSources(
            extent,
            extent.layout.segments[0],
            cipher,
            fleet=self._fleet,
            threads=self._threads,
            throttle=self._throttle,
            reporter=self._reporter,
        )
        columns = await sources.columns(0, sources.geometry.stripe_count - 1, suspect=())
        footer = next(iter(sources.footers.values()))
        opening = asyncio.get_running_loop().run_in_executor(self._threads, _open, sources.keys, columns, footer, slots)
        return ReadPack(await opening, sources.requests, sources.read_bytes)


def _open(keys: SegmentKeys, columns: ColumnReader, footer: Footer, slots: Iterable[LiveSlot]) -> Sequence[SlotContent]:
    plaintext = b"".join(columns.plaintext(0, keys.geometry.size))
    entries = _table(keys, plaintext, footer)
    return [_content(keys, plaintext, entries, slot) for slot in slots]


def _table(keys: SegmentKeys, plaintext: bytes, footer: Footer) -> Mapping[int, PackEntry]:
    label = decode_label(keys.label_cipher().open(footer.sealed_label))
    if not label.table_size:
        raise ShardMismatch(f"segment {keys.segment_id.hex()} is no pack")
    try:
        table = decode_table(Slot(keys.geometry, label.table_offset, label.table_size).extract(keys, plaintext))
    except DecodeError as error:
        raise ShardMismatch(f"the table of pack {keys.segment_id.hex()} cannot be read: {error}") from error
    return {entry.offset: entry for entry in table}


def _content(keys: SegmentKeys, plaintext: bytes, entries: Mapping[int, PackEntry], slot: LiveSlot) -> SlotContent:
    entry = entries.get(slot.offset)
    if entry is None or entry.size != slot.size:
        raise ShardMismatch(f"pack {keys.segment_id.hex()} has no object of {slot.size} bytes at {slot.offset}")
    data = Slot(keys.geometry, slot.offset, slot.size).extract(keys, plaintext)
    return SlotContent(entry.bucket, entry.key, entry.version_id, entry.record, data)
