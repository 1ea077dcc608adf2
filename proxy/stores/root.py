"""The root of a directory store, held open: whatever becomes of its path, nothing is written to a disk that is not this store's.

The problem. A disk is unmounted while the server runs, or another one is mounted in its place. A look at the path before each call leaves
a gap between the look and the call, and what is remembered of the old disk (its folders) is wrong for the new one.

The idea. The root is opened once, and everything is reached from its descriptor. The marker is read through it, so the owner of this very
directory is known. Each call of a lane checks whether the path still leads there. If not, the root is opened and checked anew. So a disk
that is back is used again without a restart, and another store's disk is refused. The event loop cannot wait for a path that hangs, so what
it reads by itself relies on a look that is less than a second old; until then the descriptor leads to this store's own disk. While it
reads, a thread looks twice a second. On a disk that hangs that look does not end, and a second after the last one nothing is read any more.

Below the root no symbolic link is followed. What is held keeps its file system busy: stop the server before you unmount, or use
`umount --lazy`.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import TracebackType

from proxy.errors import ConfigError, FilesExhausted, StoreUnavailable
from proxy.stores.apart import set_folders_apart

MARKER = ".shardgate-store"
TEMPORARY = ".tmp-"
FOLDER_SECONDS = 10.0  # for how long a folder stays open
LOOK_SECONDS = 1.0  # for how long the event loop relies on one look at the path
LOOK_AHEAD_SECONDS = 0.5  # after which a thread looks again, so that nobody has to wait for that
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE})
_LONGEST_OWNER = 256  # bytes of a marker that are read: a store's name has 63
# What an empty file system may hold, and what a start that was killed leaves. Another process may be making the same root just now.
_MADE_UP = re.compile(rf"\.?lost\+found|{re.escape(TEMPORARY)}[0-9a-f]{{16}}-[0-9a-f]+")


class Directory:
    """An open directory. The last who holds it closes it: a call under way may outlast the root it began with."""

    descriptor = -1  # so that one which could not be opened can be closed

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __enter__(self) -> Directory:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def folder(self, name: str) -> Directory:
        """Open a folder below, "" for this one. A symbolic link on the way is an `OSError`, as is anything else that is no folder."""
        at = self
        for part in name.split("/") if name else ".":
            below = Directory(os.open(part, _DIRECTORY | os.O_NOFOLLOW, dir_fd=at.descriptor))
            if at is not self:
                at.close()
            at = below
        return at


_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class HeldRoot(Directory):
    """A root whose marker was found to be right, and what is known of it."""

    def __init__(self, path: str, folders_to_keep: int = 0) -> None:
        super().__init__(os.open(path, _DIRECTORY))
        found = os.fstat(self.descriptor)
        self.identity = (found.st_dev, found.st_ino)
        self.folders: set[str] = set()  # known to exist, durably
        self.folders_open = OpenFolders(folders_to_keep)
        self.takes_direct_writes = True  # until its file system has refused one
        self.reads_at_once = False  # until its file system has read without waiting


class OpenFolders:
    """Folders of a root that were written to lately, still open: to open and close one takes a third of the time of a small shard.

    Threads share it: each step is one of the interpreter's own. One that is full lets go of the newest, and keeps most.
    """

    def __init__(self, limit: int, *, now: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._now = now
        self._kept: dict[str, tuple[Directory, float]] = {}

    def find(self, name: str) -> Directory | None:
        """Return an open folder, if it was opened a moment ago: what is moved away should be missed soon."""
        found = self._kept.get(name)
        return found[0] if found is not None and self._now() - found[1] < FOLDER_SECONDS else None

    def keep(self, name: str, folder: Directory) -> None:
        """Take a folder that was just opened. Whoever uses one that is let go of still has it until the end of its call."""
        if self._limit and len(self._kept) >= self._limit:
            with suppress(KeyError):  # another thread was faster
                self._kept.popitem()
        if self._limit:
            self._kept[name] = folder, self._now()

    def close(self) -> None:
        self._kept.clear()


class Root:
    """The place of one store's root. Its calls block."""

    def __init__(self, store: str, path: Path, *, fsync: bool, folders_to_keep: int = 0, now: Callable[[], float] = time.monotonic) -> None:
        self.temporaries: Iterator[str] = temporary_names()
        self._store = store
        self.path = str(path)
        self._fsync = fsync
        self._folders_to_keep = folders_to_keep
        self._now = now
        self._held: HeldRoot | None = None
        self._looked_at = 0.0

    def begin(self, *, create: bool) -> bool:
        """Open the root for the first time, making it with `create`. Return whether it is there: if not, it may come later.

        Raises `ConfigError` if it is another store's, or to be made where other files lie.
        """
        try:
            if create and not os.path.exists(f"{self.path}/{MARKER}"):
                self._make()
            self._take()
        except _AnotherStores as error:
            raise ConfigError(
                f"stores.{self._store}.path: {self.path} is the disk of store {error.owner}, says its {MARKER}; mount the right one "
                "there, correct the path, or empty that file if it shall be this store's"
            ) from error
        except OSError:
            return False
        return True

    def opened(self) -> HeldRoot:
        """Return the root that the path leads to now. `StoreUnavailable` if it is not there or another's; `FilesExhausted`."""
        try:
            held, found = self._held, os.stat(self.path)
            if held is None or held.identity != (found.st_dev, found.st_ino):
                return self._take()
        except OSError as error:
            self._held = None  # let go of a disk that is not there any more
            if error.errno in EXHAUSTED:
                raise FilesExhausted(self._store, in_words(error)) from error
            raise self._unavailable(error) from error
        self._looked_at = self._now()
        return held

    def seen_lately(self) -> HeldRoot | None:
        """Return the root without a look at the path, if the last look is not long ago. This does not block."""
        return self._held if self._now() - self._looked_at < LOOK_SECONDS else None

    @property
    def is_look_due(self) -> bool:
        """Whether it is time for the next look, if somebody goes on reading."""
        return self._now() - self._looked_at >= LOOK_AHEAD_SECONDS

    def verify(self) -> None:
        """Raise `StoreUnavailable` if what is at the path now is not this store's root."""
        try:
            self._take()
        except OSError as error:
            raise self._unavailable(error) from error

    def close_folders(self) -> None:
        """Close what is only open to be faster."""
        if (held := self._held) is not None:
            held.folders_open.close()

    def let_go(self) -> None:
        """Hold nothing any more; who uses the root still has it until the end of its call."""
        self._held = None

    def _unavailable(self, error: OSError) -> StoreUnavailable:
        if isinstance(error, _AnotherStores):
            return StoreUnavailable(self._store, f"{self.path} is the disk of store {error.owner}")
        if error.errno in EXHAUSTED:
            return StoreUnavailable(self._store, in_words(error))
        return StoreUnavailable(self._store, f"{self.path} has no {MARKER}: it is gone, or not mounted")

    def _take(self) -> HeldRoot:
        """Hold what is at the path, if it is this store's root; else hold nothing, and raise `OSError`."""
        held, self._held = self._held, None
        found = HeldRoot(self.path, self._folders_to_keep)
        try:
            if (owner := self._owner(found)) != self._store:
                raise _AnotherStores(owner)
        except BaseException:
            found.close()
            raise
        # `_held` is not read again here: another thread may be looking anew, and hold nothing for a moment.
        root = self._held = held if held is not None and held.identity == found.identity else found
        self._looked_at = self._now()
        return root

    def _make(self) -> None:
        path = Path(self.path)
        path.mkdir(parents=True, exist_ok=True)
        with HeldRoot(self.path) as new:
            if not all(_MADE_UP.fullmatch(name) for name in os.listdir(new.descriptor)):
                raise ConfigError(f"stores.{self._store}.path: {path} holds other files; name an empty directory")
            self._write_marker(new)
        if self._fsync:
            with HeldRoot(str(path.parent)) as parent:
                os.fsync(parent.descriptor)

    def _owner(self, root: Directory) -> str:
        """Return the name of the store whose root this is; `OSError` if it is none. An empty marker, made by hand, is filled."""
        with open(os.open(MARKER, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=root.descriptor), "rb", buffering=0) as file:
            owner = file.read(_LONGEST_OWNER).strip().decode("ascii", "replace")
        if not owner:
            with suppress(OSError):  # a disk that is full, or can only be read
                self._write_marker(root)
        return owner or self._store

    def _write_marker(self, root: Directory) -> None:
        temporary, at = next(self.temporaries), root.descriptor
        set_folders_apart(at)
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=at), "wb", buffering=0) as file:
            file.write(f"{self._store}\n".encode("ascii"))
            if self._fsync:
                os.fsync(file.fileno())
        os.rename(temporary, MARKER, src_dir_fd=at, dst_dir_fd=at)
        if self._fsync:
            os.fsync(at)


class _AnotherStores(OSError):
    def __init__(self, owner: str) -> None:
        super().__init__(errno.ENODEV, os.strerror(errno.ENODEV))
        self.owner = owner


def temporary_names() -> Iterator[str]:
    """Yield names that no other process uses: several may share a directory. Threads may share the iterator."""
    return map(f"{TEMPORARY}{secrets.token_hex(8)}-{{:x}}".format, count())


def in_words(error: OSError) -> str:
    """Return what went wrong, without the number and the name of a temporary file."""
    return error.strerror or str(error)
