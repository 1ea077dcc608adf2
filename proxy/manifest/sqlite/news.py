"""News: which rows have changed since an answer was read, so that whoever keeps answers asks again for those alone.

The problem. The log's head changes with every commit of every process, and each process commits now and then though nobody writes: leases,
jobs, the journal. To ask again for each object takes six times as long as to find it in memory, and with a few thousand objects that are
read all the time, a third of all reads came behind such a commit.

The idea. Each change of a journaled row is noted, in the same transaction, under a number that never comes again (see `tables.journal`).
So one question behind a commit says whether anything has changed, and another one what. An answer is as good as new while no row that it
was made of has been noted since. The few rows that every answer is made of have a number of their own, the generation: so have changes
that are not noted, as a recovery makes them.

The journal forgets notes once it has stored what they tell of. Whoever has missed some, or has missed many, keeps nothing of before.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TypeAlias

from proxy.manifest.journal import TABLES
from proxy.manifest.records import ExtentId
from proxy.manifest.sqlite.rows import Connection

Row: TypeAlias = bytes | ExtentId  # the key of a version, in whichever bucket; or an extent
FEW_NOTES = 64  # that are read, at 0.4 us each: where more is written at a time than that, less is gained than they cost
MAX_CHANGED = 10_000  # rows, some 100 bytes each
_NOW = "SELECT (SELECT number FROM generation), max(sequence) FROM outbox"
_NOTED = "SELECT sequence, tab, a, b FROM outbox WHERE sequence > ? AND sequence <= ?"
_NUMBERS = {table.name: number for number, table in enumerate(TABLES)}
_VERSION, _EXTENT = _NUMBERS["version"], _NUMBERS["extent"]


class Moment:
    """A state of the manifest, and what had changed until then. What is added to `changed` later only makes it more careful."""

    __slots__ = ("_changed", "_floor", "generation", "head", "sequence")

    def __init__(self, head: bytes, generation: int, sequence: int, changed: dict[Row, int], floor: int) -> None:
        self.head = head  # of the log, as it was before
        self.generation = generation
        self.sequence = sequence  # of the last note
        self._changed = changed  # rows that were noted behind `floor`, and under which number
        self._floor = floor

    def is_none_changed_since(self, then: Moment, rows: Iterable[Row]) -> bool:
        """Tell whether all of these rows, and all that every answer is made of, are what they were at an earlier moment."""
        if then.generation != self.generation or then.sequence < self._floor:
            return False
        return all(self._changed.get(row, 0) <= then.sequence for row in rows)

    def later(self, connection: Connection, head: bytes) -> Moment:
        """Return the moment now, at which nothing has been committed behind this head."""
        generation, sequence = connection.execute(_NOW).fetchone()
        if sequence == self.sequence:
            return Moment(head, generation, sequence, self._changed, self._floor)
        if not 0 < sequence - self.sequence <= FEW_NOTES or len(self._changed) >= MAX_CHANGED:
            return Moment(head, generation, sequence, {}, sequence)
        notes = connection.execute(_NOTED, (self.sequence, sequence)).fetchall()
        if len(notes) != sequence - self.sequence:
            return Moment(head, generation, sequence, {}, sequence)
        for number, table, a, b in notes:
            if table == _VERSION:
                self._changed[b] = number
            elif table == _EXTENT:
                self._changed[ExtentId(a)] = number
        return Moment(head, generation, sequence, self._changed, self._floor)


class News:
    """The moment that was asked about last. Threads may share it."""

    def __init__(self) -> None:
        self.last: Moment | None = None
        self._asking = threading.Lock()

    def catch_up(self, connection: Connection, head: bytes) -> Moment | None:
        """Return the moment of a head that was just read. None while somebody else asks: then nobody can tell what changes from here on."""
        if self.last is not None and self.last.head == head:
            return self.last
        if not self._asking.acquire(blocking=False):
            return None
        try:
            self.last = (self.last or _BEFORE_ALL).later(connection, head)
            return self.last
        finally:
            self._asking.release()


_BEFORE_ALL = Moment(b"", -1, -1, {}, 0)
