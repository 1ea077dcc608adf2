"""Tables of the journal, and the triggers that note every change of a journaled row.

Triggers, and not the code of each step: what changes a row notes it in the same transaction, whatever it is. `INSERT OR REPLACE` that takes
the place of a row of the same key notes the key by its insertion alone.
"""

from collections.abc import Iterable

from proxy.manifest.journal import TABLES as JOURNALED
from proxy.manifest.journal import Table

KEY_COLUMNS = ("a", "b", "c")  # of a note; those that a table's key does not need are 0


def _triggers(number: int, table: Table) -> Iterable[str]:
    changing = ", ".join(column for column in (*table.key, *table.columns) if column not in table.quiet)
    yield f"CREATE TRIGGER {table.name}_added AFTER INSERT ON {table.name} BEGIN {_note(number, table, 'new')} END"
    yield f"CREATE TRIGGER {table.name}_gone AFTER DELETE ON {table.name} BEGIN {_note(number, table, 'old')} END"
    yield f"CREATE TRIGGER {table.name}_changed AFTER UPDATE OF {changing} ON {table.name} BEGIN {_note(number, table, 'new')} END"
    # A row that gets another key is gone under its old one.
    keys = ", ".join(table.key)
    yield f"CREATE TRIGGER {table.name}_moved AFTER UPDATE OF {keys} ON {table.name} BEGIN {_note(number, table, 'old')} END"


def _note(number: int, table: Table, row: str) -> str:
    values = [*(f"{row}.{column}" for column in table.key), "0", "0"][: len(KEY_COLUMNS)]
    return f"INSERT INTO outbox (tab, a, b, c) VALUES ({number}, {', '.join(values)});"  # noqa: S608 - names of ours


TABLES: tuple[str, ...] = (
    # The last note always stays, and with it the highest number: it never comes again, without the cost of AUTOINCREMENT at each note.
    "CREATE TABLE outbox (sequence INTEGER PRIMARY KEY, tab INTEGER NOT NULL, a NOT NULL, b NOT NULL, c NOT NULL)",
    "INSERT INTO outbox VALUES (0, -1, 0, 0, 0)",
    # The journal segments that the stores keep, and the first of all, which none was stored for.
    "CREATE TABLE journal (number INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, digest BLOB NOT NULL, sequence INTEGER NOT NULL,"
    " whole INTEGER NOT NULL, size INTEGER NOT NULL, stored INTEGER NOT NULL, layout BLOB NOT NULL)",
    "INSERT INTO journal VALUES (0, 0, zeroblob(32), 0, 1, 0, 0, x'')",
    # Which rows the journal has had since the last checkpoint: a run without any is referred to, not written again.
    "CREATE TABLE noted (tab INTEGER NOT NULL, a NOT NULL, b NOT NULL, c NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (tab, a, b, c))"
    " WITHOUT ROWID",
    "CREATE INDEX noted_number ON noted (number)",
    "CREATE TABLE checkpoint (number INTEGER PRIMARY KEY, record BLOB NOT NULL)",
    # Of the checkpoints from `born` to `last`. The first key of a table's first run is NULL.
    "CREATE TABLE run (id INTEGER PRIMARY KEY, tab TEXT NOT NULL, a, b, c, born INTEGER NOT NULL, last INTEGER NOT NULL,"
    " record BLOB NOT NULL)",
    "CREATE INDEX run_order ON run (tab, a, b, c)",
    *(trigger for number, table in enumerate(JOURNALED) for trigger in _triggers(number, table)),
)
