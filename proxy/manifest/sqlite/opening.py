"""Opening the manifest, and what to say when that fails."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

from proxy.clock import Clock
from proxy.errors import ConfigError, ManifestUnavailable, ProxyError
from proxy.lanes import Lanes
from proxy.manifest.protocol import Manifest
from proxy.manifest.sqlite.adapter import SqliteManifest
from proxy.manifest.sqlite.database import BUSY_SHARE, connect
from proxy.manifest.sqlite.log_sync import refuse_spoiled
from proxy.manifest.sqlite.schema import migrate
from proxy.paths import is_there

HEADER_SIZE = 100  # of an SQLite file: https://www.sqlite.org/fileformat.html#the_database_header
VERSIONS = slice(18, 20)
WITHOUT_LOG = b"\x01\x01"  # 2 stands for a write-ahead log


@asynccontextmanager
async def open_sqlite(
    path: Path, clock: Clock, *, timeout_seconds: float = 10.0, before_making: Callable[[], Awaitable[None]] | None = None
) -> AsyncIterator[Manifest]:
    """Open the manifest at `path`. `ConfigError`, or `ManifestUnavailable` while another program locks it.

    It is made if it is not there, unless `before_making` raises.
    """
    lanes = Lanes(1, name="manifest-open")  # which nobody waits for at the end: its disk may hang
    try:
        if before_making is not None and not await lanes.run(lambda _: is_there(path)):
            await before_making()
        await lanes.run(lambda _: _make(path, timeout_seconds * BUSY_SHARE))
    except (OSError, sqlite3.Error) as error:
        raise _not_opened(path, error) from error
    finally:
        lanes.close()
    manifest = SqliteManifest(path, clock, timeout_seconds=timeout_seconds)
    try:
        yield manifest
    finally:
        await manifest.close()


def _make(path: Path, busy_seconds: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)  # it names every object: nobody else's business
    _refuse_foreign_log(path)
    refuse_spoiled(path)
    with closing(connect(path, busy_seconds=busy_seconds)) as connection:
        migrate(connection)


def _refuse_foreign_log(path: Path) -> None:
    """Refuse a backup that was put where a manifest was, whose log is still there: SQLite would write that into the backup.

    A backup says in its header that it has no log. As long as a manifest has one, its header says that. This opens the file, which only
    a process that is not connected yet may do: see `database`.
    """
    log = path.with_name(f"{path.name}-wal")
    if not is_there(log) or not log.stat().st_size:
        return
    with path.open("rb") as file:
        header = file.read(HEADER_SIZE)
    if header[VERSIONS] == WITHOUT_LOG:
        raise ConfigError(
            f"manifest.path: {path} is a backup, and {log} beside it belongs to the manifest that was there before; end all servers and "
            f"commands that use it, remove {log.name} and {path.name}-shm, and start again"
        )


def _not_opened(path: Path, error: OSError | sqlite3.Error) -> ProxyError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without what SQLite adds in its extended codes
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return ManifestUnavailable(f"the manifest {path} is locked: close whatever has it open, such as a backup or a shell, or try again")
    if code in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}:
        return ConfigError(f"manifest.path: {path} is no manifest, or is damaged ({error}): name another, or restore it from a backup")
    reason = getattr(error, "strerror", None) or error
    return ConfigError(f"manifest.path: cannot open {path}: {reason}; it must be a file that Shardgate may write, in a folder it may write")
