"""The database file: how it is connected to."""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path

from proxy.errors import ConfigError

HEADER_SIZE = 100  # of an SQLite file: https://www.sqlite.org/fileformat.html#the_database_header
WITHOUT_LOG = b"\x01\x01"  # at offset 18: read and written without a write-ahead log
BUSY_SHARE = 0.8  # of the deadline: SQLite gives up before it, and says that the database is locked


def connect(path: Path, *, busy_seconds: float) -> sqlite3.Connection:
    """Open the file, which must be there: one that is gone must not come back empty. Raises `ConfigError` beside another file's log."""
    _refuse_foreign_log(path)
    name = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(name, uri=True, timeout=busy_seconds, isolation_level=None, check_same_thread=False, cached_statements=256)
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "cache_size = -16384", "mmap_size = 268435456", "temp_store = MEMORY"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def identity(path: Path) -> tuple[int, int]:
    """Return what tells a file from another of its name."""
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _refuse_foreign_log(path: Path) -> None:
    """Refuse a backup that was put where a manifest was, whose log is still there: SQLite would write that into the backup.

    A backup bears in its header that it has no log. As long as a manifest has one, its header says that.
    """
    log = path.with_name(f"{path.name}-wal")
    with suppress(FileNotFoundError):
        with path.open("rb") as file:
            header = file.read(HEADER_SIZE)
        if header[18:20] == WITHOUT_LOG and log.stat().st_size:
            raise ConfigError(
                f"manifest.path: {path} is a backup, and {log} beside it belongs to the manifest that was there before; end all servers "
                f"and commands that use it, remove {log.name} and {path.name}-shm, and start again"
            )
