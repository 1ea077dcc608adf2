"""The database file: how it is connected to.

While this process is connected, it must not open the file in any other way, not even to read it. To close it again would drop the locks of
all connections, and the next process that ends would take itself for the last, and remove the log with commits that are nowhere else:
https://www.sqlite.org/howtocorrupt.html, "POSIX advisory locks canceled by a separate thread doing close()".
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path

# Of the log, before they are copied into the database: 32 MiB. Commits wait for it, and it takes 5 to 20 ms however many they are. Seven
# thousand deletions a second write twice as many pages in a second: at half of these, every hundredth request met it.
LOG_PAGES = 8000
BUSY_SHARE = 0.8  # of the deadline: SQLite gives up before it, and says that the database is locked


def connect(path: Path, *, busy_seconds: float) -> sqlite3.Connection:
    """Open the file, which must be there: one that is gone must not come back empty."""
    name = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(name, uri=True, timeout=busy_seconds, isolation_level=None, check_same_thread=False, cached_statements=256)
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        f"wal_autocheckpoint = {LOG_PAGES}",
        "cache_size = -16384",
        "mmap_size = 268435456",
        "temp_store = MEMORY",
        "secure_delete = FAST",  # Debian's SQLite also writes zeros over pages that are free: a tenth of what a deletion writes
    ):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def find_descriptor(path: str | Path) -> int | None:
    """Return the descriptor by which SQLite has a file open in this process. It may be read from, as long as a connection is open.

    None where it is not open, or the system does not say (Linux does).
    """
    with suppress(OSError):
        wanted = os.stat(path)
        for name in os.listdir("/proc/self/fd"):
            with suppress(OSError):  # closed meanwhile
                if os.path.samestat(os.fstat(int(name)), wanted):
                    return int(name)
    return None


def identity(path: str | Path | int) -> tuple[int, int]:
    """Return what tells a file, by its path or a descriptor, from another of its name."""
    found = os.stat(path)
    return found.st_dev, found.st_ino
