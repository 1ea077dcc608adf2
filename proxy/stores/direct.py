"""Direct writes: a large shard goes to its disk from an aligned buffer, past the page cache.

The problem. Through the page cache a write is copied into fresh pages, which are found, filled, tagged and written back one by one: 2.5 s
of CPU for each GiB, and more when the cache is full. Nobody reads a shard right after it was written, so the cache gains nothing.

The idea. With O_DIRECT the disk takes the bytes from our own memory, 0.06 s a GiB. It wants addresses, lengths and offsets that are whole
blocks. So a shard is copied, a piece at a time, into a buffer of whole pages; its end, less than a block, is written as usual. The buffers
are few, are kept, and belong to the memory budget. If all are in use, or the file system refuses, a shard goes through the page cache.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock

DIRECT_SIZE = 256 * 1024  # from here on it pays: below, the round trip to the disk takes longer than the copy
BUFFER_SIZE = 512 * 1024  # 256 KiB take a third more CPU, 1 MiB no less
MAX_BUFFERS = 16  # more writes at once make no disk faster
O_DIRECT: int = getattr(os, "O_DIRECT", 0)  # Linux
_BLOCK = 4096  # no disk asks for more
_IOV_MAX = 1024  # Linux's limit of buffers in one writev

Body = Sequence[bytes | bytearray | memoryview]


class AlignedBuffers:
    """Buffers of whole pages that all directory stores of a process share. They are made when they are first needed, and kept."""

    def __init__(self, at_most_bytes: int) -> None:
        count = min(at_most_bytes // BUFFER_SIZE, MAX_BUFFERS) if O_DIRECT else 0
        self.capacity_bytes = count * BUFFER_SIZE
        self._lock = Lock()
        self._unmade = count
        self._free: list[memoryview] = []

    @contextmanager
    def lent(self) -> Iterator[memoryview | None]:
        """Lend a buffer, or None where all are lent: those of a disk that hangs must not be waited for."""
        buffer = self._take()
        try:
            yield buffer
        finally:
            if buffer is not None:
                self._free.append(buffer)

    def _take(self) -> memoryview | None:
        with self._lock:
            if self._free:
                return self._free.pop()
            if not self._unmade:
                return None
            self._unmade -= 1
        return memoryview(mmap.mmap(-1, BUFFER_SIZE))


def write_direct(descriptor: int, body: Body, buffer: memoryview) -> None:
    """Write a body to a new file that was opened with O_DIRECT."""
    filled = 0
    for given in body:
        piece = memoryview(given)
        taken = 0
        while taken < len(piece):
            count = min(len(piece) - taken, len(buffer) - filled)
            buffer[filled : filled + count] = piece[taken : taken + count]
            taken, filled = taken + count, filled + count
            if filled == len(buffer):
                _write_blocks(descriptor, buffer)
                filled = 0
    whole = filled - filled % _BLOCK
    _write_blocks(descriptor, buffer[:whole])
    _through_the_cache(descriptor)
    write_all(descriptor, [buffer[whole:filled]])


def _write_blocks(descriptor: int, blocks: memoryview) -> None:
    try:
        while blocks:
            blocks = blocks[os.write(descriptor, blocks) :]
    except OSError as error:
        # The blocks of this disk are larger, or it wrote a part of one: the rest goes the usual way.
        if error.errno != errno.EINVAL:
            raise
        _through_the_cache(descriptor)
        write_all(descriptor, [blocks])


def _through_the_cache(descriptor: int) -> None:
    fcntl.fcntl(descriptor, fcntl.F_SETFL, 0)  # of the flags that can be set, it was opened with no other


def write_all(descriptor: int, body: Body) -> None:
    """Write all buffers, however many system calls that takes."""
    pending = list(body)
    first = 0
    while first < len(pending):
        written = os.writev(descriptor, pending[first : first + _IOV_MAX])
        while first < len(pending) and written >= len(pending[first]):
            written -= len(pending[first])
            first += 1
        if written:
            pending[first] = memoryview(pending[first])[written:]
