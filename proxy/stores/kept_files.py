"""Files that a directory store keeps open, so that what lies in memory is read at once, without a thread.

The problem. To read a few KiB from the page cache takes two microseconds, and to ask a thread for them thirty. But on the event loop a disk
that hangs would hold up everybody.

The idea. Linux reads from an open file without ever waiting, if asked so (RWF_NOWAIT), or says that it would have to wait. It opens a file
without waiting, too, if its name was used lately (`cached_names`): that of a small object that was put a moment ago, by whatever process.
Else a thread opens it the first time. It stays open for the next reads. They rely on it for a few seconds: shards are never changed, but
one that was deleted takes its room until it is closed, and should be missed soon.

Only a file system that has read without waiting is asked to open so. One whose files lie on another machine can do neither, and says so
when it is to read. To close a file may wait as well: threads do that. While they have many to close, they also open.

https://man7.org/linux/man-pages/man2/preadv2.2.html
"""

from __future__ import annotations

import errno
import os
import resource
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from proxy.memory import unset
from proxy.stores.cached_names import OpenCached
from proxy.stores.root import HeldRoot

AT_ONCE_SIZE = 272 * 1024  # a column of 1 MiB at 4+2, sealed; to copy more keeps the event loop for longer than to ask a thread
KEPT_SECONDS = 10.0
MAX_DROPPED = 32  # files still to be closed, in the next call of a thread; without a bound they would be as many as a process may open
MAX_KEPT = 1024  # of one store. Whoever reads more files than that by turns finds none of them open
MAX_FOLDERS = 256  # as many as shards lie in
SHARE = 32  # of the files that this process may open, one in so many may be kept by a store
_ENDLESS = 65_536  # files; what stands for no limit
_NOWAIT: int = getattr(os, "RWF_NOWAIT", 0)  # Linux


class OpenFile:
    """An open shard. The last who holds it closes it."""

    __slots__ = ("descriptor", "opened_at", "root")

    def __init__(self, root: HeldRoot, descriptor: int, opened_at: float) -> None:
        self.root = root
        self.descriptor = descriptor
        self.opened_at = opened_at

    def __del__(self) -> None:
        os.close(self.descriptor)


class KeptFiles:
    """The files of one store that were opened last. All of it is for the event loop, but for `close_dropped`."""

    def __init__(self, limit: int, *, open_cached: OpenCached | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit if _NOWAIT else 0
        self._open_cached = open_cached
        self._now = now
        self._files: dict[str, OpenFile] = {}  # the oldest first
        self._dropped: deque[OpenFile] = deque()

    def read(self, root: HeldRoot, name: str, start: int, length: int) -> memoryview | None:
        """Return the range if it is in memory, and the file is open below this root, or can be opened. This does not wait.

        `name` is that of a shard, and leads nowhere else.
        """
        file = self._files.get(name)
        if file is not None and (file.root is not root or self._now() - file.opened_at >= KEPT_SECONDS):
            self.drop(name)
            file = None
        if file is None and (file := self._opened_at_once(root, name)) is None:
            return None
        data = unset(length)
        try:
            count = os.preadv(file.descriptor, [data], start, _NOWAIT)
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:  # this file system cannot tell
                self._limit = 0
                self.drop(name)
            return None
        root.reads_at_once = True
        return data if count == length else None

    def _opened_at_once(self, root: HeldRoot, name: str) -> OpenFile | None:
        if self._open_cached is None or not self._limit or not root.reads_at_once or len(self._dropped) >= MAX_DROPPED:
            return None
        descriptor = self._open_cached(root.descriptor, name)
        if descriptor is None:
            return None
        file = OpenFile(root, descriptor, self._now())
        self.keep(name, file)
        return file

    def keep(self, name: str, file: OpenFile) -> None:
        if self._limit:
            self.drop(name)
            if len(self._files) >= self._limit:
                self.drop(next(iter(self._files)))
            self._files[name] = file

    def drop_old(self) -> None:
        """Rely no longer on files that were opened long ago: they may be deleted, or of a disk that is gone, and nobody asks for them."""
        while self._files:
            name, file = next(iter(self._files.items()))
            if self._now() - file.opened_at < KEPT_SECONDS:
                return
            self.drop(name)

    def drop(self, name: str) -> None:
        """Rely no longer on a file. A thread closes it: that may be what frees the blocks of a shard that was deleted."""
        if (file := self._files.pop(name, None)) is not None:
            self._dropped.append(file)

    def drop_all(self) -> None:
        for name in tuple(self._files):
            self.drop(name)

    def close_dropped(self) -> None:
        """Close what is relied on no longer. This may wait for the disk."""
        self._dropped.clear()


def files_to_keep() -> int:
    """Return how many files one store may keep open in this process."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_KEPT if soft == resource.RLIM_INFINITY else min(MAX_KEPT, soft // SHARE)


def folders_to_keep() -> int:
    """Return how many of its folders one store may keep open besides: all that shards lie in, where the process may open as many."""
    return min(MAX_FOLDERS, files_to_keep())


def raise_file_limit() -> int:
    """Raise the number of files that this process may open as far as it goes, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENDLESS if hard == resource.RLIM_INFINITY else hard
    with suppress(OSError, ValueError):  # the kernel may have a limit below an infinite one
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return soft
