"""The trusted time: one row, begun with the first bucket that has object lock."""

from __future__ import annotations

from proxy.clock import Instant
from proxy.manifest.plans.trusted_time import TimeMark, first_mark, mark_at
from proxy.manifest.sqlite.rows import Connection

_SAVE = "INSERT INTO trusted_time VALUES (1, ?, ?, ?, ?)"
_RENEW = "UPDATE trusted_time SET trusted = ?, running = ? WHERE id = 1"
_MOVE = "UPDATE trusted_time SET day = ?, trusted = ?, running = ?, boot = ? WHERE id = 1"


def trusted_ms(connection: Connection, instant: Instant) -> int:
    """Return the trusted time. It begins now if it never has."""
    return begin_trusted_time(connection, instant).trusted_ms


def begin_trusted_time(connection: Connection, instant: Instant) -> TimeMark:
    """Make the first mark, unless there is one, and return the mark of now."""
    mark = _find(connection)
    if mark is not None:
        return mark_at(mark, instant)
    first = first_mark(instant)
    connection.execute(_SAVE, (first.day, first.trusted_ms, first.running_ms, first.boot))
    return first


def renew_trusted_time(connection: Connection, instant: Instant) -> int | None:
    """Renew the mark, if there is one, and return the trusted time. A change of the day or of the start goes to the journal."""
    mark = _find(connection)
    if mark is None:
        return None
    now = mark_at(mark, instant)
    if (now.day, now.boot) == (mark.day, mark.boot):
        connection.execute(_RENEW, (now.trusted_ms, now.running_ms))
    else:
        connection.execute(_MOVE, (now.day, now.trusted_ms, now.running_ms, now.boot))
    return now.trusted_ms


def _find(connection: Connection) -> TimeMark | None:
    row = connection.execute("SELECT trusted, running, boot FROM trusted_time").fetchone()
    return None if row is None else TimeMark(trusted_ms=row[0], running_ms=row[1], boot=row[2])
