"""The files of one directory, written and read by the ring. Paths begin at a root that is held open; no symbolic link is followed.

Numbers: io_uring_enter(2), openat2(2).
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from collections.abc import Sequence

from proxy.stores.root import Directory
from proxy.stores.uring import FIXED_FILE, Entry, Ring, Share

WRITE_SIZE = 256 * 1024  # what is larger is copied by a thread, and goes past the page cache
READ_SIZE = 1024 * 1024 + 4096  # a store's part of a window of 4 MiB at 4+2, with the tags of its cells
_FSYNC, _CLOSE, _READ, _WRITE, _OPENAT2, _RENAMEAT = 3, 19, 22, 23, 28, 35
_RESOLVE_NO_SYMLINKS, _RESOLVE_BENEATH = 4, 8
_CLOSED: Entry = (_CLOSE, 0, 0, 0, 0, 0, 0, 1)
_SYNCED: Entry = (_FSYNC, FIXED_FILE, 0, 0, 0, 0, 0, 0)


def _address(data: bytes) -> int:
    """Return where the bytes lie; whoever uses it keeps them."""
    return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0


class _How:
    """How a file is opened: struct open_how, kept for good."""

    def __init__(self, flags: int, mode: int = 0) -> None:
        self._data = struct.pack("<QQQ", flags, mode, _RESOLVE_NO_SYMLINKS | _RESOLVE_BENEATH)
        self._address = _address(self._data)

    def opened(self, root: Directory, path_at: int) -> Entry:
        return (_OPENAT2, 0, root.descriptor, self._address, path_at, len(self._data), 0, 1)


_NEW = _How(os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
_OLD = _How(os.O_RDONLY)
_FOLDER = _How(os.O_RDONLY | os.O_DIRECTORY)


class RingFiles:
    """One directory's way to the ring. Both verbs do nothing at all where its share is used up."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self.share = Share()

    def write(
        self, root: Directory, folder: str, temporary: str, file: str, body: Sequence[bytes | bytearray | memoryview], *, fsync: bool
    ) -> asyncio.Future[bool]:
        """Write a new file in a folder and rename it into place, durably with `fsync`; return whether all of that was done.

        If it was not, `temporary` may be left, or the file be there all the same. Cancelled, it goes on to its end, and nobody hears how it
        ended.
        """
        names = [os.fsencode(f"{folder or '.'}/{name}") for name in (temporary, file, "")]
        buffer = b"\0".join((*names, b"".join(body)))  # one address to be found instead of four
        new_at = _address(buffer)
        final_at = new_at + len(names[0]) + 1
        folder_at = final_at + len(names[1]) + 1
        data_at = folder_at + len(names[2]) + 1
        at = root.descriptor
        opened = _NEW.opened(root, new_at)
        written = (_WRITE, FIXED_FILE, 0, 0, data_at, len(buffer) - (data_at - new_at), 0, 0)
        renamed = (_RENAMEAT, 0, at, final_at, new_at, at, 0, 0)
        entries: tuple[Entry, ...] = (opened, written, _CLOSED, renamed)
        if fsync:
            entries = (opened, written, _SYNCED, _CLOSED, renamed, _FOLDER.opened(root, folder_at), _SYNCED, _CLOSED)
        return self._ring.run(self.share, entries, keep=(buffer, root))

    async def read(self, root: Directory, path: str, start: int, length: int) -> bytearray | None:
        """Return exactly `length` bytes from `start`, or None if that could not be done."""
        name, data = os.fsencode(path), bytearray(length)
        buffer = (ctypes.c_char * length).from_buffer(data)
        filled = (_READ, FIXED_FILE, 0, start, ctypes.addressof(buffer), length, 0, 0)
        entries = (_OLD.opened(root, _address(name)), filled, _CLOSED)
        return data if await self._ring.run(self.share, entries, keep=(name, buffer, root)) else None
