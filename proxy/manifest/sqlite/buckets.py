"""Buckets and their settings."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from proxy.errors import BucketExists, BucketMissing
from proxy.manifest.records import Bucket, BucketName, TenantId, Versioning
from proxy.manifest.sqlite.rows import Connection, encode, one

_buckets = msgspec.msgpack.Decoder(Bucket)


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
    return one(connection, "SELECT record FROM bucket WHERE name = ?", (name,), _buckets)


def list_buckets(connection: Connection, tenant_id: TenantId, prefix: str, after: str, limit: int) -> tuple[Bucket, ...]:
    rows = connection.execute(
        "SELECT record FROM bucket WHERE tenant_id = ? AND name > ? AND substr(name, 1, ?) = ? ORDER BY name LIMIT ?",
        (tenant_id, after, len(prefix), prefix, limit),
    )
    return tuple(_buckets.decode(row[0]) for row in rows)


def _change_bucket(connection: Connection, bucket: Bucket) -> None:
    connection.execute("UPDATE bucket SET record = ? WHERE name = ?", (encode(bucket), bucket.name))


def need_bucket(connection: Connection, name: str) -> Bucket:
    bucket = find_bucket(connection, name)
    if bucket is None:
        raise BucketMissing(f"no bucket {name}")
    return bucket


def set_versioning(connection: Connection, name: BucketName, versioning: Versioning) -> None:
    _change_bucket(connection, replace(need_bucket(connection, name), versioning=versioning))


def put_bucket_setting(connection: Connection, name: BucketName, setting: str, document: str | None) -> None:
    bucket = need_bucket(connection, name)
    settings = {key: value for key, value in bucket.settings.items() if key != setting}
    if document is not None:
        settings[setting] = document
    _change_bucket(connection, replace(bucket, settings=settings))
