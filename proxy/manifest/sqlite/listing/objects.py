"""A page of a bucket's objects: their lines are joined inside SQLite, up to the first common prefix; from there on, it hops."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import NamedTuple

from proxy.manifest.drafts import ObjectPage
from proxy.manifest.records import BucketId
from proxy.manifest.sqlite.listing.hops import HOPS, Place, Row, Span, delimiting, low_of, prefixes_of, rows_by_hops, span_of
from proxy.s3.lines import count_lines, last_key, without_last

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
_CURRENT_HOPS = HOPS.format(
    told="line",
    keys="version INDEXED BY version_current WHERE bucket = :bucket AND latest = 1 AND marker = 0",
    entries="version entry INDEXED BY version_current ON entry.bucket = :bucket AND entry.latest = 1 AND entry.marker = 0",
    latest="latest",
)


class _Entries(NamedTuple):
    """Entries of objects: their lines, each behind its key, and how many there are."""

    lines: bytes
    number: int


def list_objects(connection: sqlite3.Connection, bucket_id: BucketId, *, prefix: str, delimiter: str, after: str, limit: int) -> ObjectPage:
    place = Place(bucket_id, prefix.encode(), delimiter.encode())
    span = span_of(place, low_of(place, after.encode()), limit + 1)
    if delimiter:
        return _page_with_prefixes(connection, place, span, limit)
    found = _find_entries(connection, span)
    lines, count = _at_most(found, limit)
    return ObjectPage(lines=lines, count=count, prefixes=(), truncated=found.number > limit, next_key=last_key(lines).decode())


def _find_entries(connection: sqlite3.Connection, span: Span) -> _Entries:
    """Return the newest versions that are no delete markers: by a scan, and once it has met others, by the index."""
    scanned, found = _joined(connection, _SCANNED, span._asdict())
    missing = span.limit - found.number
    if scanned < span.limit or not missing:
        return found
    _, rest = _joined(connection, _FOUND, _behind(span, found, missing)._asdict())
    return _Entries(found.lines + rest.lines, found.number + rest.number)


def _page_with_prefixes(connection: sqlite3.Connection, place: Place, span: Span, limit: int) -> ObjectPage:
    found, has_common = _find_before_common(connection, place, span)
    rows: list[Row] = []
    if has_common and found.number <= limit:
        rows = rows_by_hops(connection, _CURRENT_HOPS, place, _behind(span, found, limit + 1 - found.number))
    truncated = found.number + len(rows) > limit
    found, rows = _at_most(found, limit), rows[: max(0, limit - found.number)]
    last = rows[-1].key if rows else last_key(found.lines)
    entries = [row.key + row.told for row in rows if row.told is not None]
    return ObjectPage(
        lines=b"".join((found.lines, *entries)),
        count=found.number + len(entries),
        prefixes=prefixes_of(rows),
        truncated=truncated,
        next_key=last.decode(),
    )


def _find_before_common(connection: sqlite3.Connection, place: Place, span: Span) -> tuple[_Entries, bool]:
    """Return the entries before the first common prefix, and whether there is one."""
    found = _Entries(b"", 0)
    for rows in (_FIRST_ROWS, span.limit):
        asked = min(rows, span.limit - found.number)
        where = _behind(span, found, asked)._asdict() | delimiting(place)
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


def _behind(span: Span, found: _Entries, limit: int) -> Span:
    return span._replace(low=last_key(found.lines) + b"\0" if found.lines else span.low, limit=limit)


def _at_most(found: _Entries, limit: int) -> _Entries:
    return found if found.number <= limit else _Entries(without_last(found.lines), limit)
