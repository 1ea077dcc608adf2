"""Versions: what is visible under a key, in the order of commits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from proxy.clock import Instant
from proxy.errors import ExtentMissing
from proxy.manifest.drafts import AttributeChange, Conditions, VersionDraft
from proxy.manifest.events import Cause
from proxy.manifest.plans.locks import is_lockable, with_trusted_start
from proxy.manifest.plans.versions import (
    VersionChange,
    is_same,
    order_of,
    plan_attributes,
    plan_commit,
    replaces_null_version,
)
from proxy.manifest.records import (
    NULL_VERSION,
    Bucket,
    BucketId,
    Extent,
    ExtentRef,
    ObjectKey,
    PartSummary,
    Readable,
    Settlement,
    Version,
    VersionId,
)  # fmt: skip
from proxy.manifest.replication import PendingReplica
from proxy.manifest.sqlite.batches import look_up, put_in
from proxy.manifest.sqlite.buckets import need_bucket
from proxy.manifest.sqlite.campaigns import note_late_policy, refuse_moved
from proxy.manifest.sqlite.events import note_event
from proxy.manifest.sqlite.extents import add_extents, change_references, load_extents
from proxy.manifest.sqlite.ledger import settle_commit
from proxy.manifest.sqlite.replication import end_replica, pending_again, queue_replicas, to_replicate
from proxy.manifest.sqlite.rows import Connection, encode, listed_line
from proxy.manifest.sqlite.slots import leave_slots, refuse_unused, slot_of
from proxy.manifest.sqlite.trusted_time import trusted_ms
from proxy.s3.replication import ReplicationStatus

_versions = msgspec.msgpack.Decoder(Version)
_parts = msgspec.msgpack.Decoder(tuple[PartSummary, ...])
READ_AT_ONCE = 32  # extents, at 5 us each: an object of more is read range by range
# A key may have a hundred thousand versions: each of these is a seek or two.
_PROMOTE_NEWEST = (
    "UPDATE version SET latest = 1 WHERE bucket = ?1 AND key = ?2"
    " AND order_key = (SELECT min(order_key) FROM version WHERE bucket = ?1 AND key = ?2)"
)
_WRITTEN_GONE = "SELECT written FROM gone WHERE bucket = ? AND key = ?"
_FIND_NEWEST = "SELECT record, latest, version_id FROM version WHERE bucket = ?1 AND key = ?2 ORDER BY order_key LIMIT 1"
# Of one column: `latest`, a digit, comes before the record.
_FIND_NEWEST_MARKED = "SELECT CAST(latest || record AS BLOB) FROM version WHERE bucket = ? AND key = ? ORDER BY order_key LIMIT 1"
_FIND_OLDER = (
    "SELECT record, latest FROM version INDEXED BY version_older WHERE bucket = ?1 AND key = ?2 AND version_id = ?3 AND latest = 0"
)
# One statement: between two, the version named might become the newest, and would be found by neither.
_FIND_NAMED = f"{_FIND_OLDER} UNION ALL SELECT record, latest FROM ({_FIND_NEWEST}) WHERE version_id = ?3"  # noqa: S608 - of constants


def decode_version(record: bytes, latest: int) -> Version:
    version = _versions.decode(record)
    return version if bool(latest) == version.is_latest else replace(version, is_latest=bool(latest))


def find_version(connection: Connection, bucket_id: BucketId, key: ObjectKey, version_id: VersionId | None = None) -> Version | None:
    """Return the newest version of a key, or the one named."""
    if version_id is None:
        row = connection.execute(_FIND_NEWEST, (bucket_id, key.encode())).fetchone()
    else:
        row = connection.execute(_FIND_NAMED, (bucket_id, key.encode(), version_id)).fetchone()
    return None if row is None else decode_version(row[0], row[1])


def find_newest(connection: Connection, keys: Sequence[tuple[BucketId, ObjectKey]]) -> list[Version | None]:
    """Return the newest version of each of many keys."""
    found = look_up(connection, _FIND_NEWEST_MARKED, [(bucket_id, key.encode()) for bucket_id, key in keys])
    return [decode_version(marked[1:], marked[0] - ord("0")) if isinstance(marked, bytes) else None for marked in found]


def walk_versions(connection: Connection, bucket_id: BucketId, prefix: str, after: tuple[str, int], limit: int) -> tuple[Version, ...]:
    low = prefix.encode()
    rows = connection.execute(
        "SELECT record, latest FROM version WHERE bucket = ?1 AND (key, order_key) > (?2, ?3) AND key >= ?4 AND key < ?5"
        " ORDER BY key, order_key LIMIT ?6",
        (bucket_id, after[0].encode(), after[1], low, low + b"\xff", limit),  # no byte of UTF-8 is as high
    )
    return tuple(decode_version(record, latest) for record, latest in rows)


def find_readable(connection: Connection, bucket_id: BucketId, key: ObjectKey, version_id: VersionId | None = None) -> Readable | None:
    """Return a version with its extents. It is read in one transaction only if an overwrite came between: two statements more are felt."""
    version = find_version(connection, bucket_id, key, version_id)
    if version is None or (found := readable(connection, version)) is not None:
        return None if version is None else found
    connection.execute("BEGIN")
    try:
        version = find_version(connection, bucket_id, key, version_id)
        return None if version is None else Readable(version=version, extents=_few_extents(connection, version))
    finally:
        connection.execute("ROLLBACK")


def readable(connection: Connection, version: Version) -> Readable | None:
    """Return a version that was just read, with its extents; None if it has been replaced since, and with it they."""
    try:
        return Readable(version=version, extents=_few_extents(connection, version))
    except ExtentMissing:
        return None


def _few_extents(connection: Connection, version: Version) -> tuple[Extent, ...]:
    few = len(version.extents) <= READ_AT_ONCE
    return load_extents(connection, [ref.id for ref in version.extents]) if few else ()


def load_parts(connection: Connection, bucket_id: BucketId, version: Version) -> tuple[PartSummary, ...]:
    row = connection.execute(
        "SELECT record, latest, parts FROM version WHERE bucket = ? AND key = ? AND order_key = ?", _row(bucket_id, version)
    ).fetchone()
    if row is None or not is_same(decode_version(row[0], row[1]), version):
        raise ExtentMissing(f"version {version.id} of {version.key} was replaced")
    return () if row[2] is None else _parts.decode(row[2])


def commit_version(
    connection: Connection, draft: VersionDraft, conditions: Conditions, settlements: Sequence[Settlement], instant: Instant
) -> Version:
    bucket = need_bucket(connection, draft.bucket_id)
    newest = find_version(connection, bucket.id, draft.key)
    commit = plan_draft(connection, bucket, newest, draft, conditions, instant, gone=find_gone(connection, bucket.id, draft.key))
    settle_commit(connection, settlements)
    refuse_moved(connection, commit.bucket, draft.shared_extents)
    refuse_unused(connection, draft.shared_extents)
    note_late_policy(connection, commit.bucket, draft.new_layouts)
    new = add_extents(connection, draft.new_layouts, now_ms=draft.modified_ms)
    released = commit.change.released
    if released or draft.shared_extents:
        change_references(connection, shared=draft.shared_extents, released=released, now_ms=draft.modified_ms)
    (version,) = make_visible(connection, [(commit, (*new, *draft.shared_extents))])
    leave_slots(connection, released, draft.modified_ms)  # now: what is added may use the same slot
    return version


class Commit(NamedTuple):
    """A draft that may be committed, as it will be, and what that does to its key."""

    bucket: Bucket
    draft: VersionDraft
    change: VersionChange


def plan_draft(
    connection: Connection,
    bucket: Bucket,
    newest: Version | None,
    draft: VersionDraft,
    conditions: Conditions,
    instant: Instant,
    *,
    gone: int,
) -> Commit:
    """Say what the commit of a draft does, if it may be. Nothing is written."""
    null = find_null(connection, bucket, draft.key, newest)
    draft = to_replicate(bucket, with_full_lock(connection, bucket, draft, instant))
    return Commit(bucket, draft, plan_commit(bucket, newest, null, draft, conditions, gone=gone))


def make_visible(connection: Connection, commits: Sequence[tuple[Commit, tuple[ExtentRef, ...]]]) -> list[Version]:
    """Carry out commits to different keys, each with its extents, but for the references: those to what they release are counted down by
    whoever calls."""
    additions = [Addition(bucket.id, change, extents, draft.parts) for (bucket, draft, change), extents in commits]
    versions = add_versions(connection, additions)
    for ((bucket, draft, _), _), version in zip(commits, versions, strict=True):
        note_event(connection, bucket.id, version, draft.cause, draft.modified_ms)
        queue_replicas(connection, bucket, version, draft.modified_ms)
    return versions


def with_full_lock(connection: Connection, bucket: Bucket, draft: VersionDraft, instant: Instant) -> VersionDraft:
    """Return a draft whose default retention is as long as it should be, whatever the clock was when it began."""
    return with_trusted_start(bucket, draft, trusted_ms(connection, instant)) if draft.default_lock else draft


def find_replaceable(connection: Connection, bucket: Bucket, key: ObjectKey) -> tuple[Version | None, Version | None]:
    """Return the newest version of a key, and the null one if a commit replaces it and it is not the newest."""
    newest = find_version(connection, bucket.id, key)
    return newest, find_null(connection, bucket, key, newest)


def find_null(connection: Connection, bucket: Bucket, key: ObjectKey, newest: Version | None) -> Version | None:
    """Return the null version of a key if a commit replaces it and it is not the newest."""
    if newest is None or newest.id == NULL_VERSION or not replaces_null_version(bucket):
        return None
    return find_version(connection, bucket.id, key, NULL_VERSION)


class Addition(NamedTuple):
    """A change that adds a version to a key, and what that has beside what the change says."""

    bucket_id: BucketId
    change: VersionChange
    extents: tuple[ExtentRef, ...] = ()
    parts: tuple[PartSummary, ...] = ()


def add_versions(connection: Connection, additions: Sequence[Addition]) -> list[Version]:
    """Change the rows of keys, each another, to which versions are added, and return those. What is released is another step."""
    take_out(connection, [(one.bucket_id, version, None) for one in additions for version in one.change.removed])
    for one in additions:
        _demote(connection, one.bucket_id, one.change)
    versions = [_added(one) for one in additions]
    rows = [_stored(one.bucket_id, version, one.parts) for one, version in zip(additions, versions, strict=True)]
    put_in(connection, "INTO version", rows)
    return versions


def _added(addition: Addition) -> Version:
    if addition.change.added is None:
        raise ValueError("nothing is added")
    return replace(addition.change.added, extents=addition.extents)


def store_version(connection: Connection, bucket_id: BucketId, version: Version, parts: tuple[PartSummary, ...]) -> None:
    """Add the row of a version, with whatever place and mark it bears."""
    put_in(connection, "INTO version", [_stored(bucket_id, version, parts)])


def _stored(bucket_id: BucketId, version: Version, parts: tuple[PartSummary, ...]) -> tuple[object, ...]:
    marks = (version.id, int(version.is_latest), int(version.is_delete_marker))
    records = (listed_line(version), encode(version), encode(parts) if parts else None)
    return *_row(bucket_id, version), *marks, *records, *slot_of(version)


def change_versions(connection: Connection, bucket_id: BucketId, change: VersionChange) -> None:
    """Take out what goes, and the mark of the latest from what is demoted; what is added is another step."""
    is_replaced = change.added is not None
    take_out(connection, [(bucket_id, version, None if is_replaced else order_of(version)) for version in change.removed])
    if change.promotes:
        for version in change.removed:
            connection.execute(_PROMOTE_NEWEST, (bucket_id, version.key.encode()))
    _demote(connection, bucket_id, change)


def take_out(connection: Connection, versions: Sequence[tuple[BucketId, Version, int | None]]) -> None:
    """Take out the rows of what goes. With its number in the order of writes, which tells that nothing comes in its place, it is remembered
    until the journal has all that was noted by now."""
    put_in(connection, "INTO taken_out", [(*_row(bucket_id, version), written) for bucket_id, version, written in versions])


def _demote(connection: Connection, bucket_id: BucketId, change: VersionChange) -> None:
    if change.demoted is not None:
        connection.execute("UPDATE version SET latest = 0 WHERE bucket = ? AND key = ? AND order_key = ?", _row(bucket_id, change.demoted))


def find_gone(connection: Connection, bucket_id: BucketId, key: ObjectKey) -> int:
    """Return the number of what was deleted of a key, while the journal may not have that; -1: of nothing."""
    (gone,) = find_each_gone(connection, [(bucket_id, key)])
    return gone


def find_each_gone(connection: Connection, keys: Sequence[tuple[BucketId, ObjectKey]]) -> list[int]:
    """As `find_gone`, of many keys."""
    found = look_up(connection, _WRITTEN_GONE, [(bucket_id, key.encode()) for bucket_id, key in keys])
    return [written if isinstance(written, int) else -1 for written in found]


def _row(bucket_id: BucketId, version: Version) -> tuple[int, bytes, int]:
    return bucket_id, version.key.encode(), -version.sequence


def change_attributes(
    connection: Connection,
    bucket_id: BucketId,
    key: ObjectKey,
    version_id: VersionId | None,
    change: AttributeChange,
    instant: Instant,
    now_ms: int,
    cause: Cause | None,
) -> Version:
    bucket = need_bucket(connection, bucket_id)
    version = find_version(connection, bucket_id, key, version_id)
    changed = plan_attributes(version, change, trusted_ms=trusted_of(connection, version, instant))
    if change.is_copied:
        changed = replace(changed, attributes=pending_again(changed.attributes))
        queue_replicas(connection, bucket, changed, now_ms)
    update_version(connection, bucket_id, changed)
    note_event(connection, bucket_id, changed, cause, now_ms)
    return changed


def update_version(connection: Connection, bucket_id: BucketId, version: Version) -> None:
    """Write the record of a version that is there."""
    connection.execute(
        "UPDATE version SET record = ?, line = ? WHERE bucket = ? AND key = ? AND order_key = ?",
        (encode(version), listed_line(version), *_row(bucket_id, version)),
    )


def finish_replica(connection: Connection, replica: PendingReplica, status: ReplicationStatus | None) -> None:
    """Take a replica out. A version is COMPLETED with its last one, unless one before has FAILED."""
    is_last = end_replica(connection, replica.sequence)
    if is_last is None or status is None or replica.bucket is None or not (is_last or status == "FAILED"):
        return
    version = find_version(connection, replica.bucket.id, replica.key, replica.version_id)
    if version is not None and not version.is_delete_marker and version.attributes.replication == "PENDING":
        update_version(connection, replica.bucket.id, replace(version, attributes=replace(version.attributes, replication=status)))


def trusted_of(connection: Connection, version: Version | None, instant: Instant) -> int:
    """Return the time that a version's lock is held against. Nothing is read for one without."""
    return trusted_ms(connection, instant) if is_lockable(version) else 0
