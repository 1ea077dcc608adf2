"""The journal: what has changed since the last journal segment, and rows as they are."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing

import msgspec

from proxy.errors import ManifestConflict, ManifestFenced
from proxy.manifest.journal import NO_DIGEST, TABLES, Changes, Column, JournalPosition, Key, Place, Row, StoredSegment, Table, sized
from proxy.manifest.records import ListedVersion
from proxy.manifest.sqlite.checkpoints import forget_runs
from proxy.manifest.sqlite.epoch import find_epoch
from proxy.manifest.sqlite.rows import Connection, encode, listed_line

_listed = msgspec.msgpack.Decoder(ListedVersion)
_BY_NAME = {table.name: table for table in TABLES}
_PRESENT = [
    f"SELECT {', '.join((*table.columns, '1'))} FROM {table.name} WHERE {' AND '.join(f'{column} = ?' for column in table.key)}"  # noqa: S608 - names of ours
    for table in TABLES
]
_LAST = "SELECT number, digest, sequence, epoch FROM journal ORDER BY number DESC LIMIT 1"
_LAST_WHOLE = "SELECT number, sequence, stored FROM journal WHERE whole = 1 ORDER BY number DESC LIMIT 1"
_VERSION = next(number for number, table in enumerate(TABLES) if table.name == "version")
# With the rows of versions, which most notes are of: a question for each takes twice as long.
_NOTES = (
    f"SELECT o.sequence, o.tab, o.a, o.b, o.c, v.bucket IS NOT NULL, {', '.join(f'v.{column}' for column in TABLES[_VERSION].columns)}"  # noqa: S608 - names of ours
    f" FROM outbox o LEFT JOIN version v ON o.tab = {_VERSION} AND v.bucket = o.a AND v.key = o.b AND v.order_key = o.c"
    " WHERE o.sequence > ? ORDER BY o.sequence"
)
_FORGET_GONE = "DELETE FROM gone WHERE sequence <= ?"
NOTES_AT_ONCE = 1000  # kept behind a checkpoint in one step: 2 ms, in which nobody else writes
_FURTHER = "SELECT sequence FROM outbox WHERE sequence > ? AND sequence <= ? ORDER BY sequence LIMIT 1 OFFSET ?"
_KEEP_NOTES = (
    "INSERT OR REPLACE INTO noted SELECT DISTINCT tab, a, b, c, ? FROM outbox WHERE sequence > ? AND sequence <= ?"  # behind a checkpoint
)


def journal_position(connection: Connection) -> JournalPosition:
    """Where the journal stands. One statement each: what is read first is never ahead of what is read after it."""
    number, digest, reached, epoch = connection.execute(_LAST).fetchone()
    whole, sequence, stored_ms = connection.execute(_LAST_WHOLE).fetchone()
    (noted,) = connection.execute("SELECT max(sequence) FROM outbox").fetchone()
    return JournalPosition(
        number=number,
        epoch=epoch,
        digest=digest,
        whole=whole,
        sequence=sequence,
        stored_ms=stored_ms,
        noted=noted,
        rows=noted - sequence,
        backlog=noted - reached,
    )


def read_changes(connection: Connection, limit_bytes: int) -> Changes:
    """Return the rows that changed since the last journal segment, as they are at one instant."""
    connection.execute("BEGIN")
    try:
        return _read_changes(connection, limit_bytes)
    finally:
        connection.execute("ROLLBACK")


def _read_changes(connection: Connection, limit_bytes: int) -> Changes:
    epoch = find_epoch(connection)
    if epoch.fence:
        raise ManifestFenced(epoch.fence)
    number, digest, sequence, last_epoch = connection.execute(_LAST).fetchone()
    rows: dict[tuple[int, Key], Row] = {}
    size, whole = 0, True
    with closing(connection.execute(_NOTES, (sequence,))) as notes:
        for noted, tab, a, b, c, is_there, *version in notes:
            place = tab, (a, b, c)[: len(TABLES[tab].key)]
            if place not in rows:
                if size >= limit_bytes:
                    whole = False
                    break
                present = (tuple(version) if is_there else None) if tab == _VERSION else _present(connection, tab, place[1])
                rows[place] = row = Row(TABLES[tab].name, place[1], present)
                size += sized(row)
            sequence = noted
    return Changes(
        number=number + 1,
        previous=digest,
        identity=epoch.identity,
        epoch=epoch.number,
        sequence=sequence,
        whole=whole,
        rows=tuple(rows.values()),
        began=epoch.number > last_epoch,
    )


def _present(connection: Connection, tab: int, key: Key) -> tuple[Column, ...] | None:
    found = connection.execute(_PRESENT[tab], key).fetchone()
    return None if found is None else found[:-1]


def unjournaled(connection: Connection, limit: int) -> frozenset[Place]:
    """Return which rows are noted and in no segment yet; of more than `limit`, as many."""
    _, _, sequence, _ = connection.execute(_LAST).fetchone()
    found = connection.execute("SELECT DISTINCT tab, a, b, c FROM outbox WHERE sequence > ? LIMIT ?", (sequence, limit))
    return frozenset(Place(TABLES[tab].name, tuple(key[: len(TABLES[tab].key)])) for tab, *key in found)


def keep_notes(connection: Connection, segment: StoredSegment, kept: int) -> int | None:
    """Keep some of the notes behind `kept` that a segment covers, before it is recorded. Return the last of them, or None if few are left.

    If it is never recorded, these rows are in the next one. Until then a checkpoint may write a run again that it could have referred to.
    """
    number, _, last, _ = connection.execute(_LAST).fetchone()
    if segment.number != number + 1:  # it will not be recorded
        return None
    kept = max(kept, last)
    further = connection.execute(_FURTHER, (kept, segment.sequence, NOTES_AT_ONCE)).fetchone()
    if further is None:
        return None
    connection.execute(_KEEP_NOTES, (segment.number, kept, further[0]))
    return int(further[0])


def record_segment(connection: Connection, segment: StoredSegment, previous: bytes, kept: int) -> None:
    """Take note of a segment that is in the stores, and forget the notes that it covers: one step, so that none is lost or sent twice.

    Notes up to `kept` are kept already.
    """
    number, digest, last, _ = connection.execute(_LAST).fetchone()
    if (segment.number, previous) != (number + 1, digest):
        raise ManifestConflict(f"journal segment {segment.number} was stored, but the journal is at {number} by now")
    connection.execute(_KEEP_NOTES, (segment.number, max(kept, last), segment.sequence))
    _remember(connection, segment)
    if segment.whole:
        connection.execute(_FORGET_GONE, (segment.sequence,))
    connection.execute("DELETE FROM outbox WHERE sequence < ?", (segment.sequence,))  # the last one stays: see the table


def forget_changes(connection: Connection, leap: int) -> None:
    """Forget what is noted: none of it is in a journal. The number goes on without a segment, so that whoever reads it meets a gap."""
    number, digest, _, epoch = connection.execute(_LAST).fetchone()
    (noted,) = connection.execute("SELECT max(sequence) FROM outbox").fetchone()
    if number == 0 or digest != NO_DIGEST or leap > 1:
        number += leap
    connection.execute("INSERT OR REPLACE INTO journal VALUES (?, ?, ?, ?, 1, 0, 0, x'')", (number, epoch, NO_DIGEST, noted))
    forget_runs(connection)
    connection.execute(_FORGET_GONE, (noted,))
    connection.execute("DELETE FROM outbox WHERE sequence < ?", (noted,))


def _remember(connection: Connection, segment: StoredSegment) -> None:
    kept = (segment.sequence, segment.whole, segment.size_bytes, segment.stored_ms, encode(segment.layout))
    connection.execute("INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (segment.number, segment.epoch, segment.digest, *kept))


def rows_of(connection: Connection, name: str, start: Key, after: Key, until: Key | None, limit: int) -> tuple[Row, ...]:
    """Return rows in the order of their keys: those from `start` on or behind `after`, () for the first, and before `until`."""
    table = _BY_NAME[name]
    keys = ", ".join(table.key)
    conditions, parameters = ["1"], list[Column]()
    for sign, bound in ((">=", start), (">", after), ("<", until)):
        if bound:
            conditions.append(f"({keys}) {sign} ({', '.join('?' * len(bound))})")
            parameters += bound
    sql = f"SELECT {', '.join((*table.key, *table.columns))} FROM {name} WHERE {' AND '.join(conditions)} ORDER BY {keys} LIMIT ?"  # noqa: S608 - names of ours
    width = len(table.key)
    return tuple(Row(name, row[:width], row[width:]) for row in connection.execute(sql, (*parameters, limit)))


def apply_rows(connection: Connection, rows: Iterable[Row], *, note: bool) -> None:
    """Put and delete rows. Without `note` the journal has them already, and they are not noted."""
    (noted,) = connection.execute("SELECT max(sequence) FROM outbox").fetchone()
    for row in rows:
        statement, parameters = _change(_BY_NAME[row.table], row)
        connection.execute(statement, parameters)
    if not note:
        connection.execute("DELETE FROM outbox WHERE sequence > ?", (noted,))
        connection.execute("UPDATE generation SET number = number + 1")  # for whoever keeps rows, and goes by the notes: see `news`


def _change(table: Table, row: Row) -> tuple[str, tuple[Column, ...]]:
    if row.value is None:
        return f"DELETE FROM {table.name} WHERE {' AND '.join(f'{column} = ?' for column in table.key)}", row.key  # noqa: S608 - names of ours
    columns, values = (*table.key, *table.columns), (*row.key, *row.value)
    if table.derived:  # only versions have such a column
        columns, values = (*columns, *table.derived), (*values, _line(values[columns.index("record")]))
    # A row in the way, as of a bucket that was deleted and whose name was given again, is one that later rows put in order.
    statement = f"INSERT OR REPLACE INTO {table.name} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608 - names of ours
    return statement, values


def _line(record: Column) -> bytes | None:
    assert isinstance(record, bytes)
    return listed_line(_listed.decode(record))


def continue_journal(connection: Connection, segment: StoredSegment, identity: str, epoch: int) -> None:
    """Be the manifest whose journal ends with this segment, all of which has been applied."""
    connection.execute("UPDATE epoch SET identity = ?, number = max(number, ?)", (identity, epoch))
    connection.execute("DELETE FROM journal")
    _remember(connection, segment)
    connection.execute("DELETE FROM checkpoint")
    forget_runs(connection)
    connection.execute("DELETE FROM gone")
    connection.execute("DELETE FROM outbox")
    connection.execute("INSERT INTO outbox VALUES (?, -1, 0, 0, 0)", (segment.sequence,))
    connection.execute("UPDATE generation SET number = number + 1")  # as above
