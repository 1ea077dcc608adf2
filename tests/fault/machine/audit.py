"""The books: what the manifest says lies in the stores, held against what does; and every count of references against those who refer."""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from proxy.codec.format import is_shard_name, segment_prefix
from proxy.manifest.records import Extent, ExtentId, Layout, Part, Version
from proxy.manifest.sqlite.ledger import shards_of


@dataclass
class Audit:
    """What is wrong, as (store, name)."""

    orphans: set[tuple[str, str]] = field(default_factory=set)  # in a store, and not in the manifest
    missing: set[tuple[str, str]] = field(default_factory=set)  # in the manifest, not known to be missing, and not in the store
    miscounted: list[str] = field(default_factory=list)


def audit(manifest: Path, held: Mapping[str, set[str]]) -> Audit:
    """Compare a manifest that nobody writes with the names in each store."""
    with closing(sqlite3.connect(manifest)) as connection:
        expected, possible = _named(connection, held)
        found = {(store, name) for store, names in held.items() for name in names if is_shard_name(name)}
        return Audit(
            orphans=found - expected - possible,
            missing=expected - found,
            miscounted=list(_miscounted(connection)),
        )


def extents(connection: sqlite3.Connection) -> Iterator[tuple[Extent, int]]:
    for extent_id, references, layout in connection.execute("SELECT id, refs, layout FROM extent ORDER BY id"):
        yield Extent(id=ExtentId(extent_id), layout=msgspec.msgpack.decode(layout, type=Layout)), references


def _named(connection: sqlite3.Connection, stores: Mapping[str, set[str]]) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """Return the shards that must be there, and those that may be: known to be missing, strays in any store, or to be deleted."""
    expected: set[tuple[str, str]] = set()
    possible: set[tuple[str, str]] = set()
    for extent, _ in extents(connection):
        for segment in extent.layout.segments:
            for index, store in enumerate(segment.stores):
                name = segment.shard_name(index)
                (possible if index in segment.missing else expected).add((store, name))
            if segment.strays:
                prefix = segment_prefix(segment.id)
                possible.update((store, name) for store, names in stores.items() for name in names if name.startswith(prefix))
    possible.update(connection.execute("SELECT store, name FROM garbage WHERE NOT search AND shards IS NULL"))
    for name, shards in connection.execute("SELECT name, shards FROM garbage WHERE shards IS NOT NULL"):
        possible.update(shards_of(name, shards))
    for store, prefix in connection.execute("SELECT store, name FROM garbage WHERE search"):
        possible.update((store, name) for name in stores.get(store, ()) if name.startswith(prefix))
    return expected, possible


def _miscounted(connection: sqlite3.Connection) -> Iterator[str]:
    users: Counter[int] = Counter()
    for table, kind in (("version", Version), ("part", Part)):
        for (record,) in connection.execute(f"SELECT record FROM {table}"):
            users.update(ref.id for ref in msgspec.msgpack.decode(record, type=kind).extents)
    counted = {int(extent.id): references for extent, references in extents(connection)}
    for extent_id in sorted({*users, *counted}):
        if users[extent_id] != counted.get(extent_id, 0):
            yield f"extent {extent_id}: {counted.get(extent_id)} references counted, {users[extent_id]} there"
    yield from _miscounted_packs(connection)


def _miscounted_packs(connection: sqlite3.Connection) -> Iterator[str]:
    """Hold what is counted of each pack against the versions that use its slots: one that several share counts once."""
    slots: defaultdict[int, dict[int, int]] = defaultdict(dict)
    for record, *told in connection.execute("SELECT record, pack, slot FROM version"):
        refs = [ref for ref in msgspec.msgpack.decode(record, type=Version).extents if ref.offset is not None]
        if told != ([refs[0].id, refs[0].offset] if refs else [None, None]):
            yield f"the row of a version says that it uses slot {told}, and its record {refs}"
        for ref in refs:
            slots[ref.id][ref.offset or 0] = ref.size
    made = {int(extent.id): extent.layout.slots for extent, _ in extents(connection) if extent.layout.slots}
    rows = connection.execute("SELECT extent, live, slots, dead_since IS NOT NULL FROM pack")
    counted = {extent: (live, count, bool(dead)) for extent, live, count, dead in rows}
    for extent_id in sorted({*made, *counted, *slots}):
        used = slots[extent_id].values()
        there = (sum(used), len(used), len(used) < made.get(extent_id, 0))
        if counted.get(extent_id) != there:
            yield f"pack {extent_id}: {counted.get(extent_id)} counted (live bytes, slots, whether any is dead), {there} there"
