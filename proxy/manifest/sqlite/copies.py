"""Which journal segments, checkpoints and runs a recovery would read now."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import msgspec

from proxy.codec.format import CHECKPOINT_PREFIX, JOURNAL_PREFIX, RUN_PREFIX
from proxy.manifest.copies import NeededCopies, StoredCopy
from proxy.manifest.journal import CheckpointRecord, Run
from proxy.manifest.sqlite.layouts import decode_layout
from proxy.manifest.sqlite.rows import Connection

_checkpoints = msgspec.msgpack.Decoder(CheckpointRecord)
_runs = msgspec.msgpack.Decoder(Run)


def needed_copies(connection: Connection) -> NeededCopies:
    """Read at one instant: a checkpoint that is made in between makes others useless."""
    connection.execute("BEGIN")
    try:
        return _needed_copies(connection)
    finally:
        connection.execute("ROLLBACK")


def _needed_copies(connection: Connection) -> NeededCopies:
    found = [_checkpoints.decode(row[0]) for row in connection.execute("SELECT record FROM checkpoint ORDER BY number DESC")]
    last = next((checkpoint for checkpoint in found if checkpoint.made_ms), None)
    journal = tuple(_journal(connection, 0 if last is None else last.number))
    if last is None:
        return NeededCopies(copies=journal, is_known=not journal or _is_first(journal[0]))
    of_checkpoint = tuple(_checkpoint(connection, last))
    return NeededCopies(checkpoint=last.number, made_ms=last.made_ms, copies=(*journal, *of_checkpoint))


def _journal(connection: Connection, base: int) -> Iterator[StoredCopy]:
    """That of the checkpoint's own number is kept, and read by no recovery: the checkpoint has its digest."""
    with closing(connection.execute("SELECT number, layout FROM journal WHERE number > ? ORDER BY number", (base,))) as rows:
        for number, layout in rows:
            if layout:  # where changes were forgotten, a number has none
                yield StoredCopy(prefix=JOURNAL_PREFIX, number=number, layout=decode_layout(layout))


def _is_first(copy: StoredCopy) -> bool:
    """Tell whether the journal begins here, and was written by this manifest: a recovered one may know that number alone."""
    return copy.number == 1 and bool(copy.layout.wrapped_key)


def _checkpoint(connection: Connection, last: CheckpointRecord) -> Iterator[StoredCopy]:
    if last.document is not None:
        yield StoredCopy(prefix=CHECKPOINT_PREFIX, number=last.number, layout=last.document)
    if last.index is not None:
        yield StoredCopy(prefix=RUN_PREFIX, number=last.number, layout=last.index)
    with closing(connection.execute("SELECT record FROM run WHERE born <= ? AND last >= ?", (last.number, last.number))) as rows:
        for (record,) in rows:
            run = _runs.decode(record)
            yield StoredCopy(prefix=RUN_PREFIX, number=run.number, layout=run.layout)
