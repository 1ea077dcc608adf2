"""The notebook of a recovery: what it has found so far and how far it is, in a database of its own beside the manifest.

It keeps memory bounded however much the stores hold, and lets a recovery that was killed go on where it was. What is in it can be found
again, so it is written without waiting for the disk. It is one file for one recovery, used by one thread at a time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

import msgspec

from proxy.errors import ConfigError
from proxy.manifest.records import Layout, SegmentId
from proxy.manifest.recovery import Finding, Found, FoundPack, FoundPart, FoundVersion, Labelled, Link, Sighting, UnnamedSegment
from proxy.manifest.sqlite.room import require_room

FORMAT = 1
FOUND_BYTES = 4 * 1024 * 1024  # of records in one batch
_TABLES = (
    "CREATE TABLE progress (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE listed (segment BLOB NOT NULL, shard INTEGER NOT NULL, generation INTEGER NOT NULL, store TEXT NOT NULL,"
    " size INTEGER NOT NULL, PRIMARY KEY (segment, shard, generation, store)) WITHOUT ROWID",
    "CREATE TABLE named (segment BLOB PRIMARY KEY) WITHOUT ROWID",
    "CREATE TABLE labelled (bucket TEXT NOT NULL, key BLOB NOT NULL, version TEXT NOT NULL, upload TEXT NOT NULL, part INTEGER NOT NULL,"
    " body BLOB NOT NULL, number INTEGER NOT NULL, segment BLOB NOT NULL, record BLOB NOT NULL,"
    " PRIMARY KEY (bucket, key, version, upload, part, body, number, segment)) WITHOUT ROWID",
    # `count`: of versions and parts; a pack has many versions.
    "CREATE TABLE found (written INTEGER NOT NULL, segment BLOB NOT NULL, count INTEGER NOT NULL, record BLOB NOT NULL,"
    " PRIMARY KEY (written, segment)) WITHOUT ROWID",
    "CREATE TABLE finding (sort TEXT NOT NULL, subject TEXT NOT NULL, reason TEXT NOT NULL,"
    " PRIMARY KEY (sort, subject, reason)) WITHOUT ROWID",
    "CREATE TABLE link (number INTEGER NOT NULL, segment BLOB NOT NULL, digest BLOB NOT NULL, previous BLOB NOT NULL,"
    " epoch INTEGER NOT NULL, sequence INTEGER NOT NULL, whole INTEGER NOT NULL, made INTEGER NOT NULL, layout BLOB NOT NULL,"
    " plaintext BLOB NOT NULL, PRIMARY KEY (number, segment))",
    f"PRAGMA user_version = {FORMAT}",
)
_NAMES = ("progress", "listed", "named", "labelled", "found", "finding", "link")
_labelled = msgspec.msgpack.Decoder(Labelled)
_layouts = msgspec.msgpack.Decoder(Layout)
_found = msgspec.msgpack.Decoder(Found)
_encode = msgspec.msgpack.Encoder().encode
Assemble = Callable[[Sequence[Labelled]], Found | Finding]


class Notebook:
    """See the module. Every method is one transaction."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)  # it names objects
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode = WAL", "synchronous = OFF", "cache_size = -32768", "temp_store = FILE"):
            self._connection.execute(f"PRAGMA {pragma}")
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version not in {0, FORMAT}:
            raise ConfigError(f"{path} was begun by another version of Shardgate: remove it to begin anew")
        if not version:
            with self._connection:
                self._connection.execute("BEGIN")
                for statement in _TABLES:
                    self._connection.execute(statement)

    def close(self) -> None:
        self._connection.close()

    def remove(self) -> None:
        """Close it, and take its files away."""
        self.close()
        for ending in ("-wal", "-shm", ""):
            self._path.with_name(self._path.name + ending).unlink(missing_ok=True)

    # How far the recovery is

    def load(self, name: str) -> bytes | None:
        row = self._connection.execute("SELECT value FROM progress WHERE name = ?", (name,)).fetchone()
        return None if row is None else bytes(row[0])

    def save(self, name: str, value: bytes) -> None:
        self._connection.execute("INSERT OR REPLACE INTO progress VALUES (?, ?)", (name, value))

    def identify(self) -> bytes:
        """Return what tells this notebook from any other."""
        self._connection.execute("INSERT OR IGNORE INTO progress VALUES ('notebook', randomblob(16))")
        (identity,) = self._connection.execute("SELECT value FROM progress WHERE name = 'notebook'").fetchone()
        return bytes(identity)

    def begin_anew(self) -> None:
        """Forget everything, and be another notebook."""
        with self._transaction():
            for table in _NAMES:
                self._connection.execute(f"DELETE FROM {table}")  # noqa: S608 - of constants

    # What the stores list

    def add_sightings(self, sightings: Iterable[Sighting]) -> None:
        """Note what a store lists. Raises `NoRoom`."""
        require_room(self._path.parent)
        with self._transaction():
            self._connection.executemany("INSERT OR IGNORE INTO listed VALUES (?, ?, ?, ?, ?)", sightings)

    def sightings(self, segment_ids: Sequence[SegmentId]) -> dict[SegmentId, tuple[Sighting, ...]]:
        """Return what the stores list of each segment."""
        return {segment_id: self._sightings(segment_id) for segment_id in segment_ids}

    def forget_sightings(self, shards: Iterable[tuple[SegmentId, int, int, str]]) -> None:
        """Leave out shards that are to be deleted, as (segment, index, generation, store)."""
        with self._transaction():
            self._connection.executemany("DELETE FROM listed WHERE segment = ? AND shard = ? AND generation = ? AND store = ?", shards)

    def _sightings(self, segment_id: SegmentId) -> tuple[Sighting, ...]:
        rows = self._connection.execute("SELECT segment, shard, generation, store, size FROM listed WHERE segment = ?", (segment_id,))
        return tuple(Sighting(*row) for row in rows)

    # Which segments the manifest names

    def add_named(self, segment_ids: Iterable[SegmentId]) -> None:
        with self._transaction():
            self._connection.executemany("INSERT OR IGNORE INTO named VALUES (?)", ((segment_id,) for segment_id in segment_ids))

    def count_unnamed(self, after: SegmentId) -> int:
        sql = "SELECT count(DISTINCT segment) FROM listed WHERE segment > ? AND segment NOT IN (SELECT segment FROM named)"
        (count,) = self._connection.execute(sql, (after,)).fetchone()
        return int(count)

    def unnamed(self, after: SegmentId, limit: int) -> tuple[UnnamedSegment, ...]:
        """Return segments by id, from behind `after`."""
        ids = [
            row[0]
            for row in self._connection.execute(
                "SELECT DISTINCT segment FROM listed WHERE segment > ? AND segment NOT IN (SELECT segment FROM named)"
                " ORDER BY segment LIMIT ?",
                (after, limit),
            )
        ]
        return tuple(UnnamedSegment(SegmentId(segment_id), self._sightings(segment_id)) for segment_id in ids)

    # What their labels say

    def add_labelled(self, labelled: Iterable[Labelled], findings: Iterable[Finding], *, name: str, position: bytes) -> None:
        """Add what was found up to a position, which is kept under `name`."""
        with self._transaction():
            self._connection.executemany(
                "INSERT OR REPLACE INTO labelled VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (_labelled_row(one) for one in labelled)
            )
            self._add_findings(findings)
            self.save(name, position)

    def assemble(self, assemble: Assemble) -> int:
        """Make of each attempt's segments what `assemble` says. Return how many versions and parts were found. Packs are left for later."""
        count = 0
        with self._transaction():
            self._connection.execute("DELETE FROM found")
            for attempt in self._attempts():
                made = assemble(attempt)
                if isinstance(made, Finding):
                    self._add_findings([made])
                else:
                    count += 1
                    self._add_found(made, attempt[0].segment.id)
        return count

    def _add_found(self, found: Found, segment_id: SegmentId) -> None:
        count = len(found.slots) if isinstance(found, FoundPack) else 1
        self._connection.execute("INSERT OR REPLACE INTO found VALUES (?, ?, ?, ?)", (_written(found), segment_id, count, _encode(found)))

    def packs(self, after: tuple[bytes, SegmentId], limit: int) -> tuple[Labelled, ...]:
        """Return packs whose labels were read, in the order of (body, segment), from behind one."""
        rows = self._connection.execute(
            "SELECT record FROM labelled WHERE bucket = '' AND key = x'' AND version = '' AND upload = '' AND part = 0"
            " AND (body, segment) > (?, ?) ORDER BY body, segment LIMIT ?",
            (*after, limit),
        )
        return tuple(_labelled.decode(record) for (record,) in rows)

    def count_packs(self) -> int:
        (count,) = self._connection.execute("SELECT count(*) FROM labelled WHERE bucket = ''").fetchone()
        return int(count)

    def add_packs(self, found: Iterable[FoundPack], findings: Iterable[Finding], *, name: str, position: bytes) -> None:
        """Add what tables tell up to a position, which is kept under `name`."""
        with self._transaction():
            for pack in found:
                self._add_found(pack, pack.layout.segments[0].id)
            self._add_findings(findings)
            self.save(name, position)

    def found(self, after: tuple[int, bytes], limit: int) -> tuple[tuple[tuple[int, bytes], Found], ...]:
        """Return what was found with its place in the order in which it was written, from behind a place: as much as memory is held for."""
        rows = self._connection.execute(
            "SELECT written, segment, record FROM found WHERE (written, segment) > (?, ?) ORDER BY written, segment LIMIT ?",
            (*after, limit),
        )
        batch: list[tuple[tuple[int, bytes], Found]] = []
        size = 0
        for written, segment, record in rows:
            batch.append(((written, segment), _found.decode(record)))
            size += len(record)
            if size > FOUND_BYTES:  # a pack has up to 256 versions, each with up to 8 KiB of headers
                break
        return tuple(batch)

    def count_found(self) -> int:
        """Return how many versions and parts were found."""
        (count,) = self._connection.execute("SELECT coalesce(sum(count), 0) FROM found").fetchone()
        return int(count)

    # The journal

    def add_link(self, link: Link, plaintext: bytes) -> None:
        place = (link.number, link.segment_id, link.digest, link.previous, link.epoch, link.sequence, link.whole, link.made_ms)
        self._connection.execute(
            "INSERT OR REPLACE INTO link VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*place, _encode(link.layout), plaintext)
        )

    def links(self) -> tuple[Link, ...]:
        rows = self._connection.execute(
            "SELECT number, segment, digest, previous, epoch, sequence, whole, made, length(plaintext), layout FROM link ORDER BY number"
        )
        return tuple(
            Link(
                number=number,
                segment_id=segment,
                digest=digest,
                previous=previous,
                epoch=epoch,
                sequence=sequence,
                whole=bool(whole),
                made_ms=made,
                size_bytes=size,
                layout=_layouts.decode(layout),
            )
            for number, segment, digest, previous, epoch, sequence, whole, made, size, layout in rows
        )

    def plaintext(self, number: int, segment_id: SegmentId) -> bytes:
        row = self._connection.execute("SELECT plaintext FROM link WHERE number = ? AND segment = ?", (number, segment_id)).fetchone()
        return bytes(row[0])

    # What could not be brought back

    def add_findings(self, findings: Iterable[Finding]) -> None:
        with self._transaction():
            self._add_findings(findings)

    def findings(self, limit: int) -> tuple[Finding, ...]:
        rows = self._connection.execute("SELECT sort, subject, reason FROM finding ORDER BY sort, subject LIMIT ?", (limit,))
        return tuple(Finding(sort=sort, subject=subject, reason=reason) for sort, subject, reason in rows)

    def count_findings(self) -> dict[str, int]:
        return dict(self._connection.execute("SELECT sort, count(*) FROM finding GROUP BY sort").fetchall())

    def _add_findings(self, findings: Iterable[Finding]) -> None:
        rows = [(finding.sort, finding.subject, finding.reason) for finding in findings]
        self._connection.executemany("INSERT OR IGNORE INTO finding VALUES (?, ?, ?)", rows)

    def _attempts(self) -> Iterator[list[Labelled]]:
        """Yield the segments of one attempt after the other, in order."""
        rows = self._connection.execute(
            "SELECT bucket, key, version, upload, part, body, record FROM labelled"
            " WHERE bucket <> '' ORDER BY bucket, key, version, upload, part, body, number, segment"
        )
        for _, attempt in groupby(rows, key=lambda row: row[:6]):
            yield [_labelled.decode(row[6]) for row in attempt]

    def _transaction(self) -> _Transaction:
        return _Transaction(self._connection)


class _Transaction:
    """All or nothing."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN")

    def __exit__(self, kind: object, *_: object) -> None:
        self._connection.execute("COMMIT" if kind is None else "ROLLBACK")


def _labelled_row(one: Labelled) -> tuple[object, ...]:
    return (
        one.bucket,
        one.key.encode(),
        one.version_id,
        one.upload_id,
        one.part_number,
        one.body,
        one.number,
        one.segment.id,
        _encode(one),
    )


def _written(found: Found) -> int:
    """Return where it comes in the order of writes: a pack comes with its first version, and each of these finds its own place then."""
    match found:
        case FoundVersion():
            return found.draft.written
        case FoundPart():
            return found.part.written
        case FoundPack():
            return min(slot.draft.written for slot in found.slots)
