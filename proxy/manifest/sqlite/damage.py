"""Damage: what is wrong with which shard, and the queue of segments to repair."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import msgspec

from proxy.codec.format import segment_prefix
from proxy.manifest.damage import WHOLE_SEGMENT, Damage, DamageCount, Damaged, DamageKind, Leftover, Repair
from proxy.manifest.plans.damage import (
    ARRIVES_WITHIN_MS,
    LONGEST_WAIT_MS,
    damage_at_commit,
    drawn_shards,
    find_segment,
    is_current,
    outweighs,
    redundancy,
    waits_ms,
    with_segment,
    without_missing,
    without_strays,
)
from proxy.manifest.records import Extent, ExtentId, Layout, Segment, SegmentId
from proxy.manifest.sqlite.layouts import find_layout, save_layout
from proxy.manifest.sqlite.ledger import queue_shards
from proxy.manifest.sqlite.losses import note_losses, take_back_loss
from proxy.manifest.sqlite.rows import Connection

Key = TypeVar("Key", ExtentId, SegmentId)

_COLUMNS = "extent, segment, shard, kind, store, generation"
_DAMAGE_OF = f"SELECT {_COLUMNS}, since FROM damage WHERE extent = ? AND segment = ? ORDER BY shard"  # noqa: S608 - of constants
_DAMAGE_AT = f"SELECT {_COLUMNS} FROM damage WHERE extent = ? AND segment = ? AND shard = ?"  # noqa: S608 - of constants
_FORGET = "DELETE FROM damage WHERE extent = ? AND segment = ? AND shard = ?"
# A seek each redundancy there is: how many rows wait for later does not matter.
_REDUNDANCIES = (
    "WITH RECURSIVE found (level) AS (SELECT min(redundancy) FROM repair"
    " UNION ALL SELECT (SELECT min(redundancy) FROM repair WHERE redundancy > found.level) FROM found WHERE found.level IS NOT NULL)"
    " SELECT level FROM found WHERE level IS NOT NULL"
)
_DUE = (
    "SELECT extent, segment, redundancy, since, due, failures FROM repair"
    " WHERE redundancy = ?1 AND due BETWEEN ?2 AND ?3 ORDER BY due LIMIT ?4"
)
_COUNT_LEVEL = "SELECT count(*) FROM (SELECT 1 FROM repair WHERE redundancy = ? LIMIT ?)"
_COUNT_KINDS = "SELECT store, kind, count(*) FROM (SELECT store, kind FROM damage LIMIT ?) GROUP BY store, kind"
_OLDEST = "SELECT min(since) FROM (SELECT since FROM repair LIMIT ?)"
_PUT_OFF = "UPDATE repair SET due = ?, failures = failures + 1 WHERE extent = ? AND segment = ? AND redundancy >= ?"
_PAGE = "SELECT extent, segment FROM repair WHERE (extent, segment) > (?, ?) ORDER BY extent, segment LIMIT ?"
_LOST = "SELECT extent, segment FROM repair WHERE redundancy < 0 AND (extent, segment) > (?, ?) ORDER BY extent, segment LIMIT ?"
RepairKey: TypeAlias = tuple[ExtentId, SegmentId]
NEVER_MS = 2**62
_targets = msgspec.msgpack.Decoder(dict[int, str])


@dataclass(frozen=True, slots=True)
class SegmentRows:
    """A segment as it is on record. `since` has the time of each damage."""

    layout: Layout
    segment: Segment
    damage: dict[int, Damage]
    since: dict[int, int]


def note_missing(connection: Connection, extent_id: ExtentId, layout: Layout, now_ms: int) -> None:
    """Put on record what a commit knows to be wrong with an extent; a shard that is late has some time to arrive by itself."""
    found = damage_at_commit(extent_id, layout)
    connection.executemany("INSERT INTO damage VALUES (?, ?, ?, ?, ?, ?, ?)", [(*_row(damage), now_ms) for damage in found])
    for segment_id in dict.fromkeys(damage.segment_id for damage in found):
        _queue(connection, extent_id, layout, segment_id, now_ms + ARRIVES_WITHIN_MS)


def report_damage(connection: Connection, reports: Sequence[Damage], now_ms: int) -> int:
    """An extent may have thousands of segments, and be reported whole: it is read once, and each report looked at once."""
    new = 0
    for extent_id, of_extent in _grouped(reports, lambda report: report.extent_id).items():
        layout = find_layout(connection, extent_id)
        segments = {} if layout is None else {segment.id: segment for segment in layout.segments}
        for segment_id, of_segment in _grouped(of_extent, lambda report: report.segment_id).items():
            if layout is not None and segment_id in segments:
                rows = _rows_of(connection, extent_id, layout, segments[segment_id])
                new += _report(connection, rows, of_segment, now_ms)
    return new


def _grouped(reports: Iterable[Damage], key: Callable[[Damage], Key]) -> dict[Key, list[Damage]]:
    groups: dict[Key, list[Damage]] = {}
    for report in reports:
        groups.setdefault(key(report), []).append(report)
    return groups


def _report(connection: Connection, rows: SegmentRows, reports: Iterable[Damage], now_ms: int) -> int:
    news = {
        report.shard_index: report
        for report in reports
        if is_current(rows.segment, report) and outweighs(report, rows.damage.get(report.shard_index))
    }
    connection.executemany("INSERT OR REPLACE INTO damage VALUES (?, ?, ?, ?, ?, ?, ?)", [(*_row(new), now_ms) for new in news.values()])
    note_losses(connection, news.values(), now_ms)
    level = redundancy(rows.layout, {**rows.damage, **news}.values())
    for new in news.values():
        _queue(connection, new.extent_id, rows.layout, new.segment_id, now_ms + waits_ms(new, level))
    return len(news)


def unknown_damage(connection: Connection, reports: Sequence[Damage]) -> tuple[Damage, ...]:
    """Return those that nothing on record outweighs, without a look at their extents."""
    return tuple(report for report in reports if outweighs(report, _known_damage(connection, report)))


def _known_damage(connection: Connection, report: Damage) -> Damage | None:
    row = connection.execute(_DAMAGE_AT, (report.extent_id, report.segment_id, report.shard_index)).fetchone()
    return None if row is None else _damage(*row)


def settle_damage(connection: Connection, settled: Sequence[Damage]) -> None:
    for damage in settled:
        rows = read_segment(connection, damage.extent_id, damage.segment_id)
        if rows is None or not is_current(rows.segment, damage):
            continue
        take_back_loss(connection, rows.damage.get(damage.shard_index))
        forget_damage(connection, damage.extent_id, rows.layout, damage.segment_id, [damage.shard_index])
        if damage.shard_index in rows.segment.missing:
            segment = without_missing(rows.segment, [damage.shard_index])
            save_layout(connection, damage.extent_id, with_segment(rows.layout, segment))


def settle_strays(connection: Connection, extent_id: ExtentId, segment_id: SegmentId) -> None:
    rows = read_segment(connection, extent_id, segment_id)
    if rows is not None:
        save_layout(connection, extent_id, with_segment(rows.layout, without_strays(rows.segment)))
        forget_damage(connection, extent_id, rows.layout, segment_id, [WHOLE_SEGMENT])


def record_shard(connection: Connection, extent_id: ExtentId, segment_id: SegmentId, shard_index: int, store: str, now_ms: int) -> None:
    arrived = Damage(extent_id=extent_id, segment_id=segment_id, shard_index=shard_index, kind="missing", store=store)
    rows = read_segment(connection, extent_id, segment_id)
    if rows is None or not is_current(rows.segment, arrived):
        queue_shards(connection, drawn_shards(segment_id, {shard_index: store}, 0), now_ms)
    else:
        settle_damage(connection, [arrived])


def forget_damage(connection: Connection, extent_id: ExtentId, layout: Layout, segment_id: SegmentId, indexes: Iterable[int]) -> None:
    """Forget what was wrong with some shards; a segment with which nothing is wrong any more leaves the queue."""
    connection.executemany(_FORGET, [(extent_id, segment_id, index) for index in indexes])
    _queue(connection, extent_id, layout, segment_id, NEVER_MS)


def due_repairs(connection: Connection, now_ms: int, limit: int) -> tuple[Repair, ...]:
    found: list[Repair] = []
    for (level,) in connection.execute(_REDUNDANCIES).fetchall():
        for earliest, latest in ((0, now_ms), (now_ms + LONGEST_WAIT_MS, NEVER_MS)):
            rows = connection.execute(_DUE, (level, earliest, latest, limit - len(found)))
            found += [_repair(*row) for row in rows]
    return tuple(found)


def put_off_repair(connection: Connection, repair: Repair, due_ms: int) -> None:
    connection.execute(_PUT_OFF, (due_ms, repair.extent_id, repair.segment_id, repair.redundancy))


def hasten_repairs(connection: Connection, after: RepairKey, now_ms: int, limit: int) -> RepairKey | None:
    keys = connection.execute(_PAGE, (*after, limit)).fetchall()
    connection.executemany("UPDATE repair SET due = min(due, ?) WHERE extent = ? AND segment = ?", [(now_ms, *key) for key in keys])
    return (ExtentId(keys[-1][0]), SegmentId(keys[-1][1])) if len(keys) == limit else None


def find_damaged(connection: Connection, extent_id: ExtentId, segment_id: SegmentId) -> Damaged | None:
    rows = read_segment(connection, extent_id, segment_id)
    if rows is None:
        return None
    return Damaged(
        extent=Extent(id=extent_id, layout=rows.layout),
        segment=rows.segment,
        damage=tuple(rows.damage.values()),
        leftovers=_leftovers(connection, segment_id),
        drawn=connection.execute("SELECT 1 FROM draw WHERE segment = ? AND NOT revoked", (segment_id,)).fetchone() is not None,
        since_ms=min(rows.since.values(), default=0),
    )


def lost_segments(connection: Connection, after: RepairKey, limit: int) -> tuple[RepairKey, ...]:
    return tuple((ExtentId(extent), SegmentId(segment)) for extent, segment in connection.execute(_LOST, (*after, limit)))


def count_damage(connection: Connection, limit: int) -> DamageCount:
    levels = [level for (level,) in connection.execute(_REDUNDANCIES)]
    by_store: dict[tuple[str, DamageKind], int] = {(store, kind): n for store, kind, n in connection.execute(_COUNT_KINDS, (limit,))}
    return DamageCount(
        by_store=by_store,
        by_redundancy={level: int(connection.execute(_COUNT_LEVEL, (level, limit)).fetchone()[0]) for level in levels},
        oldest_ms=connection.execute(_OLDEST, (limit,)).fetchone()[0],
    )


def read_segment(connection: Connection, extent_id: ExtentId, segment_id: SegmentId) -> SegmentRows | None:
    """Return a segment with its damage, or None if it is gone."""
    layout = find_layout(connection, extent_id)
    segment = None if layout is None else find_segment(layout, segment_id)
    return None if layout is None or segment is None else _rows_of(connection, extent_id, layout, segment)


def _rows_of(connection: Connection, extent_id: ExtentId, layout: Layout, segment: Segment) -> SegmentRows:
    rows = connection.execute(_DAMAGE_OF, (extent_id, segment.id)).fetchall()
    damage = {row[2]: _damage(*row[:-1]) for row in rows}
    return SegmentRows(layout, segment, damage, {row[2]: row[-1] for row in rows})


def _queue(connection: Connection, extent_id: ExtentId, layout: Layout, segment_id: SegmentId, due_ms: int) -> None:
    """Hold a segment's row in the queue against the damage there is now. One that becomes more urgent is due at once."""
    rows = connection.execute(_DAMAGE_OF, (extent_id, segment_id)).fetchall()
    if not rows:
        connection.execute("DELETE FROM repair WHERE extent = ? AND segment = ?", (extent_id, segment_id))
        return
    level = redundancy(layout, [_damage(*row[:-1]) for row in rows])
    since_ms = min(row[-1] for row in rows)
    connection.execute(
        "INSERT INTO repair VALUES (?1, ?2, ?3, ?4, ?5, 0) ON CONFLICT (extent, segment) DO UPDATE SET"
        " due = CASE WHEN redundancy > ?3 THEN min(due, ?5) ELSE due END, redundancy = ?3, since = ?4",
        (extent_id, segment_id, level, since_ms, due_ms),
    )


