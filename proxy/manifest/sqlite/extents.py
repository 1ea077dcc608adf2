"""Extents: stored layouts, counted by reference, and the shards missing from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from msgspec.structs import replace

from proxy.errors import ExtentMissing
from proxy.manifest.records import Extent, ExtentId, ExtentRef, GarbageSegment, Layout, Segment, SegmentId
from proxy.manifest.sqlite.ledger import queue_garbage
from proxy.manifest.sqlite.rows import Connection, encode, one

_layouts = msgspec.msgpack.Decoder(Layout)


def add_extents(connection: Connection, layouts: Iterable[Layout]) -> tuple[ExtentRef, ...]:
    refs = []
    for layout in layouts:
        cursor = connection.execute("INSERT INTO extent (refs, layout) VALUES (1, ?)", (encode(layout),))
        extent_id = ExtentId(cursor.lastrowid or 0)
        for segment in layout.segments:
            for index in segment.missing:
                connection.execute("INSERT INTO missing_shard VALUES (?, ?, ?)", (extent_id, segment.id, index))
        refs.append(ExtentRef(id=extent_id, size=layout.size))
    return tuple(refs)


def share_extents(connection: Connection, ids: Iterable[ExtentId]) -> tuple[ExtentRef, ...]:
    refs = []
    for extent_id in ids:
        row = connection.execute("UPDATE extent SET refs = refs + 1 WHERE id = ? RETURNING layout", (extent_id,)).fetchone()
        if row is None:
            raise ExtentMissing(f"extent {extent_id} is gone")
        refs.append(ExtentRef(id=extent_id, size=_layouts.decode(row[0]).size))
    return tuple(refs)


def drop_extents(connection: Connection, extents: Iterable[ExtentRef], now_ms: int) -> None:
    """Count references down; what nobody refers to any more becomes garbage."""
    for extent in extents:
        last = connection.execute("DELETE FROM extent WHERE id = ? AND refs <= 1 RETURNING layout", (extent.id,)).fetchone()
        if last is None:
            connection.execute("UPDATE extent SET refs = refs - 1 WHERE id = ?", (extent.id,))
            continue
        segments = _layouts.decode(last[0]).segments
        queue_garbage(connection, [_garbage(segment) for segment in segments], now_ms)
        if any(segment.missing for segment in segments):
            connection.execute("DELETE FROM missing_shard WHERE extent = ?", (extent.id,))


def _garbage(segment: Segment) -> GarbageSegment:
    return GarbageSegment(id=segment.id, stores=() if segment.strays else segment.stores, generations=segment.generations)


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
    segments = tuple(
        replace(segment, missing=tuple(index for index in segment.missing if index != shard_index)) if segment.id == segment_id else segment
        for segment in layout.segments
    )
    connection.execute("UPDATE extent SET layout = ? WHERE id = ?", (encode(replace(layout, segments=segments)), extent_id))
    connection.execute("DELETE FROM missing_shard WHERE extent = ? AND segment = ? AND shard = ?", (extent_id, segment_id, shard_index))


def count_missing_shards(connection: Connection) -> int:
    (count,) = connection.execute("SELECT count(*) FROM missing_shard").fetchone()
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
