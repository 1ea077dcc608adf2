"""Who asks, and of whose bucket."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from proxy.manifest.records import AccessKey, AccessKeyId, Bucket, BucketName, Caller, Tenant
from proxy.manifest.sqlite.rows import Connection

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


def find_caller(connection: Connection, access_key: AccessKeyId | None, bucket: BucketName | None) -> Caller:
    key_record, tenant_record, bucket_record, owner_record = connection.execute(_CALLER, (access_key, bucket)).fetchone()
    tenant = _decoded(_tenants, tenant_record)
    return Caller(
        access_key=_decoded(_access_keys, key_record),
        tenant=tenant,
        bucket=_decoded(_buckets, bucket_record),
        owner=tenant if owner_record == tenant_record else _decoded(_tenants, owner_record),
    )


def _decoded(decoder: msgspec.msgpack.Decoder[Decoded], record: bytes | None) -> Decoded | None:
    return None if record is None else decoder.decode(record)
