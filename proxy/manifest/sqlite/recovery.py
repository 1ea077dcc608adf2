"""What recovery writes: versions and parts that labels tell of, and the end of it. All of it while the manifest is fenced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import msgspec
from msgspec.structs import replace

from proxy.manifest.damage import Damage
from proxy.manifest.drafts import PackedDraft
from proxy.manifest.journal import TABLES
from proxy.manifest.plans.damage import changed_shards, damage_at_commit, generation_of
from proxy.manifest.plans.recovery import Insertion, belongs, id_of, plan_found_part, plan_found_version
from proxy.manifest.plans.versions import order_of
from proxy.manifest.records import Bucket, Extent, ExtentId, ExtentRef, Layout, Part, Upload, Version
from proxy.manifest.recovery import Found, FoundPack, FoundPart, FoundSlot, FoundVersion, Outcome
from proxy.manifest.sqlite.accounts import key_owner
from proxy.manifest.sqlite.damage import forget_damage, report_damage
from proxy.manifest.sqlite.extents import add_extents, change_references
from proxy.manifest.sqlite.jobs import save_state
from proxy.manifest.sqlite.layouts import find_layout, save_layout
from proxy.manifest.sqlite.packs import add_whole_pack, leave_refused
from proxy.manifest.sqlite.replication import queue_replicas, to_replicate
from proxy.manifest.sqlite.rows import Connection, encode, one
from proxy.manifest.sqlite.slots import leave_slots
from proxy.manifest.sqlite.versions import change_versions, decode_version, find_version, store_version

_buckets = msgspec.msgpack.Decoder(Bucket)
_uploads = msgspec.msgpack.Decoder(Upload)
_parts = msgspec.msgpack.Decoder(Part)
_HOLDING = ("tenant", "store", "bucket", "version", "extent", "upload", "garbage", "intent")
Keep = Callable[[tuple[Outcome, ...]], bytes]
COUNTED = ("tenant", "access_key", "bucket", "version", "upload", "part")
ID_LEAP = 1_000_000  # ids of buckets and extents that were given and lost: none is given again


def is_blank(connection: Connection) -> bool:
    """Tell whether nothing was ever kept here."""
    return not any(connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() for table in _HOLDING)  # noqa: S608 - of constants


def forget_all(connection: Connection) -> None:
    """Empty all that the journal tells of, before all of it is told anew."""
    for table in TABLES:
        connection.execute(f"DELETE FROM {table.name}")  # noqa: S608 - names of ours


def apply_found(connection: Connection, found: Sequence[Found], name: str, keep: Keep, now_ms: int) -> tuple[Outcome, ...]:
    """Bring back what was found, in this order, and keep how far that is. Return what became of each."""
    outcomes = tuple(outcome for one in found for outcome in _apply(connection, one, now_ms))
    save_state(connection, name, keep(outcomes))
    return outcomes


def _apply(connection: Connection, found: Found, now_ms: int) -> Sequence[Outcome]:
    match found:
        case FoundPack():
            return _apply_pack(connection, found, now_ms)
        case FoundPart():
            return [_apply_part(connection, found, now_ms)]
        case FoundVersion():
            return [_apply_version(connection, found, lambda: add_extents(connection, found.draft.new_layouts, now_ms=now_ms), now_ms)]


def _apply_pack(connection: Connection, found: FoundPack, now_ms: int) -> Sequence[Outcome]:
    """Bring back the versions of a pack, all in one step: once the manifest names a pack, no recovery reads its table again."""
    packed = [PackedDraft(slot.draft, slot.offset) for slot in found.slots]
    added: list[ExtentId] = []

    def ref_to(slot: FoundSlot) -> tuple[ExtentRef, ...]:
        if not added:
            added.append(add_whole_pack(connection, found.layout, packed, now_ms))
        return (ExtentRef(id=added[0], size=slot.draft.size, offset=slot.offset),)

    outcomes = [_apply_version(connection, _version_in(found.layout, slot), partial(ref_to, slot), now_ms) for slot in found.slots]
    for extent_id in added:
        leave_refused(connection, extent_id, [one for one, outcome in zip(packed, outcomes, strict=True) if outcome != "applied"], now_ms)
        report_damage(connection, _damage_of(extent_id, found), now_ms)
    return outcomes


def _version_in(layout: Layout, slot: FoundSlot) -> FoundVersion:
    return FoundVersion(bucket=slot.bucket, draft=replace(slot.draft, new_layouts=(layout,)))


def _damage_of(extent_id: ExtentId, found: FoundPack) -> list[Damage]:
    (segment,) = found.layout.segments
    return [
        Damage(
            extent_id=extent_id,
            segment_id=segment.id,
            shard_index=index,
            kind=kind,
            store=segment.stores[index],
            generation=generation_of(segment, index),
        )
        for index, kind in found.damage
    ]


def _apply_version(connection: Connection, found: FoundVersion, extents: Callable[[], tuple[ExtentRef, ...]], now_ms: int) -> Outcome:
    """Bring a version back, if it is to be; `extents` adds what it uses, once that is certain."""
    bucket = one(connection, "SELECT record FROM bucket WHERE id = ?", (found.draft.bucket_id,), _buckets)
    if bucket is None or not belongs(bucket, found, partial(key_owner, connection)):
        return "homeless"
    insertion = _plan(connection, bucket, found)
    if insertion.outcome == "applied":
        _insert(connection, bucket, insertion, found, extents(), now_ms)
    return insertion.outcome


def _plan(connection: Connection, bucket: Bucket, found: FoundVersion) -> Insertion:
    key, mine = found.draft.key, order_of(found.draft)
    rows = connection.execute(
        "SELECT record, latest FROM version WHERE bucket = ? AND key = ? ORDER BY order_key", (bucket.id, key.encode())
    )
    versions = (decode_version(*row) for row in rows)
    newer: list[Version] = []
    next_older: Version | None = None
    for version in versions:
        if order_of(version) <= mine:
            next_older = version
            break
        newer.append(version)
    same = find_version(connection, bucket.id, key, id_of(bucket, found))
    return plan_found_version(bucket, newer, next_older, same, found)


def _insert(
    connection: Connection, bucket: Bucket, insertion: Insertion, found: FoundVersion, extents: tuple[ExtentRef, ...], now_ms: int
) -> None:
    """Put a version where it belongs, and queue it for the buckets that it is copied to, as its commit did.

    One that comes below others is not copied: in the other bucket it would be the latest. It says so.
    """
    bucket_id, draft = bucket.id, to_replicate(bucket, found.draft)
    if insertion.change.added is None:
        raise ValueError("nothing is added")
    change_references(connection, released=insertion.change.released, now_ms=now_ms)
    for moved in insertion.above:
        connection.execute(
            "UPDATE version SET order_key = ?, record = ? WHERE bucket = ? AND key = ? AND order_key = ?",
            (-moved.sequence, encode(moved), bucket_id, moved.key.encode(), 1 - moved.sequence),
        )
    change_versions(connection, bucket_id, insertion.change)
    attributes = draft.attributes
    if attributes.replication == "PENDING" and insertion.above:
        attributes = replace(attributes, replication="FAILED")
    version = replace(insertion.change.added, extents=extents, attributes=attributes)
    store_version(connection, bucket_id, version, draft.parts)
    leave_slots(connection, insertion.change.released, now_ms)
    if not insertion.above:
        queue_replicas(connection, bucket, version, now_ms)


def _apply_part(connection: Connection, found: FoundPart, now_ms: int) -> Outcome:
    upload = one(connection, "SELECT record FROM upload WHERE id = ?", (found.upload_id,), _uploads)
    bucket = None if upload is None else one(connection, "SELECT record FROM bucket WHERE id = ?", (upload.bucket_id,), _buckets)
    row = (found.upload_id, found.part.number)
    before = one(connection, "SELECT record FROM part WHERE upload = ? AND number = ?", row, _parts)
    outcome = plan_found_part(upload, bucket, before, found, partial(key_owner, connection))
    if outcome == "applied":
        change_references(connection, released=() if before is None else before.extents, now_ms=now_ms)
        stored = replace(found.part, extents=add_extents(connection, [found.layout], now_ms=now_ms))
        connection.execute("INSERT OR REPLACE INTO part VALUES (?, ?, ?)", (*row, encode(stored)))
    return outcome


def correct_extents(connection: Connection, extents: Sequence[Extent], now_ms: int) -> None:
    """Replace layouts by what the stores list, and put on record what is missing."""
    for extent in extents:
        before = find_layout(connection, extent.id)
        if before is None:
            continue
        save_layout(connection, extent.id, extent.layout)
        for was, now in zip(before.segments, extent.layout.segments, strict=True):
            forget_damage(connection, extent.id, extent.layout, now.id, changed_shards(was, now))
        report_damage(connection, damage_at_commit(extent.id, extent.layout), now_ms)


def skip_ids(connection: Connection) -> None:
    """Never again give an id that was given after the end of the journal, and lost."""
    connection.execute("UPDATE sqlite_sequence SET seq = seq + ? WHERE name IN ('bucket', 'extent')", (ID_LEAP,))


def count_all(connection: Connection) -> dict[str, int]:
    """Return how many rows there are of what a client or an operator knows of."""
    return {table: int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]) for table in COUNTED}  # noqa: S608 - of constants
