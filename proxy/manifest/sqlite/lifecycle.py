"""Lifecycle rules: doing what is due, if it still is: the rules are asked again in the step that does it."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from proxy.clock import Instant
from proxy.errors import VersionLocked
from proxy.manifest.events import Cause
from proxy.manifest.lifecycle import DueVersion, Outcome
from proxy.manifest.plans.locks import is_lockable
from proxy.manifest.plans.versions import plan_delete_version
from proxy.manifest.records import Bucket, BucketId, ExtentId, Version, VersionId
from proxy.manifest.sqlite.deletions import LatestDeletion, delete_latest, remove_version
from proxy.manifest.sqlite.due import made_ms, rules_of
from proxy.manifest.sqlite.events import note_event
from proxy.manifest.sqlite.layouts import find_layout
from proxy.manifest.sqlite.rows import Connection
from proxy.manifest.sqlite.trusted_time import trusted_ms
from proxy.manifest.sqlite.versions import decode_version, update_version
from proxy.s3.lifecycle.deciding import Facts, decide
from proxy.s3.lifecycle.rules import Configuration

_FIND = "SELECT record, latest FROM version WHERE bucket = ? AND key = ? AND order_key = ?"
_NEWER = "SELECT record FROM version WHERE bucket = ? AND key = ? AND order_key < ? ORDER BY order_key DESC LIMIT 1"
_OLDER = "SELECT 1 FROM version WHERE bucket = ? AND key = ? AND order_key > ? LIMIT 1"
# No rule keeps more than a hundred newer versions, and a key may have very many.
_COUNT_NEWER = (
    "SELECT count(*) FROM (SELECT 1 FROM version WHERE bucket = ? AND key = ? AND order_key < ? AND latest = 0 AND marker = 0 LIMIT 100)"
)


def carry_out(
    connection: Connection,
    bucket_id: BucketId,
    due: Sequence[DueVersion],
    marker_ids: Sequence[VersionId],
    now_ms: int,
    instant: Instant,
    cause: Cause | None,
) -> tuple[Outcome, ...]:
    bucket, configuration = rules_of(connection, bucket_id)
    outcomes: list[Outcome] = []
    for one, marker_id in zip(due, marker_ids, strict=True):
        version = _still_due(connection, bucket, configuration, one, now_ms)
        if version is None:
            outcomes.append("left")
            continue
        try:
            outcomes.append(_carry_out(connection, bucket, one, version, marker_id, now_ms, instant, cause))
        except VersionLocked:
            outcomes.append("locked")
    return tuple(outcomes)


def _carry_out(
    connection: Connection,
    bucket: Bucket,
    due: DueVersion,
    version: Version,
    marker_id: VersionId,
    now_ms: int,
    instant: Instant,
    cause: Cause | None,
) -> Outcome:
    if due.action == "expire":
        # S3 User Guide, "What does Amazon S3 replicate?": not the markers that lifecycle rules make.
        marker = delete_latest(connection, LatestDeletion(bucket.id, due.key, marker_id, now_ms, cause=cause, replicates=False))
        return "expired" if marker is None else "marked"
    trusted = trusted_ms(connection, instant) if is_lockable(version) else 0
    remove_version(connection, bucket.id, plan_delete_version(version, trusted_ms=trusted), now_ms)
    note_event(connection, bucket.id, version, cause, now_ms)
    return "removed"


def change_class(
    connection: Connection, bucket_id: BucketId, due: DueVersion, policy: str, k: int, m: int, now_ms: int, cause: Cause | None
) -> Outcome:
    bucket, configuration = rules_of(connection, bucket_id)
    version = _still_due(connection, bucket, configuration, due, now_ms)
    if version is None or not all(_is_stored(connection, ref.id, policy, k, m) for ref in version.extents):
        return "left"
    moved = replace(version, attributes=replace(version.attributes, storage_class=due.storage_class))
    update_version(connection, bucket_id, moved)
    note_event(connection, bucket_id, moved, cause, now_ms)
    return "moved"


def _is_stored(connection: Connection, extent_id: int, policy: str, k: int, m: int) -> bool:
    layout = find_layout(connection, ExtentId(extent_id))
    return layout is not None and (layout.policy, layout.k, layout.m) == (policy, k, m)


def _still_due(connection: Connection, bucket: Bucket, configuration: Configuration | None, due: DueVersion, now_ms: int) -> Version | None:
    """Return the version if the rules as they are want the same to be done with it as it is."""
    row = connection.execute(_FIND, (bucket.id, due.key.encode(), -due.sequence)).fetchone()
    if row is None or configuration is None:
        return None
    version = decode_version(*row)
    if version.id != due.version_id:
        return None
    decision = decide(configuration, _facts(connection, bucket, version), now_ms)
    wanted = (due.action, due.storage_class)
    return version if decision is not None and (decision.action, decision.storage_class) == wanted else None


def _facts(connection: Connection, bucket: Bucket, version: Version) -> Facts:
    place = (bucket.id, version.key.encode(), -version.sequence)
    noncurrent_ms = newer = 0
    if not version.is_latest:
        found = connection.execute(_NEWER, place).fetchone()
        noncurrent_ms = made_ms(found[0])
        newer = int(connection.execute(_COUNT_NEWER, place).fetchone()[0])
    return Facts(
        key=version.key,
        size=version.size,
        tags=version.attributes.tags,
        storage_class=version.attributes.storage_class,
        modified_ms=version.modified_ms,
        is_latest=version.is_latest,
        is_marker=version.is_delete_marker,
        is_alone=connection.execute(_OLDER, place).fetchone() is None,
        versioned=bucket.versioning != "Unversioned",
        noncurrent_ms=noncurrent_ms,
        newer_noncurrent=newer,
    )
