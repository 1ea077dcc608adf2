"""Moving shards of a segment: a draw is leased, used or given up.

A draw that was revoked stays for a day, as revoked intents do: a put of a process that was suspended may come after its names were
collected.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from msgspec.structs import replace

from proxy.manifest.damage import Draw
from proxy.manifest.plans.damage import (
    DRAW_KEPT_MS,
    LONGEST_DRAW_MS,
    drawn_shards,
    find_segment,
    left_behind,
    moved,
    unless_used,
    with_segment,
)
from proxy.manifest.records import ExtentId, Segment, SegmentId
from proxy.manifest.sqlite.campaigns import note_late_shards
from proxy.manifest.sqlite.damage import forget_damage
from proxy.manifest.sqlite.layouts import find_layout, save_layout
from proxy.manifest.sqlite.ledger import queue_shards
from proxy.manifest.sqlite.rows import Connection, encode

_targets = msgspec.msgpack.Decoder(dict[int, str])
_DROP = "DELETE FROM draw WHERE segment = ? AND generation = ?"
_EXPIRED = "SELECT segment, generation, targets, revoked FROM draw WHERE expires < ?1 OR expires > CASE revoked WHEN 0 THEN ?2 ELSE ?3 END"
_REVOKE = "UPDATE draw SET revoked = 1, targets = ?, expires = ? WHERE segment = ? AND generation = ?"
_FIND = "SELECT targets FROM draw WHERE segment = ? AND generation = ? AND NOT revoked"


def draw_generation(
    connection: Connection, extent_id: ExtentId, segment_id: SegmentId, targets: Mapping[int, str], expires_ms: int
) -> Segment | None:
    layout = find_layout(connection, extent_id)
    segment = None if layout is None else find_segment(layout, segment_id)
    if layout is None or segment is None or is_drawn(connection, segment_id):
        return None
    drawn = replace(segment, drawn=segment.drawn + 1)
    save_layout(connection, extent_id, with_segment(layout, drawn))
    row = (segment_id, drawn.drawn, encode(dict(targets)), expires_ms, 0)
    connection.execute("INSERT INTO draw VALUES (?, ?, ?, ?, ?)", row)
    return drawn


def is_drawn(connection: Connection, segment_id: SegmentId) -> bool:
    """Tell whether a move of a segment is under way. One that has expired is until it is revoked: its names are not queued yet."""
    return connection.execute("SELECT 1 FROM draw WHERE segment = ? AND NOT revoked", (segment_id,)).fetchone() is not None


def replace_shards(
    connection: Connection, extent_id: ExtentId, segment_id: SegmentId, targets: Mapping[int, str], generation: int, now_ms: int
) -> bool:
    layout = find_layout(connection, extent_id)
    segment = None if layout is None else find_segment(layout, segment_id)
    row = connection.execute(_FIND, (segment_id, generation)).fetchone()
    if layout is None or segment is None or row is None:
        return False
    drawn = _targets.decode(row[0])
    if not targets.items() <= drawn.items():
        return False
    connection.execute(_DROP, (segment_id, generation))
    changed = with_segment(layout, moved(segment, targets, generation))
    save_layout(connection, extent_id, changed)
    unused = {index: store for index, store in drawn.items() if index not in targets}
    queue_shards(connection, [*left_behind(segment, targets), *drawn_shards(segment_id, unused, generation)], now_ms)
    forget_damage(connection, extent_id, changed, segment_id, targets)
    note_late_shards(connection, targets.values())
    return True


def give_up_draw(
    connection: Connection, extent_id: ExtentId, segment_id: SegmentId, targets: Mapping[int, str], generation: int, now_ms: int
) -> None:
    layout = find_layout(connection, extent_id)
    segment = None if layout is None else find_segment(layout, segment_id)
    connection.execute(_DROP, (segment_id, generation))
    queue_shards(connection, unless_used(segment, drawn_shards(segment_id, targets, generation)), now_ms)


def revoke_expired_draws(connection: Connection, now_ms: int) -> int:
    rows = connection.execute(_EXPIRED, (now_ms, now_ms + LONGEST_DRAW_MS, now_ms + DRAW_KEPT_MS)).fetchall()
    for segment_id, generation, encoded, revoked in rows:
        targets = _targets.decode(encoded)
        if revoked:
            queue_shards(connection, drawn_shards(SegmentId(segment_id), targets, generation), now_ms)
            connection.execute(_DROP, (segment_id, generation))
        else:
            _revoke(connection, Draw(segment_id=SegmentId(segment_id), generation=generation, targets=targets), now_ms)
    return sum(not revoked for *_, revoked in rows)


def revoke_draws(connection: Connection, draws: Iterable[Draw], now_ms: int) -> None:
    """Revoke draws whose targets may be fewer than were drawn: the others are in use."""
    for draw in draws:
        if draw.targets:
            _revoke(connection, draw, now_ms)
        else:
            connection.execute(_DROP, (draw.segment_id, draw.generation))


def _revoke(connection: Connection, draw: Draw, now_ms: int) -> None:
    queue_shards(connection, drawn_shards(draw.segment_id, draw.targets, draw.generation), now_ms)
    connection.execute(_REVOKE, (encode(dict(draw.targets)), now_ms + DRAW_KEPT_MS, draw.segment_id, draw.generation))
