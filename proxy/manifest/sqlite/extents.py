"""Extents: stored layouts, counted by reference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import msgspec

from proxy.errors import ExtentMissing
from proxy.manifest.plans.extents import CountedExtent, garbage_of, plan_references
from proxy.manifest.records import Extent, ExtentId, ExtentRef, Layout
from proxy.manifest.sqlite.batches import look_up
from proxy.manifest.sqlite.damage import note_missing
from proxy.manifest.sqlite.layouts import decode_layout, find_layout
from proxy.manifest.sqlite.ledger import queue_garbage
from proxy.manifest.sqlite.rows import Connection, encode
from proxy.manifest.sqlite.slots import leave_unused, slots_of

SEGMENTS_AT_ONCE = 2000  # whose shards are queued for deletion in one step: some 100 ms
_COUNT_OUT = "INSERT INTO counted_out VALUES (?, ?, ?, ?, ?)"
_counts = msgspec.json.Decoder(tuple[int, int | None, str | None])
_COUNTED = (
    "SELECT json_array(refs, (SELECT slots FROM pack WHERE extent = id), CASE WHEN refs <= ? THEN hex(layout) END) FROM extent WHERE id = ?"
)
PAGE_SIZE = 512 * 1024  # of stored layouts in one answer: some 5,000 segments, ten times as large in memory


class _Counted(NamedTuple):
    """How often an extent is used, and how many slots are, if it is a pack. The layout is told if all uses end."""

    references: int
    slots: int
    layout: Layout | None


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
    plan = plan_references(counted_extents(connection, {ref.id for ref in (*shared, *released)}), shared=shared, released=released)
    for extent_id, count in plan.counts:
        connection.execute("UPDATE extent SET refs = ? WHERE id = ?", (count, extent_id))
    _bury_at_once(connection, plan.gone, now_ms)
    return shared


def release(connection: Connection, released: Sequence[ExtentRef], now_ms: int) -> None:
    """Count out what versions used whose rows are gone, of all of a step together: many leave the same pack.

    Where others go on using a pack, what it consists of is not even read.
    """
    uses: dict[ExtentId, int] = {}  # no Counter: to make one takes as long as a statement
    for ref in released:
        uses[ref.id] = uses.get(ref.id, 0) + 1
    slots = slots_of(released)
    gone: list[Extent] = []
    for extent_id, counted in _counted(connection, uses):
        if counted.layout is not None:
            gone.append(Extent(id=extent_id, layout=counted.layout))
        else:
            _count_out(connection, extent_id, counted, uses[extent_id], slots.get(extent_id, {}), now_ms)
    for extent_id in _bury_at_once(connection, gone, now_ms):
        leave_unused(connection, extent_id, slots.get(extent_id, {}), now_ms)


def _count_out(connection: Connection, extent_id: ExtentId, counted: _Counted, uses: int, slots: Mapping[int, int], now_ms: int) -> None:
    """Count out some uses of an extent among more, and those of its slots that nobody uses any more."""
    # A pack has at least as many uses as slots in use. Where as many are left as there are slots without those, nobody uses those.
    are_left = counted.slots - len(slots) == counted.references - uses
    sizes = tuple(slots.values()) if are_left else ()
    connection.execute(_COUNT_OUT, (extent_id, uses, len(sizes), sum(sizes), now_ms))
    if slots and not are_left:
        leave_unused(connection, extent_id, slots, now_ms)


def _counted(connection: Connection, uses: Mapping[ExtentId, int]) -> Iterator[tuple[ExtentId, _Counted]]:
    """Yield how those of the extents are used that are still there."""
    for extent_id, counted in zip(uses, look_up(connection, _COUNTED, [(uses[one], one) for one in uses]), strict=True):
        if isinstance(counted, str):
            references, slots, layout = _counts.decode(counted)
            yield extent_id, _Counted(references, slots or 0, None if layout is None else decode_layout(bytes.fromhex(layout)))


def _bury_at_once(connection: Connection, gone: Iterable[Extent], now_ms: int) -> list[ExtentId]:
    """Make garbage of extents. An object of a TiB has 64 Ki segments, and clients wait for this step: the rest is the collector's, and is
    returned.
    """
    buried: list[Extent] = []
    left: list[ExtentId] = []
    room = SEGMENTS_AT_ONCE
    for extent in gone:
        room -= len(extent.layout.segments)
        if room >= 0:
            buried.append(extent)
        else:
            connection.execute("UPDATE extent SET refs = 0 WHERE id = ?", (extent.id,))
            left.append(extent.id)
    _bury(connection, buried, now_ms)
    return left


def bury_extents(connection: Connection, now_ms: int) -> int:
    buried: list[Extent] = []
    room = SEGMENTS_AT_ONCE
    for extent_id, layout in connection.execute("SELECT id, layout FROM extent WHERE refs = 0 ORDER BY id LIMIT 100").fetchall():
        extent = Extent(id=ExtentId(extent_id), layout=decode_layout(layout))
        buried.append(extent)
        room -= len(extent.layout.segments)
        if room <= 0:
            break
    _bury(connection, buried, now_ms)
    return len(buried)


def _bury(connection: Connection, extents: Sequence[Extent], now_ms: int) -> None:
    for extent in extents:
        connection.execute("INSERT INTO buried VALUES (?)", (extent.id,))
    queue_garbage(connection, chain.from_iterable(garbage_of(extent.layout) for extent in extents), now_ms)


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
