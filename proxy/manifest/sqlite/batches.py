"""Batches: many rows looked up, put in, or changed by one statement.

The problem. Each statement lets go of the interpreter two or three times, and gets it back from the event loop. The writer waits for that,
with its group, and the event loop is interrupted. Eight deletions took seventy statements.

The idea. Rows that are alike are given to one statement together, with as many parameters as that takes. To look up, it asks a question for
each, of one column. To change, it puts its rows into a view, and a trigger does for each what is to be done, however many statements that
takes. (Rejected: lists of keys in a condition. SQLite goes through the whole table for keys of several columns, or finds each row twice, as
the journal's triggers hang on it. Rejected: rows as JSON. Keys and records are no text.)

The views belong to the connection that writes, and not to the database: see `prepare`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import cache
from itertools import chain
from typing import TypeVar

from proxy.manifest.sqlite.rows import Connection

Item = TypeVar("Item")
AT_ONCE = 16  # rows: one statement for each number of them is kept by the connection
_VIEWS = (
    # A version that goes. `written`: its number in the order of writes, if nothing comes in its place: it is remembered until the journal
    # has all that was noted by now.
    "CREATE TEMP VIEW taken_out AS SELECT 0 AS bucket, x'' AS key, 0 AS order_key, 0 AS written",
    "CREATE TEMP TRIGGER take_out INSTEAD OF INSERT ON taken_out BEGIN"
    " DELETE FROM version WHERE bucket = new.bucket AND key = new.key AND order_key = new.order_key;"
    " INSERT INTO gone SELECT new.bucket, new.key, new.written, (SELECT max(sequence) FROM outbox) WHERE new.written IS NOT NULL"
    " ON CONFLICT (bucket, key) DO UPDATE SET written = max(written, excluded.written), sequence = excluded.sequence;"
    " END",
    # Uses of an extent that end, while others stay. `slots`, and their `size`: of those that nobody uses any more, in a pack.
    "CREATE TEMP VIEW counted_out AS SELECT 0 AS extent, 0 AS uses, 0 AS slots, 0 AS size, 0 AS now",
    "CREATE TEMP TRIGGER count_out INSTEAD OF INSERT ON counted_out BEGIN"
    " UPDATE extent SET refs = refs - new.uses WHERE id = new.extent;"
    " UPDATE pack SET live = live - new.size, slots = slots - new.slots, dead_since = coalesce(dead_since, new.now)"
    " WHERE extent = new.extent AND new.slots;"
    " END",
    # An extent that goes, with all that is known of it.
    "CREATE TEMP VIEW buried AS SELECT 0 AS extent",
    "CREATE TEMP TRIGGER bury INSTEAD OF INSERT ON buried BEGIN"
    " DELETE FROM extent WHERE id = new.extent;"
    " DELETE FROM pack WHERE extent = new.extent;"
    " DELETE FROM damage WHERE extent = new.extent;"
    " DELETE FROM repair WHERE extent = new.extent;"
    " END",
)


def prepare(connection: Connection) -> None:
    """Make the views, once for each connection that writes."""
    for statement in _VIEWS:
        connection.execute(statement)


def put_in(connection: Connection, into: str, rows: Sequence[Sequence[object]]) -> int:
    """Insert rows of one width into a table or a view, and return how many were. `into`: its name, behind INSERT and what that says."""
    count = 0
    for some in _slices(rows):
        count += connection.execute(_insertion(into, len(some), len(some[0])), tuple(chain.from_iterable(some))).rowcount
    return count


def look_up(connection: Connection, question: str, keys: Sequence[Sequence[object]]) -> list[object]:
    """Return for each key what a question of one row and column finds, or None."""
    found: list[object] = []
    for some in _slices(keys):
        found += connection.execute(_lookup(question, len(some)), tuple(chain.from_iterable(some))).fetchone()
    return found


def _slices(rows: Sequence[Sequence[object]]) -> Sequence[Sequence[Sequence[object]]]:
    return [rows[start : start + AT_ONCE] for start in range(0, len(rows), AT_ONCE)]


def distinct_runs(items: Iterable[Item], key: Callable[[Item], Hashable]) -> Iterator[list[Item]]:
    """Yield items in their order, as many at a time as have different keys: what is looked up for them does not change meanwhile."""
    run: list[Item] = []
    keys: set[Hashable] = set()
    for item in items:
        if key(item) in keys:
            yield run
            run, keys = [], set()
        run.append(item)
        keys.add(key(item))
    if run:
        yield run


@cache
def _insertion(into: str, count: int, width: int) -> str:
    row = f"({', '.join('?' * width)})"
    return f"INSERT {into} VALUES {', '.join([row] * count)}"  # noqa: S608 - of constants


@cache
def _lookup(question: str, count: int) -> str:
    return f"SELECT {', '.join([f'({question})'] * count)}"
