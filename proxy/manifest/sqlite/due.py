"""Lifecycle rules: finding the versions that are due, by a scan of the index.

A bucket may have ten million versions of which a handful is due. A scan reads rows in the order of the table, so what it costs is what is
made of a row. Of each only the time is decoded at first, which nearly always is enough: the version is younger than the youngest that any
rule could want. Of the others, size, tags and class are decoded, and the rules asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from proxy.errors import BucketMissing
from proxy.manifest.lifecycle import DuePage, DueVersion, Place
from proxy.manifest.records import Bucket, BucketId, ObjectKey, Record, VersionId
from proxy.manifest.sqlite.buckets import need_bucket
from proxy.manifest.sqlite.rows import Connection
from proxy.s3.lifecycle.deciding import Decision, Facts, Horizons, decide, horizons, prefixes
from proxy.s3.lifecycle.rules import DAY_MS, SETTING, Configuration, configuration_of

ENDLESS = b"\xff"  # above every key
_NEXT_BUCKET = "SELECT record FROM bucket WHERE id > ? AND instr(record, ?) > 0 ORDER BY id"
_SCAN = (
    "SELECT key, order_key, version_id, latest, marker, record FROM version"
    " WHERE bucket = ?1 AND (key, order_key) > (?2, ?3) AND key < ?4 ORDER BY key, order_key LIMIT ?5"
)
_BEFORE_ALL = -(2**62)


class _Made(Record, frozen=True, kw_only=True, omit_defaults=True):
    """The least of a version's record: when it was made."""

    modified_ms: int


class _Described(Record, frozen=True, kw_only=True, omit_defaults=True):
    """What rules ask of an object's attributes."""

    tags: dict[str, str] = {}
    storage_class: str = "STANDARD"


class _Aged(Record, frozen=True, kw_only=True, omit_defaults=True):
    """What rules ask of a version."""

    modified_ms: int
    size: int = 0
    attributes: _Described = _Described()


class _Row(NamedTuple):
    key: bytes
    order_key: int
    version_id: str
    latest: int
    marker: int
    record: bytes


_buckets = msgspec.msgpack.Decoder(Bucket)
_made = msgspec.msgpack.Decoder(_Made)
_aged = msgspec.msgpack.Decoder(_Aged)


def next_bucket_with(connection: Connection, setting: str, after: BucketId) -> Bucket | None:
    for (record,) in connection.execute(_NEXT_BUCKET, (after, setting.encode())):
        bucket = _buckets.decode(record)
        if setting in bucket.settings:  # the name may also stand elsewhere in the record
            return bucket
    return None


def rules_of(connection: Connection, bucket_id: BucketId) -> tuple[Bucket, Configuration | None]:
    """Return a bucket and its rules, if it has any. Raises BucketMissing."""
    bucket = need_bucket(connection, bucket_id)
    text = bucket.settings.get(SETTING)
    return bucket, None if text is None else configuration_of(text)


def made_ms(record: bytes) -> int:
    """Return when a version was made, of its record."""
    return _made.decode(record).modified_ms


def walk_due(
    connection: Connection, bucket_id: BucketId, after: Place, now_ms: int, max_rows: int, max_due: int, *, moves: bool
) -> DuePage:
    try:
        bucket, configuration = rules_of(connection, bucket_id)
    except BucketMissing:
        configuration = None
    if configuration is None:
        return DuePage(due=(), place=after, rows=0, ended=True)
    walk = _Walk(bucket, configuration, now_ms, after, moves=moves)
    rows = 0
    for low, end in _spans(prefixes(configuration), after):
        for row, is_last in _with_last(map(_Row._make, connection.execute(_SCAN, (bucket_id, *low, end, max_rows - rows)))):
            walk.see(row, is_last_of_key=is_last)
            rows += 1
            if len(walk.due) >= max_due:
                return walk.page(rows, ended=False)
        if rows >= max_rows:
            return walk.page(rows, ended=False)
    return walk.page(rows, ended=True)


class _Walk:
    """One page: what is due so far, and where it stands."""

    def __init__(self, bucket: Bucket, configuration: Configuration, now_ms: int, after: Place, *, moves: bool) -> None:
        self._versioned = bucket.versioning != "Unversioned"
        self._configuration = configuration
        self._now_ms = now_ms
        self._horizons = horizons(configuration, now_ms // DAY_MS)
        self._key = after.key.encode()
        self._order_key = -after.sequence
        self._modified_ms = after.modified_ms
        self._noncurrent = after.noncurrent
        self._moves = moves
        self.due: list[DueVersion] = []

    def see(self, row: _Row, *, is_last_of_key: bool) -> None:
        if row.key != self._key:
            self._key, self._noncurrent = row.key, 0
        modified_ms = made_ms(row.record)
        if (modified_ms if row.latest else self._modified_ms) < _horizon(self._horizons, row):
            decision = decide(self._configuration, self._facts(row, is_last_of_key=is_last_of_key), self._now_ms)
            if decision is not None and (decision.action == "move") is self._moves:
                self.due.append(_due(row, decision))
        self._order_key, self._modified_ms = row.order_key, modified_ms
        self._noncurrent += not row.latest and not row.marker

    def _facts(self, row: _Row, *, is_last_of_key: bool) -> Facts:
        aged = _aged.decode(row.record)
        return Facts(
            key=row.key.decode(),
            size=aged.size,
            tags=aged.attributes.tags,
            storage_class=aged.attributes.storage_class,
            modified_ms=aged.modified_ms,
            is_latest=bool(row.latest),
            is_marker=bool(row.marker),
            is_alone=is_last_of_key,
            versioned=self._versioned,
            noncurrent_ms=self._modified_ms,
            newer_noncurrent=self._noncurrent,
        )

    def page(self, rows: int, *, ended: bool) -> DuePage:
        place = Place(
            key=ObjectKey(self._key.decode()), sequence=-self._order_key, modified_ms=self._modified_ms, noncurrent=self._noncurrent
        )
        return DuePage(due=tuple(self.due), place=place, rows=rows, ended=ended)


def _horizon(found: Horizons, row: _Row) -> int:
    if not row.latest:
        return found.noncurrent_ms
    return found.marker_ms if row.marker else found.current_ms


def _due(row: _Row, decision: Decision) -> DueVersion:
    return DueVersion(
        key=ObjectKey(row.key.decode()),
        sequence=-row.order_key,
        version_id=VersionId(row.version_id),
        action=decision.action,
        storage_class=decision.storage_class,
    )


def _spans(wanted: Sequence[bytes], after: Place) -> Iterator[tuple[tuple[bytes, int], bytes]]:
    """Yield, in order, what is still to be scanned: behind which (key, order), and before which key."""
    place = (after.key.encode(), -after.sequence if after.sequence else _BEFORE_ALL)
    for prefix in wanted:
        end = _behind(prefix)
        if end > place[0]:
            yield max(place, (prefix, _BEFORE_ALL)), end


def _behind(prefix: bytes) -> bytes:
    """Return the lowest key above all with this prefix. Of UTF-8, no last byte is 255."""
    return prefix[:-1] + bytes([prefix[-1] + 1]) if prefix else ENDLESS


def _with_last(rows: Iterator[_Row]) -> Iterator[tuple[_Row, bool]]:
    """Yield each row with whether none of its key follows. At the end of a page it is not known, and taken for so."""
    before = next(rows, None)
    for row in rows:
        assert before is not None
        yield before, row.key != before.key
        before = row
    if before is not None:
        yield before, True
