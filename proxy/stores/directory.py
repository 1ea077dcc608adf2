"""A directory as a store: atomic, and durable once `put` returns.

A shard is written to a temporary file beside its place, fsynced, renamed, and the directory fsynced. The root carries a marker file, so
that an unmounted file system is noticed: an empty mount point is an unavailable store, not an empty one.
"""

from __future__ import annotations

import errno
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from proxy.errors import ConfigError, ShardMissing, StoreRejected, StoreUnavailable
from proxy.stores.lanes import Lanes
from proxy.stores.protocol import ShardName, StoreInfo

Result = TypeVar("Result")
MARKER = ".shardgate-store"
TEMPORARY = ".tmp-"
STALE_SECONDS = 3600
LANES = 4  # of one directory: enough to keep a disk's queue busy
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}


class DirectoryStore:
    """One directory; see the protocol for what it promises. Without `fsync` a power cut may lose what was acknowledged."""

    def __init__(self, info: StoreInfo, path: Path, *, fsync: bool = True) -> None:
        self.info = info
        self._root = str(path)
        self._fsync = fsync
        self._lanes = Lanes(LANES, name=f"store-{info.name}")
        self._known: set[str] = set()
        self._open_root(path)

    async def put(self, name: ShardName, body: Sequence[bytes | bytearray | memoryview]) -> None:
        await self._run(name, lambda: self._put(name, body))

    async def get_range(self, name: ShardName, start: int, length: int) -> bytes:
        return await self._run(name, lambda: self._get(name, start, length))

    async def get(self, name: ShardName) -> bytes:
        return await self._run(name, lambda: self._get(name, 0, None))

    async def list(self, prefix: str = "") -> AsyncIterator[tuple[ShardName, int]]:
        for entry in await self._run(None, lambda: list(self._list(prefix))):
            yield entry

    async def delete(self, name: ShardName) -> None:
        await self._run(None, lambda: self._delete(name))

    async def close(self) -> None:
        self._lanes.close()

    async def _run(self, name: ShardName | None, call: Callable[[], Result]) -> Result:
        try:
            return await self._lanes.run(call)
        except FileNotFoundError as error:
            if name is not None and os.path.exists(f"{self._root}/{MARKER}"):  # noqa: ASYNC240 - one stat, on the way to an error
                raise ShardMissing(self.info.name, f"no shard {name}") from error
            raise StoreUnavailable(self.info.name, f"{self._root} is not there, or not mounted") from error
        except OSError as error:
            kind = StoreRejected if error.errno in _REFUSED else StoreUnavailable
            raise kind(self.info.name, str(error)) from error

    def _open_root(self, path: Path) -> None:
        try:
            path.mkdir(parents=True, exist_ok=True)
            if not (path / MARKER).exists() and any(path.iterdir()):
                raise ConfigError(f"stores.{self.info.name}.path: {path} holds other files; name an empty directory")
            (path / MARKER).touch()
            for stale in path.glob(f"*/{TEMPORARY}*"):
                if stale.stat().st_mtime < time.time() - STALE_SECONDS:
                    stale.unlink(missing_ok=True)
        except OSError:
            return  # unavailable from the start; every call will say so

    def _put(self, name: str, body: Sequence[bytes | bytearray | memoryview]) -> None:
        folder = f"{self._root}/{name.rpartition('/')[0]}"
        if folder not in self._known:
            self._make_folder(folder)
        temporary = f"{folder}/{TEMPORARY}{secrets.token_hex(8)}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            try:
                _write_all(descriptor, body)
                if self._fsync:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.rename(temporary, f"{self._root}/{name}")
        except BaseException:
            os.unlink(temporary)
            raise
        if self._fsync:
            _fsync_folder(folder)

    def _make_folder(self, folder: str) -> None:
        os.stat(f"{self._root}/{MARKER}")  # never make a root that has gone away
        os.makedirs(folder, exist_ok=True)
        if self._fsync:
            _fsync_folder(self._root)
        self._known.add(folder)

    def _get(self, name: str, start: int, length: int | None) -> bytes:
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

    def _list(self, prefix: str) -> Iterator[tuple[ShardName, int]]:
        os.stat(f"{self._root}/{MARKER}")
        folders = [prefix.partition("/")[0]] if "/" in prefix else sorted(os.listdir(self._root))
        for folder in folders:
            path = f"{self._root}/{folder}"
            if not os.path.isdir(path):
                continue
            for entry in os.scandir(path):
                name = f"{folder}/{entry.name}"
                if name.startswith(prefix) and not entry.name.startswith(TEMPORARY):
                    yield ShardName(name), entry.stat().st_size

    def _delete(self, name: str) -> None:
        try:
            os.unlink(f"{self._root}/{name}")
        except FileNotFoundError:
            os.stat(f"{self._root}/{MARKER}")


def _write_all(descriptor: int, body: Sequence[bytes | bytearray | memoryview]) -> None:
    for buffer in body:
        view = memoryview(buffer)
        while view:
            view = view[os.write(descriptor, view) :]


def _fsync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
