"""Listings over the SQLite manifest: one index seek for each common prefix, so the cost follows the answer and not the bucket."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from proxy.manifest.protocol import ObjectPage, UploadPage
from proxy.manifest.records import ListedVersion, Upload
from proxy.manifest.sqlite.buckets import bucket_number

_versions = msgspec.msgpack.Decoder(ListedVersion)
_uploads = msgspec.msgpack.Decoder(Upload)


class _Order(NamedTuple):
    """A listing's statements: the rows from a key on, and the first key alone, which its index has without the record."""

    rows: str
    first_key: str


_CURRENT = _Order(
    "SELECT key, record, latest FROM version INDEXED BY version_current"
    " WHERE bucket = ? AND key >= ? AND key < ? AND latest = 1 AND marker = 0 ORDER BY key",
    "SELECT key FROM version INDEXED BY version_current"
    " WHERE bucket = ? AND key >= ? AND key < ? AND latest = 1 AND marker = 0 ORDER BY key LIMIT 1",
)
_ALL = _Order(
    "SELECT key, record, latest FROM version WHERE bucket = ? AND key >= ? AND key < ? ORDER BY key, order_key",
    "SELECT key FROM version WHERE bucket = ? AND key >= ? AND key < ? ORDER BY key, order_key LIMIT 1",
)
_UPLOADS = _Order(
    "SELECT key, record, 0 FROM upload WHERE bucket = ? AND key >= ? AND key < ? ORDER BY key, initiated, id",
    "SELECT key FROM upload WHERE bucket = ? AND key >= ? AND key < ? ORDER BY key, initiated, id LIMIT 1",
)
_HIGHEST = b"\xff"  # above every key: UTF-8 has no such byte


class _Row(NamedTuple):
    """An entry, or a common prefix when `record` is None."""

    key: bytes
    record: bytes | None
    latest: int


def list_objects(connection: sqlite3.Connection, bucket: str, *, prefix: str, delimiter: str, after: str, limit: int) -> ObjectPage:
    number = bucket_number(connection, bucket)
    rows = _walk(connection, _CURRENT, number, prefix.encode(), delimiter.encode(), _behind(prefix, delimiter, after))
    page, truncated = _take(rows, limit)
    versions, prefixes = _split(page)
    return ObjectPage(versions=versions, prefixes=prefixes, truncated=truncated, next_key=page[-1].key.decode() if page else "")


def list_versions(
    connection: sqlite3.Connection, bucket: str, *, prefix: str, delimiter: str, after_key: str, after_version: str, limit: int
) -> ObjectPage:
    number = bucket_number(connection, bucket)
    start = after_key.encode() if after_version else _behind(prefix, delimiter, after_key)
    rows = _walk(connection, _ALL, number, prefix.encode(), delimiter.encode(), start)
    if after_version:
        rows = _resume(rows, after_key.encode(), lambda row: _versions.decode(row.record or b"").id == after_version)
    page, truncated = _take(rows, limit)
    versions, prefixes = _split(page)
    last = page[-1] if page else _Row(b"", None, 0)
    next_version = versions[-1].id if last.record is not None else ""
    return ObjectPage(versions=versions, prefixes=prefixes, truncated=truncated, next_key=last.key.decode(), next_version=next_version)


def list_uploads(
    connection: sqlite3.Connection, bucket: str, *, prefix: str, delimiter: str, after_key: str, after_upload: str, limit: int
) -> UploadPage:
    number = bucket_number(connection, bucket)
    start = after_key.encode() if after_upload else _behind(prefix, delimiter, after_key)
    rows = _walk(connection, _UPLOADS, number, prefix.encode(), delimiter.encode(), start)
    if after_upload:
        rows = _resume(rows, after_key.encode(), lambda row: _uploads.decode(row.record or b"").id == after_upload)
    page, truncated = _take(rows, limit)
    uploads = tuple(_uploads.decode(row.record) for row in page if row.record is not None)
    prefixes = tuple(row.key.decode() for row in page if row.record is None)
    last = page[-1] if page else _Row(b"", None, 0)
    next_upload = uploads[-1].id if last.record is not None else ""
    return UploadPage(uploads=uploads, prefixes=prefixes, truncated=truncated, next_key=last.key.decode(), next_upload=next_upload)


def _walk(connection: sqlite3.Connection, order: _Order, bucket: int, prefix: bytes, delimiter: bytes, start: bytes) -> Iterator[_Row]:
    """Yield entries and common prefixes in order, seeking past each prefix."""
    low, end = max(prefix, start), _after_prefix(prefix)
    while True:
        if delimiter:
            first = connection.execute(order.first_key, (bucket, low, end)).fetchone()
            if first is None:
                return
            if common := _common_prefix(first[0], prefix, delimiter):
                yield _Row(common, None, 0)
                low = _after_prefix(common)
                continue
        for key, record, latest in connection.execute(order.rows, (bucket, low, end)):
            if delimiter and _common_prefix(key, prefix, delimiter):
                low = key
                break
            yield _Row(key, record, latest)
        else:
            return


def _common_prefix(key: bytes, prefix: bytes, delimiter: bytes) -> bytes:
    """Return the common prefix a key is listed under, or nothing."""
    at = key.find(delimiter, len(prefix))
    return b"" if at < 0 else key[: at + len(delimiter)]


def _resume(rows: Iterator[_Row], key: bytes, is_last: Callable[[_Row], bool]) -> Iterator[_Row]:
    """Skip the entries of `key` up to the one a page ended with.

    If it is gone meanwhile none is skipped: a client that deletes what it lists, page by page, must come to the rest.
    """
    kept = list(_while_key(rows, key))
    same = [row for row in kept if row.key == key and row.record is not None]
    position = next((i for i, row in enumerate(same) if is_last(row)), -1)
    yield from same[position + 1 :]
    yield from (row for row in kept if row not in same)
    yield from rows


def _while_key(rows: Iterator[_Row], key: bytes) -> Iterator[_Row]:
    for row in rows:
        yield row
        if row.key != key:
            return


def _take(rows: Iterator[_Row], limit: int) -> tuple[list[_Row], bool]:
    page: list[_Row] = []
    for row in rows:
        if len(page) >= limit:
            return page, True
        page.append(row)
    return page, False


def _split(page: list[_Row]) -> tuple[tuple[ListedVersion, ...], tuple[str, ...]]:
    versions = tuple(_decoded(row.record, row.latest) for row in page if row.record is not None)
    return versions, tuple(row.key.decode() for row in page if row.record is None)


def _decoded(record: bytes, latest: int) -> ListedVersion:
    version = _versions.decode(record)
    return version if version.is_latest == bool(latest) else replace(version, is_latest=bool(latest))


def _behind(prefix: str, delimiter: str, after: str) -> bytes:
    """Return the lowest key after `after`; where it lies under a common prefix, behind all of that."""
    if not after:
        return b""
    at = after.find(delimiter, len(prefix)) if delimiter and after.startswith(prefix) else -1
    return after.encode() + b"\0" if at < 0 else _after_prefix(after[: at + len(delimiter)].encode())


def _after_prefix(prefix: bytes) -> bytes:
    return prefix[:-1] + bytes([prefix[-1] + 1]) if prefix else _HIGHEST
