"""A directory as a store: atomic, and durable once `put` returns.

A shard is written to a temporary file beside its place, fsynced, renamed, and the directory fsynced. The root carries a marker file, so
that an unmounted file system is noticed: an empty mount point is an unavailable store, not an empty one. The marker holds the store's
name, so that the file system of another store in its place is noticed, too. Root and marker are made when a store is opened for the first
time and never again: the caller says whether this is the first time. `root` says how the right disk is held.

What a crash leaves: before the rename a temporary, which the server's next start removes once it is an hour old; after it, a whole shard.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from proxy.errors import FilesExhausted, ShardMissing, ShardOversized, ShardTruncated, StoreError, StoreRejected, StoreUnavailable
from proxy.lanes import Cancelled, Lanes, LanesClosed, NotBegun
from proxy.stores.cached_names import find_open_cached
from proxy.stores.convoy import Convoy, Ride
from proxy.stores.direct import UNSYNCED_DIRECT_SIZE
from proxy.stores.kept_files import AT_ONCE_SIZE, KeptFiles, OpenFile, files_to_keep, folders_to_keep
from proxy.stores.protocol import MAX_SHARD_SIZE, ShardName, StoreInfo
from proxy.stores.root import EXHAUSTED, Directory, HeldRoot, Root, in_words
from proxy.stores.shard_file import ShardFiles, open_shard, read_range
from proxy.stores.stale import remove_stale

Result = TypeVar("Result")
LANES = 4  # threads of one directory: enough to keep a disk's queue busy, and all that a hung one can hold
UNSYNCED_LANES = 2  # without fsync they hardly wait for the disk, but for the interpreter: four took a sixth more CPU for a PUT of 1 MiB
_NAME = re.compile(r"[0-9a-z-][0-9a-z.-]*(?:/[0-9a-z-][0-9a-z.-]*)*")  # no part begins with a dot: never the marker, never outside
FOLDERS_OF_SHARDS = tuple(f"{number:02x}" for number in range(256))  # (see `shard_name`)
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR})
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class DirectoryStore:
    """One directory; see the protocol for what it promises. Without `fsync` a power cut may lose what was acknowledged."""

    def __init__(
        self,
        info: StoreInfo,
        path: Path,
        *,
        create: bool,
        fsync: bool = True,
        convoy: Convoy | None = None,
        tidy: bool = False,
    ) -> None:
        """Open the directory, making it with `create`. This blocks; `ConfigError` if it is another store's, or to be made and not empty.

        Without `fsync` shards that wait for no disk go in the convoy. With `tidy`, a thread makes the folders that shards will lie in, and
        removes what crashes have left: it walks through all of the store.
        """
        self.info = info
        self._files = ShardFiles(fsync=fsync)
        self._fsync = fsync
        self._lanes = Lanes(LANES if fsync else UNSYNCED_LANES, name=f"store-{info.name}")
        self._convoy = None if fsync else convoy
        self._rest = None if self._convoy is None else self._convoy.rest_of(self._lanes)
        self._kept = KeptFiles(files_to_keep(), open_cached=find_open_cached())
        self._opening: dict[ShardName, asyncio.Event] = {}  # shards that somebody opens just now, to read a little
        self._closed = False
        self._look_under_way: asyncio.Future[None] | None = None
        self._root = Root(info.name, path, fsync=fsync, folders_to_keep=folders_to_keep())
        self.present = self._root.begin(create=create)
        if self._convoy is not None:
            self._convoy.join(self)
        if tidy and self.present:
            threading.Thread(target=self._tidy, name=f"store-{info.name}-tidy", daemon=True).start()

    async def put(self, name: ShardName, body: Sequence[bytes | bytearray | memoryview]) -> None:
        self._check(name)
        # What goes past the page cache waits for its disk, and in the convoy for all others' disks.
        together = self._convoy if sum(map(len, body)) < UNSYNCED_DIRECT_SIZE else None
        await self._run(partial(self._put, name, body), convoy=together)

    def board(self, name: ShardName, body: Sequence[bytes | bytearray | memoryview], size_bytes: int) -> Ride | None:
        """Return the put of a shard as one of a convoy. None if it does not go there."""
        if self._convoy is None or self._rest is None or self._rest.is_on or size_bytes >= UNSYNCED_DIRECT_SIZE:
            return None
        self._check(name)
        self._kept.drop_old()
        return Ride(self._convoy, self._rest, lambda cancelled: self._call(partial(self._put, name, body), None, cancelled))

    async def get_range(self, name: ShardName, start: int, length: int) -> bytes | memoryview:
        self._check(name)
        if (found := self.read_at_once(name, start, length)) is not None:
            return found
        if length > AT_ONCE_SIZE:
            return await self._open_and_read(name, start, length)
        if (opened := self._opening.get(name)) is not None:
            await opened.wait()
            if (found := self.read_at_once(name, start, length)) is not None:
                return found
        return await self._open_for_others(name, start, length)

    def read_at_once(self, name: ShardName, start: int, length: int) -> memoryview | None:
        """Return the range if it is in memory, and the right disk was there a moment ago."""
        root = self._root.seen_lately()
        if root is None or length > AT_ONCE_SIZE:
            return None
        if self._root.is_look_due and not self._closed and (self._look_under_way is None or self._look_under_way.done()):
            self._kept.drop_old()  # who reads nothing but what is in memory makes no other call
            self._look_under_way = self._lanes.begin(self._look)
        return self._kept.read(root, name, start, length)

    def _look(self) -> None:
        """Look at the path before the last look is old. If it has gone, whoever reads next finds out, and tells."""
        self._kept.close_dropped()
        if not self._closed:
            with suppress(StoreError):
                self._root.opened()

    async def _open_for_others(self, name: ShardName, start: int, length: int) -> bytes:
        """Open a shard and read from it, while others that want a little of it wait: objects of one pack are often read together."""
        opened = self._opening[name] = asyncio.Event()
        try:
            return await self._open_and_read(name, start, length)
        finally:
            opened.set()  # or it could not be opened: then each finds out by itself
            if self._opening.get(name) is opened:
                del self._opening[name]

    async def _open_and_read(self, name: ShardName, start: int, length: int) -> bytes:
        data, file = await self._run(lambda root, _: self._read_and_keep(root, name, start, length), reading=name)
        self._kept.keep(name, file)
        return data

    async def get(self, name: ShardName) -> bytes:
        self._check(name)
        return await self._run(lambda root, _: self._whole(root, name), reading=name)

    async def list(self, prefix: str = "") -> AsyncIterator[tuple[ShardName, int]]:
        # One folder a call: the answer is never whole in memory, and other calls get their turn between.
        folders = [prefix.rpartition("/")[0]]
        self._check(folders[0] or "-")
        while folders:
            folder = folders.pop()
            found = await self._run(partial(_scan, folder=folder, prefix=prefix))
            folders += found.below
            for shard in found.shards:
                yield shard

    async def delete(self, name: ShardName) -> None:
        self._check(name)
        self._kept.drop(name)
        await self._run(lambda root, _: _delete(root, name))

    async def close(self) -> None:
        self._closed = True
        self._kept.drop_all()
        self._kept.close_dropped()
        self._lanes.close()
        if self._convoy is not None:
            self._convoy.leave(self)
        self._root.let_go()

    def _check(self, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise StoreRejected(self.info.name, f"{name!r} is no name of a shard")

    async def _run(
        self, call: Callable[[HeldRoot, Cancelled], Result], *, reading: ShardName | None = None, convoy: Convoy | None = None
    ) -> Result:
        translated = partial(self._call, call, reading)
        self._kept.drop_old()
        try:
            return await (self._lanes.run(translated) if convoy is None else convoy.run(translated, otherwise=self._lanes))
        except FilesExhausted:
            self._kept.drop_all()  # what is only faster gives way to what would not work
            self._root.close_folders()
            raise
        except LanesClosed:
            raise StoreUnavailable(self.info.name, "closed") from None
        except NotBegun:
            raise StoreUnavailable(self.info.name, "no thread could be started") from None

    def _call(self, call: Callable[[HeldRoot, Cancelled], Result], reading: ShardName | None, cancelled: Cancelled) -> Result:
        """What a thread does: a call on the root, if that is there."""
        if self._closed:
            raise LanesClosed  # the convoy goes on without this store
        self._kept.close_dropped()
        root = self._root.opened()
        try:
            return call(root, cancelled)
        except OSError as error:
            raise self._translated(error, reading) from error

    def _translated(self, error: OSError, reading: ShardName | None) -> StoreError:
        if error.errno in EXHAUSTED:
            return FilesExhausted(self.info.name, in_words(error))
        try:
            self._root.verify()
        except StoreUnavailable as absent:
            return absent
        if error.errno in _ABSENT and reading is not None:
            return ShardMissing(self.info.name, f"no shard {reading}")
        kind = StoreRejected if error.errno in _REFUSED else StoreUnavailable
        about = "" if reading is None else f" (shard {reading})"
        return kind(self.info.name, f"{self._root.path}: {in_words(error)}{about}")

    def _put(self, name: str, body: Sequence[bytes | bytearray | memoryview], root: HeldRoot, cancelled: Cancelled) -> None:
        folder, _, file = name.rpartition("/")
        if (kept := root.folders_open.find(folder)) is not None:
            with suppress(FileNotFoundError):  # somebody tidied an empty folder away
                self._files.write(root, kept, next(self._root.temporaries), file, body, cancelled)
                return
        place = self._folder(root, folder)
        try:
            self._files.write(root, place, next(self._root.temporaries), file, body, cancelled)
        except BaseException:
            place.close()
            raise
        root.folders_open.keep(folder, place)

    def _folder(self, root: HeldRoot, folder: str) -> Directory:
        """Open a folder to write into it, and make it if it does not exist; with `fsync`, if it is not known to last."""
        if not self._fsync or folder in root.folders:
            with suppress(FileNotFoundError):  # or somebody tidied an empty folder away
                return root.folder(folder)
        parts = folder.split("/") if folder else []
        for depth, part in enumerate(parts):
            with root.folder("/".join(parts[:depth])) as parent:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=parent.descriptor)
                if self._fsync:
                    os.fsync(parent.descriptor)  # also when it exists: whoever made it may not have come so far
        opened = root.folder(folder)
        root.folders.add(folder)
        return opened

    def _whole(self, root: HeldRoot, name: str) -> bytes:
        file = _opened(root, name)
        size = os.fstat(file.descriptor).st_size
        if size > MAX_SHARD_SIZE:
            raise ShardOversized(self.info.name, f"offers {size} bytes as {name}: no shard is that large")
        return self._data(file, name, 0, size)

    def _read_and_keep(self, root: HeldRoot, name: str, start: int, length: int) -> tuple[bytes, OpenFile]:
        file = _opened(root, name)
        return self._data(file, name, start, length), file

    def _data(self, file: OpenFile, name: str, start: int, length: int) -> bytes:
        data = read_range(file.descriptor, start, length)
        if data is None:
            raise ShardTruncated(self.info.name, f"shard {name} ends before byte {start + length}")
        return data

    def _tidy(self) -> None:
        with suppress(StoreError):
            self._make_folders(self._root.opened())
            remove_stale(self._root.opened(), lambda: self._closed)

    def _make_folders(self, root: HeldRoot) -> None:
        """Make all folders of shards: a put that makes its own takes twice as long, and with `fsync` waits for a sync of the root, too."""
        with suppress(OSError):  # each is made when it is needed, or tells then why not
            for folder in FOLDERS_OF_SHARDS:
                if self._closed:
                    return
                with suppress(FileExistsError):
                    os.mkdir(folder, dir_fd=root.descriptor)
            if self._fsync:
                os.fsync(root.descriptor)
            root.folders.update(FOLDERS_OF_SHARDS)


class _Found(NamedTuple):
    shards: list[tuple[ShardName, int]]
    below: list[str]


def _scan(root: HeldRoot, _: Cancelled, *, folder: str, prefix: str) -> _Found:
    """Return the shards right in a folder, and the folders below it, that have or lead to the prefix."""
    found = _Found([], [])
    with suppress(FileNotFoundError, NotADirectoryError), root.folder(folder) as place, os.scandir(place.descriptor) as entries:
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name.startswith(".") or not name.startswith(prefix):
                continue
            if entry.is_dir(follow_symlinks=False):
                found.below.append(name)
            elif entry.is_file(follow_symlinks=False):
                with suppress(FileNotFoundError):  # deleted meanwhile
                    found.shards.append((ShardName(name), entry.stat(follow_symlinks=False).st_size))
    return found


def _opened(root: HeldRoot, name: str) -> OpenFile:
    folder, _, file = name.rpartition("/")
    with root.folder(folder) as place:
        return OpenFile(root, open_shard(place, file), time.monotonic())


def _delete(root: HeldRoot, name: str) -> None:
    folder, _, file = name.rpartition("/")
    with suppress(FileNotFoundError, NotADirectoryError), root.folder(folder) as place:
        os.unlink(file, dir_fd=place.descriptor)
