"""Syncing the log behind the commits, and not within them.

The problem. With `synchronous=FULL` SQLite syncs the log in each commit, and keeps everybody else from writing meanwhile. The disk
takes 1 to 3 ms for it, and the commit itself 0.2. So processes that share a manifest mostly wait for one another's disk.

The idea. The writer commits with `synchronous=NORMAL`, lets the next one write, syncs the log itself, and only then tells its callers. The
log is a sequence: a sync covers whatever was committed before it began, by any process, and several may sync at once. The rest SQLite does
as before (https://www.sqlite.org/pragma.html#pragma_synchronous): it syncs the log before it copies it into the database, the database
before the log begins anew, and the new log's header before anything follows that. So after a power cut there is always what was committed
up to some moment, and that is no earlier than the last sync.

What follows. Others see a commit a few milliseconds before it is on the disk. If the power fails just then, it has never been. So:

- A client may see a write that is not acknowledged yet, and that is gone after a power cut. Nothing that was acknowledged ever is.
- A change is answered after a sync that began after it. This holds also where there was nothing to change: what it found may be as new.
- What is committed because of what was read comes after that in the log. It is not there without it.
- Whoever acts outside the manifest because of what he read must know that it is on the disk: he deletes shards, seals the journal, tells
  others. So each question waits for a sync, if anything was committed since the last one. Only glances and listings do not wait. They
  serve clients, and whoever asks that way acts by a commit, if at all. A test keeps the list of these.

A sync that fails. The kernel tells each descriptor that was open, once, and then takes what it could not write for written
(https://lwn.net/Articles/752063/). From there on the log may have a hole. What follows a hole is lost with the power, however often it
is synced. So no process acknowledges anything more until the machine has been started again, and the log is read from the disk, up to the
hole. Each process keeps a descriptor of the log open, so that it is told of what failed for others, too. Those that are started later find
a mark beside the database, with the id of the machine's start that it is about.

SQLite holds no lock by the log's file. It may be opened and closed, unlike the two others: see `database`.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
from contextlib import suppress
from pathlib import Path

from proxy.errors import ManifestUnavailable
from proxy.manifest.sqlite.database import identity
from proxy.manifest.sqlite.log_head import LogHead

IS_TOLD = sys.platform == "linux"  # of failures, by the kernel. Elsewhere SQLite syncs within the commits
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_REMEDY = (
    "its last changes may not be on the disk, and nothing more is acknowledged. End all servers and commands that use it with kill -9,"
    " check the disk, and start the machine again; see docs/OPERATIONS.md, At 3 a.m."
)


class LogSync:
    """Syncs the log of one database, for all threads of a process."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._mark = _mark_file(database)
        self._path = f"{os.path.realpath(database)}-wal"  # SQLite puts it beside the file itself, not beside a link to it
        self._lock = threading.Lock()  # the kernel tells a descriptor once: whoever syncs next must not miss it
        self._log: int | None = None
        self._identity = (0, 0)  # of the log that is open
        self._failure = ""
        self._reader: sqlite3.Connection | None = None
        self._head: LogHead | None = None
        self._synced: bytes | None = None  # the head that the log had before it was synced last

    def open(self, connection: sqlite3.Connection) -> None:
        """Have the log open that this connection uses. Whatever it commits from now on, `settle` can sync, while it is open."""
        connection.execute("PRAGMA user_version").fetchone()  # before the first question there may be no log
        with self._lock:
            self._open_log()

    def is_settled(self) -> bool:
        """Tell whether all that can be read now is on the disk, as far as is known without waiting for anything."""
        head, synced = self._head, self._synced
        return not IS_TOLD or (head is not None and synced is not None and head.read() == synced)

    def settle(self) -> None:
        """Return when all that was committed so far is on the disk. The caller has a connection open. `ManifestUnavailable` if it fails."""
        if not IS_TOLD:
            return
        with self._lock:
            self.refuse_spoiled()
            head = None if self._head is None else self._head.read()  # before the sync: what it stands for is written by now
            if head is None or head != self._synced:
                self._sync(self._open_log())
                self._synced = head

    def settle_for_readers(self, connection: sqlite3.Connection) -> None:
        """As `settle`. By this connection, which does nothing else and stays open, it is known from now on whether that is necessary."""
        if self._reader is not connection:
            self._reader = self._head = None
            self.open(connection)
            self._head = LogHead.find(self._database)
            self._reader = connection
        self.settle()

    def refuse_spoiled(self) -> None:
        """Raise `ManifestUnavailable` if a sync has failed, in any process, since the machine was started."""
        if self._failure:
            raise ManifestUnavailable(self._failure)
        refuse_marked(self._database, self._mark)

    def close(self) -> None:
        if self._lock.acquire(blocking=False):  # else somebody is at a sync, on a disk that hangs
            if self._log is not None:
                os.close(self._log)
            self._log = self._reader = self._head = None
            self._lock.release()

    def _open_log(self) -> int:
        """Return the descriptor of the log. A log that all have closed is removed, and the next one is another file."""
        try:
            if self._log is not None and self._identity != identity(self._path):
                os.close(self._log)
                self._log = None
            if self._log is None:
                self._log = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
                self._identity = identity(self._log)
        except OSError as error:
            raise ManifestUnavailable(f"{error.filename} cannot be opened: {error.strerror}") from error
        return self._log

    def _sync(self, log: int) -> None:
        try:
            os.fdatasync(log)
        except OSError as error:
            self._failure = f"the log of {self._database} could not be synced ({error.strerror}): {_REMEDY}"
            with suppress(OSError):  # on a disk that has become read-only nobody else can write, either
                self._mark.write_bytes(_BOOT_ID.read_bytes())
            raise ManifestUnavailable(self._failure) from error


def refuse_spoiled(database: Path) -> None:
    """Raise `ManifestUnavailable` if a process has marked that a sync of the log failed since the machine was started."""
    refuse_marked(database, _mark_file(database))


def refuse_marked(database: Path, mark: Path) -> None:
    """As `refuse_spoiled`. Each group asks this three times, and a mark is rarely there: to look takes 1 us, to open it in vain 5."""
    try:
        os.stat(mark)  # not `os.access`: to that, one that cannot be looked at is not there
        is_marked = mark.read_bytes() == _BOOT_ID.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:  # a mark of the administrator's, perhaps, that this server may not read
        raise ManifestUnavailable(f"{error.filename} cannot be read: {error.strerror}; it may tell that a sync failed") from error
    if is_marked:
        raise ManifestUnavailable(f"the log of {database} could not be synced: {_REMEDY}")


def _mark_file(database: Path) -> Path:
    return database.with_name(f"{database.name}-unsynced")
