"""A page of a bucket's versions, or of its uploads. A key may have many of them: a page may begin behind any."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from proxy.manifest.drafts import UploadPage, VersionPage
from proxy.manifest.records import BucketId, ListedVersion, Upload
from proxy.manifest.sqlite.listing.hops import HOPS, Place, Row, common_prefix, low_of, prefixes_of, rows_by_hops, span_of

_versions = msgspec.msgpack.Decoder(ListedVersion)
_uploads = msgspec.msgpack.Decoder(Upload)


class _Order(NamedTuple):
    """A listing's statements: its entries from a key on, the same with common prefixes, and the entries of one key behind one of them."""

    entries: str
    hops: str
    behind: str


_ALL = _Order(
    "SELECT key, record, latest FROM version WHERE bucket = :bucket AND key >= :low AND key < :end ORDER BY key, order_key LIMIT :limit",
    HOPS.format(
        told="record",
        keys="version WHERE bucket = :bucket",
        entries="version entry NOT INDEXED ON entry.bucket = :bucket",
        latest="latest",
    ),
    "SELECT key, record, latest FROM version WHERE bucket = :bucket AND key = :key AND order_key >"
    " coalesce("
    "(SELECT order_key FROM version INDEXED BY version_older"
    " WHERE bucket = :bucket AND key = :key AND version_id = :last AND latest = 0),"
    "(SELECT order_key FROM (SELECT * FROM version WHERE bucket = :bucket AND key = :key ORDER BY order_key LIMIT 1)"
    " WHERE version_id = :last), -9223372036854775808)"
    " ORDER BY order_key LIMIT :limit",
)
_UPLOADS = _Order(
    "SELECT key, record, 0 FROM upload WHERE bucket = :bucket AND key >= :low AND key < :end ORDER BY key, initiated, id LIMIT :limit",
    HOPS.format(
        told="record",
        keys="upload WHERE bucket = :bucket",
        entries="upload entry INDEXED BY upload_key ON entry.bucket = :bucket",
        latest="initiated",
    ),
    "SELECT key, record, 0 FROM upload WHERE bucket = :bucket AND key = :key AND (initiated, id) >"
    " (ifnull((SELECT initiated FROM upload WHERE id = :last AND bucket = :bucket AND key = :key), -1), :last)"
    " ORDER BY initiated, id LIMIT :limit",
)


def list_versions(
    connection: sqlite3.Connection, bucket_id: BucketId, *, prefix: str, delimiter: str, after_key: str, after_version: str, limit: int
) -> VersionPage:
    place = Place(bucket_id, prefix.encode(), delimiter.encode())
    page, truncated = _cut(_rows_behind(connection, _ALL, place, after_key.encode(), after_version, limit + 1), limit)
    versions = tuple(_decoded(row.told, row.latest) for row in page if row.told is not None)
    last = page[-1] if page else Row(b"", None, 0)
    next_version = versions[-1].id if last.told is not None else ""
    return VersionPage(
        versions=versions, prefixes=prefixes_of(page), truncated=truncated, next_key=last.key.decode(), next_version=next_version
    )


def list_uploads(
    connection: sqlite3.Connection, bucket_id: BucketId, *, prefix: str, delimiter: str, after_key: str, after_upload: str, limit: int
) -> UploadPage:
    place = Place(bucket_id, prefix.encode(), delimiter.encode())
    page, truncated = _cut(_rows_behind(connection, _UPLOADS, place, after_key.encode(), after_upload, limit + 1), limit)
    uploads = tuple(_uploads.decode(row.told) for row in page if row.told is not None)
    last = page[-1] if page else Row(b"", None, 0)
    next_upload = uploads[-1].id if last.told is not None else ""
    return UploadPage(uploads=uploads, prefixes=prefixes_of(page), truncated=truncated, next_key=last.key.decode(), next_upload=next_upload)


def _rows_behind(connection: sqlite3.Connection, order: _Order, place: Place, key: bytes, last: str, limit: int) -> list[Row]:
    """Return the rows behind one entry of a key, or behind the whole key if none is named.

    If the entry is gone meanwhile, none of the key's is skipped: a client that deletes what it lists, page by page, must come to the rest.
    """
    if not last:
        return _rows(connection, order, place, low_of(place, key), limit)
    if not key.startswith(place.prefix) or common_prefix(place, key):
        return _rows(connection, order, place, key, limit)
    same = connection.execute(order.behind, {"bucket": place.bucket, "key": key, "last": last, "limit": limit})
    rows = [Row._make(row) for row in same]
    return rows + _rows(connection, order, place, key + b"\0", limit - len(rows))


def _rows(connection: sqlite3.Connection, order: _Order, place: Place, low: bytes, limit: int) -> list[Row]:
    """Return entries and common prefixes in order, from the key `low` on."""
    span = span_of(place, low, limit)
    rows: list[Row] = []
    for key, told, latest in connection.execute(order.entries, span._asdict()):
        if common_prefix(place, key):
            break
        rows.append(Row(key, told, latest))
    else:
        return rows
    return rows + rows_by_hops(connection, order.hops, place, span._replace(low=key, limit=limit - len(rows)))


def _cut(rows: list[Row], limit: int) -> tuple[list[Row], bool]:
    return rows[:limit], len(rows) > limit


def _decoded(record: bytes, latest: int) -> ListedVersion:
    version = _versions.decode(record)
    return version if version.is_latest == bool(latest) else replace(version, is_latest=bool(latest))
