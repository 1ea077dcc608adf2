"""Replicas: queued by the step that makes or changes a version, taken away once the destination has it."""

from __future__ import annotations

import json

import msgspec
from msgspec.structs import replace

from proxy.manifest.drafts import VersionDraft
from proxy.manifest.records import Bucket, BucketName, ObjectAttributes, ObjectKey, Version, VersionId
from proxy.manifest.replication import LONGEST_DELAY_MS, PendingReplica
from proxy.manifest.sqlite.rows import Connection
from proxy.s3.replication import SETTING, rules_of, wanted_of

_buckets = msgspec.msgpack.Decoder(Bucket)
# Of one key, a version waits for those before it: the last one that comes is the latest. What is put off for longer than anything ever is
# was put off by a clock that was ahead, and is due.
_DUE = (
    "SELECT sequence, b.record, key, version_id, destination, storage_class, since FROM replica r LEFT JOIN bucket b ON b.id = r.bucket"
    " WHERE (due <= ?1 OR due > ?3) AND destination NOT IN (SELECT value FROM json_each(?4)) AND NOT EXISTS"
    " (SELECT 1 FROM replica e WHERE e.bucket = r.bucket AND e.key = r.key AND e.destination = r.destination AND e.sequence < r.sequence)"
    " ORDER BY sequence LIMIT ?2"
)


def to_replicate(bucket: Bucket, draft: VersionDraft) -> VersionDraft:
    """Return the draft, marked if its version is to be copied. A replica is not copied on."""
    setting = bucket.settings.get(SETTING)
    if setting is None or draft.attributes.replication == "REPLICA":
        return draft
    pending = "PENDING" if wanted_of(rules_of(setting), draft.key, draft.attributes.tags) else None
    return replace(draft, attributes=replace(draft.attributes, replication=pending))


def queue_replicas(connection: Connection, bucket: Bucket, version: Version, now_ms: int) -> None:
    """Queue a version for the buckets that it is to be copied to."""
    setting = bucket.settings.get(SETTING)
    if setting is None or version.attributes.replication == "REPLICA":
        return
    for destination, storage_class in wanted_of(
        rules_of(setting), version.key, version.attributes.tags, is_marker=version.is_delete_marker
    ):
        connection.execute(
            "INSERT INTO replica (bucket, key, version_id, destination, storage_class, since, due) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (bucket.id, version.key.encode(), version.id, destination, storage_class, now_ms, 0),
        )


def pending_again(attributes: ObjectAttributes) -> ObjectAttributes:
    """Return the attributes of a version that has changed: where it is copied to, the change is, too."""
    return replace(attributes, replication="PENDING") if attributes.replication in {"COMPLETED", "FAILED"} else attributes


def due_replicas(connection: Connection, now_ms: int, limit: int, but_for: tuple[BucketName, ...] = ()) -> tuple[PendingReplica, ...]:
    return tuple(
        PendingReplica(
            sequence=sequence,
            bucket=None if bucket is None else _buckets.decode(bucket),
            key=ObjectKey(key.decode()),
            version_id=VersionId(version_id),
            destination=BucketName(destination),
            storage_class=storage_class,
            since_ms=since,
        )
        for sequence, bucket, key, version_id, destination, storage_class, since in connection.execute(
            _DUE, (now_ms, limit, now_ms + LONGEST_DELAY_MS, json.dumps(but_for))
        )
    )


def put_off_replica(connection: Connection, sequence: int, due_ms: int) -> None:
    connection.execute("UPDATE replica SET due = ? WHERE sequence = ?", (due_ms, sequence))


def end_replica(connection: Connection, sequence: int) -> bool | None:
    """Take a replica out; tell whether the version waits for no other. None: it was out already."""
    row = connection.execute("DELETE FROM replica WHERE sequence = ? RETURNING bucket, key, version_id", (sequence,)).fetchone()
    if row is None:
        return None
    return connection.execute("SELECT 1 FROM replica WHERE bucket = ? AND key = ? AND version_id = ? LIMIT 1", row).fetchone() is None


def count_replicas(connection: Connection) -> tuple[int, int]:
    """Return how many wait, and since when the oldest does; 0 if none."""
    count, oldest = connection.execute("SELECT count(*), min(since) FROM replica").fetchone()
    return count, oldest or 0
