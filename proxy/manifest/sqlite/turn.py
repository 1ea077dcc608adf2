"""Whose turn it is to write, among the processes on one database: a lock on a file beside it.

SQLite lets one process write at a time, and whoever waits for it sleeps and looks again: for up to 100 ms, though the other was done after
two. Processes that queue for this lock instead are woken when it is their turn. It keeps no data whole, which SQLite's own lock does: where
the file cannot be locked, that one is waited for as before. The kernel frees the lock of a process that dies.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class Turn:
    """A place in the queue of writers, for one thread."""

    def __init__(self, database: Path, what: str = "writer") -> None:
        self._path = database.with_name(f"{database.name}-{what}")
        self._file: int | None = None

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Wait for the turn, without a deadline of its own: whoever waits for the writer has one."""
        with suppress(OSError):
            if self._file is None:
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            if self._file is not None:
                with suppress(OSError):
                    fcntl.flock(self._file, fcntl.LOCK_UN)

    def taken_at_once(self) -> bool:
        """Take the turn until `close` if nobody else has it, and return whether that is so."""
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # the file cannot be locked: as above
            return True
        return True

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)
