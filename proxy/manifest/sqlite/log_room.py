"""Room in the log, before it is needed.

A log that grows with a commit makes that dearer: the disk has to find blocks, and an fsync has to write the file's new length, too. On ext4
a commit takes half as long again, and 250 us of CPU instead of 180. Once the log is as long as it becomes it is written anew from its
beginning. So a writer that is busy lets it become so long soon: by half a mebibyte of zeros behind each commit. SQLite takes them for the
end of the log. All at once, in a transaction that was taken back, it kept everybody from writing for 60 to 300 ms.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from proxy.errors import NoRoom
from proxy.manifest.sqlite.database import LOG_PAGES
from proxy.manifest.sqlite.room import require_room

LOG_BYTES = LOG_PAGES * 4096
STEP = bytes(512 * 1024)  # written in 0.2 ms, and synced in some more


def make_room(connection: sqlite3.Connection, database: Path, *, check: Callable[[], None] = lambda: None) -> bool:
    """Let the log come a step nearer to how long it becomes. Return whether it is that long now, or its disk has not much room.

    `check` raises if another file has taken the database's place: the log beside it is then that one's, and others may write to it. Raises
    that, `sqlite3.Error` or `OSError`; no transaction is left behind.
    """
    database = database.resolve()  # the log lies beside the file itself, not beside a link to it
    try:
        require_room(database.parent)
    except NoRoom:
        return True
    connection.execute("BEGIN IMMEDIATE")  # nobody else writes to the log meanwhile
    try:
        check()  # now: the lock may have been waited for
        return _grow(Path(f"{database}-wal"))
    finally:
        connection.execute("ROLLBACK")


def _grow(log: Path) -> bool:
    with closing(log.open("r+b", buffering=0)) as file:
        end = file.seek(0, os.SEEK_END)
        if end < LOG_BYTES:
            file.write(STEP)
        return end + len(STEP) >= LOG_BYTES
