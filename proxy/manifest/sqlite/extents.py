"""Extents: stored layouts, counted by reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from proxy.errors import ExtentMissing
from proxy.manifest.plans.extents import CountedExtent, garbage_of, plan_references
from proxy.manifest.records import Extent, ExtentId, ExtentRef, Layout
from proxy.manifest.sqlite.damage import forget_extent, note_missing
from proxy.manifest.sqlite.layouts import decode_layout, find_layout
from proxy.manifest.sqlite.ledger import queue_garbage
from proxy.manifest.sqlite.rows import Connection, encode
from proxy.manifest.sqlite.slots import forget_pack, leave_slots

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
        released = _but_left(connection, released)
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


def release(connection: Connection, released: Sequence[ExtentRef], now_ms: int) -> None:
    """Count out what versions used whose rows are gone, of all of a step together: many leave the same pack."""
    change_references(connection, released=released, now_ms=now_ms)
    leave_slots(connection, released, now_ms)


def _but_left(connection: Connection, released: Sequence[ExtentRef]) -> tuple[ExtentRef, ...]:
    """Count uses of slots out at once, where others use the pack: what that consists of need not even be read. Return the other uses."""
    uses = Counter(ref.id for ref in released if ref.offset is not None)
    left = {
        extent_id
        for extent_id, count in uses.items()
        if connection.execute("UPDATE extent SET refs = refs - ?2 WHERE id = ?1 AND refs > ?2", (extent_id, count)).rowcount
    }
    return tuple(ref for ref in released if ref.id not in left)


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
