"""A directory as a store: atomic, and durable once `put` returns.

A shard is written to a temporary file beside its place, fsynced, renamed, and the directory fsynced. The root carries a marker file, so
that an unmounted file system is noticed: an empty mount point is an unavailable store, not an empty one. The marker holds the store's
name, so that the file system of another store in its place is noticed, too. Root and marker are made when a store is opened for the first
time and never again: whoever opens it says whether that is so.

What a crash leaves: before the rename a temporary, which the server's next start removes once it is an hour old; after it, a whole shard.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import NamedTuple, TypeVar

from proxy.errors import ConfigError, FilesExhausted, ShardMissing, StoreError, StoreRejected, StoreUnavailable
from proxy.lanes import Cancelled, Lanes, LanesClosed
from proxy.stores.protocol import ShardName, StoreInfo
from proxy.stores.uring import MAX_SIZE, Ring, RingFiles

Result = TypeVar("Result")
MARKER = ".shardgate-store"
TEMPORARY = ".tmp-"
STALE_SECONDS = 3600  # far beyond any deadline of a put: no other process is still writing it
LANES = 4  # threads of one directory: enough to keep a disk's queue busy, and all that a hung one can hold
_LONGEST_OWNER = 256  # bytes of a marker that are read: a store's name has 63
_IOV_MAX = 1024  # Linux's limit of buffers in one writev
_NAME = re.compile(r"[0-9a-z-][0-9a-z.-]*(?:/[0-9a-z-][0-9a-z.-]*)*")  # no part begins with a dot: never the marker, never outside
_MADE_UP = frozenset({".lost+found", "lost+found"})  # what an empty file system may hold
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR})
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE})
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class DirectoryStore:
    """One directory; see the protocol for what it promises. Without `fsync` a power cut may lose what was acknowledged."""

    def __init__(
        self, info: StoreInfo, path: Path, *, create: bool, fsync: bool = True, ring: Ring | None = None, tidy: bool = False
    ) -> None:
        """Open the directory, making it with `create`. This blocks; `ConfigError` if it is another store's, or to be made and not empty.

        With a ring, small shards go through it. With `tidy`, a thread removes what crashes have left: it walks through all of the store.
        """
        self.info = info
        self._ring = None if ring is None else RingFiles(ring)
        self._root = str(path)
        self._marker = f"{path}/{MARKER}"
        self._fsync = fsync
        self._lanes = Lanes(LANES, name=f"store-{info.name}")
        self._folders: set[str] = set()  # known to exist, durably
        self._temporary = f"{TEMPORARY}{secrets.token_hex(8)}-"  # several processes may share the directory
        self._numbers = count()
        self._closed = False
        self.present = self._open_root(path, create=create)
        if tidy and self.present:
            threading.Thread(target=self._remove_stale, name=f"store-{info.name}-stale", daemon=True).start()

    async def put(self, name: ShardName, body: Sequence[bytes | bytearray | memoryview]) -> None:
        self._check(name)
        if not await self._put_by_ring(name, body):
            await self._run(lambda cancelled: self._put(name, body, cancelled))

    async def get_range(self, name: ShardName, start: int, length: int) -> bytes | memoryview:
        self._check(name)
        data = await self._read_by_ring(name, start, length)
        return await self._run(lambda _: self._read(name, start, length), reading=name) if data is None else data

    async def get(self, name: ShardName) -> bytes:
        self._check(name)
        return await self._run(lambda _: self._read(name, 0, None), reading=name)

    async def list(self, prefix: str = "") -> AsyncIterator[tuple[ShardName, int]]:
        # One folder a call: the answer is never whole in memory, and other calls get their turn between.
        folders = [prefix.rpartition("/")[0]]
        self._check(folders[0] or "-")
        while folders:
            folder = folders.pop()
            found = await self._run(partial(self._scan, folder, prefix))
            folders += found.below
            for shard in found.shards:
                yield shard

    async def delete(self, name: ShardName) -> None:
        self._check(name)
        await self._run(lambda _: self._delete(name))

    async def close(self) -> None:
        self._closed = True
        self._lanes.close()

    async def _put_by_ring(self, name: str, body: Sequence[bytes | bytearray | memoryview]) -> bool:
        """Tell whether the ring has stored the shard. Whatever hindered it, the lanes will meet and name."""
        folder = name.rpartition("/")[0]
        if self._ring is None or self._ring.share_is_used_up or folder not in self._folders or sum(map(len, body)) > MAX_SIZE:
            return False
        temporary = self._temporary_in(folder)
        fsync_folder = f"{self._root}/{folder}" if self._fsync else None
        if await self._ring.write(temporary, f"{self._root}/{name}", body, fsync_folder=fsync_folder):
            return True
        await self._run(lambda _: _remove(temporary))
        return False

    async def _read_by_ring(self, name: str, start: int, length: int) -> memoryview | None:
        if self._ring is None or length > MAX_SIZE:
            return None
        data = await self._ring.read(f"{self._root}/{name}", start, length)
        return None if data is None else memoryview(data)

    def _temporary_in(self, folder: str) -> str:
        return f"{self._root}/{folder}/{self._temporary}{next(self._numbers):x}"

    def _check(self, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise StoreRejected(self.info.name, f"{name!r} is no name of a shard")

    async def _run(self, call: Callable[[Cancelled], Result], *, reading: ShardName | None = None) -> Result:
        def translated(cancelled: Cancelled) -> Result:
            try:
                return call(cancelled)
            except OSError as error:
                raise self._translated(error, reading) from error

        try:
            return await self._lanes.run(translated)
        except LanesClosed:
            raise StoreUnavailable(self.info.name, "closed") from None

    def _translated(self, error: OSError, reading: ShardName | None) -> StoreError:
        if error.errno in _EXHAUSTED:
            return FilesExhausted(self.info.name, str(error))
        try:
            owner = self._owner()
        except OSError:
            return StoreUnavailable(self.info.name, f"{self._root} has no {MARKER}: it is gone, or not mounted")
        if owner != self.info.name:
            return StoreUnavailable(self.info.name, f"{self._root} is the disk of store {owner}")
        if error.errno in _ABSENT and reading is not None:
            return ShardMissing(self.info.name, f"no shard {reading}")
        kind = StoreRejected if error.errno in _REFUSED else StoreUnavailable
        return kind(self.info.name, str(error))

    def _open_root(self, path: Path, *, create: bool) -> bool:
        """Tell whether the root is there. If it is not, every call will say so, until it is."""
        try:
            if not os.path.exists(self._marker):
                if not create:
                    return False
                path.mkdir(parents=True, exist_ok=True)
                if not set(os.listdir(path)) <= _MADE_UP:
                    raise ConfigError(f"stores.{self.info.name}.path: {path} holds other files; name an empty directory")
                self._write_marker()
                if self._fsync:
                    _fsync_path(str(path.parent))
            owner = self._owner()
        except OSError:
            return False
        if owner != self.info.name:
            raise ConfigError(
                f"stores.{self.info.name}.path: {path} is the disk of store {owner}, says its {MARKER}; mount the right one there, "
                "correct the path, or empty that file if it shall be this store's"
            )
        return True

    def _check_root(self) -> None:
        """Raise `OSError` if the root is not there, or another store's."""
        if self._owner() != self.info.name:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    def _owner(self) -> str:
        """Return the name of the store whose root this is; `OSError` if it is none. An empty marker, made by hand, is filled."""
        with open(self._marker, "rb", buffering=0) as file:
            owner = file.read(_LONGEST_OWNER).strip().decode("ascii", "replace")
        if not owner:
            with suppress(OSError):  # a disk that is full, or can only be read
                self._write_marker()
        return owner or self.info.name

    def _write_marker(self) -> None:
        temporary = self._temporary_in(".")
        with open(temporary, "x", encoding="ascii") as file:
            file.write(f"{self.info.name}\n")
            if self._fsync:
                file.flush()
                os.fsync(file.fileno())
        os.rename(temporary, self._marker)
        if self._fsync:
            _fsync_path(self._root)

    def _remove_stale(self) -> None:
        with suppress(OSError), open(self._marker, "rb") as marker:
            fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)  # one of several workers that start together is enough
            self._walk_for_stale()

    def _walk_for_stale(self) -> None:
        oldest = time.time() - STALE_SECONDS
        for folder, _, files in os.walk(self._root):
            for file in files:
                if self._closed:
                    return
                if file.startswith(TEMPORARY):
                    with suppress(OSError):
                        path = f"{folder}/{file}"
                        if os.stat(path).st_mtime < oldest:
                            os.unlink(path)

    def _put(self, name: str, body: Sequence[bytes | bytearray | memoryview], cancelled: Cancelled) -> None:
        folder = name.rpartition("/")[0]
        temporary = self._temporary_in(folder)
        descriptor = self._create(folder, temporary)
        try:
            try:
                _write_all(descriptor, body)
                if self._fsync:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if cancelled():
                # The caller may have changed its buffers since: what was written is perhaps no shard.
                os.unlink(temporary)
                return
            os.rename(temporary, f"{self._root}/{name}")
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        if self._fsync:
            _fsync_path(f"{self._root}/{folder}")

    def _create(self, folder: str, temporary: str) -> int:
        if folder not in self._folders:
            self._make_folder(folder)
        try:
            return os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            self._make_folder(folder)  # somebody tidied an empty folder away, or the root has gone, which this notices
            return os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def _make_folder(self, folder: str) -> None:
        self._check_root()  # never make a root that has gone away
        parent = self._root
        for part in folder.split("/") if folder else ():
            with suppress(FileExistsError):
                os.mkdir(f"{parent}/{part}")
            if self._fsync:
                _fsync_path(parent)  # also when it exists: whoever made it may not have come so far
            parent = f"{parent}/{part}"
        self._folders.add(folder)

    def _read(self, name: str, start: int, length: int | None) -> bytes:
        descriptor = os.open(f"{self._root}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            wanted = os.fstat(descriptor).st_size if length is None else length
            data = os.pread(descriptor, wanted, start)
            while len(data) < wanted:
                more = os.pread(descriptor, wanted - len(data), start + len(data))
                if not more:
                    raise ShardMissing(self.info.name, f"shard {name} ends before byte {start + wanted}")
                data += more
            return data
        finally:
            os.close(descriptor)

    def _scan(self, folder: str, prefix: str, _: Cancelled) -> _Found:
        """Return the shards right in a folder, and the folders below it, that have or lead to the prefix."""
        self._check_root()
        found = _Found([], [])
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(f"{self._root}/{folder}") as entries:
            for entry in entries:
                name = f"{folder}/{entry.name}" if folder else entry.name
                if entry.name.startswith(".") or not name.startswith(prefix):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    found.below.append(name)
                else:
                    with suppress(FileNotFoundError):  # deleted meanwhile
                        found.shards.append((ShardName(name), entry.stat().st_size))
        return found

    def _delete(self, name: str) -> None:
        try:
            os.unlink(f"{self._root}/{name}")
        except (FileNotFoundError, NotADirectoryError):
            self._check_root()  # not there, or is it the store that is not there?


class _Found(NamedTuple):
    shards: list[tuple[ShardName, int]]
    below: list[str]


def _write_all(descriptor: int, body: Sequence[bytes | bytearray | memoryview]) -> None:
    pending = list(body)
    first = 0
    while first < len(pending):
        written = os.writev(descriptor, pending[first : first + _IOV_MAX])
        while first < len(pending) and written >= len(pending[first]):
            written -= len(pending[first])
            first += 1
        if written:
            pending[first] = memoryview(pending[first])[written:]


def _remove(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)


def _fsync_path(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