def _leftovers(connection: Connection, segment_id: SegmentId) -> tuple[Leftover, ...]:
    """Return what stores may hold of a segment beside its shards, or may still get: a put under a revoked draw may come late."""
    prefix = segment_prefix(segment_id)
    rows = connection.execute("SELECT shard, store, name FROM leftover WHERE name BETWEEN ? AND ?", (prefix, prefix + "~"))
    known = [Leftover(shard_index=shard, store=store, name=name) for shard, store, name in rows]
    revoked = connection.execute("SELECT targets, generation FROM draw WHERE segment = ? AND revoked", (segment_id,))
    late = [left for targets, generation in revoked for left in drawn_shards(segment_id, _targets.decode(targets), generation)]
    return tuple(dict.fromkeys([*known, *late]))


def _row(damage: Damage) -> tuple[int, bytes, int, str, str, int]:
    return damage.extent_id, damage.segment_id, damage.shard_index, damage.kind, damage.store, damage.generation


def _damage(extent: int, segment: bytes, shard: int, kind: DamageKind, store: str, generation: int) -> Damage:
    return Damage(
        extent_id=ExtentId(extent), segment_id=SegmentId(segment), shard_index=shard, kind=kind, store=store, generation=generation
    )


def _repair(extent: int, segment: bytes, level: int, since: int, due: int, failures: int) -> Repair:
    return Repair(
        extent_id=ExtentId(extent), segment_id=SegmentId(segment), redundancy=level, since_ms=since, due_ms=due, failures=failures
    )
