"""Deleting versions: one for good, or the latest by S3's rules of versioning, of one key or of all that are asked for together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from proxy.clock import Instant
from proxy.errors import ManifestConflict
from proxy.manifest.drafts import NO_CONDITIONS, Conditions
from proxy.manifest.events import Cause
from proxy.manifest.plans.versions import VersionChange, order_of, plan_delete_latest, plan_delete_version
from proxy.manifest.records import Bucket, BucketId, ExtentRef, ObjectKey, Version, VersionId
from proxy.manifest.sqlite.batches import distinct_runs
from proxy.manifest.sqlite.buckets import need_bucket
from proxy.manifest.sqlite.events import marker_made, note_event
from proxy.manifest.sqlite.extents import release
from proxy.manifest.sqlite.replication import queue_replicas
from proxy.manifest.sqlite.rows import Connection
from proxy.manifest.sqlite.versions import (
    Addition,
    add_versions,
    change_versions,
    find_newest,
    find_null,
    find_version,
    take_out,
    trusted_of,
)
from proxy.s3.policy.acl import Acl


class LatestDeletion(NamedTuple):
    """The deletion of a key without a version id. `replicates`: a marker that it makes is copied where the bucket's are."""

    bucket_id: BucketId
    key: ObjectKey
    marker_id: VersionId
    now_ms: int
    conditions: Conditions = NO_CONDITIONS
    cause: Cause | None = None
    replicates: bool = True
    owner: Acl | None = None


def delete_each_latest(connection: Connection, deletions: Sequence[LatestDeletion]) -> list[Version | ManifestConflict | None]:
    """Delete each in its turn, and return the marker that it made, or why it was refused. Each is planned before anything of it is written:
    one that is refused has nothing to undo. What they leave of extents and packs is counted out at the end, once for each."""
    outcomes: list[Version | ManifestConflict | None] = []
    released: list[ExtentRef] = []
    for run in distinct_runs(deletions, _key):
        outcomes += _delete_run(connection, run, released)
    release(connection, released, deletions[0].now_ms)
    return outcomes


def _key(deletion: LatestDeletion) -> tuple[BucketId, ObjectKey]:
    return deletion.bucket_id, deletion.key


def _delete_run(
    connection: Connection, deletions: Sequence[LatestDeletion], released: list[ExtentRef]
) -> list[Version | ManifestConflict | None]:
    """Delete different keys. What they leave is added to `released`."""
    buckets: dict[BucketId, Bucket] = {}
    outcomes: list[Version | ManifestConflict | None] = []
    gone: list[tuple[BucketId, Version, int]] = []
    for deletion, newest in zip(deletions, find_newest(connection, [_key(one) for one in deletions]), strict=True):
        try:
            bucket = buckets.get(deletion.bucket_id) or need_bucket(connection, deletion.bucket_id)
            change = _plan(connection, bucket, newest, deletion)
        except ManifestConflict as error:
            outcomes.append(error)
            continue
        buckets[bucket.id] = bucket
        outcomes.append(_carry_out(connection, bucket, change, deletion, gone))
        released += change.released
    take_out(connection, gone)
    return outcomes


def delete_latest(connection: Connection, deletion: LatestDeletion) -> Version | None:
    (outcome,) = delete_each_latest(connection, [deletion])
    if isinstance(outcome, ManifestConflict):
        raise outcome
    return outcome


def _plan(connection: Connection, bucket: Bucket, newest: Version | None, deletion: LatestDeletion) -> VersionChange:
    return plan_delete_latest(
        bucket,
        newest,
        find_null(connection, bucket, deletion.key, newest),
        deletion.key,
        marker_id=deletion.marker_id,
        now_ms=deletion.now_ms,
        conditions=deletion.conditions,
        owner=deletion.owner,
    )


def _carry_out(
    connection: Connection, bucket: Bucket, change: VersionChange, deletion: LatestDeletion, gone: list[tuple[BucketId, Version, int]]
) -> Version | None:
    """Carry out a change, but for what it adds to `gone`: that is to be taken out."""
    now_ms, cause = deletion.now_ms, deletion.cause
    if change.added is None:
        for version in change.removed:
            gone.append((bucket.id, version, order_of(version)))
            note_event(connection, bucket.id, version, cause, now_ms)
        return None
    (marker,) = add_versions(connection, [Addition(bucket.id, change)])
    note_event(connection, bucket.id, marker, marker_made(cause), now_ms)
    if deletion.replicates:
        queue_replicas(connection, bucket, marker, now_ms)
    return marker


def delete_version(
    connection: Connection,
    bucket_id: BucketId,
    key: ObjectKey,
    version_id: VersionId,
    now_ms: int,
    instant: Instant,
    bypass_governance: bool,  # noqa: FBT001 - as the caller says it, by name
    cause: Cause | None,
) -> Version | None:
    need_bucket(connection, bucket_id)
    version = find_version(connection, bucket_id, key, version_id)
    trusted = trusted_of(connection, version, instant)
    remove_version(connection, bucket_id, plan_delete_version(version, trusted_ms=trusted, bypass_governance=bypass_governance), now_ms)
    note_event(connection, bucket_id, version, cause, now_ms)
    return version


def remove_version(connection: Connection, bucket_id: BucketId, change: VersionChange, now_ms: int) -> None:
    """Carry out a change that adds nothing, and release what the versions used."""
    change_versions(connection, bucket_id, change)
    release(connection, change.released, now_ms)
