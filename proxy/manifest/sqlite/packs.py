"""Packs: committed with all their versions at once, found by what is dead in them, and exchanged slot by slot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from proxy.clock import Instant
from proxy.errors import ExtentMissing, ManifestConflict
from proxy.manifest.campaigns import ExtentUser
from proxy.manifest.drafts import NO_CONDITIONS, PackedDraft
from proxy.manifest.packs import SMALL_BYTES, SMALL_SLOTS, Pack, SlotMove, SlotPlace, SlotUser
from proxy.manifest.plans.packs import may_move
from proxy.manifest.records import Bucket, BucketId, ExtentId, ExtentRef, Layout, ObjectKey, Settlement, Version
from proxy.manifest.sqlite.batches import distinct_runs
from proxy.manifest.sqlite.buckets import need_bucket
from proxy.manifest.sqlite.campaigns import note_late_policy
from proxy.manifest.sqlite.extents import add_extent, release
from proxy.manifest.sqlite.layouts import find_layout
from proxy.manifest.sqlite.ledger import settle_commit
from proxy.manifest.sqlite.rows import Connection, encode, one
from proxy.manifest.sqlite.slots import add_pack, is_used, slot_of
from proxy.manifest.sqlite.versions import Commit, find_each_gone, find_newest, make_visible, plan_draft

_buckets = msgspec.msgpack.Decoder(Bucket)
_versions = msgspec.msgpack.Decoder(Version)
_PACKS = "SELECT extent, kind, whole, live, slots, made, dead_since FROM pack"
_DEAD = (
    f"{_PACKS} WHERE dead_since IS NOT NULL AND dead_since < ?1 AND (dead_since, extent) > (?2, ?3) ORDER BY dead_since, extent LIMIT ?4"
)
_HALF_DEAD = f"{_PACKS} INDEXED BY pack_half WHERE whole > live * 2 AND extent > ?1 ORDER BY extent LIMIT ?2"
_SMALL = (
    f"{_PACKS} INDEXED BY pack_small WHERE live < {SMALL_BYTES} AND slots < {SMALL_SLOTS} AND (kind, extent) > (?1, ?2)"
    " ORDER BY kind, extent LIMIT ?3"
)
_USERS = (
    "SELECT v.slot, v.bucket, v.key, v.order_key, v.record, b.record"
    " FROM version v INDEXED BY version_slot JOIN bucket b ON b.id = v.bucket"
    " WHERE v.pack = ?1 AND (v.slot, v.bucket, v.key, v.order_key) > (?2, ?3, ?4, ?5)"
    " ORDER BY v.slot, v.bucket, v.key, v.order_key LIMIT ?6"
)
_FIND_VERSION = "SELECT record FROM version WHERE bucket = ? AND key = ? AND order_key = ?"


def commit_pack(
    connection: Connection,
    layout: Layout,
    packed: Sequence[PackedDraft],
    settlements: Sequence[Settlement],
    instant: Instant,
    now_ms: int,
) -> list[Version | ManifestConflict]:
    """Commit each version in its turn, as `commit_version` would, and return what became of it. Each is planned before anything of it is
    written: one that is refused has nothing to undo."""
    outcomes: list[Version | ManifestConflict] = []
    released: list[ExtentRef] = []
    extent_id: ExtentId | None = None
    for run in distinct_runs(packed, _key):
        plans = _plan_run(connection, run, instant)
        if extent_id is None and any(isinstance(plan, Commit) for plan in plans):
            settle_commit(connection, settlements)
            extent_id = add_whole_pack(connection, layout, packed, now_ms)
        if extent_id is None:
            outcomes += [plan for plan in plans if isinstance(plan, ManifestConflict)]
        else:
            outcomes += _commit_run(connection, extent_id, layout, run, plans)
            released += [ref for plan in plans if isinstance(plan, Commit) for ref in plan.change.released]
    if extent_id is not None:
        release(connection, released, now_ms)
        refused = [one for one, outcome in zip(packed, outcomes, strict=True) if isinstance(outcome, ManifestConflict)]
        leave_refused(connection, extent_id, refused, now_ms)
    return outcomes


def _key(packed: PackedDraft) -> tuple[BucketId, ObjectKey]:
    return packed.draft.bucket_id, packed.draft.key


def _plan_run(connection: Connection, packed: Sequence[PackedDraft], instant: Instant) -> list[Commit | ManifestConflict]:
    """Plan the versions of different keys."""
    buckets: dict[BucketId, Bucket] = {}
    plans: list[Commit | ManifestConflict] = []
    keys = [_key(one) for one in packed]
    for (draft, _), newest, gone in zip(packed, find_newest(connection, keys), find_each_gone(connection, keys), strict=True):
        try:
            bucket = buckets.get(draft.bucket_id) or need_bucket(connection, draft.bucket_id)
            plans.append(plan_draft(connection, bucket, newest, draft, NO_CONDITIONS, instant, gone=gone))
        except ManifestConflict as error:
            plans.append(error.with_traceback(None))  # or it would hold this frame, and that the plans
        else:
            buckets[bucket.id] = bucket
    return plans


def _commit_run(
    connection: Connection, extent_id: ExtentId, layout: Layout, packed: Sequence[PackedDraft], plans: Sequence[Commit | ManifestConflict]
) -> list[Version | ManifestConflict]:
    """Commit what is planned, and return what became of each."""
    commits = [
        (plan, (_ref(extent_id, draft.size, offset),))
        for (draft, offset), plan in zip(packed, plans, strict=True)
        if isinstance(plan, Commit)
    ]
    for bucket in {commit.bucket.id: commit.bucket for commit, _ in commits}.values():
        note_late_policy(connection, bucket, [layout])
    made = iter(make_visible(connection, commits))
    return [plan if isinstance(plan, ManifestConflict) else next(made) for plan in plans]


def add_whole_pack(connection: Connection, layout: Layout, packed: Sequence[PackedDraft], now_ms: int) -> ExtentId:
    """Add the extent as if none were refused: the first of two versions of a key lives until the second comes. Then `leave_refused`."""
    extent_id = add_extent(connection, layout, len(packed), now_ms)
    add_pack(connection, extent_id, layout, (_ref(extent_id, one.draft.size, one.offset) for one in packed), now_ms)
    return extent_id


def leave_refused(connection: Connection, extent_id: ExtentId, refused: Sequence[PackedDraft], now_ms: int) -> None:
    """Count out the versions of a new pack that did not become visible."""
    release(connection, [_ref(extent_id, one.draft.size, one.offset) for one in refused], now_ms)


def _ref(extent_id: ExtentId, size: int, offset: int | None) -> ExtentRef:
    return ExtentRef(id=extent_id, size=size, offset=offset)


# What a repacker asks


def find_packs(connection: Connection, ids: Sequence[ExtentId]) -> tuple[Pack, ...]:
    rows = (connection.execute(f"{_PACKS} WHERE extent = ?", (extent_id,)).fetchone() for extent_id in ids)
    return tuple(_packs(row for row in rows if row is not None))


def packs_between(connection: Connection, first: ExtentId, last: ExtentId) -> tuple[Pack, ...]:
    return tuple(_packs(connection.execute(f"{_PACKS} WHERE extent BETWEEN ? AND ? ORDER BY extent", (first, last))))


def dead_packs(connection: Connection, before_ms: int, after: tuple[int, ExtentId], limit: int) -> tuple[Pack, ...]:
    return tuple(_packs(connection.execute(_DEAD, (before_ms, *after, limit))))


def half_dead_packs(connection: Connection, after: ExtentId, limit: int) -> tuple[Pack, ...]:
    return tuple(_packs(connection.execute(_HALF_DEAD, (after, limit))))


def small_packs(connection: Connection, after: tuple[str, ExtentId], limit: int) -> tuple[Pack, ...]:
    return tuple(_packs(connection.execute(_SMALL, (*after, limit))))


def oldest_dead_ms(connection: Connection) -> int | None:
    (since,) = connection.execute("SELECT min(dead_since) FROM pack WHERE dead_since IS NOT NULL").fetchone()
    return None if since is None else int(since)


def _packs(rows: Iterable[tuple[ExtentId, str, int, int, int, int, int | None]]) -> Iterator[Pack]:
    for extent_id, kind, whole, live, slots, made_ms, dead_since_ms in rows:
        yield Pack(extent_id=extent_id, kind=kind, whole=whole, live=live, slots=slots, made_ms=made_ms, dead_since_ms=dead_since_ms)


def walk_slots(connection: Connection, extent_id: ExtentId, after: SlotPlace, limit: int) -> tuple[SlotUser, ...]:
    place = (after.offset, after.bucket_id, after.key.encode(), -after.sequence)
    return tuple(_user(*row) for row in connection.execute(_USERS, (extent_id, *place, limit)))


def _user(offset: int, bucket_id: int, key: bytes, order_key: int, record: bytes, bucket: bytes) -> SlotUser:
    version = _versions.decode(record)
    (ref,) = version.extents
    if ref.offset != offset:
        raise ValueError(f"a version uses slot {ref.offset} of extent {ref.id}, and its row says {offset}")
    user = ExtentUser(bucket_id=BucketId(bucket_id), key=ObjectKey(key.decode()), version_id=version.id, sequence=-order_key)
    return SlotUser(user=user, ref=ref, policy=_buckets.decode(bucket).policy, storage_class=version.attributes.storage_class)


# Exchanging


class _Movable(NamedTuple):
    move: SlotMove
    version: Version


def exchange_slots(
    connection: Connection, layout: Layout, moves: Sequence[SlotMove], settlements: Sequence[Settlement], now_ms: int
) -> ExtentId | None:
    movable = list(_movable(connection, moves, layout.policy))
    if not movable:
        return None
    settle_commit(connection, settlements)
    extent_id = add_extent(connection, layout, len(movable), now_ms)
    if layout.slots:
        add_pack(connection, extent_id, layout, (_new_ref(extent_id, move) for move, _ in movable), now_ms)
    _move_all(connection, extent_id, movable, now_ms)
    return extent_id


def join_slots(connection: Connection, extent_id: ExtentId, moves: Sequence[SlotMove], now_ms: int) -> int:
    layout = find_layout(connection, extent_id)
    if layout is None:
        raise ExtentMissing(f"extent {extent_id} is gone")
    movable = [
        one
        for one in _movable(connection, moves, layout.policy)
        if one.move.offset is None or is_used(connection, extent_id, one.move.offset)
    ]
    connection.execute("UPDATE extent SET refs = refs + ? WHERE id = ?", (len(movable), extent_id))
    _move_all(connection, extent_id, movable, now_ms)
    return len(movable)


def _movable(connection: Connection, moves: Sequence[SlotMove], policy: str) -> Iterator[_Movable]:
    for move in moves:
        version = one(connection, _FIND_VERSION, _row(move.user), _versions)
        bucket = one(connection, "SELECT record FROM bucket WHERE id = ?", (move.user.bucket_id,), _buckets)
        if version is not None and may_move(version, bucket, move, policy):
            yield _Movable(move, version)


def _move_all(connection: Connection, extent_id: ExtentId, movable: Sequence[_Movable], now_ms: int) -> None:
    for move, version in movable:
        moved = replace(version, extents=(_new_ref(extent_id, move),))
        row = (encode(moved), *slot_of(moved), *_row(move.user))
        connection.execute("UPDATE version SET record = ?, pack = ?, slot = ? WHERE bucket = ? AND key = ? AND order_key = ?", row)
    left = [move.old for move, _ in movable]
    release(connection, left, now_ms)


def _new_ref(extent_id: ExtentId, move: SlotMove) -> ExtentRef:
    return _ref(extent_id, move.old.size, move.offset)


def _row(user: ExtentUser) -> tuple[int, bytes, int]:
    return user.bucket_id, user.key.encode(), -user.sequence
