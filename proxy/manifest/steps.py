"""The steps of the SQLite adapter: what each change and each question does to an open connection. No threads, no asyncio."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from proxy.errors import (
    BucketExists,
    BucketMissing,
    BucketNotEmpty,
    IntentRevoked,
    PartInvalid,
    PreconditionUnmet,
    TenantExists,
    TenantMissing,
    TenantNotEmpty,
    UploadMissing,
    VersionMissing,
)  # fmt: skip
from proxy.manifest.protocol import CompletedPart, Conditions, VersionDraft
from proxy.manifest.records import (
    NULL_VERSION,
    AccessKey,
    AccessKeyId,
    Bucket,
    BucketName,
    Extent,
    ExtentId,
    ExtentRef,
    Garbage,
    GarbageSegment,
    Intent,
    IntentId,
    Layout,
    ObjectKey,
    Part,
    Segment,
    SegmentId,
    Settlement,
    Tenant,
    TenantId,
    Upload,
    UploadId,
    Version,
    VersionId,
    Versioning,
)  # fmt: skip

Connection = sqlite3.Connection
Decoded = TypeVar("Decoded")

encode = msgspec.msgpack.Encoder().encode
_tenants = msgspec.msgpack.Decoder(Tenant)
_access_keys = msgspec.msgpack.Decoder(AccessKey)
_buckets = msgspec.msgpack.Decoder(Bucket)
_versions = msgspec.msgpack.Decoder(Version)
_layouts = msgspec.msgpack.Decoder(Layout)
_uploads = msgspec.msgpack.Decoder(Upload)
_parts = msgspec.msgpack.Decoder(Part)
_garbage = msgspec.msgpack.Decoder(tuple[GarbageSegment, ...])
_completed = msgspec.msgpack.Decoder(tuple[CompletedPart, ...])
ID_SIZE = 16
COMPLETED_KEPT_MS = 24 * 3600 * 1000


def _one(connection: Connection, sql: str, parameters: Sequence[object], decoder: msgspec.msgpack.Decoder[Decoded]) -> Decoded | None:
    row = connection.execute(sql, parameters).fetchone()
    return None if row is None else decoder.decode(row[0])


# --- tenants and keys


def add_tenant(connection: Connection, tenant: Tenant) -> None:
    try:
        connection.execute("INSERT INTO tenant VALUES (?, ?, ?)", (tenant.id, tenant.name, encode(tenant)))
    except sqlite3.IntegrityError:
        raise TenantExists(f"tenant {tenant.name} exists") from None


def find_tenant(connection: Connection, tenant_id: TenantId) -> Tenant | None:
    return _one(connection, "SELECT record FROM tenant WHERE id = ?", (tenant_id,), _tenants)


def find_tenant_by_name(connection: Connection, name: str) -> Tenant | None:
    return _one(connection, "SELECT record FROM tenant WHERE name = ?", (name,), _tenants)


def list_tenants(connection: Connection) -> tuple[Tenant, ...]:
    return tuple(_tenants.decode(row[0]) for row in connection.execute("SELECT record FROM tenant ORDER BY name"))


def set_tenant_enabled(connection: Connection, tenant_id: TenantId, *, enabled: bool) -> None:
    tenant = find_tenant(connection, tenant_id)
    if tenant is None:
        raise TenantMissing(f"no tenant {tenant_id}")
    connection.execute("UPDATE tenant SET record = ? WHERE id = ?", (encode(replace(tenant, enabled=enabled)), tenant_id))


def remove_tenant(connection: Connection, tenant_id: TenantId) -> None:
    if find_tenant(connection, tenant_id) is None:
        raise TenantMissing(f"no tenant {tenant_id}")
    if connection.execute("SELECT 1 FROM bucket WHERE tenant_id = ? LIMIT 1", (tenant_id,)).fetchone():
        raise TenantNotEmpty(f"tenant {tenant_id} still owns buckets: delete them first")
    connection.execute("DELETE FROM access_key WHERE tenant_id = ?", (tenant_id,))
    connection.execute("DELETE FROM tenant WHERE id = ?", (tenant_id,))


def add_access_key(connection: Connection, key: AccessKey) -> None:
    if find_tenant(connection, key.tenant_id) is None:
        raise TenantMissing(f"no tenant {key.tenant_id}")
    try:
        connection.execute("INSERT INTO access_key VALUES (?, ?, ?)", (key.id, key.tenant_id, encode(key)))
    except sqlite3.IntegrityError:
        raise TenantExists(f"access key {key.id} exists") from None


def find_access_key(connection: Connection, access_key: AccessKeyId) -> tuple[AccessKey, Tenant] | None:
    row = connection.execute(
        "SELECT k.record, t.record FROM access_key k JOIN tenant t ON t.id = k.tenant_id WHERE k.id = ?", (access_key,)
    ).fetchone()
    return None if row is None else (_access_keys.decode(row[0]), _tenants.decode(row[1]))


def list_access_keys(connection: Connection, tenant_id: TenantId) -> tuple[AccessKey, ...]:
    rows = connection.execute("SELECT record FROM access_key WHERE tenant_id = ? ORDER BY id", (tenant_id,))
    return tuple(_access_keys.decode(row[0]) for row in rows)


def remove_access_key(connection: Connection, access_key: AccessKeyId) -> bool:
    return connection.execute("DELETE FROM access_key WHERE id = ?", (access_key,)).rowcount > 0


# --- buckets


def bucket_number(connection: Connection, name: str) -> int:
    """Return the bucket's row id. Raises BucketMissing."""
    row = connection.execute("SELECT id FROM bucket WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise BucketMissing(f"no bucket {name}")
    return int(row[0])


def create_bucket(connection: Connection, bucket: Bucket) -> None:
    existing = find_bucket(connection, bucket.name)
    if existing is not None:
        raise BucketExists(bucket.name, existing.tenant_id)
    connection.execute("INSERT INTO bucket (name, tenant_id, record) VALUES (?, ?, ?)", (bucket.name, bucket.tenant_id, encode(bucket)))


def find_bucket(connection: Connection, name: str) -> Bucket | None:
    return _one(connection, "SELECT record FROM bucket WHERE name = ?", (name,), _buckets)


def list_buckets(connection: Connection, tenant_id: TenantId, prefix: str, after: str, limit: int) -> tuple[Bucket, ...]:
    rows = connection.execute(
        "SELECT record FROM bucket WHERE tenant_id = ? AND name > ? AND substr(name, 1, ?) = ? ORDER BY name LIMIT ?",
        (tenant_id, after, len(prefix), prefix, limit),
    )
    return tuple(_buckets.decode(row[0]) for row in rows)


def _change_bucket(connection: Connection, bucket: Bucket) -> None:
    connection.execute("UPDATE bucket SET record = ? WHERE name = ?", (encode(bucket), bucket.name))


def _need_bucket(connection: Connection, name: str) -> Bucket:
    bucket = find_bucket(connection, name)
    if bucket is None:
        raise BucketMissing(f"no bucket {name}")
    return bucket


def set_versioning(connection: Connection, name: BucketName, versioning: Versioning) -> None:
    _change_bucket(connection, replace(_need_bucket(connection, name), versioning=versioning))


def put_bucket_setting(connection: Connection, name: BucketName, setting: str, document: str | None) -> None:
    bucket = _need_bucket(connection, name)
    settings = {key: value for key, value in bucket.settings.items() if key != setting}
    if document is not None:
        settings[setting] = document
    _change_bucket(connection, replace(bucket, settings=settings))


def delete_bucket(connection: Connection, name: BucketName, now_ms: int) -> None:
    number = bucket_number(connection, name)
    if connection.execute("SELECT 1 FROM version WHERE bucket = ? LIMIT 1", (number,)).fetchone():
        raise BucketNotEmpty(f"bucket {name} is not empty")
    for (upload_id,) in connection.execute("SELECT id FROM upload WHERE bucket = ?", (number,)).fetchall():
        abort_upload(connection, upload_id, now_ms)
    connection.execute("DELETE FROM bucket WHERE id = ?", (number,))


# --- intents and garbage


def lease_segments(connection: Connection, owner: str, segment_ids: Sequence[SegmentId], expires_ms: int) -> Intent:
    cursor = connection.execute(
        "INSERT INTO intent (owner, expires, ids, settled) VALUES (?, ?, ?, 0)", (owner, expires_ms, b"".join(segment_ids))
    )
    return Intent(id=IntentId(cursor.lastrowid or 0), owner=owner, expires_ms=expires_ms, segment_ids=tuple(segment_ids))


def renew_intents(connection: Connection, owner: str, expires_ms: int) -> None:
    connection.execute("UPDATE intent SET expires = ? WHERE owner = ?", (expires_ms, owner))


def settle_commit(connection: Connection, settlements: Iterable[Settlement]) -> None:
    """Tick off committed ids. A lease that is gone was revoked: its shards are being deleted, so the commit must not happen."""
    for settlement in settlements:
        row = connection.execute(
            "UPDATE intent SET settled = settled | ? WHERE id = ? RETURNING settled, length(ids)", (settlement.mask, settlement.intent_id)
        ).fetchone()
        if row is None:
            raise IntentRevoked(f"intent {settlement.intent_id} was revoked")
        _drop_if_settled(connection, settlement.intent_id, *row)


def settle_abandoned(connection: Connection, settlements: Iterable[Settlement], garbage: Sequence[GarbageSegment], now_ms: int) -> None:
    """Tick off abandoned ids and queue their shards, but for those already settled: by a commit, or as garbage."""
    by_id = {segment.id: segment for segment in garbage}
    doomed: list[GarbageSegment] = []
    for settlement in settlements:
        row = connection.execute("SELECT settled, ids FROM intent WHERE id = ?", (settlement.intent_id,)).fetchone()
        if row is None:
            continue
        fresh = settlement.mask & ~row[0]
        doomed += [by_id.get(segment_id, GarbageSegment(id=segment_id)) for segment_id in _ids(row[1], fresh)]
        settled = row[0] | settlement.mask
        connection.execute("UPDATE intent SET settled = ? WHERE id = ?", (settled, settlement.intent_id))
        _drop_if_settled(connection, settlement.intent_id, settled, len(row[1]))
    queue_garbage(connection, doomed, now_ms)


def revoke_expired_intents(connection: Connection, now_ms: int) -> int:
    rows = connection.execute("SELECT id, ids, settled FROM intent WHERE expires < ?", (now_ms,)).fetchall()
    count = 0
    for intent_id, ids, settled in rows:
        doomed = [GarbageSegment(id=segment_id) for segment_id in _ids(ids, ~settled)]
        queue_garbage(connection, doomed, now_ms)
        connection.execute("DELETE FROM intent WHERE id = ?", (intent_id,))
        count += len(doomed)
    return count


def _drop_if_settled(connection: Connection, intent_id: int, settled: int, ids_size: int) -> None:
    if settled == (1 << ids_size // ID_SIZE) - 1:
        connection.execute("DELETE FROM intent WHERE id = ?", (intent_id,))


def _ids(blob: bytes, mask: int) -> list[SegmentId]:
    return [SegmentId(blob[bit * ID_SIZE : (bit + 1) * ID_SIZE]) for bit in range(len(blob) // ID_SIZE) if mask >> bit & 1]


def queue_garbage(connection: Connection, segments: Sequence[GarbageSegment], now_ms: int) -> None:
    if segments:
        connection.execute("INSERT INTO garbage (queued, claimed_until, record) VALUES (?, 0, ?)", (now_ms, encode(tuple(segments))))


def claim_garbage(connection: Connection, queued_before_ms: int, now_ms: int, lease_ms: int, limit: int) -> tuple[Garbage, ...]:
    rows = connection.execute(
        "SELECT id, queued, record FROM garbage WHERE queued <= ? AND claimed_until <= ? ORDER BY queued, id LIMIT ?",
        (queued_before_ms, now_ms, limit),
    ).fetchall()
    connection.executemany("UPDATE garbage SET claimed_until = ? WHERE id = ?", [(now_ms + lease_ms, row[0]) for row in rows])
    return tuple(Garbage(id=row[0], queued_ms=row[1], segments=_garbage.decode(row[2])) for row in rows)


def finish_garbage(connection: Connection, ids: Sequence[int]) -> None:
    connection.executemany("DELETE FROM garbage WHERE id = ?", [(garbage_id,) for garbage_id in ids])


def count_garbage(connection: Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM garbage").fetchone()[0])


# --- extents


def add_extents(connection: Connection, layouts: Iterable[Layout]) -> tuple[ExtentRef, ...]:
    refs = []
    for layout in layouts:
        cursor = connection.execute("INSERT INTO extent (refs, layout) VALUES (1, ?)", (encode(layout),))
        extent_id = ExtentId(cursor.lastrowid or 0)
        for segment in layout.segments:
            for index in segment.missing:
                connection.execute("INSERT INTO missing_shard VALUES (?, ?, ?)", (extent_id, segment.id, index))
        refs.append(ExtentRef(id=extent_id, size=layout.size))
    return tuple(refs)


def share_extents(connection: Connection, ids: Iterable[ExtentId]) -> tuple[ExtentRef, ...]:
    refs = []
    for extent_id in ids:
        row = connection.execute("UPDATE extent SET refs = refs + 1 WHERE id = ? RETURNING layout", (extent_id,)).fetchone()
        if row is None:
            raise VersionMissing(f"extent {extent_id} is gone")
        refs.append(ExtentRef(id=extent_id, size=_layouts.decode(row[0]).size))
    return tuple(refs)


def drop_extents(connection: Connection, extents: Iterable[ExtentRef], now_ms: int) -> None:
    """Count references down; what nobody refers to any more becomes garbage."""
    for extent in extents:
        row = connection.execute("UPDATE extent SET refs = refs - 1 WHERE id = ? RETURNING refs, layout", (extent.id,)).fetchone()
        if row is not None and row[0] <= 0:
            layout = _layouts.decode(row[1])
            queue_garbage(connection, [GarbageSegment(id=segment.id, stores=segment.stores) for segment in layout.segments], now_ms)
            connection.execute("DELETE FROM extent WHERE id = ?", (extent.id,))
            connection.execute("DELETE FROM missing_shard WHERE extent = ?", (extent.id,))


def load_extents(connection: Connection, ids: Sequence[ExtentId]) -> tuple[Extent, ...]:
    extents = []
    for extent_id in ids:
        layout = _one(connection, "SELECT layout FROM extent WHERE id = ?", (extent_id,), _layouts)
        if layout is None:
            raise VersionMissing(f"extent {extent_id} is gone")
        extents.append(Extent(id=extent_id, layout=layout))
    return tuple(extents)


def record_shard(connection: Connection, extent_id: ExtentId, segment_id: SegmentId, shard_index: int) -> None:
    layout = _one(connection, "SELECT layout FROM extent WHERE id = ?", (extent_id,), _layouts)
    if layout is None:
        return
    segments = tuple(
        replace(segment, missing=tuple(index for index in segment.missing if index != shard_index)) if segment.id == segment_id else segment
        for segment in layout.segments
    )
    connection.execute("UPDATE extent SET layout = ? WHERE id = ?", (encode(replace(layout, segments=segments)), extent_id))
    connection.execute("DELETE FROM missing_shard WHERE extent = ? AND segment = ? AND shard = ?", (extent_id, segment_id, shard_index))


def find_missing_shards(connection: Connection, limit: int) -> tuple[tuple[ExtentId, Segment, int], ...]:
    rows = connection.execute(
        "SELECT m.extent, m.segment, m.shard, e.layout FROM missing_shard m JOIN extent e ON e.id = m.extent LIMIT ?", (limit,)
    )
    found = []
    for extent_id, segment_id, index, layout in rows:
        segment = next(item for item in _layouts.decode(layout).segments if item.id == segment_id)
        found.append((ExtentId(extent_id), segment, int(index)))
    return tuple(found)


# --- versions


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
    versioning = _need_bucket(connection, bucket).versioning
    check_conditions(find_version(connection, bucket, key), conditions)
    if versioning == "Unversioned":
        _remove(connection, bucket_number(connection, bucket), key.encode(), NULL_VERSION, now_ms)
        return None
    marker = marker_id if versioning == "Enabled" else NULL_VERSION
    return insert_version(connection, VersionDraft(bucket=bucket, key=key, id=marker, is_delete_marker=True, modified_ms=now_ms), ())


# --- multipart


def begin_upload(connection: Connection, upload: Upload) -> None:
    number = bucket_number(connection, upload.bucket)
    row = (upload.id, number, upload.key.encode(), upload.initiated_ms, encode(upload))
    connection.execute("INSERT INTO upload VALUES (?, ?, ?, ?, ?)", row)


def find_upload(connection: Connection, bucket: str, key: str, upload_id: UploadId) -> Upload | None:
    upload = _one(connection, "SELECT record FROM upload WHERE id = ?", (upload_id,), _uploads)
    return upload if upload is not None and (upload.bucket, upload.key) == (bucket, key) else None


def commit_part(
    connection: Connection,
    upload_id: UploadId,
    part: Part,
    new_layouts: Sequence[Layout],
    shared_extents: Sequence[ExtentId],
    settlements: Sequence[Settlement],
) -> Part:
    if connection.execute("SELECT 1 FROM upload WHERE id = ?", (upload_id,)).fetchone() is None:
        raise UploadMissing(f"no upload {upload_id}")
    settle_commit(connection, settlements)
    stored = replace(part, extents=add_extents(connection, new_layouts) + share_extents(connection, shared_extents))
    old = _one(connection, "SELECT record FROM part WHERE upload = ? AND number = ?", (upload_id, part.number), _parts)
    if old is not None:
        drop_extents(connection, old.extents, part.modified_ms)
    connection.execute("INSERT OR REPLACE INTO part VALUES (?, ?, ?)", (upload_id, part.number, encode(stored)))
    return stored


def list_parts(connection: Connection, upload_id: UploadId, after: int, limit: int) -> tuple[Part, ...]:
    rows = connection.execute("SELECT record FROM part WHERE upload = ? AND number > ? ORDER BY number LIMIT ?", (upload_id, after, limit))
    return tuple(_parts.decode(row[0]) for row in rows)


def complete_upload(
    connection: Connection, upload_id: UploadId, parts: Sequence[CompletedPart], draft: VersionDraft, conditions: Conditions
) -> Version:
    if connection.execute("SELECT 1 FROM upload WHERE id = ?", (upload_id,)).fetchone() is None:
        return _completed_before(connection, upload_id, parts, draft)
    check_conditions(find_version(connection, draft.bucket, draft.key), conditions)
    uploaded = {part.number: part for part in list_parts(connection, upload_id, 0, 10_000)}
    extents: list[ExtentRef] = []
    for wanted in parts:
        part = uploaded.pop(wanted.number, None)
        if part is None or part.etag != wanted.etag:
            raise PartInvalid(f"part {wanted.number} was not uploaded, or has another ETag")
        extents += part.extents
    for unused in uploaded.values():
        drop_extents(connection, unused.extents, draft.modified_ms)
    version = insert_version(connection, draft, tuple(extents))
    _end_upload(connection, upload_id)
    connection.execute(
        "INSERT OR REPLACE INTO completed_upload VALUES (?, ?, ?, ?, ?, ?)",
        (upload_id, bucket_number(connection, draft.bucket), draft.key.encode(), version.id, encode(tuple(parts)), draft.modified_ms),
    )
    connection.execute("DELETE FROM completed_upload WHERE completed < ?", (draft.modified_ms - COMPLETED_KEPT_MS,))
    return version


def _completed_before(connection: Connection, upload_id: UploadId, parts: Sequence[CompletedPart], draft: VersionDraft) -> Version:
    """A client that lost our answer asks again: give the same one."""
    row = connection.execute("SELECT version_id, parts FROM completed_upload WHERE id = ?", (upload_id,)).fetchone()
    version = find_version(connection, draft.bucket, draft.key, row[0]) if row is not None else None
    if row is None or version is None or _completed.decode(row[1]) != tuple(parts):
        raise UploadMissing(f"no upload {upload_id}")
    return version


def abort_upload(connection: Connection, upload_id: UploadId, now_ms: int) -> None:
    if connection.execute("SELECT 1 FROM upload WHERE id = ?", (upload_id,)).fetchone() is None:
        raise UploadMissing(f"no upload {upload_id}")
    for part in list_parts(connection, upload_id, 0, 10_000):
        drop_extents(connection, part.extents, now_ms)
    _end_upload(connection, upload_id)


def _end_upload(connection: Connection, upload_id: UploadId) -> None:
    connection.execute("DELETE FROM part WHERE upload = ?", (upload_id,))
    connection.execute("DELETE FROM upload WHERE id = ?", (upload_id,))
