"""Versions: what is visible under a key, in the order of commits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from proxy.errors import VersionMissing
from proxy.manifest.conditions import check_conditions
from proxy.manifest.protocol import Conditions, VersionDraft
from proxy.manifest.records import NULL_VERSION, Bucket, BucketId, ExtentRef, ObjectKey, Settlement, Version, VersionId
from proxy.manifest.sqlite.buckets import need_bucket
from proxy.manifest.sqlite.extents import add_extents, drop_extents, share_extents
from proxy.manifest.sqlite.ledger import settle_commit
from proxy.manifest.sqlite.rows import Connection, encode

_versions = msgspec.msgpack.Decoder(Version)
# A key may have a hundred thousand versions: each of these is a seek or two.
_PROMOTE_NEWEST = (
    "UPDATE version SET latest = 1 WHERE bucket = ?1 AND key = ?2"
    " AND order_key = (SELECT min(order_key) FROM version WHERE bucket = ?1 AND key = ?2)"
)
_FIND_OLDER = (
    "SELECT record, latest FROM version INDEXED BY version_older WHERE bucket = ?1 AND key = ?2 AND version_id = ?3 AND latest = 0"
)


def decode_version(record: bytes, latest: int) -> Version:
    version = _versions.decode(record)
    return version if bool(latest) == version.is_latest else replace(version, is_latest=bool(latest))


def find_version(connection: Connection, bucket_id: BucketId, key: ObjectKey, version_id: VersionId | None = None) -> Version | None:
    """Return the newest version of a key, or the one named."""
    row = connection.execute(
        "SELECT record, latest, version_id FROM version WHERE bucket = ? AND key = ? ORDER BY order_key LIMIT 1", (bucket_id, key.encode())
    ).fetchone()
    if row is None:
        return None
    if version_id is not None and version_id != row[2]:
        return _find_older(connection, bucket_id, key, version_id)
    return decode_version(row[0], row[1])


def _find_older(connection: Connection, bucket_id: BucketId, key: ObjectKey, version_id: VersionId) -> Version | None:
    row = connection.execute(_FIND_OLDER, (bucket_id, key.encode(), version_id)).fetchone()
    return None if row is None else decode_version(*row)


def commit_version(connection: Connection, draft: VersionDraft, conditions: Conditions, settlements: Sequence[Settlement]) -> Version:
    bucket = need_bucket(connection, draft.bucket_id)
    newest = find_version(connection, bucket.id, draft.key)
    check_conditions(newest, conditions)
    settle_commit(connection, settlements)
    extents = add_extents(connection, draft.new_layouts) + share_extents(connection, draft.shared_extents)
    return insert_version(connection, bucket, newest, draft, extents)


def insert_version(
    connection: Connection, bucket: Bucket, newest: Version | None, draft: VersionDraft, extents: tuple[ExtentRef, ...]
) -> Version:
    """Put a version above the newest of its key. Without versioning it is the null one, and replaces the null one before it."""
    version_id = draft.id if bucket.versioning == "Enabled" else NULL_VERSION
    if newest is not None:
        _make_way(connection, bucket.id, newest, version_id, draft.modified_ms)
    (sequence,) = connection.execute("UPDATE sequence SET value = value + 1 RETURNING value").fetchone()
    version = Version(
        key=draft.key,
        id=version_id,
        sequence=sequence,
        is_latest=True,
        is_delete_marker=draft.is_delete_marker,
        size=draft.size,
        etag=draft.etag,
        modified_ms=draft.modified_ms,
        attributes=draft.attributes,
        checksum=draft.checksum,
        parts=draft.parts,
        extents=extents,
    )
    connection.execute(
        "INSERT INTO version VALUES (?, ?, ?, ?, 1, ?, ?)",
        (bucket.id, draft.key.encode(), -sequence, version_id, int(draft.is_delete_marker), encode(version)),
    )
    return version


def _make_way(connection: Connection, bucket_id: BucketId, newest: Version, version_id: VersionId, now_ms: int) -> None:
    """Remove the version of the same id, which is a null one, and leave none that is the latest."""
    if newest.id == version_id:  # nearly always, without versioning: there is nothing else to change
        _remove(connection, bucket_id, newest, now_ms)
        return
    older = _find_older(connection, bucket_id, newest.key, NULL_VERSION) if version_id == NULL_VERSION else None
    if older is not None:
        _remove(connection, bucket_id, older, now_ms)
    connection.execute("UPDATE version SET latest = 0 WHERE bucket = ? AND key = ? AND order_key = ?", _row(bucket_id, newest))


def _remove(connection: Connection, bucket_id: BucketId, version: Version, now_ms: int) -> None:
    connection.execute("DELETE FROM version WHERE bucket = ? AND key = ? AND order_key = ?", _row(bucket_id, version))
    drop_extents(connection, version.extents, now_ms)


def _row(bucket_id: BucketId, version: Version) -> tuple[int, bytes, int]:
    return bucket_id, version.key.encode(), -version.sequence


def set_tags(connection: Connection, bucket_id: BucketId, key: ObjectKey, version_id: VersionId | None, tags: Mapping[str, str]) -> Version:
    need_bucket(connection, bucket_id)
    version = find_version(connection, bucket_id, key, version_id)
    if version is None or version.is_delete_marker:
        raise VersionMissing(f"no version {version_id or 'latest'} of {key}")
    changed = replace(version, attributes=replace(version.attributes, tags=dict(tags)))
    connection.execute(
        "UPDATE version SET record = ? WHERE bucket = ? AND key = ? AND order_key = ?", (encode(changed), *_row(bucket_id, version))
    )
    return changed


def delete_version(connection: Connection, bucket_id: BucketId, key: ObjectKey, version_id: VersionId, now_ms: int) -> Version | None:
    need_bucket(connection, bucket_id)
    version = find_version(connection, bucket_id, key, version_id)
    if version is not None:
        _remove(connection, bucket_id, version, now_ms)
        if version.is_latest:
            connection.execute(_PROMOTE_NEWEST, (bucket_id, key.encode()))
    return version


def delete_latest(
    connection: Connection, bucket_id: BucketId, key: ObjectKey, marker_id: VersionId, now_ms: int, conditions: Conditions
) -> Version | None:
    bucket = need_bucket(connection, bucket_id)
    newest = find_version(connection, bucket_id, key)
    check_conditions(newest, conditions)
    if bucket.versioning == "Unversioned":
        if newest is not None:  # the null version: there are no others before versioning is first enabled
            _remove(connection, bucket_id, newest, now_ms)
        return None
    draft = VersionDraft(bucket_id=bucket_id, key=key, id=marker_id, is_delete_marker=True, modified_ms=now_ms)
    return insert_version(connection, bucket, newest, draft, ())
