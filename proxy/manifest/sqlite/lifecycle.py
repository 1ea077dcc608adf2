"""Lifecycle rules: finding what is due by a scan of the index, and doing it.

A bucket may have ten million versions of which a handful is due. A scan reads rows in the order of the table, so what it costs is what is
made of a row. Of each only the time is decoded at first, which nearly always is enough: the version is younger than the youngest that any
rule could want. Of the others, size, tags and class are decoded, and the rules asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from proxy.clock import Instant
from proxy.errors import BucketMissing, VersionLocked
from proxy.manifest.drafts import NO_CONDITIONS
from proxy.manifest.events import Cause
from proxy.manifest.lifecycle import DuePage, DueUploads, DueVersion, Outcome, Place, UploadPlace
from proxy.manifest.plans.locks import is_lockable
from proxy.manifest.plans.versions import plan_delete_version
from proxy.manifest.records import Bucket, BucketId, ExtentId, ObjectKey, Record, UploadId, Version, VersionId
from proxy.manifest.sqlite.buckets import need_bucket
from proxy.manifest.sqlite.events import note_event
from proxy.manifest.sqlite.layouts import find_layout
from proxy.manifest.sqlite.rows import Connection, encode
from proxy.manifest.sqlite.trusted_time import trusted_ms
from proxy.manifest.sqlite.uploads import abort_upload
from proxy.manifest.sqlite.versions import decode_version, delete_latest, remove_version
from proxy.s3.lifecycle.deciding import Decision, Facts, Horizons, abort_at, decide, horizons, prefixes
from proxy.s3.lifecycle.rules import DAY_MS, SETTING, Configuration, configuration_of

ENDLESS = b"\xff"  # above every key
_NEXT_BUCKET = "SELECT record FROM bucket WHERE id > ? AND instr(record, ?) > 0 ORDER BY id"
_SCAN = (
    "SELECT key, order_key, version_id, latest, marker, record FROM version"
    " WHERE bucket = ?1 AND (key, order_key) > (?2, ?3) AND key < ?4 ORDER BY key, order_key LIMIT ?5"
)
_SCAN_UPLOADS = (
    "SELECT key, initiated, id FROM upload WHERE bucket = ?1 AND (key, initiated, id) > (?2, ?3, ?4) ORDER BY key, initiated, id LIMIT ?5"
)
_FIND = "SELECT record, latest FROM version WHERE bucket = ? AND key = ? AND order_key = ?"
_NEWER = "SELECT record FROM version WHERE bucket = ? AND key = ? AND order_key < ? ORDER BY order_key DESC LIMIT 1"
_OLDER = "SELECT 1 FROM version WHERE bucket = ? AND key = ? AND order_key > ? LIMIT 1"
# No rule keeps more than a hundred newer versions, and a key may have very many.
_COUNT_NEWER = (
    "SELECT count(*) FROM (SELECT 1 FROM version WHERE bucket = ? AND key = ? AND order_key < ? AND latest = 0 AND marker = 0 LIMIT 100)"
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


# Versions


def walk_due(
    connection: Connection, bucket_id: BucketId, after: Place, now_ms: int, max_rows: int, max_due: int, *, moves: bool
) -> DuePage:
    try:
        bucket, configuration = _rules(connection, bucket_id)
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
        modified_ms = _made.decode(row.record).modified_ms
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


def carry_out(
    connection: Connection,
    bucket_id: BucketId,
    due: Sequence[DueVersion],
    marker_ids: Sequence[VersionId],
    now_ms: int,
    instant: Instant,
    cause: Cause | None,
) -> tuple[Outcome, ...]:
    bucket, configuration = _rules(connection, bucket_id)
    outcomes: list[Outcome] = []
    for one, marker_id in zip(due, marker_ids, strict=True):
        version = _still_due(connection, bucket, configuration, one, now_ms)
        if version is None:
            outcomes.append("left")
            continue
        try:
            outcomes.append(_carry_out(connection, bucket, one, version, marker_id, now_ms, instant, cause))
        except VersionLocked:
            outcomes.append("locked")
    return tuple(outcomes)


def _carry_out(
    connection: Connection,
    bucket: Bucket,
    due: DueVersion,
    version: Version,
    marker_id: VersionId,
    now_ms: int,
    instant: Instant,
    cause: Cause | None,
) -> Outcome:
    if due.action == "expire":
        # S3 User Guide, "What does Amazon S3 replicate?": not the markers that lifecycle rules make.
        marker = delete_latest(connection, bucket.id, due.key, marker_id, now_ms, NO_CONDITIONS, cause, replicates=False)
        return "expired" if marker is None else "marked"
    trusted = trusted_ms(connection, instant) if is_lockable(version) else 0
    remove_version(connection, bucket.id, plan_delete_version(version, trusted_ms=trusted), now_ms)
    note_event(connection, bucket.id, version, cause, now_ms)
    return "removed"


def change_class(
    connection: Connection, bucket_id: BucketId, due: DueVersion, policy: str, k: int, m: int, now_ms: int, cause: Cause | None
) -> Outcome:
    bucket, configuration = _rules(connection, bucket_id)
    version = _still_due(connection, bucket, configuration, due, now_ms)
    if version is None or not all(_is_stored(connection, ref.id, policy, k, m) for ref in version.extents):
        return "left"
    moved = replace(version, attributes=replace(version.attributes, storage_class=due.storage_class))
    row = (encode(moved), bucket_id, due.key.encode(), -due.sequence)
    connection.execute("UPDATE version SET record = ? WHERE bucket = ? AND key = ? AND order_key = ?", row)
    note_event(connection, bucket_id, moved, cause, now_ms)
    return "moved"


def _is_stored(connection: Connection, extent_id: int, policy: str, k: int, m: int) -> bool:
    layout = find_layout(connection, ExtentId(extent_id))
    return layout is not None and (layout.policy, layout.k, layout.m) == (policy, k, m)


def _still_due(connection: Connection, bucket: Bucket, configuration: Configuration | None, due: DueVersion, now_ms: int) -> Version | None:
    """Return the version if the rules as they are want the same to be done with it as it is."""
    row = connection.execute(_FIND, (bucket.id, due.key.encode(), -due.sequence)).fetchone()
    if row is None or configuration is None:
        return None
    version = decode_version(*row)
    if version.id != due.version_id:
        return None
    decision = decide(configuration, _facts(connection, bucket, version), now_ms)
    wanted = (due.action, due.storage_class)
    return version if decision is not None and (decision.action, decision.storage_class) == wanted else None


def _facts(connection: Connection, bucket: Bucket, version: Version) -> Facts:
    place = (bucket.id, version.key.encode(), -version.sequence)
    noncurrent_ms = newer = 0
    if not version.is_latest:
        found = connection.execute(_NEWER, place).fetchone()
        noncurrent_ms = _made.decode(found[0]).modified_ms
        newer = int(connection.execute(_COUNT_NEWER, place).fetchone()[0])
    return Facts(
        key=version.key,
        size=version.size,
        tags=version.attributes.tags,
        storage_class=version.attributes.storage_class,
        modified_ms=version.modified_ms,
        is_latest=version.is_latest,
        is_marker=version.is_delete_marker,
        is_alone=connection.execute(_OLDER, place).fetchone() is None,
        versioned=bucket.versioning != "Unversioned",
        noncurrent_ms=noncurrent_ms,
        newer_noncurrent=newer,
    )


def _rules(connection: Connection, bucket_id: BucketId) -> tuple[Bucket, Configuration | None]:
    bucket = need_bucket(connection, bucket_id)
    text = bucket.settings.get(SETTING)
    return bucket, None if text is None else configuration_of(text)


# Uploads


def walk_uploads(connection: Connection, bucket_id: BucketId, after: UploadPlace, now_ms: int, max_rows: int) -> DueUploads:
    try:
        _, configuration = _rules(connection, bucket_id)
    except BucketMissing:
        configuration = None
    if configuration is None:
        return DueUploads(due=(), place=after, rows=0, ended=True)
    start = (bucket_id, after.key.encode(), after.initiated_ms, after.upload_id, max_rows)
    rows = connection.execute(_SCAN_UPLOADS, start).fetchall()
    due = tuple(UploadId(row[2]) for row in rows if _is_over(configuration, row[0].decode(), row[1], now_ms))
    place = UploadPlace(key=ObjectKey(rows[-1][0].decode()), initiated_ms=rows[-1][1], upload_id=UploadId(rows[-1][2])) if rows else after
    return DueUploads(due=due, place=place, rows=len(rows), ended=len(rows) < max_rows)


def abort_due(connection: Connection, bucket_id: BucketId, upload_ids: Sequence[UploadId], now_ms: int) -> int:
    _, configuration = _rules(connection, bucket_id)
    aborted = 0
    for upload_id in upload_ids if configuration is not None else ():
        row = connection.execute("SELECT key, initiated FROM upload WHERE id = ? AND bucket = ?", (upload_id, bucket_id)).fetchone()
        if row is not None and configuration is not None and _is_over(configuration, row[0].decode(), row[1], now_ms):
            abort_upload(connection, upload_id, now_ms)
            aborted += 1
    return aborted


def _is_over(configuration: Configuration, key: str, initiated_ms: int, now_ms: int) -> bool:
    found = abort_at(configuration, key, initiated_ms)
    return found is not None and found[0] <= now_ms
