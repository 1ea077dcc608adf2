"""The log's head: 48 bytes that say what has been committed so far.

The problem. A question to the database takes 5 us by itself, and 20 in a server whose caches have seen other things since. Most are asked
again before anything has changed.

The idea. Each commit, by whatever process, ends with writing the head of the log's index, which lies in memory that all processes share:
from then on readers see it (https://www.sqlite.org/walformat.html, "The WAL-Index File Format"). It has a number that every commit raises,
and the log's length, salt and checksum. So an answer is as good as new while the head is what it was before the question was asked. To
read it takes half a microsecond, and never waits for a disk or a lock.

Behind the head the index says of each frame of the log which page of the database it holds. So where one page has all that something was
made of, whoever kept it can tell that it is good still though something has been committed: none of the frames since holds that page. To
look takes 3 us, where a question behind a commit takes 40 to 100: SQLite drops what it had read, and begins anew.

The head is there twice, and a writer writes one copy after the other: if they differ, that is happening right now. The index has a
version of its own: of another one nothing is read, and everybody asks the database.

It is read by SQLite's own descriptor. To open the file, and to close it again, would drop the locks of all connections: see `database`.

SQLite writes it by memory that is mapped, and it is read as a file here. Linux has one page for both, but a file system may have its own
way: with 9p, as virtual machines have it, a read may see what the memory held half a minute ago
(https://docs.kernel.org/filesystems/9p.html, "cache=mmap"). There, a key that was disabled would be let in. So it is tried with a file
beside the database first. Where that fails, there is no head, and everybody asks.
"""

from __future__ import annotations

import os
import struct
import sys
from contextlib import suppress
from mmap import PAGESIZE, mmap
from pathlib import Path
from tempfile import TemporaryFile

from proxy.errors import NoRoom
from proxy.manifest.sqlite.database import find_descriptor
from proxy.manifest.sqlite.room import require_room

HEAD_SIZE = 48
# In the byte order of the machine: how many frames of the log are committed, the pages of the database, and the salt, which is another one
# when the log begins anew.
_FIELDS = struct.Struct("=16xII8x8s8x")
_BLOCK_BYTES = 32 * 1024  # of the index: the numbers of up to 4,096 frames' pages, and as much again to find them by
_FRAMES_A_BLOCK = 4096
_BEFORE_FIRST = 34  # the head, and what checkpoints note, take the place of as many numbers in the first block
_VERSION = (3_007_000).to_bytes(4, "little"), (3_007_000).to_bytes(4, "big")  # in the byte order of the machine


class LogHead:
    """The head of one database's log, for as long as a connection of this process to it is open."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def find(cls, database: Path) -> LogHead | None:
        """Find it among what SQLite has open, once a connection has read something. This reads the disk, and writes to it."""
        descriptor = find_descriptor(f"{os.path.realpath(database)}-shm")
        return None if descriptor is None or not _shows_memory_at_once(Path(os.path.realpath(database)).parent) else cls(descriptor)

    def read(self) -> bytes | None:
        """Return the head, or None if there is none that could be relied on."""
        try:
            twice = os.pread(self._descriptor, 2 * HEAD_SIZE, 0)
        except OSError:
            return None
        head = twice[:HEAD_SIZE]
        return head if twice[HEAD_SIZE:] == head and head.startswith(_VERSION) else None

    def may_have_written(self, page: int, since: bytes, head: bytes) -> bool:
        """Tell whether a page of the database may have been written between two heads, of which the later was just read.

        Where nobody can tell, it may: the log has begun anew, or so much was written that it may have been all of the database. VACUUM does
        that, and puts what was on a page on another one.
        """
        (first, _, old_salt), (last, pages, salt) = _FIELDS.unpack(since), _FIELDS.unpack(head)
        count, start = last - first, _place(first + 1)
        if salt != old_salt or not 0 < count <= pages // 2 or _place(last) != start + 4 * (count - 1):
            return True
        try:
            numbers = os.pread(self._descriptor, 4 * count, start)
        except OSError:
            return True
        # The head last, and all of it: while the numbers were read, the log has not begun anew, nor was the index made anew.
        return len(numbers) != 4 * count or page.to_bytes(4, sys.byteorder) in numbers or self.read() != head


def _place(frame: int) -> int:
    """Return where in the index the number of a frame's page is. Frames are counted from 1."""
    block, number = divmod(frame - 1 + _BEFORE_FIRST, _FRAMES_A_BLOCK)
    return block * _BLOCK_BYTES + 4 * number


def _shows_memory_at_once(folder: Path) -> bool:
    """Tell whether whoever reads a file of this folder sees at once what was written to memory that it is mapped to."""
    with suppress(OSError, NoRoom):
        require_room(folder)  # on a full disk, to write to that memory may end the process
        with TemporaryFile(dir=folder, buffering=0) as file:
            file.write(bytes(PAGESIZE))
            with mmap(file.fileno(), PAGESIZE) as memory:
                return all(_is_seen(file.fileno(), memory, number) for number in (1, 2))
    return False


def _is_seen(descriptor: int, memory: mmap, number: int) -> bool:
    memory[0] = number
    return os.pread(descriptor, 1, 0)[0] == number
