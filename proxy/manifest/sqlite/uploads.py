"""Multipart uploads and their parts, until they are completed or aborted."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from proxy.clock import Instant
from proxy.errors import UploadMissing
from proxy.manifest.drafts import CompletedPart, Conditions, VersionDraft
from proxy.manifest.plans.buckets import check_empty
from proxy.manifest.plans.uploads import check_upload, completed_version, extents_of, plan_completion
from proxy.manifest.plans.versions import plan_commit, written_above
from proxy.manifest.records import BucketId, ExtentRef, Layout, ObjectKey, Part, Settlement, Upload, UploadId, Version, VersionId
from proxy.manifest.sqlite.buckets import need_bucket
from proxy.manifest.sqlite.campaigns import note_late_policy, refuse_moved
from proxy.manifest.sqlite.events import note_event
from proxy.manifest.sqlite.extents import add_extents, change_references
from proxy.manifest.sqlite.ledger import settle_commit
from proxy.manifest.sqlite.replication import queue_replicas, to_replicate
from proxy.manifest.sqlite.rows import Connection, encode, one
from proxy.manifest.sqlite.slots import leave_slots
from proxy.manifest.sqlite.versions import Addition, add_versions, find_gone, find_replaceable, find_version, with_full_lock

_uploads = msgspec.msgpack.Decoder(Upload)
_parts = msgspec.msgpack.Decoder(Part)
_completed = msgspec.msgpack.Decoder(tuple[CompletedPart, ...])
COMPLETED_KEPT_MS = 24 * 3600 * 1000


def begin_upload(connection: Connection, upload: Upload) -> None:
    need_bucket(connection, upload.bucket_id)
    row = (upload.id, upload.bucket_id, upload.key.encode(), upload.initiated_ms, encode(upload))
    connection.execute("INSERT INTO upload VALUES (?, ?, ?, ?, ?)", row)


def find_upload(connection: Connection, bucket_id: BucketId, key: ObjectKey, upload_id: UploadId) -> Upload | None:
    upload = one(connection, "SELECT record FROM upload WHERE id = ?", (upload_id,), _uploads)
    return upload if upload is not None and (upload.bucket_id, upload.key) == (bucket_id, key) else None


def commit_part(
    connection: Connection,
    upload_id: UploadId,
    part: Part,
    new_layouts: Sequence[Layout],
    shared_extents: Sequence[ExtentRef],
    settlements: Sequence[Settlement],
) -> Part:
    upload = one(connection, "SELECT record FROM upload WHERE id = ?", (upload_id,), _uploads)
    if upload is None:
        raise UploadMissing(f"no upload {upload_id}")
    settle_commit(connection, settlements)
    bucket = need_bucket(connection, upload.bucket_id)
    refuse_moved(connection, bucket, shared_extents)
    note_late_policy(connection, bucket, new_layouts)
    before = one(connection, "SELECT record FROM part WHERE upload = ? AND number = ?", (upload_id, part.number), _parts)
    released = extents_of([before] if before is not None else [])
    new = add_extents(connection, new_layouts, now_ms=part.modified_ms)
    shared = change_references(connection, shared=shared_extents, released=released, now_ms=part.modified_ms)
    stored = replace(part, extents=new + shared, written=written_above(part, before))
    connection.execute("INSERT OR REPLACE INTO part VALUES (?, ?, ?)", (upload_id, part.number, encode(stored)))
    return stored


def list_parts(connection: Connection, upload_id: UploadId, after: int, limit: int) -> tuple[Part, ...]:
    rows = connection.execute("SELECT record FROM part WHERE upload = ? AND number > ? ORDER BY number LIMIT ?", (upload_id, after, limit))
    return tuple(_parts.decode(row[0]) for row in rows)


def complete_upload(
    connection: Connection,
    upload_id: UploadId,
    parts: Sequence[CompletedPart],
    draft: VersionDraft,
    conditions: Conditions,
    instant: Instant,
) -> Version:
    upload = one(connection, "SELECT record FROM upload WHERE id = ?", (upload_id,), _uploads)
    if upload is None:
        return find_completed(connection, upload_id, parts, draft.bucket_id, draft.key)
    check_upload(upload, draft.bucket_id, draft.key)
    bucket = need_bucket(connection, draft.bucket_id)
    newest, null = find_replaceable(connection, bucket, draft.key)
    draft = to_replicate(bucket, with_full_lock(connection, bucket, draft, instant))
    gone = find_gone(connection, bucket.id, draft.key)
    change = plan_commit(bucket, newest, null, draft, conditions, gone=gone, upload_id=upload_id)
    completion = plan_completion(list_parts(connection, upload_id, 0, 10_000), parts)
    change_references(connection, released=change.released + completion.released, now_ms=draft.modified_ms)
    (version,) = add_versions(connection, [Addition(bucket.id, change, completion.extents, draft.parts)])
    leave_slots(connection, change.released, draft.modified_ms)
    note_event(connection, bucket.id, version, draft.cause, draft.modified_ms)
    queue_replicas(connection, bucket, version, draft.modified_ms)
    _end_upload(connection, upload_id)
    connection.execute(
        "INSERT OR REPLACE INTO completed_upload VALUES (?, ?, ?, ?, ?, ?)",
        (upload_id, draft.bucket_id, draft.key.encode(), version.id, encode(tuple(parts)), draft.modified_ms),
    )
    connection.execute("DELETE FROM completed_upload WHERE completed < ?", (draft.modified_ms - COMPLETED_KEPT_MS,))
    return version


def find_completed(
    connection: Connection, upload_id: UploadId, parts: Sequence[CompletedPart], bucket_id: BucketId, key: ObjectKey
) -> Version:
    """A client that lost our answer asks again: give the same one, while that very version is there."""
    row = connection.execute(
        "SELECT parts, version_id FROM completed_upload WHERE id = ? AND bucket = ? AND key = ?", (upload_id, bucket_id, key.encode())
    ).fetchone()
    if row is None:
        return completed_version(upload_id, None, parts, None)
    return completed_version(upload_id, _completed.decode(row[0]), parts, find_version(connection, bucket_id, key, VersionId(row[1])))


def abort_upload(connection: Connection, upload_id: UploadId, now_ms: int) -> None:
    if connection.execute("SELECT 1 FROM upload WHERE id = ?", (upload_id,)).fetchone() is None:
        raise UploadMissing(f"no upload {upload_id}")
    change_references(connection, released=extents_of(list_parts(connection, upload_id, 0, 10_000)), now_ms=now_ms)
    _end_upload(connection, upload_id)


def _end_upload(connection: Connection, upload_id: UploadId) -> None:
    connection.execute("DELETE FROM part WHERE upload = ?", (upload_id,))
    connection.execute("DELETE FROM upload WHERE id = ?", (upload_id,))


def delete_bucket(connection: Connection, bucket_id: BucketId, now_ms: int) -> None:
    """Delete an empty bucket; its uploads, which nobody could complete any more, are aborted."""
    bucket = need_bucket(connection, bucket_id)
    found = connection.execute("SELECT 1 FROM version WHERE bucket = ? LIMIT 1", (bucket_id,)).fetchone()
    check_empty(bucket, has_versions=found is not None)
    for (upload_id,) in connection.execute("SELECT id FROM upload WHERE bucket = ?", (bucket_id,)).fetchall():
        abort_upload(connection, upload_id, now_ms)
    connection.execute("DELETE FROM bucket WHERE id = ?", (bucket_id,))
