"""The part of the cache that is in a directory: one file an entry. All of this blocks.

Several processes share the directory, and none keeps an account for all. So its room is divided among 256 shelves, by a hash of the key.
Each shelf is a folder of its own; whoever has written a little into one looks at all that is in it, and removes what
was not asked for longest. So the bound holds whoever writes, after a restart too, and no look is at more than a small part.

A crash leaves at most a temporary file, which counts and goes like any other. Nothing is synced: what a power cut spoils does not open.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from proxy.engine.cache.keys import CacheKey

SHELVES = 256
BLOCK_SIZE = 4096  # a file takes whole blocks
SHARERS = 4  # processes that may fill a shelf at once without a look
TOUCH_SECONDS = 60.0  # to write down every time an entry was asked for would be a write for each read
_OURS = re.compile(r"[0-9a-f]{42}|\.tmp-[0-9a-f]{16}-[0-9a-f]+")


class CacheFolder:
    """Files by key, below one directory that others may use as well. Raises `OSError` where the file system does."""

    def __init__(self, path: Path, *, capacity_bytes: int) -> None:
        self._path = path
        self._shelf_bytes = capacity_bytes // SHELVES
        self._room: dict[str, int] = {}  # by shelf: bytes that may be written until the next look
        self._temporaries = map(f".tmp-{secrets.token_hex(8)}-{{:x}}".format, count())

    def make(self) -> None:
        """Make the directory, if it is not there."""
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(self._path, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def read(self, wanted: Mapping[CacheKey, int]) -> dict[CacheKey, bytes]:
        """Return what there is of these keys. A file of another size than the one given is removed: it was cut short."""
        found: dict[CacheKey, bytes] = {}
        for key, size in wanted.items():
            with suppress(FileNotFoundError):
                if (sealed := self._read(key, size)) is not None:
                    found[key] = sealed
        return found

    def write(self, entries: Iterable[tuple[CacheKey, bytes]]) -> None:
        """Keep entries. What is larger than a shelf is not kept."""
        for key, sealed in entries:
            shelf, size = shelf_of(key), _on_disk(len(sealed))
            if size > self._shelf_bytes:
                continue
            if self._room.get(shelf, 0) < size:
                self._room[shelf] = self._make_room(shelf, size)
            self._room[shelf] -= size
            try:
                self._write(shelf, key, sealed)
            except FileNotFoundError:  # somebody emptied the directory
                self._room[shelf] = self._make_room(shelf, size) - size
                self._write(shelf, key, sealed)

    def remove(self, key: CacheKey) -> None:
        """Remove an entry, if it is there."""
        with suppress(FileNotFoundError):
            os.unlink(self._file(key))

    def _read(self, key: CacheKey, size: int) -> bytes | None:
        try:
            descriptor = os.open(self._file(key), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)  # a pipe would hang
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            self.remove(key)  # a link, which we never make
            return None
        try:
            about = os.fstat(descriptor)
            sealed = os.pread(descriptor, size, 0) if about.st_size == size and stat.S_ISREG(about.st_mode) else b""
            if len(sealed) != size:
                self.remove(key)
                return None
            if time.time() - about.st_mtime > TOUCH_SECONDS:
                os.utime(descriptor)
            return sealed
        finally:
            os.close(descriptor)

    def _write(self, shelf: str, key: CacheKey, sealed: bytes) -> None:
        folder = self._path / shelf
        temporary = folder / next(self._temporaries)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            try:
                written = os.write(descriptor, sealed)
            finally:
                os.close(descriptor)
            if written == len(sealed):
                os.rename(temporary, folder / key.hex())
                return
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        os.unlink(temporary)  # a disk that is nearly full

    def _make_room(self, shelf: str, size: int) -> int:
        """Remove the oldest of a shelf until `size` more fit. Return what this process may write before it has to look again."""
        folder = self._path / shelf
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        files = sorted(_files(folder))
        held = sum(file.size for file in files)
        most = self._shelf_bytes - max(size, self._shelf_bytes // 8)
        for file in files:
            if held <= most:
                break
            with suppress(FileNotFoundError):  # another process tidies, too
                os.unlink(folder / file.name)
            held -= file.size
        return max((self._shelf_bytes - held) // SHARERS, size)

    def _file(self, key: CacheKey) -> Path:
        return self._path / shelf_of(key) / key.hex()


class _File(NamedTuple):
    changed: float
    size: int
    name: str


def _files(folder: Path) -> Iterable[_File]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if _OURS.fullmatch(entry.name):
                with suppress(FileNotFoundError):
                    about = entry.stat(follow_symlinks=False)
                    yield _File(about.st_mtime, _on_disk(about.st_size), entry.name)


def shelf_of(key: CacheKey) -> str:
    """Return the name of the folder that an entry lies in."""
    return f"{crc32(key) % SHELVES:02x}"


def _on_disk(size: int) -> int:
    return -(-size // BLOCK_SIZE) * BLOCK_SIZE
