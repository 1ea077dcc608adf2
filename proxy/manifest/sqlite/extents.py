"""Extents: stored layouts, counted by reference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from proxy.errors import ExtentMissing
from proxy.manifest.plans.extents import CountedExtent, garbage_of, plan_references
from proxy.manifest.records import Extent, ExtentId, ExtentRef, Layout
from proxy.manifest.sqlite.damage import forget_extent, note_missing
from proxy.manifest.sqlite.layouts import decode_layout, find_layout
from proxy.manifest.sqlite.ledger import queue_garbage
from proxy.manifest.sqlite.rows import Connection, encode
from proxy.manifest.sqlite.slots import forget_pack

SEGMENTS_AT_ONCE = 2000  # whose shards are queued for deletion in one step: some 100 ms
PAGE_SIZE = 512 * 1024  # of stored layouts in one answer: some 5,000 segments, ten times as large in memory


def add_extents(connection: Connection, layouts: Iterable[Layout], *, now_ms: int) -> tuple[ExtentRef, ...]:
    return tuple(ExtentRef(id=add_extent(connection, layout, 1, now_ms), size=layout.size) for layout in layouts)


def add_extent(connection: Connection, layout: Layout, references: int, now_ms: int) -> ExtentId:
    cursor = connection.execute("INSERT INTO extent (refs, layout) VALUES (?, ?)", (references, encode(layout)))
    extent_id = ExtentId(cursor.lastrowid or 0)
    note_missing(connection, extent_id, layout, now_ms)
    return extent_id


def change_references(
    connection: Connection, *, shared: Sequence[ExtentRef] = (), released: Iterable[ExtentRef] = (), now_ms: int
) -> tuple[ExtentRef, ...]:
    """Count references as one step changes them, and return those to what is shared. What nobody refers to any more becomes garbage."""
    shared, released = tuple(shared), tuple(released)
    if not shared:
        released = tuple(ref for ref in released if not _leaves_others(connection, ref))
        if not released:
            return ()
    plan = plan_references(counted_extents(connection, {ref.id for ref in (*shared, *released)}), shared=shared, released=released)
    for extent_id, count in plan.counts:
        connection.execute("UPDATE extent SET refs = ? WHERE id = ?", (count, extent_id))
    room = SEGMENTS_AT_ONCE
    for extent in plan.gone:
        room -= len(extent.layout.segments)
        if room >= 0:
            _bury(connection, extent, now_ms)
        else:  # an object of a TiB has 64 Ki segments, and clients wait for this step: the rest is the collector's
            connection.execute("UPDATE extent SET refs = 0 WHERE id = ?", (extent.id,))
    return shared


def _leaves_others(connection: Connection, ref: ExtentRef) -> bool:
    """Count a slot's use out at once, if others use the pack: what that consists of need not even be read."""
    if ref.offset is None:
        return False
    return connection.execute("UPDATE extent SET refs = refs - 1 WHERE id = ? AND refs > 1", (ref.id,)).rowcount == 1


def bury_extents(connection: Connection, now_ms: int) -> int:
    buried, room = 0, SEGMENTS_AT_ONCE
    for extent_id, layout in connection.execute("SELECT id, layout FROM extent WHERE refs = 0 ORDER BY id LIMIT 100").fetchall():
        extent = Extent(id=ExtentId(extent_id), layout=decode_layout(layout))
        _bury(connection, extent, now_ms)
        buried, room = buried + 1, room - len(extent.layout.segments)
        if room <= 0:
            break
    return buried


def _bury(connection: Connection, extent: Extent, now_ms: int) -> None:
    connection.execute("DELETE FROM extent WHERE id = ?", (extent.id,))
    if extent.layout.slots:
        forget_pack(connection, extent.id)
    queue_garbage(connection, garbage_of(extent.layout), now_ms)
    forget_extent(connection, extent.id)


def counted_extents(connection: Connection, ids: Iterable[ExtentId]) -> Iterator[CountedExtent]:
    """Yield those of the extents that are still there."""
    for extent_id in ids:
        row = connection.execute("SELECT refs, layout FROM extent WHERE id = ?", (extent_id,)).fetchone()
        if row is not None:
            yield CountedExtent(extent=Extent(id=extent_id, layout=decode_layout(row[1])), references=row[0])


def load_extents(connection: Connection, ids: Sequence[ExtentId]) -> tuple[Extent, ...]:
    extents = []
    for extent_id in ids:
        layout = find_layout(connection, extent_id)
        if layout is None:
            raise ExtentMissing(f"extent {extent_id} is gone")
        extents.append(Extent(id=extent_id, layout=layout))
    return tuple(extents)


def walk_extents(connection: Connection, after: ExtentId, limit: int) -> tuple[Extent, ...]:
    found: list[Extent] = []
    size = 0
    for extent_id, layout in connection.execute("SELECT id, layout FROM extent WHERE id > ? ORDER BY id LIMIT ?", (after, limit)):
        found.append(Extent(id=ExtentId(extent_id), layout=decode_layout(layout)))
        size += len(layout)
        if size > PAGE_SIZE:
            break
    return tuple(found)
