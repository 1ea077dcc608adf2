"""A small database, kept in memory as a whole.

The problem. What was not asked lately is asked in a thread, as it may have to be read from the disk. That takes ten times as long, and when
many objects are read for the first time it is a third of the work.

The idea. A database of some hundred thousand objects fits into memory, and the kernel keeps in memory what was read lately. So whoever asks
in a thread reads on through the file on the way: a few milliseconds at most, and after a few questions all of it has been read. For the
next half a minute no question has to be asked in a thread. The log need not be read: what is in there was written lately.

It is read by SQLite's own descriptor: see `database`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic

from proxy.manifest.sqlite.database import find_descriptor

WARM_SECONDS = 30.0  # in which pages that are in use are not dropped, unless memory runs out
SMALL_SIZE = 64 * 1024 * 1024  # 10 ms to read through, once it is in memory
READ_ON_SIZE = 4 * 1024 * 1024  # with each question: under a millisecond from memory, and some ten from a disk
_PIECE_SIZE = 512 * 1024


class SmallDatabase:
    """Whether all of a database is in memory. `read_on` is for one thread at a time."""

    def __init__(self, path: Path, *, now: Callable[[], float] = monotonic) -> None:
        self._path = path
        self._now = now
        self._position = 0
        self._began_at = 0.0
        self._warm_until = 0.0

    def is_in_memory(self, now: float) -> bool:
        return now < self._warm_until

    def read_on(self) -> None:
        """Read a piece of it, while this process is connected. This may wait for the disk."""
        if self.is_in_memory(self._now()):
            return
        with suppress(OSError):  # whoever asks will find out, and tell
            size = os.stat(self._path).st_size
            # Of a large one this is asked with each question. To look for its descriptor takes longer the more clients are connected.
            if size <= SMALL_SIZE and (descriptor := find_descriptor(self._path)) is not None:
                self._read_piece(descriptor, size)

    def _read_piece(self, descriptor: int, size: int) -> None:
        if self._position == 0:
            self._began_at = self._now()
        end = self._position + READ_ON_SIZE
        room = bytearray(_PIECE_SIZE)
        while self._position < min(end, size):
            count = os.preadv(descriptor, [room], self._position)
            self._position = self._position + count if count else size
        if self._position >= size:
            self._position, self._warm_until = 0, self._began_at + WARM_SECONDS
