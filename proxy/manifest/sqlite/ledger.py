"""What may lie in stores without being visible: leased segment ids, and garbage to be collected.

A revoked intent stays for a day, with no owner. One that is gone altogether was settled to its last id, perhaps by a commit whose answer
got lost: what is abandoned of it must not be deleted.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import msgspec

from proxy.errors import IntentRevoked
from proxy.manifest.records import Garbage, GarbageSegment, Intent, IntentId, SegmentId, Settlement
from proxy.manifest.sqlite.rows import Connection, encode

logger = logging.getLogger(__name__)

_garbage = msgspec.msgpack.Decoder(tuple[GarbageSegment, ...])
ID_SIZE = 16
NOBODY = ""  # owns what was revoked
REVOKED_KEPT_MS = 24 * 60 * 60 * 1000


def lease_segments(connection: Connection, owner: str, segment_ids: Sequence[SegmentId], expires_ms: int) -> Intent:
    cursor = connection.execute(
        "INSERT INTO intent (owner, expires, ids, settled) VALUES (?, ?, ?, 0)", (owner, expires_ms, b"".join(segment_ids))
    )
    return Intent(id=IntentId(cursor.lastrowid or 0), owner=owner, expires_ms=expires_ms, segment_ids=tuple(segment_ids))


def renew_intents(connection: Connection, owner: str, expires_ms: int) -> frozenset[IntentId]:
    rows = connection.execute("UPDATE intent SET expires = ? WHERE owner = ? RETURNING id", (expires_ms, owner)).fetchall()
    return frozenset(IntentId(row[0]) for row in rows)


def settle_commit(connection: Connection, settlements: Iterable[Settlement]) -> None:
    """Tick off committed ids. Those of a revoked lease are being deleted, so the commit must not happen."""
    for settlement in settlements:
        row = connection.execute(
            "UPDATE intent SET settled = settled | ? WHERE id = ? AND owner != ? RETURNING settled, length(ids)",
            (settlement.mask, settlement.intent_id, NOBODY),
        ).fetchone()
        if row is None:
            raise IntentRevoked(f"intent {settlement.intent_id} was revoked")
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
        doomed += [by_id.get(segment_id, GarbageSegment(id=segment_id)) for segment_id in _ids(row[1], fresh)]
        settled = row[0] | settlement.mask
        connection.execute("UPDATE intent SET settled = ? WHERE id = ?", (settled, settlement.intent_id))
        _drop_if_settled(connection, settlement.intent_id, settled, len(row[1]))
    queue_garbage(connection, doomed, now_ms)


def revoke_expired_intents(connection: Connection, now_ms: int) -> int:
    rows = connection.execute("SELECT id, owner, ids, settled FROM intent WHERE expires < ?", (now_ms,)).fetchall()
    count = 0
    for intent_id, owner, ids, settled in rows:
        doomed = [GarbageSegment(id=segment_id) for segment_id in _ids(ids, ~settled)]
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


def _ids(blob: bytes, mask: int) -> list[SegmentId]:
    return [SegmentId(blob[bit * ID_SIZE : (bit + 1) * ID_SIZE]) for bit in range(len(blob) // ID_SIZE) if mask >> bit & 1]


def queue_garbage(connection: Connection, segments: Sequence[GarbageSegment], now_ms: int) -> None:
    if segments:
        connection.execute("INSERT INTO garbage (queued, claimed_until, record) VALUES (?, 0, ?)", (now_ms, encode(tuple(segments))))


def claim_garbage(connection: Connection, queued_before_ms: int, now_ms: int, lease_ms: int, limit: int) -> tuple[Garbage, ...]:
    rows = connection.execute(
        "SELECT id, queued, record FROM garbage WHERE queued <= ? AND claimed_until <= ? ORDER BY queued, id LIMIT ?",
        (queued_before_ms, now_ms, limit),
    ).fetchall()
    connection.executemany("UPDATE garbage SET claimed_until = ? WHERE id = ?", [(now_ms + lease_ms, row[0]) for row in rows])
    return tuple(garbage for row in rows if (garbage := _readable_garbage(*row)) is not None)


def _readable_garbage(garbage_id: int, queued_ms: int, record: bytes) -> Garbage | None:
    try:
        return Garbage(id=garbage_id, queued_ms=queued_ms, segments=_garbage.decode(record))
    except msgspec.MsgspecError:
        logger.exception("garbage %d cannot be read: its shards stay", garbage_id)
        return None


def finish_garbage(connection: Connection, ids: Sequence[int]) -> None:
    connection.executemany("DELETE FROM garbage WHERE id = ?", [(garbage_id,) for garbage_id in ids])


def count_garbage(connection: Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM garbage").fetchone()[0])
