"""A backup of the manifest: a copy of one instant, made beside a running server, verified before it bears its name.

SQLite's own backup reads through a connection, so what is still in the write-ahead log is in it, too. It takes all pages in one step, in
one read transaction: taken page by page, it would begin anew whenever somebody writes.

A backup that is killed leaves its unfinished copy. The next one to the same name removes it once it is a day old: nobody works on it then.
"""

from __future__ import annotations

import os
import re
import secrets
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path

from proxy.errors import ConfigError, ManifestUnavailable
from proxy.manifest.sqlite.database import connect
from proxy.manifest.sqlite.log_sync import LogSync, refuse_spoiled
from proxy.manifest.sqlite.schema import check_schema
from proxy.paths import is_there

BUSY_SECONDS = 10.0
UNFINISHED_SECONDS = 24 * 3600.0


def back_up(manifest: Path, target: Path, *, replace: bool = False) -> int:
    """Copy the manifest to `target`, and return its size in bytes. What is there is kept unless it is to be replaced.

    The copy is one file, with mode 600, on disk when this returns. `ConfigError` if it cannot be there; `ManifestUnavailable` if the
    manifest cannot be read, or what was read is damaged: then no copy is left.
    """
    _check_target(manifest, target, replace=replace)
    _remove_unfinished(target)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        _copy(manifest, temporary)
        _sync(temporary)
        size = temporary.stat().st_size
        _give_name(temporary, target, replace=replace)
    except sqlite3.Error as error:
        raise ManifestUnavailable(f"no backup was made of {manifest}: {error}") from error
    finally:
        for suffix in ("", "-wal", "-shm", "-journal"):
            with suppress(FileNotFoundError):
                temporary.with_name(temporary.name + suffix).unlink()
    _sync(target.parent)
    return size


def _check_target(manifest: Path, target: Path, *, replace: bool) -> None:
    if not is_there(manifest):
        raise ConfigError(f"manifest.path: {manifest.absolute()} is not there; correct the path or the folder")
    if not target.parent.is_dir():
        raise ConfigError(f"{target.parent.absolute()} is no folder: make it first, or name another file")
    if target.is_dir():
        raise ConfigError(f"{target} is a folder: name a file in it, such as {target / 'manifest.sqlite'}")
    if not is_there(target):
        return
    if target.samefile(manifest):
        raise ConfigError(f"{target} is the manifest itself: name another file")
    if not replace:
        raise ConfigError(f"{target} is there already: name another file, or replace it with --force")
    for suffix in ("-wal", "-journal"):  # SQLite would take what is in it for changes to the new file
        if is_there(beside := target.with_name(target.name + suffix)):
            raise ConfigError(f"{beside} is there: {target} is a database in use; name another file")


def _remove_unfinished(target: Path) -> None:
    name = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{16}}(-wal|-shm|-journal)?")
    for path in target.parent.iterdir():
        with suppress(FileNotFoundError):
            if name.fullmatch(path.name) and time.time() - path.stat().st_mtime > UNFINISHED_SECONDS:
                path.unlink()


def _copy(manifest: Path, temporary: Path) -> None:
    refuse_spoiled(manifest)
    log = LogSync(manifest)
    with closing(connect(manifest, busy_seconds=BUSY_SECONDS)) as source, closing(sqlite3.connect(temporary)) as copy, closing(log):
        log.open(source)
        source.backup(copy)
        log.settle()  # what the manifest might still lose is not restored one day
        copy.execute("PRAGMA journal_mode = DELETE")  # of a database in WAL mode, files beside it are a part
        (found,) = copy.execute("PRAGMA integrity_check(1)").fetchone()
        if found != "ok":
            raise ManifestUnavailable(f"no backup was made: {manifest} is damaged: {found}")
        check_schema(copy)


def _give_name(temporary: Path, target: Path, *, replace: bool) -> None:
    if replace:
        temporary.replace(target)
        return
    try:
        os.link(temporary, target)  # unlike a rename, it never replaces what somebody has put there meanwhile
    except FileExistsError:
        raise ConfigError(f"{target} is there already: name another file, or replace it with --force") from None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
