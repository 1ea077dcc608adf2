"""What may lie in stores without being visible: leased segment ids, and garbage to be collected.

A revoked intent stays for a day, with no owner. One that is gone altogether was settled to its last id, perhaps by a commit whose answer
got lost: what is abandoned of it must not be deleted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from proxy.codec.format import parse_prefix, segment_prefix
from proxy.errors import IntentRevoked
from proxy.manifest.damage import Leftover
from proxy.manifest.records import Garbage, GarbageSegment, Intent, IntentId, SegmentId, Settlement
from proxy.manifest.sqlite.batches import put_in
from proxy.manifest.sqlite.rows import Connection, encode
from proxy.manifest.sqlite.stores import known_stores

_placed = msgspec.msgpack.Decoder(tuple[tuple[str, ...], tuple[int, ...]])  # stores and generations, by shard
ID_SIZE = 16
NOBODY = ""  # owns what was revoked
REVOKED_KEPT_MS = 24 * 60 * 60 * 1000
ANYWHERE = ""  # the store of garbage that may lie in any
SEVERAL = "*"  # of segments whose shards lie in several
_QUEUE = "INSERT OR IGNORE INTO garbage (store, due, name, search) VALUES (?, ?, ?, ?)"
_DUE_SEGMENTS = "SELECT due, name, shards FROM garbage WHERE store = ? AND due <= ? ORDER BY due, name LIMIT ?"
_DELETE_ROW = "DELETE FROM garbage WHERE store = ? AND due = ? AND name = ?"
_CONFIRMED = "DELETE FROM leftover WHERE name BETWEEN ? AND ? AND store = ?"
# A seek a store, however many rows it has.
_GARBAGE_STORES = (
    "WITH RECURSIVE found (store) AS (SELECT min(store) FROM garbage"
    " UNION ALL SELECT (SELECT min(store) FROM garbage WHERE store > found.store) FROM found WHERE found.store IS NOT NULL)"
    " SELECT store FROM found WHERE store IS NOT NULL AND store <> ?"
)
_COUNT_SEGMENTS = "SELECT shards, count(*) FROM (SELECT shards FROM garbage WHERE store = ? LIMIT ?) GROUP BY shards"
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
    doomed = tuple(segments)
    rows = [_garbage_row(segment, now_ms) for segment in doomed]
    sought = [segment_prefix(segment.id) for segment in doomed if segment.strays]
    if put_in(connection, "OR IGNORE INTO garbage", rows) < len(rows):  # in this very millisecond, and perhaps with other stores
        sought = [name for _, _, name, _, _ in rows]
    if sought:
        connection.executemany(_QUEUE, [(ANYWHERE, now_ms, name, 1) for name in sought])


def queue_shards(connection: Connection, shards: Sequence[Leftover], now_ms: int) -> None:
    """Queue shards of a segment that lives on. Until their stores have confirmed, they count among what those may hold of it."""
    connection.executemany(_QUEUE, [(shard.store, now_ms, shard.name, 0) for shard in shards])
    rows = [(shard.name, shard.store, shard.shard_index) for shard in shards]
    connection.executemany("INSERT OR IGNORE INTO leftover VALUES (?, ?, ?)", rows)


def _garbage_row(segment: GarbageSegment, now_ms: int) -> tuple[str, int, str, int, bytes | None]:
    name = segment_prefix(segment.id)
    if not segment.stores:
        return ANYWHERE, now_ms, name, 1, None
    return SEVERAL, now_ms, name, 0, encode((segment.stores, segment.generations))


def split_garbage(connection: Connection, before_ms: int, limit: int) -> int:
    """Queue the shards of segments that are due, each for its store."""
    rows = connection.execute(_DUE_SEGMENTS, (SEVERAL, before_ms, limit)).fetchall()
    shards = [(store, due, shard, 0) for due, name, placed in rows for store, shard in shards_of(name, placed)]
    connection.executemany(_QUEUE, sorted(shards))  # in the order of the table, so that each of its pages is come to once
    connection.executemany(_DELETE_ROW, [(SEVERAL, due, name) for due, name, _ in rows])
    return len(rows)


def shards_of(name: str, placed: bytes) -> list[tuple[str, str]]:
    """Return where the shards of a queued segment lie, as (store, name) of each."""
    stores, generations = _placed.decode(placed)
    segment = GarbageSegment(id=SegmentId(parse_prefix(name)), stores=stores, generations=generations)
    return [(store, segment.shard_name(index)) for index, store in enumerate(stores)]


def spread_garbage(connection: Connection, configured: Iterable[str], limit: int) -> int:
    """Queue a search of each store for shards of unknown placement.

    That is each store there has ever been: one that was taken out of the configuration may hold them, too.
    """
    rows = connection.execute("SELECT due, name FROM garbage WHERE store = ? ORDER BY due, name LIMIT ?", (ANYWHERE, limit)).fetchall()
    stores = sorted({*configured, *known_stores(connection)})
    searches = [(store, due, name) for due, name in rows for store in stores]
    connection.executemany(_QUEUE, [(*search, 1) for search in searches])
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
    connection.executemany(_QUEUE, later)


def count_garbage(connection: Connection, limit: int) -> dict[str, int]:
    stores = [row[0] for row in connection.execute(_GARBAGE_STORES, (SEVERAL,))]
    counts = Counter({store: int(connection.execute(_COUNT_OF_STORE, (store, limit)).fetchone()[0]) for store in stores})
    for placed, count in connection.execute(_COUNT_SEGMENTS, (SEVERAL, limit)):
        for store in _placed.decode(placed)[0]:
            counts[store] += count
    return {store: min(count, limit) for store, count in counts.items()}
