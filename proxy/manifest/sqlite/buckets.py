"""Buckets and their settings."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from proxy.clock import Instant
from proxy.errors import BucketMissing
from proxy.manifest.lifecycle import JOBS as LIFECYCLE_JOBS
from proxy.manifest.lifecycle import wanted_state
from proxy.manifest.plans.buckets import check_new_bucket, with_setting, with_versioning
from proxy.manifest.plans.locks import OBJECT_LOCK, check_lock_setting
from proxy.manifest.records import Bucket, BucketId, BucketName, TenantId, Versioning
from proxy.manifest.sqlite.accounts import find_tenant
from proxy.manifest.sqlite.jobs import make_due, save_state
from proxy.manifest.sqlite.rows import Connection, encode, one
from proxy.manifest.sqlite.trusted_time import begin_trusted_time
from proxy.s3.lifecycle.rules import SETTING as LIFECYCLE

_buckets = msgspec.msgpack.Decoder(Bucket)


def create_bucket(connection: Connection, bucket: Bucket, instant: Instant) -> Bucket:
    check_new_bucket(bucket, find_bucket(connection, bucket.name), find_tenant(connection, bucket.tenant_id))
    if OBJECT_LOCK in bucket.settings:
        check_lock_setting(bucket, bucket.settings[OBJECT_LOCK])
        begin_trusted_time(connection, instant)
    cursor = connection.execute("INSERT INTO bucket (name, tenant_id, record) VALUES (?, ?, x'')", (bucket.name, bucket.tenant_id))
    made = replace(bucket, id=BucketId(cursor.lastrowid or 0))
    change_bucket(connection, made)
    return made


def find_bucket(connection: Connection, name: BucketName) -> Bucket | None:
    return one(connection, "SELECT record FROM bucket WHERE name = ?", (name,), _buckets)


def need_bucket(connection: Connection, bucket_id: BucketId) -> Bucket:
    """Return the bucket. Raises BucketMissing."""
    bucket = one(connection, "SELECT record FROM bucket WHERE id = ?", (bucket_id,), _buckets)
    if bucket is None:
        raise BucketMissing(f"bucket {bucket_id} is gone")
    return bucket


def list_buckets(connection: Connection, tenant_id: TenantId, prefix: str, after: str, limit: int) -> tuple[Bucket, ...]:
    rows = connection.execute(
        "SELECT record FROM bucket WHERE tenant_id = ? AND name > ? AND substr(name, 1, ?) = ? ORDER BY name LIMIT ?",
        (tenant_id, after, len(prefix), prefix, limit),
    )
    return tuple(_buckets.decode(row[0]) for row in rows)


def set_versioning(connection: Connection, bucket_id: BucketId, versioning: Versioning) -> None:
    change_bucket(connection, with_versioning(need_bucket(connection, bucket_id), versioning))


def put_bucket_setting(
    connection: Connection,
    bucket_id: BucketId,
    setting: str,
    document: str | None,
    seen: Iterable[tuple[str, str | None]],
    instant: Instant,
) -> None:
    change_bucket(connection, with_setting(need_bucket(connection, bucket_id), setting, document, seen))
    if setting == OBJECT_LOCK:
        begin_trusted_time(connection, instant)
    if setting == LIFECYCLE and document is not None:  # what it wants is looked for at once, and not only after the next midnight
        for job in LIFECYCLE_JOBS:
            save_state(connection, wanted_state(job), b"1")
            make_due(connection, job)


def change_bucket(connection: Connection, bucket: Bucket) -> None:
    """Write the record of a bucket that is there."""
    connection.execute("UPDATE bucket SET record = ? WHERE id = ?", (encode(bucket), bucket.id))
