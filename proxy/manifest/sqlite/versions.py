"""Versions: what is visible under a key, in the order of commits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from proxy.errors import PreconditionUnmet, VersionMissing
from proxy.manifest.protocol import Conditions, VersionDraft
from proxy.manifest.records import NULL_VERSION, BucketName, ExtentRef, ObjectKey, Settlement, Version, VersionId
from proxy.manifest.sqlite.buckets import bucket_number, need_bucket
from proxy.manifest.sqlite.extents import add_extents, drop_extents, share_extents
from proxy.manifest.sqlite.ledger import settle_commit
from proxy.manifest.sqlite.rows import Connection, encode

_versions = msgspec.msgpack.Decoder(Version)


def decode_version(record: bytes, latest: int) -> Version:
    version = _versions.decode(record)
    return version if bool(latest) == version.is_latest else replace(version, is_latest=bool(latest))


def find_version(connection: Connection, bucket: str, key: str, version_id: str | None = None) -> Version | None:
    base = "SELECT v.record, v.latest FROM version v JOIN bucket b ON b.id = v.bucket WHERE b.name = ? AND v.key = ?"
    if version_id is None:
        row = connection.execute(f"{base} ORDER BY v.order_key LIMIT 1", (bucket, key.encode())).fetchone()
    else:
        row = connection.execute(f"{base} AND v.version_id = ?", (bucket, key.encode(), version_id)).fetchone()
    return None if row is None else decode_version(*row)


def check_conditions(current: Version | None, conditions: Conditions) -> None:
    """Hold a write's conditions against what is there: None, or a delete marker, is no object."""
    if current is not None and current.is_delete_marker:
        current = None
    if conditions.if_match is not None:
        if current is None:
            raise PreconditionUnmet("If-Match: there is no object", missing=True)
        if conditions.if_match not in {"*", current.etag}:
            raise PreconditionUnmet("If-Match")
    if conditions.if_none_match is not None and current is not None:
        raise PreconditionUnmet("If-None-Match")


def commit_version(connection: Connection, draft: VersionDraft, conditions: Conditions, settlements: Sequence[Settlement]) -> Version:
    check_conditions(find_version(connection, draft.bucket, draft.key), conditions)
    settle_commit(connection, settlements)
    extents = add_extents(connection, draft.new_layouts) + share_extents(connection, draft.shared_extents)
    return insert_version(connection, draft, extents)


def insert_version(connection: Connection, draft: VersionDraft, extents: tuple[ExtentRef, ...]) -> Version:
    """Make a version the latest of its key; a null one replaces the null one before it."""
    number, key = bucket_number(connection, draft.bucket), draft.key.encode()
    if draft.id == NULL_VERSION:
        _remove(connection, number, key, NULL_VERSION, draft.modified_ms)
    connection.execute("UPDATE version SET latest = 0 WHERE bucket = ? AND key = ? AND latest = 1", (number, key))
    (sequence,) = connection.execute("UPDATE sequence SET value = value + 1 RETURNING value").fetchone()
    version = Version(
        bucket=draft.bucket,
        key=draft.key,
        id=draft.id,
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
        (number, key, -sequence, draft.id, int(draft.is_delete_marker), encode(version)),
    )
    return version


def _remove(connection: Connection, number: int, key: bytes, version_id: str, now_ms: int) -> Version | None:
    row = connection.execute(
        "DELETE FROM version WHERE bucket = ? AND key = ? AND version_id = ? RETURNING record, latest", (number, key, version_id)
    ).fetchone()
    if row is None:
        return None
    version = decode_version(*row)
    drop_extents(connection, version.extents, now_ms)
    return version


def set_tags(connection: Connection, bucket: str, key: str, version_id: str | None, tags: Mapping[str, str]) -> Version:
    version = find_version(connection, bucket, key, version_id)
    if version is None or version.is_delete_marker:
        raise VersionMissing(f"no version {version_id or 'latest'} of {key}")
    changed = replace(version, attributes=replace(version.attributes, tags=dict(tags)))
    connection.execute(
        "UPDATE version SET record = ? WHERE bucket = ? AND key = ? AND order_key = ?",
        (encode(changed), bucket_number(connection, bucket), key.encode(), -version.sequence),
    )
    return changed


def delete_version(
    connection: Connection, bucket: str, key: str, version_id: VersionId, now_ms: int, conditions: Conditions
) -> Version | None:
    number = bucket_number(connection, bucket)
    if conditions.if_match is not None:
        check_conditions(find_version(connection, bucket, key, version_id), conditions)
    removed = _remove(connection, number, key.encode(), version_id, now_ms)
    if removed is not None and removed.is_latest:
        connection.execute(
            "UPDATE version SET latest = 1 WHERE bucket = ?1 AND key = ?2 AND order_key ="
            " (SELECT min(order_key) FROM version WHERE bucket = ?1 AND key = ?2)",
            (number, key.encode()),
        )
    return removed


def delete_latest(
    connection: Connection, bucket: BucketName, key: ObjectKey, marker_id: VersionId, now_ms: int, conditions: Conditions
) -> Version | None:
    versioning = need_bucket(connection, bucket).versioning
    check_conditions(find_version(connection, bucket, key), conditions)
    if versioning == "Unversioned":
        _remove(connection, bucket_number(connection, bucket), key.encode(), NULL_VERSION, now_ms)
        return None
    marker = marker_id if versioning == "Enabled" else NULL_VERSION
    return insert_version(connection, VersionDraft(bucket=bucket, key=key, id=marker, is_delete_marker=True, modified_ms=now_ms), ())
