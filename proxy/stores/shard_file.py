"""One shard as a file: written beside its place and renamed into it, so that no reader ever sees a part.

What a crash leaves: before the rename a temporary; after it, a whole shard.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import suppress

from proxy.lanes import Cancelled
from proxy.stores.direct import DIRECT_SIZE, O_DIRECT, UNSYNCED_DIRECT_SIZE, Body, split_pages, write_all, write_direct
from proxy.stores.root import Directory, HeldRoot

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class ShardFiles:
    """Writes shards into the folders of a root."""

    def __init__(self, *, fsync: bool) -> None:
        """With `fsync` a shard is durable once it is written."""
        self._fsync = fsync
        self._direct_size = DIRECT_SIZE if fsync else UNSYNCED_DIRECT_SIZE

    def write(self, root: HeldRoot, folder: Directory, temporary: str, name: str, body: Body, cancelled: Cancelled) -> None:
        """Write a shard; nothing, if its caller has been cancelled meanwhile: it may have changed its buffers since.

        After the rename no descriptor is opened any more, so want of one always means that nothing was stored.
        """
        at = folder.descriptor
        pages, rest = self._split(root, body)
        descriptor = self._create(root, at, temporary, direct=bool(pages))
        try:
            try:
                self._fill(descriptor, pages, rest)
            finally:
                os.close(descriptor)
            if cancelled():
                os.unlink(temporary, dir_fd=at)
                return
            os.rename(temporary, name, src_dir_fd=at, dst_dir_fd=at)
        except BaseException:
            remove(folder, temporary)
            raise
        if self._fsync:
            os.fsync(at)

    def _split(self, root: HeldRoot, body: Body) -> tuple[list[memoryview], Body]:
        """Return the pages of a body that are to be written directly, where that is worth it and possible, and the rest."""
        if O_DIRECT and root.takes_direct_writes and sum(map(len, body)) >= self._direct_size:
            pages, rest = split_pages(body)
            if sum(map(len, pages)) >= self._direct_size:
                return pages, rest
        return [], body

    def _create(self, root: HeldRoot, at: int, temporary: str, *, direct: bool) -> int:
        if direct:
            try:
                return os.open(temporary, _NEW | O_DIRECT, 0o600, dir_fd=at)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                root.takes_direct_writes = False
                with suppress(FileNotFoundError):  # some file systems refuse when the file is made already
                    os.unlink(temporary, dir_fd=at)
        return os.open(temporary, _NEW, 0o600, dir_fd=at)

    def _fill(self, descriptor: int, pages: Sequence[memoryview], rest: Body) -> None:
        if pages:
            write_direct(descriptor, pages, rest)
        else:
            write_all(descriptor, rest)
        if self._fsync:
            os.fsync(descriptor)


def open_shard(folder: Directory, name: str) -> int:
    """Open a shard to be read. A pipe in its place is not waited for: each would keep a thread for ever."""
    return os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder.descriptor)


def read_range(descriptor: int, start: int, length: int) -> bytes | None:
    """Return exactly `length` bytes from `start`; None if the file ends earlier."""
    data = os.pread(descriptor, length, start)
    while len(data) < length:
        more = os.pread(descriptor, length - len(data), start + len(data))
        if not more:
            return None
        data += more
    return data


def remove(folder: Directory, name: str) -> None:
    """Remove a file if it is there and can be removed."""
    with suppress(OSError):
        os.unlink(name, dir_fd=folder.descriptor)
