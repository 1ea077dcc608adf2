"""The manifest's file, as somebody sees it who is not a proxy: it is copied, put back, deleted and read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from proxy.manifest.records import Bucket, SegmentId, Version
from tests.fault.machine.audit import extents

SUFFIXES = ("", "-wal", "-shm")


@dataclass(frozen=True)
class Copy:
    """A copy of the manifest, and the epoch that it is of."""

    content: bytes
    epoch: int


class ManifestFile:
    """One manifest. It is changed only while nobody has it open."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def copy(self) -> Copy:
        with self._open() as source, closing(sqlite3.connect(":memory:")) as copy:
            source.backup(copy)
            (epoch,) = copy.execute("SELECT number FROM epoch").fetchone()
            return Copy(copy.serialize(), epoch)

    def put_back(self, copy: Copy) -> None:
        self.delete()
        self.path.touch(mode=0o600)
        self.path.write_bytes(copy.content)

    def delete(self) -> None:
        for suffix in SUFFIXES:
            self.path.with_name(f"{self.path.name}{suffix}").unlink(missing_ok=True)

    def bucket(self, name: str) -> Bucket:
        with self._open() as connection:
            (record,) = connection.execute("SELECT record FROM bucket WHERE name = ?", (name,)).fetchone()
            return msgspec.msgpack.decode(record, type=Bucket)

    def versions(self, bucket: str, key: str) -> list[Version]:
        """Return all versions of a key, newest first."""
        wanted = "SELECT record FROM version WHERE bucket = ? AND key = ? ORDER BY order_key"
        with self._open() as connection:
            (number,) = connection.execute("SELECT id FROM bucket WHERE name = ?", (bucket,)).fetchone()
            records = connection.execute(wanted, (number, key.encode())).fetchall()
        return [msgspec.msgpack.decode(record, type=Version) for (record,) in records]

    def segments_of(self, version: Version) -> list[SegmentId]:
        with self._open() as connection:
            wanted = {ref.id for ref in version.extents}
            return [segment.id for extent, _ in extents(connection) if extent.id in wanted for segment in extent.layout.segments]

    def points_to(self, store: str, name: str) -> bool:
        with self._open() as connection:
            segments = [segment for extent, _ in extents(connection) for segment in extent.layout.segments if segment.id.hex() in name]
        return any((held, segment.shard_name(index)) == (store, name) for segment in segments for index, held in enumerate(segment.stores))

    def is_fenced(self) -> bool:
        with self._open() as connection:
            (fence,) = connection.execute("SELECT fence FROM epoch").fetchone()
        return bool(fence)

    def is_recovered(self) -> bool:
        """Tell whether a recovery into it has come to its end."""
        with self._open() as connection:
            return not self.is_fenced() and connection.execute("SELECT 1 FROM bucket").fetchone() is not None

    def is_in_the_journal(self) -> bool:
        """Tell whether the stores have everything that the manifest has noted."""
        with self._open() as connection:
            (noted,) = connection.execute("SELECT max(sequence) FROM outbox").fetchone()
            (stored,) = connection.execute("SELECT sequence FROM journal WHERE whole = 1 ORDER BY number DESC LIMIT 1").fetchone()
        return bool(noted == stored)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path)) as connection:
            yield connection
