"""Steps for those who compare the manifest with its stores: pages of what explains a name, and orphans in quarantine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from proxy.manifest.damage import LOSSES, Draw
from proxy.manifest.quarantine import Orphan, Quarantined
from proxy.manifest.records import ExtentId, Garbage, Intent, IntentId, SegmentId
from proxy.manifest.sqlite.ledger import ids_of, shards_of
from proxy.manifest.sqlite.rows import Connection

_targets = msgspec.msgpack.Decoder(dict[int, str])
_SEEN_AGAIN = "INSERT INTO quarantine VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (store, name) DO UPDATE SET seen = excluded.seen"
# Which pass has found it, and not only when: a clock may be set back in the middle of one.
_CONDEMNED = "SELECT store, name, size FROM quarantine WHERE seen = ?1 AND found != ?1 AND since <= ?2 ORDER BY store, name LIMIT ?3"


def newest_extent(connection: Connection) -> ExtentId:
    (newest,) = connection.execute("SELECT max(id) FROM extent").fetchone()
    return ExtentId(newest or 0)


def walk_intents(connection: Connection, after: IntentId, limit: int) -> tuple[Intent, ...]:
    rows = connection.execute("SELECT id, owner, expires, ids, settled FROM intent WHERE id > ? ORDER BY id LIMIT ?", (after, limit))
    return tuple(Intent(id=IntentId(row[0]), owner=row[1], expires_ms=row[2], segment_ids=tuple(ids_of(row[3], ~row[4]))) for row in rows)


def walk_garbage(connection: Connection, after: Garbage | None, limit: int) -> tuple[Garbage, ...]:
    key = ("", -1, "") if after is None else (after.store, after.due_ms, after.name)
    rows = connection.execute(
        "SELECT store, due, name, search, shards FROM garbage WHERE (store, due, name) > (?, ?, ?) ORDER BY store, due, name LIMIT ?",
        (*key, limit),
    )
    return tuple(_garbage(*row) for row in rows)


def _garbage(store: str, due_ms: int, name: str, search: int, shards: bytes | None) -> Garbage:
    lie = () if shards is None else tuple(shards_of(name, shards))
    return Garbage(store=store, due_ms=due_ms, name=name, search=bool(search), shards=lie)


def walk_draws(connection: Connection, after: Draw | None, limit: int) -> tuple[Draw, ...]:
    key = (b"", -1) if after is None else (after.segment_id, after.generation)
    rows = connection.execute(
        "SELECT segment, generation, targets, revoked FROM draw WHERE (segment, generation) > (?, ?) ORDER BY segment, generation LIMIT ?",
        (*key, limit),
    )
    return tuple(
        Draw(segment_id=SegmentId(segment_id), generation=generation, targets=_targets.decode(targets), revoked=bool(revoked))
        for segment_id, generation, targets, revoked in rows
    )


def lost_shards(connection: Connection, first: ExtentId, last: ExtentId) -> frozenset[tuple[SegmentId, int]]:
    rows = connection.execute("SELECT segment, shard, kind FROM damage WHERE extent BETWEEN ? AND ?", (first, last))
    return frozenset((SegmentId(segment_id), index) for segment_id, index, kind in rows if kind in LOSSES)


def quarantine(connection: Connection, orphans: Iterable[Orphan], pass_id: int, now_ms: int) -> None:
    rows = [(orphan.store, orphan.name, orphan.size_bytes, now_ms, pass_id, pass_id) for orphan in orphans]
    connection.executemany(_SEEN_AGAIN, rows)


def condemn(connection: Connection, pass_id: int, since_ms: int, now_ms: int, limit: int) -> tuple[Orphan, ...]:
    rows = connection.execute(_CONDEMNED, (pass_id, since_ms, limit)).fetchall()
    connection.executemany(
        "INSERT OR IGNORE INTO garbage (store, due, name, search) VALUES (?, ?, ?, 0)", [(store, now_ms, name) for store, name, _ in rows]
    )
    connection.executemany("DELETE FROM quarantine WHERE store = ? AND name = ?", [(store, name) for store, name, _ in rows])
    return tuple(Orphan(store=store, name=name, size_bytes=size) for store, name, size in rows)


def forget_quarantine(connection: Connection, stores: Sequence[str], pass_id: int) -> int:
    return sum(connection.execute("DELETE FROM quarantine WHERE store = ? AND seen != ?", (store, pass_id)).rowcount for store in stores)


def walk_quarantine(connection: Connection, after: Orphan | None, limit: int) -> tuple[Quarantined, ...]:
    key = ("", "") if after is None else (after.store, after.name)
    rows = connection.execute(
        "SELECT store, name, size, since, seen FROM quarantine WHERE (store, name) > (?, ?) ORDER BY store, name LIMIT ?", (*key, limit)
    )
    return tuple(
        Quarantined(orphan=Orphan(store=store, name=name, size_bytes=size), since_ms=since, seen_by=seen)
        for store, name, size, since, seen in rows
    )
