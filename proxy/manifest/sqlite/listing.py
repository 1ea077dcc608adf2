"""Listings over the SQLite manifest: a page is one statement, or a few; its cost follows the answer and not the bucket.

Entries are scanned up to the first common prefix. From there on one statement hops: from a key to the first one behind it or, where it
lies under a common prefix, to the first one behind all of that. A hop is a seek in an index that covers it, and all hops of a page run
inside SQLite: with a statement for each, from Python, a page took twice as long.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from proxy.manifest.drafts import ObjectPage, UploadPage, VersionPage
from proxy.manifest.records import BucketId, ListedVersion, Upload
from proxy.s3.lines import count_lines, last_key, without_last

_versions = msgspec.msgpack.Decoder(ListedVersion)
_uploads = msgspec.msgpack.Decoder(Upload)
_HIGHEST = b"\xff"  # above every key: UTF-8 has no such byte

# Values are bound; what is put in here are names of the schema. A key has several rows where it has several versions or uploads: the join
# reads them hop by hop in the order of the index it names, or of the primary key. An ORDER BY would make SQLite collect the whole bucket.
_HOPS = """
WITH RECURSIVE hop (key) AS (
    SELECT (SELECT key FROM {keys} AND key >= :low AND key < :end ORDER BY key LIMIT 1)
    UNION ALL
    SELECT (
        SELECT key FROM {keys} AND key < :end AND key >= CAST(
            CASE instr(substr(hop.key, :tail), :delimiter)
                WHEN 0 THEN hop.key || x'00'
                ELSE substr(hop.key, 1, :kept + instr(substr(hop.key, :tail), :delimiter)) || :raised
            END AS BLOB)
        ORDER BY key LIMIT 1)
    FROM hop WHERE hop.key IS NOT NULL
)
SELECT hop.key, entry.{told}, entry.{latest} FROM hop
LEFT JOIN {entries} AND entry.key = CASE instr(substr(hop.key, :tail), :delimiter) WHEN 0 THEN hop.key END
WHERE hop.key IS NOT NULL LIMIT :limit
"""


class _Order(NamedTuple):
    """A listing's statements: its entries from a key on, the same with common prefixes, and the entries of one key behind one of them."""

    entries: str
    hops: str
    behind: str


