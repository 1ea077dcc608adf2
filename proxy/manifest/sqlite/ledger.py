"""What may lie in stores without being visible: leased segment ids, and garbage to be collected.

A revoked intent stays for a day, with no owner. One that is gone altogether was settled to its last id, perhaps by a commit whose answer
got lost: what is abandoned of it must not be deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from proxy.codec.format import segment_prefix
from proxy.errors import IntentRevoked
from proxy.manifest.damage import Leftover
from proxy.manifest.records import Garbage, GarbageSegment, Intent, IntentId, SegmentId, Settlement
from proxy.manifest.sqlite.rows import Connection
from proxy.manifest.sqlite.stores import known_stores

ID_SIZE = 16
NOBODY = ""  # owns what was revoked
REVOKED_KEPT_MS = 24 * 60 * 60 * 1000
ANYWHERE = ""  # the store of garbage that may lie in any
_DELETE_ROW = "DELETE FROM garbage WHERE store = ? AND due = ? AND name = ?"
_CONFIRMED = "DELETE FROM leftover WHERE name BETWEEN ? AND ? AND store = ?"
# A seek a store, however many rows it has.
_GARBAGE_STORES = (
    "WITH RECURSIVE found (store) AS (SELECT min(store) FROM garbage"
    " UNION ALL SELECT (SELECT min(store) FROM garbage WHERE store > found.store) FROM found WHERE found.store IS NOT NULL)"
    " SELECT store FROM found WHERE store IS NOT NULL"
)
_COUNT_OF_STORE = "SELECT count(*) FROM (SELECT 1 FROM garbage WHERE store = ? LIMIT ?)"


def lease_segments(connection: Connection, owner: str, segment_ids: Sequence[SegmentId], expires_ms: int) -> Intent:
    cursor = connection.execute(
        "INSERT INTO intent (owner, expires, ids, settled) VALUES (?, ?, ?, 0)", (owner, expires_ms, b"".join(segment_ids))
    )
    return Intent(id=IntentId(cursor.lastrowid or 0), owner=owner, expires_ms=expires_ms, segment_ids=tuple(segment_ids))


def renew_intents(connection: Connection, owner: str, expires_ms: int) -> frozenset[IntentId]:
    rows = connection.execute("UPDATE intent SET expires = ? WHERE owner = ? RETURNING id", (expires_ms, owner)).fetchall()
    return frozenset(IntentId(row[0]) for row in rows)


def settle_commit(connection: Connection, settlements: Iterable[Settlement]) -> None:
    """Tick off committed ids. Those of a revoked lease, and those abandoned before, are being deleted: the commit must not happen."""
    for settlement in settlements:
        row = connection.execute(
            "UPDATE intent SET settled = settled | ?1 WHERE id = ?2 AND owner != ?3 AND settled & ?1 = 0 RETURNING settled, length(ids)",
            (settlement.mask, settlement.intent_id, NOBODY),
        ).fetchone()
        if row is None:
            raise IntentRevoked(f"intent {settlement.intent_id} was revoked, or its ids abandoned")
        _drop_if_settled(connection, settlement.intent_id, *row)


def settle_abandoned(connection: Connection, settlements: Iterable[Settlement], garbage: Sequence[GarbageSegment], now_ms: int) -> None:
    """Tick off abandoned ids and queue their shards, but for those already settled: by a commit, or as garbage."""
    by_id = {segment.id: segment for segment in garbage}
    doomed: list[GarbageSegment] = []
    for settlement in settlements:
        row = connection.execute("SELECT settled, ids FROM intent WHERE id = ?", (settlement.intent_id,)).fetchone()
        if row is None:
            continue
        fresh = settlement.mask & ~row[0]
        doomed += [by_id.get(segment_id, GarbageSegment(id=segment_id)) for segment_id in ids_of(row[1], fresh)]
        settled = row[0] | settlement.mask
        connection.execute("UPDATE intent SET settled = ? WHERE id = ?", (settled, settlement.intent_id))
        _drop_if_settled(connection, settlement.intent_id, settled, len(row[1]))
    queue_garbage(connection, doomed, now_ms)


def release_unused(connection: Connection, settlements: Iterable[Settlement]) -> None:
    """Tick off ids that no shard was ever put under."""
    for settlement in settlements:
        row = connection.execute(
            "UPDATE intent SET settled = settled | ? WHERE id = ? RETURNING settled, length(ids)", (settlement.mask, settlement.intent_id)
        ).fetchone()
        if row is not None:
            _drop_if_settled(connection, settlement.intent_id, *row)


def revoke_expired_intents(connection: Connection, now_ms: int) -> int:
    rows = connection.execute("SELECT id, owner, ids, settled FROM intent WHERE expires < ?", (now_ms,)).fetchall()
    count = 0
    for intent_id, owner, ids, settled in rows:
        doomed = [GarbageSegment(id=segment_id) for segment_id in ids_of(ids, ~settled)]
        queue_garbage(connection, doomed, now_ms)
        if owner == NOBODY:
            connection.execute("DELETE FROM intent WHERE id = ?", (intent_id,))
        else:
            connection.execute("UPDATE intent SET owner = ?, expires = ? WHERE id = ?", (NOBODY, now_ms + REVOKED_KEPT_MS, intent_id))
            count += len(doomed)
    return count


def _drop_if_settled(connection: Connection, intent_id: int, settled: int, ids_size: int) -> None:
    if settled == (1 << ids_size // ID_SIZE) - 1:
        connection.execute("DELETE FROM intent WHERE id = ?", (intent_id,))


def ids_of(blob: bytes, mask: int) -> list[SegmentId]:
    """Return the ids of a lease whose bits are set in the mask."""
    return [SegmentId(blob[bit * ID_SIZE : (bit + 1) * ID_SIZE]) for bit in range(len(blob) // ID_SIZE) if mask >> bit & 1]


def queue_garbage(connection: Connection, segments: Iterable[GarbageSegment], now_ms: int) -> None:
    rows = [row for segment in segments for row in _garbage_rows(segment, now_ms)]
    connection.executemany("INSERT OR IGNORE INTO garbage VALUES (?, ?, ?, ?)", rows)


def queue_shards(connection: Connection, shards: Sequence[Leftover], now_ms: int) -> None:
    """Queue shards of a segment that lives on. Until their stores have confirmed, they count among what those may hold of it."""
    connection.executemany("INSERT OR IGNORE INTO garbage VALUES (?, ?, ?, 0)", [(shard.store, now_ms, shard.name) for shard in shards])
    rows = [(shard.name, shard.store, shard.shard_index) for shard in shards]
    connection.executemany("INSERT OR IGNORE INTO leftover VALUES (?, ?, ?)", rows)


def _garbage_rows(segment: GarbageSegment, now_ms: int) -> list[tuple[str, int, str, int]]:
    if not segment.stores:
        return [(ANYWHERE, now_ms, segment_prefix(segment.id), 1)]
    return [(store, now_ms, segment.shard_name(index), 0) for index, store in enumerate(segment.stores)]


def spread_garbage(connection: Connection, configured: Iterable[str], limit: int) -> int:
    """Queue a search of each store for shards of unknown placement.

    That is each store there has ever been: one that was taken out of the configuration may hold them, too.
    """
    rows = connection.execute("SELECT due, name FROM garbage WHERE store = ? ORDER BY due, name LIMIT ?", (ANYWHERE, limit)).fetchall()
    stores = sorted({*configured, *known_stores(connection)})
    searches = [(store, due, name) for due, name in rows for store in stores]
    connection.executemany("INSERT OR IGNORE INTO garbage VALUES (?, ?, ?, 1)", searches)
    connection.executemany(_DELETE_ROW, [(ANYWHERE, *row) for row in rows])
    return len(rows)


def due_garbage(connection: Connection, store: str, before_ms: int, limit: int) -> tuple[Garbage, ...]:
    rows = connection.execute(
        "SELECT name, search, due FROM garbage WHERE store = ? AND due <= ? ORDER BY due, name LIMIT ?", (store, before_ms, limit)
    )
    return tuple(Garbage(store=store, name=name, search=bool(search), due_ms=due) for name, search, due in rows)


def finish_garbage(connection: Connection, gone: Sequence[Garbage], put_off: Iterable[Garbage], due_ms: int) -> None:
    connection.executemany(_DELETE_ROW, [(row.store, row.due_ms, row.name) for row in (*gone, *put_off)])
    connection.executemany(_CONFIRMED, [(row.name, row.name + "~" if row.search else row.name, row.store) for row in gone])
    later = [(row.store, due_ms, row.name, int(row.search)) for row in put_off]
    connection.executemany("INSERT OR IGNORE INTO garbage VALUES (?, ?, ?, ?)", later)


def count_garbage(connection: Connection, limit: int) -> dict[str, int]:
    stores = [row[0] for row in connection.execute(_GARBAGE_STORES)]
    return {store: int(connection.execute(_COUNT_OF_STORE, (store, limit)).fetchone()[0]) for store in stores}
