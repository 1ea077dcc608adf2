"""Who asks, of whose bucket, and for what: most reads of an object need one question to the manifest, not two."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from proxy.manifest.records import AccessKey, AccessKeyId, Bucket, BucketId, BucketName, Caller, Look, Readable, Tenant
from proxy.manifest.sqlite.rows import Connection
from proxy.manifest.sqlite.versions import find_readable, find_version

Decoded = TypeVar("Decoded")

_tenants = msgspec.msgpack.Decoder(Tenant)
_access_keys = msgspec.msgpack.Decoder(AccessKey)
_buckets = msgspec.msgpack.Decoder(Bucket)
# One statement, so that all of it is read at one instant. Each join is a seek.
_CALLER = (
    "SELECT k.record, t.record, b.record, o.record FROM (SELECT 1)"
    " LEFT JOIN access_key k ON k.id = ? LEFT JOIN tenant t ON t.id = k.tenant_id"
    " LEFT JOIN bucket b ON b.name = ? LEFT JOIN tenant o ON o.id = b.tenant_id"
)


def find_caller(connection: Connection, access_key: AccessKeyId | None, bucket_name: BucketName | None, look: Look | None = None) -> Caller:
    key_record, tenant_record, bucket_record, owner_record = connection.execute(_CALLER, (access_key, bucket_name)).fetchone()
    tenant, bucket = _decoded(_tenants, tenant_record), _decoded(_buckets, bucket_record)
    is_stranger = access_key is not None and tenant is None
    return Caller(
        access_key=_decoded(_access_keys, key_record),
        tenant=tenant,
        bucket=bucket,
        owner=tenant if owner_record == tenant_record else _decoded(_tenants, owner_record),
        found=None if look is None or bucket is None or is_stranger else _look(connection, bucket.id, look),
    )


def _look(connection: Connection, bucket_id: BucketId, look: Look) -> Readable | None:
    if look.to_read:
        return find_readable(connection, bucket_id, look.key)
    version = find_version(connection, bucket_id, look.key)
    return None if version is None else Readable(version=version)


def _decoded(decoder: msgspec.msgpack.Decoder[Decoded], record: bytes | None) -> Decoded | None:
    return None if record is None else decoder.decode(record)