# Lines of entries are joined to one row: SQLite hands a thousand rows over to Python in three times the time that it takes to find them,
# and lets the interpreter's lock go at each. Those of the newest versions among all rows in the order of the table: where keys have one
# version each, that takes two thirds of what the index does. A delete marker has no line.
_JOINED = "SELECT count(*), count(entry), CAST(group_concat(entry, '') AS BLOB) FROM ({rows} LIMIT :limit)"
_SCANNED = _JOINED.format(
    rows="SELECT CASE WHEN latest THEN key || line END AS entry FROM version NOT INDEXED"
    " WHERE bucket = :bucket AND key >= :low AND key < :end ORDER BY key, order_key"
)
_CURRENT = (
    "SELECT {entry} AS entry FROM version INDEXED BY version_current"
    " WHERE bucket = :bucket AND key >= :low AND key < :end AND latest = 1 AND marker = 0 ORDER BY key"
)
_FOUND = _JOINED.format(rows=_CURRENT.format(entry="key || line"))
_COMMON = b"\xf5"  # neither keys nor lines have it
_FOUND_BEFORE_COMMON = _JOINED.format(
    rows=_CURRENT.format(entry="CASE instr(substr(key, :tail), :delimiter) WHEN 0 THEN key || line ELSE x'f5' END")
)
_FIRST_ROWS = 32  # that are read before it is known whether the next is a common prefix, which may have very many keys
_CURRENT_HOPS = _HOPS.format(
    told="line",
    keys="version INDEXED BY version_current WHERE bucket = :bucket AND latest = 1 AND marker = 0",
    entries="version entry INDEXED BY version_current ON entry.bucket = :bucket AND entry.latest = 1 AND entry.marker = 0",
    latest="latest",
)
_ALL = _Order(
    "SELECT key, record, latest FROM version WHERE bucket = :bucket AND key >= :low AND key < :end ORDER BY key, order_key LIMIT :limit",
    _HOPS.format(
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
    _HOPS.format(
        told="record",
        keys="upload WHERE bucket = :bucket",
        entries="upload entry INDEXED BY upload_key ON entry.bucket = :bucket",
        latest="initiated",
    ),
    "SELECT key, record, 0 FROM upload WHERE bucket = :bucket AND key = :key AND (initiated, id) >"
    " (ifnull((SELECT initiated FROM upload WHERE id = :last AND bucket = :bucket AND key = :key), -1), :last)"
    " ORDER BY initiated, id LIMIT :limit",
)


class _Row(NamedTuple):
    """An entry, or a common prefix when `told` is None: of an object its line, of anything else the record."""

    key: bytes
    told: bytes | None
    latest: int


class _Entries(NamedTuple):
    """Entries of objects: their lines, each behind its key, and how many there are."""

    lines: bytes
    number: int


class _Span(NamedTuple):
    """The keys that a statement may read, and how many rows of them."""

    bucket: int
    low: bytes
    end: bytes
    limit: int


class _Place(NamedTuple):
    """What of a bucket is listed."""

    bucket: BucketId
    prefix: bytes
    delimiter: bytes


def list_objects(connection: sqlite3.Connection, bucket_id: BucketId, *, prefix: str, delimiter: str, after: str, limit: int) -> ObjectPage:
    place = _Place(bucket_id, prefix.encode(), delimiter.encode())
    span = _span(place, _low(place, after.encode()), limit + 1)
    if delimiter:
        return _page_with_prefixes(connection, place, span, limit)
    found = _find_entries(connection, span)
    lines, count = _at_most(found, limit)
    return ObjectPage(lines=lines, count=count, prefixes=(), truncated=found.number > limit, next_key=last_key(lines).decode())


def _find_entries(connection: sqlite3.Connection, span: _Span) -> _Entries:
    """Return the newest versions that are no delete markers: by a scan, and once it has met others, by the index."""
    scanned, found = _joined(connection, _SCANNED, span._asdict())
    missing = span.limit - found.number
    if scanned < span.limit or not missing:
        return found
    _, rest = _joined(connection, _FOUND, _behind(span, found, missing)._asdict())
    return _Entries(found.lines + rest.lines, found.number + rest.number)


def _page_with_prefixes(connection: sqlite3.Connection, place: _Place, span: _Span, limit: int) -> ObjectPage:
    found, has_common = _find_before_common(connection, place, span)
    rows: list[_Row] = []
    if has_common and found.number <= limit:
        rows = _hops(connection, _CURRENT_HOPS, place, _behind(span, found, limit + 1 - found.number))
    truncated = found.number + len(rows) > limit
    found, rows = _at_most(found, limit), rows[: max(0, limit - found.number)]
    last = rows[-1].key if rows else last_key(found.lines)
    entries = [row.key + row.told for row in rows if row.told is not None]
    return ObjectPage(
        lines=b"".join((found.lines, *entries)),
        count=found.number + len(entries),
        prefixes=_prefixes(rows),
        truncated=truncated,
        next_key=last.decode(),
    )


def _find_before_common(connection: sqlite3.Connection, place: _Place, span: _Span) -> tuple[_Entries, bool]:
    """Return the entries before the first common prefix, and whether there is one."""
    found = _Entries(b"", 0)
    for rows in (_FIRST_ROWS, span.limit):
        asked = min(rows, span.limit - found.number)
        where = _behind(span, found, asked)._asdict() | _delimiting(place)
        scanned, more = _joined(connection, _FOUND_BEFORE_COMMON, where)
        lines, common, _ = more.lines.partition(_COMMON)
        found = _Entries(found.lines + lines, found.number + (count_lines(lines) if common else more.number))
        if common or scanned < asked:
            return found, bool(common)
    return found, False


def _joined(connection: sqlite3.Connection, statement: str, span: Mapping[str, int | bytes]) -> tuple[int, _Entries]:
    """Return how many rows were read, and the entries that are among them."""
    scanned, count, lines = connection.execute(statement, span).fetchone()
    return scanned, _Entries(lines or b"", count)


def _behind(span: _Span, found: _Entries, limit: int) -> _Span:
    return span._replace(low=last_key(found.lines) + b"\0" if found.lines else span.low, limit=limit)


def _at_most(found: _Entries, limit: int) -> _Entries:
    return found if found.number <= limit else _Entries(without_last(found.lines), limit)


def list_versions(
    connection: sqlite3.Connection, bucket_id: BucketId, *, prefix: str, delimiter: str, after_key: str, after_version: str, limit: int
) -> VersionPage:
    place = _Place(bucket_id, prefix.encode(), delimiter.encode())
    page, truncated = _cut(_rows_behind(connection, _ALL, place, after_key.encode(), after_version, limit + 1), limit)
    versions = tuple(_decoded(row.told, row.latest) for row in page if row.told is not None)
    last = page[-1] if page else _Row(b"", None, 0)
    next_version = versions[-1].id if last.told is not None else ""
    return VersionPage(
        versions=versions, prefixes=_prefixes(page), truncated=truncated, next_key=last.key.decode(), next_version=next_version
    )


def list_uploads(
    connection: sqlite3.Connection, bucket_id: BucketId, *, prefix: str, delimiter: str, after_key: str, after_upload: str, limit: int
) -> UploadPage:
    place = _Place(bucket_id, prefix.encode(), delimiter.encode())
    page, truncated = _cut(_rows_behind(connection, _UPLOADS, place, after_key.encode(), after_upload, limit + 1), limit)
    uploads = tuple(_uploads.decode(row.told) for row in page if row.told is not None)
    last = page[-1] if page else _Row(b"", None, 0)
    next_upload = uploads[-1].id if last.told is not None else ""
    return UploadPage(uploads=uploads, prefixes=_prefixes(page), truncated=truncated, next_key=last.key.decode(), next_upload=next_upload)


def _rows_behind(connection: sqlite3.Connection, order: _Order, place: _Place, key: bytes, last: str, limit: int) -> list[_Row]:
    """Return the rows behind one entry of a key, or behind the whole key if none is named.

    If the entry is gone meanwhile, none of the key's is skipped: a client that deletes what it lists, page by page, must come to the rest.
    """
    if not last:
        return _rows(connection, order, place, _low(place, key), limit)
    if not key.startswith(place.prefix) or _common_prefix(place, key):
        return _rows(connection, order, place, key, limit)
    same = connection.execute(order.behind, {"bucket": place.bucket, "key": key, "last": last, "limit": limit})
    rows = [_Row._make(row) for row in same]
    return rows + _rows(connection, order, place, key + b"\0", limit - len(rows))


def _rows(connection: sqlite3.Connection, order: _Order, place: _Place, low: bytes, limit: int) -> list[_Row]:
    """Return entries and common prefixes in order, from the key `low` on."""
    span = _span(place, low, limit)
    rows: list[_Row] = []
    for key, told, latest in connection.execute(order.entries, span._asdict()):
        if _common_prefix(place, key):
            break
        rows.append(_Row(key, told, latest))
    else:
        return rows
    return rows + _hops(connection, order.hops, place, span._replace(low=key, limit=limit - len(rows)))


def _span(place: _Place, low: bytes, limit: int) -> _Span:
    return _Span(place.bucket, max(place.prefix, low), _after_prefix(place.prefix), limit)


def _hops(connection: sqlite3.Connection, hops: str, place: _Place, span: _Span) -> list[_Row]:
    """Return entries and common prefixes; entries alone are read faster by a scan."""
    found = connection.execute(hops, span._asdict() | _delimiting(place))
    return [_Row(_common_prefix(place, key), None, 0) if told is None else _Row(key, told, latest) for key, told, latest in found]


def _delimiting(place: _Place) -> dict[str, int | bytes]:
    """Return what statements are told to find common prefixes."""
    return {
        "delimiter": place.delimiter,
        "tail": len(place.prefix) + 1,  # SQL counts from 1
        "kept": len(place.prefix) + len(place.delimiter) - 2,  # plus where the delimiter is: a common prefix but for its last byte
        "raised": _after_prefix(place.delimiter)[-1:],
    }


def _common_prefix(place: _Place, key: bytes) -> bytes:
    """Return the common prefix a key is listed under, or nothing."""
    at = key.find(place.delimiter, len(place.prefix)) if place.delimiter else -1
    return b"" if at < 0 else key[: at + len(place.delimiter)]


def _low(place: _Place, after: bytes) -> bytes:
    """Return the lowest key behind `after`; where it lies under a common prefix, behind all of that."""
    if not after:
        return b""
    common = _common_prefix(place, after) if after.startswith(place.prefix) else b""
    return _after_prefix(common) if common else after + b"\0"


def _after_prefix(prefix: bytes) -> bytes:
    return prefix[:-1] + bytes([prefix[-1] + 1]) if prefix else _HIGHEST


def _cut(rows: list[_Row], limit: int) -> tuple[list[_Row], bool]:
    return rows[:limit], len(rows) > limit


def _prefixes(page: list[_Row]) -> tuple[str, ...]:
    return tuple(row.key.decode() for row in page if row.told is None)


def _decoded(record: bytes, latest: int) -> ListedVersion:
    version = _versions.decode(record)
    return version if version.is_latest == bool(latest) else replace(version, is_latest=bool(latest))
