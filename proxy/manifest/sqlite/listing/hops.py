"""Keys and common prefixes of a listing: where it begins and ends, and the statement that hops from one to the next.

From a key it hops to the first one behind it or, where it lies under a common prefix, to the first one behind all of that. A hop is a seek
in an index that covers it, and all hops of a page run inside SQLite: with a statement for each, from Python, a page took twice as long.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from proxy.manifest.records import BucketId

_HIGHEST = b"\xff"  # above every key: UTF-8 has no such byte

# Values are bound; what is put in here are names of the schema. A key has several rows where it has several versions or uploads: the join
# reads them hop by hop in the order of the index it names, or of the primary key. An ORDER BY would make SQLite collect the whole bucket.
HOPS = """
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


class Row(NamedTuple):
    """An entry, or a common prefix when `told` is None: of an object its line, of anything else the record."""

    key: bytes
    told: bytes | None
    latest: int


class Span(NamedTuple):
    """The keys that a statement may read, and how many rows of them."""

    bucket: int
    low: bytes
    end: bytes
    limit: int


class Place(NamedTuple):
    """What of a bucket is listed."""

    bucket: BucketId
    prefix: bytes
    delimiter: bytes


def rows_by_hops(connection: sqlite3.Connection, statement: str, place: Place, span: Span) -> list[Row]:
    """Return entries and common prefixes; entries alone are read faster by a scan."""
    found = connection.execute(statement, span._asdict() | delimiting(place))
    return [Row(common_prefix(place, key), None, 0) if told is None else Row(key, told, latest) for key, told, latest in found]


def prefixes_of(page: list[Row]) -> tuple[str, ...]:
    return tuple(row.key.decode() for row in page if row.told is None)


def span_of(place: Place, low: bytes, limit: int) -> Span:
    """Return the keys from `low` on that a listing may tell of."""
    return Span(place.bucket, max(place.prefix, low), _after_prefix(place.prefix), limit)


def delimiting(place: Place) -> dict[str, int | bytes]:
    """Return what statements are told to find common prefixes."""
    return {
        "delimiter": place.delimiter,
        "tail": len(place.prefix) + 1,  # SQL counts from 1
        "kept": len(place.prefix) + len(place.delimiter) - 2,  # plus where the delimiter is: a common prefix but for its last byte
        "raised": _after_prefix(place.delimiter)[-1:],
    }


def common_prefix(place: Place, key: bytes) -> bytes:
    """Return the common prefix a key is listed under, or nothing."""
    at = key.find(place.delimiter, len(place.prefix)) if place.delimiter else -1
    return b"" if at < 0 else key[: at + len(place.delimiter)]


def low_of(place: Place, after: bytes) -> bytes:
    """Return the lowest key behind `after`; where it lies under a common prefix, behind all of that."""
    if not after:
        return b""
    common = common_prefix(place, after) if after.startswith(place.prefix) else b""
    return _after_prefix(common) if common else after + b"\0"


def _after_prefix(prefix: bytes) -> bytes:
    return prefix[:-1] + bytes([prefix[-1] + 1]) if prefix else _HIGHEST
