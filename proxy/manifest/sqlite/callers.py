"""Who asks, of whose bucket, and for what: most requests need one question to the manifest.

Access keys, tenants and buckets hardly ever change, and every request needs them. So they are kept once read, each with the generation that
they were read in: a number that every change of such a row raises, in the same transaction, whichever process makes it. A request asks for
the generation now, together with the version that it is about. If that is another one, the rows are read anew. So nothing is ever stale:
a key that is disabled, by whatever process, is refused from the commit on, and a crash leaves nothing between the change and the number.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from proxy.manifest.records import AccessKey, AccessKeyId, Bucket, BucketName, Caller, Look, Readable, Tenant, Version
from proxy.manifest.sqlite.rows import Connection
from proxy.manifest.sqlite.versions import decode_version, find_readable, readable

Decoded = TypeVar("Decoded")
MAX_KEPT_BYTES = 2 * 1024 * 1024  # of records, which take a few times as much decoded: a bucket may have many large settings

_tenants = msgspec.msgpack.Decoder(Tenant)
_access_keys = msgspec.msgpack.Decoder(AccessKey)
_buckets = msgspec.msgpack.Decoder(Bucket)
# One statement, so that all of it is read at one instant. Each join is a seek.
_CALLER = (
    "SELECT g.number, k.record, t.record, b.record, o.record FROM generation g"
    " LEFT JOIN access_key k ON k.id = ? LEFT JOIN tenant t ON t.id = k.tenant_id"
    " LEFT JOIN bucket b ON b.name = ? LEFT JOIN tenant o ON o.id = b.tenant_id"
)
_GENERATION = "SELECT number FROM generation"
_NEWEST = (
    "SELECT record, latest, (SELECT number FROM generation) FROM version"
    " WHERE bucket = ? AND key = ? ORDER BY order_key LIMIT 1"
)  # fmt: skip


class KeptCallers:
    """Finds callers, and keeps those found last. Threads may share it."""

    def __init__(self) -> None:
        self._kept: dict[tuple[AccessKeyId | None, BucketName | None], tuple[int, Caller]] = {}
        self._kept_bytes = 0

    def find(
        self, connection: Connection, access_key: AccessKeyId | None, bucket_name: BucketName | None, look: Look | None = None
    ) -> Caller:
        generation, caller = self._kept.get((access_key, bucket_name), (-1, None))
        if caller is not None:
            if look is None or caller.bucket is None:
                return caller if generation == _generation(connection) else self._read(connection, access_key, bucket_name)
            now, version = _newest(connection, caller.bucket, look)
            if now == generation:
                return caller if version is None else _with_found(caller, _found(connection, caller.bucket, version, look))
        caller = self._read(connection, access_key, bucket_name)
        if look is None or caller.bucket is None or (access_key is not None and caller.tenant is None):
            return caller
        _, version = _newest(connection, caller.bucket, look)
        return caller if version is None else _with_found(caller, _found(connection, caller.bucket, version, look))

    def _read(self, connection: Connection, access_key: AccessKeyId | None, bucket_name: BucketName | None) -> Caller:
        generation, *records = connection.execute(_CALLER, (access_key, bucket_name)).fetchone()
        caller = _caller(*records)
        wanted = (access_key is None) == (caller.tenant is None) and (bucket_name is None) == (caller.owner is None)
        if wanted:  # what is not there is not kept: there is no end of it
            self._keep((access_key, bucket_name), generation, caller, sum(len(record) for record in records if record is not None))
        return caller

    def _keep(self, asked: tuple[AccessKeyId | None, BucketName | None], generation: int, caller: Caller, size_bytes: int) -> None:
        self._kept_bytes += size_bytes
        if self._kept_bytes > MAX_KEPT_BYTES:
            self._kept.clear()
            self._kept_bytes = size_bytes
        self._kept[asked] = generation, caller


def _caller(key: bytes | None, tenant_record: bytes | None, bucket: bytes | None, owner: bytes | None) -> Caller:
    tenant = _decoded(_tenants, tenant_record)
    return Caller(
        access_key=_decoded(_access_keys, key),
        tenant=tenant,
        bucket=_decoded(_buckets, bucket),
        owner=tenant if owner == tenant_record else _decoded(_tenants, owner),
    )


def _generation(connection: Connection) -> int:
    return int(connection.execute(_GENERATION).fetchone()[0])


def _newest(connection: Connection, bucket: Bucket, look: Look) -> tuple[int, Version | None]:
    """Return the generation, and the newest version of a key at the same instant."""
    row = connection.execute(_NEWEST, (bucket.id, look.key.encode())).fetchone()
    return (_generation(connection), None) if row is None else (row[2], decode_version(row[0], row[1]))


def _found(connection: Connection, bucket: Bucket, version: Version, look: Look) -> Readable | None:
    if not look.to_read:
        return Readable(version=version)
    return readable(connection, version) or find_readable(connection, bucket.id, look.key)


def _with_found(caller: Caller, found: Readable | None) -> Caller:
    return Caller(access_key=caller.access_key, tenant=caller.tenant, bucket=caller.bucket, owner=caller.owner, found=found)


def _decoded(decoder: msgspec.msgpack.Decoder[Decoded], record: bytes | None) -> Decoded | None:
    return None if record is None else decoder.decode(record)
