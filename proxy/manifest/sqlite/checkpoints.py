"""Checkpoints: which there are, the one that is being made, and which rows have changed since a run was read."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from proxy.errors import ManifestConflict
from proxy.manifest.journal import NO_DIGEST, TABLES, CheckpointRecord, CheckpointState, Column, Key, Run
from proxy.manifest.sqlite.epoch import find_epoch
from proxy.manifest.sqlite.rows import Connection, encode

_checkpoints = msgspec.msgpack.Decoder(CheckpointRecord)
_runs = msgspec.msgpack.Decoder(Run)
_WIDTH = 3  # key columns of a note, and of a run's first key
_TABS = {table.name: tab for tab, table in enumerate(TABLES)}
_JOURNAL_BEHIND = "SELECT count(*), coalesce(sum(size), 0) FROM journal WHERE number > ?"
_GAP_BEHIND = "SELECT 1 FROM journal WHERE number > ? AND digest = ? LIMIT 1"


def checkpoint_state(connection: Connection, before_ms: int) -> CheckpointState:
    found = [_checkpoints.decode(row[0]) for row in connection.execute("SELECT record FROM checkpoint ORDER BY number")]
    made = [checkpoint for checkpoint in found if checkpoint.made_ms]
    last = made[-1] if made else None
    number = last.number if last else 0
    segments, size_bytes = connection.execute(_JOURNAL_BEHIND, (number,)).fetchone()
    return CheckpointState(
        making=next((checkpoint for checkpoint in found if not checkpoint.made_ms), None),
        last=last,
        superseded=next((checkpoint for checkpoint in reversed(made) if checkpoint.made_ms < before_ms), None),
        journal_segments=segments,
        journal_bytes=size_bytes,
        gap=connection.execute(_GAP_BEHIND, (number, NO_DIGEST)).fetchone() is not None,
    )


def begin_checkpoint(connection: Connection, stores: tuple[str, ...], now_ms: int) -> CheckpointRecord | None:
    number, digest, sequence, whole = connection.execute(
        "SELECT number, digest, sequence, whole FROM journal ORDER BY number DESC LIMIT 1"
    ).fetchone()
    if not whole or connection.execute("SELECT 1 FROM checkpoint WHERE number >= ?", (number,)).fetchone():
        return None
    begun = CheckpointRecord(
        number=number,
        epoch=find_epoch(connection).number,
        digest=digest,
        sequence=sequence,
        begun_ms=now_ms,
        stores=stores,
        table=TABLES[0].name,
    )
    connection.execute("INSERT INTO checkpoint VALUES (?, ?)", (number, encode(begun)))
    return begun


def runs_of(connection: Connection, number: int, table: str) -> tuple[Run, ...]:
    rows = connection.execute("SELECT record FROM run WHERE tab = ? AND born <= ? AND last >= ? ORDER BY a, b, c", (table, number, number))
    return tuple(_runs.decode(row[0]) for row in rows)


def touched_runs(connection: Connection, number: int, runs: Sequence[Run]) -> tuple[bool, ...]:
    return tuple(_is_touched(connection, number, run) for run in runs)


def _is_touched(connection: Connection, number: int, run: Run) -> bool:
    conditions, parameters = ["tab = ?", "number > ?"], list[Column]([_TABS[run.table], number])
    for sign, bound in ((">=", run.first), ("<", run.end)):
        if bound:
            conditions.append(f"(a, b, c) {sign} (?, ?, ?)")
            parameters += _padded(bound, 0)
    sql = f"SELECT 1 FROM noted WHERE {' AND '.join(conditions)} LIMIT 1"  # noqa: S608 - of constants
    return connection.execute(sql, parameters).fetchone() is not None


def advance_checkpoint(
    connection: Connection, now: CheckpointRecord, then: CheckpointRecord, added: Sequence[Run], kept: Sequence[Run]
) -> None:
    _replace(connection, now, then)
    (before,) = connection.execute("SELECT max(number) FROM checkpoint WHERE number < ?", (now.number,)).fetchone()
    places = [(now.number, run.table, *_padded_first(run.first), before) for run in kept]
    connection.executemany("UPDATE run SET last = ? WHERE tab = ? AND (a, b, c) IS (?, ?, ?) AND last = ?", places)
    rows = [(run.table, *_padded_first(run.first), now.number, now.number, encode(run)) for run in added]
    connection.executemany("INSERT INTO run (tab, a, b, c, born, last, record) VALUES (?, ?, ?, ?, ?, ?, ?)", rows)


def finish_checkpoint(connection: Connection, now: CheckpointRecord, made: CheckpointRecord) -> None:
    _replace(connection, now, made)
    connection.execute("DELETE FROM journal WHERE number < ?", (made.number,))  # that one is whole: see `begin_checkpoint`


def _replace(connection: Connection, now: CheckpointRecord, then: CheckpointRecord) -> None:
    statement = "UPDATE checkpoint SET record = ? WHERE number = ? AND record = ?"
    if connection.execute(statement, (encode(then), now.number, encode(now))).rowcount != 1:
        raise ManifestConflict(f"checkpoint {now.number} is not where it was: another process goes on with it")


def forget_noted(connection: Connection, limit: int) -> bool:
    """Forget which rows had changed before the last checkpoint, some at a time; return whether there are more."""
    made = [record.number for row in connection.execute("SELECT record FROM checkpoint") if (record := _checkpoints.decode(row[0])).made_ms]
    if not made:
        return False
    deleted = connection.execute(
        "DELETE FROM noted WHERE (tab, a, b, c) IN (SELECT tab, a, b, c FROM noted WHERE number <= ? LIMIT ?)", (max(made), limit)
    )
    return deleted.rowcount == limit


def forget_checkpoints(connection: Connection, below: int) -> None:
    connection.execute("DELETE FROM checkpoint WHERE number < ?", (below,))
    connection.execute("DELETE FROM run WHERE last < ?", (below,))


def forget_runs(connection: Connection) -> None:
    """What has changed since the runs were read is not known: no checkpoint to come may refer to them. The one being made is given up."""
    before = 0
    for number, record in connection.execute("SELECT number, record FROM checkpoint ORDER BY number").fetchall():
        checkpoint = _checkpoints.decode(record)
        if checkpoint.made_ms:
            connection.execute("UPDATE checkpoint SET record = ? WHERE number = ?", (encode(replace(checkpoint, reusable=False)), number))
            before = number
        else:
            connection.execute("DELETE FROM checkpoint WHERE number = ?", (number,))
            connection.execute("DELETE FROM run WHERE born = ?", (number,))
            connection.execute("UPDATE run SET last = ? WHERE last = ?", (before, number))


def live_runs(connection: Connection) -> frozenset[bytes]:
    runs = (_runs.decode(row[0]).layout for row in connection.execute("SELECT record FROM run"))
    made = (_checkpoints.decode(row[0]).index for row in connection.execute("SELECT record FROM checkpoint"))
    return frozenset(segment.id for layout in (*runs, *made) if layout is not None for segment in layout.segments)


def _padded(key: Key, filler: Column) -> tuple[Column, ...]:
    return (*key, *(filler,) * (_WIDTH - len(key)))


def _padded_first(first: Key) -> tuple[Column, ...]:
    return _padded(first, 0) if first else (None,) * _WIDTH
