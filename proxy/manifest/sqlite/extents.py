"""Extents: stored layouts, counted by reference, and the shards missing from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from proxy.errors import ExtentMissing
from proxy.manifest.plans.extents import CountedExtent, garbage_of, missing_shards, plan_references, with_shard
from proxy.manifest.records import Extent, ExtentId, ExtentRef, Layout, Segment, SegmentId
from proxy.manifest.sqlite.ledger import queue_garbage
from proxy.manifest.sqlite.rows import Connection, encode, one

_layouts = msgspec.msgpack.Decoder(Layout)


def add_extents(connection: Connection, layouts: Iterable[Layout]) -> tuple[ExtentRef, ...]:
    refs = []
    for layout in layouts:
        cursor = connection.execute("INSERT INTO extent (refs, layout) VALUES (1, ?)", (encode(layout),))
        extent_id = ExtentId(cursor.lastrowid or 0)
        rows = [(extent_id, segment_id, index) for segment_id, index in missing_shards(layout)]
        connection.executemany("INSERT INTO missing_shard VALUES (?, ?, ?)", rows)
        refs.append(ExtentRef(id=extent_id, size=layout.size))
    return tuple(refs)


def change_references(
    connection: Connection, *, shared: Sequence[ExtentId] = (), released: Iterable[ExtentRef] = (), now_ms: int
) -> tuple[ExtentRef, ...]:
    """Count references as one step changes them, and return those to what is shared. What nobody refers to any more becomes garbage."""
    released = tuple(released)
    plan = plan_references(_counted(connection, {*shared, *(ref.id for ref in released)}), shared=shared, released=released)
    connection.executemany("UPDATE extent SET refs = ? WHERE id = ?", [(count, extent_id) for extent_id, count in plan.counts])
    for extent in plan.gone:
        connection.execute("DELETE FROM extent WHERE id = ?", (extent.id,))
        queue_garbage(connection, garbage_of(extent.layout), now_ms)
        if missing_shards(extent.layout):
            connection.execute("DELETE FROM missing_shard WHERE extent = ?", (extent.id,))
    return plan.shared


def _counted(connection: Connection, ids: Iterable[ExtentId]) -> Iterator[CountedExtent]:
    for extent_id in ids:
        row = connection.execute("SELECT refs, layout FROM extent WHERE id = ?", (extent_id,)).fetchone()
        if row is not None:
            yield CountedExtent(extent=Extent(id=extent_id, layout=_layouts.decode(row[1])), references=row[0])


def load_extents(connection: Connection, ids: Sequence[ExtentId]) -> tuple[Extent, ...]:
    extents = []
    for extent_id in ids:
        layout = one(connection, "SELECT layout FROM extent WHERE id = ?", (extent_id,), _layouts)
        if layout is None:
            raise ExtentMissing(f"extent {extent_id} is gone")
        extents.append(Extent(id=extent_id, layout=layout))
    return tuple(extents)


def record_shard(connection: Connection, extent_id: ExtentId, segment_id: SegmentId, shard_index: int) -> None:
    layout = one(connection, "SELECT layout FROM extent WHERE id = ?", (extent_id,), _layouts)
    if layout is None:
        return
    changed = with_shard(layout, segment_id, shard_index)
    connection.execute("UPDATE extent SET layout = ? WHERE id = ?", (encode(changed), extent_id))
    connection.execute("DELETE FROM missing_shard WHERE extent = ? AND segment = ? AND shard = ?", (extent_id, segment_id, shard_index))


def count_missing_shards(connection: Connection, limit: int) -> int:
    (count,) = connection.execute("SELECT count(*) FROM (SELECT 1 FROM missing_shard LIMIT ?)", (limit,)).fetchone()
    return int(count)


def find_missing_shards(connection: Connection, limit: int) -> tuple[tuple[ExtentId, Segment, int], ...]:
    rows = connection.execute(
        "SELECT m.extent, m.segment, m.shard, e.layout FROM missing_shard m JOIN extent e ON e.id = m.extent LIMIT ?", (limit,)
    )
    found = []
    for extent_id, segment_id, index, layout in rows:
        segment = next(item for item in _layouts.decode(layout).segments if item.id == segment_id)
        found.append((ExtentId(extent_id), segment, int(index)))
    return tuple(found)
