"""Room in the log, before it is needed.

A log that grows with a commit makes that dearer: the disk has to find blocks, and an fsync has to write the file's new length, too. On ext4
a commit takes half as long again, and 250 us of CPU instead of 180. Once the log is as long as it becomes it is written anew from its
beginning. So a writer that is busy lets it become so long at once: by a transaction of that size, which is taken back.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path

from proxy.errors import NoRoom
from proxy.manifest.sqlite.database import LOG_PAGES
from proxy.manifest.sqlite.room import require_room

LOG_BYTES = LOG_PAGES * 4096
FEW_PAGES = 16  # in memory, so that what is written goes to the log at once


def make_room(connection: sqlite3.Connection, database: Path) -> None:
    """Let the log be as long as it becomes; nothing, if it is that already, or if its disk has not much room. It takes some 60 ms.

    Raises `sqlite3.Error`; then the transaction has been taken back, too.
    """
    database = database.resolve()  # the log lies beside the file itself, not beside a link to it
    with suppress(NoRoom):
        require_room(database.parent)
        if os.path.getsize(f"{database}-wal") < LOG_BYTES:
            _write_and_take_back(connection)


def _write_and_take_back(connection: sqlite3.Connection) -> None:
    (cache_size,) = connection.execute("PRAGMA cache_size").fetchone()
    connection.execute(f"PRAGMA cache_size = {FEW_PAGES}")
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("CREATE TABLE room (filler BLOB)")
        connection.execute("INSERT INTO room VALUES (zeroblob(?))", (LOG_BYTES,))
    finally:
        if connection.in_transaction:  # on a full disk SQLite ends it by itself
            connection.execute("ROLLBACK")
        connection.execute(f"PRAGMA cache_size = {cache_size}")
