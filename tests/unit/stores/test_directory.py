"""What a directory store leaves behind: whole shards, never parts, and nothing where it should not write."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import gc
import os
import shutil
import stat
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from proxy.errors import ConfigError, FilesExhausted, ShardMissing, ShardOversized, StoreRejected, StoreUnavailable
from proxy.stores.apart import FS_IOC_GETFLAGS, FS_TOPDIR_FL, set_folders_apart
from proxy.stores.convoy import Convoy
from proxy.stores.directory import FOLDERS_OF_SHARDS, LANES, DirectoryStore
from proxy.stores.protocol import ShardName, StoreName
from proxy.stores.root import FOLDER_SECONDS, MARKER, Directory, OpenFolders
from proxy.stores.stale import STALE_SECONDS
from tests.patience import PATIENCE_SECONDS
from tests.unit.stores.conftest import INFO, NAME

System = Callable[..., object]
Opener = Callable[..., DirectoryStore]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
async def opened() -> AsyncIterator[Opener]:
    """Open directory stores, and close them after the test: their threads would idle on."""
    stores: list[DirectoryStore] = []

    def make(path: Path, *, name: str = "s", create: bool = True, fsync: bool = True, tidy: bool = False) -> DirectoryStore:
        info = msgspec.structs.replace(INFO, name=StoreName(name))
        stores.append(DirectoryStore(info, path, create=create, fsync=fsync, convoy=Convoy(), tidy=tidy))
        return stores[-1]

    yield make
    for store in stores:
        await store.close()


@pytest.fixture(params=[True, False], ids=["fsync", "no fsync"])
def store(request: pytest.FixtureRequest, root: Path, opened: Opener) -> DirectoryStore:
    return opened(root, fsync=request.param)


async def test_what_is_larger_than_any_shard_is_not_read(store: DirectoryStore, root: Path) -> None:
    await store.put(NAME, [b"shard"])
    os.truncate(root / NAME, 1024**4)  # a hole takes no room on the disk, and all of it in memory
    with pytest.raises(ShardOversized, match="no shard is that large"):
        await store.get(NAME)
    assert await store.get_range(NAME, 0, 5) == b"shard"


def _has_folders_apart(folder: Path) -> bool:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        flags = int.from_bytes(fcntl.ioctl(descriptor, FS_IOC_GETFLAGS, bytes(4)), sys.byteorder)
    finally:
        os.close(descriptor)
    return bool(flags & FS_TOPDIR_FL)


@pytest.mark.parametrize("is_there", [False, True], ids=["new", "made by hand"])
async def test_the_folders_of_a_store_are_spread_over_its_disk(root: Path, opened: Opener, tmp_path: Path, is_there: bool) -> None:
    try:
        descriptor = os.open(tmp_path, os.O_RDONLY)
        set_folders_apart(descriptor)
        os.close(descriptor)
        is_known = _has_folders_apart(tmp_path)
    except OSError:
        is_known = False
    if not is_known:
        pytest.skip("this file system decides alone where folders lie")
    root.mkdir()
    assert not _has_folders_apart(root)
    if is_there:
        (root / MARKER).touch()
    opened(root, create=not is_there)
    assert _has_folders_apart(root)


async def test_a_file_system_that_decides_alone_where_folders_lie_is_as_good(
    root: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object) -> bytes:
        raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))

    monkeypatch.setattr(fcntl, "ioctl", unknown)
    store = opened(root)
    await store.put(NAME, [b"shard"])
    assert await store.get(NAME) == b"shard"


async def test_a_server_makes_the_folders_of_shards_when_it_starts(root: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    store = _tidied(opened, root)
    assert {path.name for path in root.iterdir() if path.is_dir()} == set(FOLDERS_OF_SHARDS)
    syncs = _syncs_of(root, monkeypatch)
    await store.put(ShardName("03/one"), [b"shard"])
    assert not syncs
    await store.put(ShardName("j/two"), [b"shard"])
    assert len(syncs) == 1


async def test_folders_that_could_not_be_made_in_advance_are_not_taken_for_lasting(
    root: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.mkdir

    def mkdir(path: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        if path == "a2":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkdir", mkdir)
    store, syncs = _tidied(opened, root), _syncs_of(root, monkeypatch)
    await store.put(ShardName("a1/one"), [b"shard"])
    with pytest.raises(StoreUnavailable, match="No space left"):
        await store.put(ShardName("a2/two"), [b"shard"])
    monkeypatch.setattr(os, "mkdir", real)
    (root / "a2").mkdir()  # by another process, which may not have synced it yet
    for name in ("a1/three", "a2/two"):
        syncs.clear()
        await store.put(ShardName(name), [b"shard"])
        assert bool(syncs) == (name == "a2/two")
    assert _files(root) == ["a1/one", "a1/three", "a2/two"]


def _tidied(opened: Opener, root: Path) -> DirectoryStore:
    """Open a store as a server does, and wait for what a thread does behind that."""
    before = set(threading.enumerate())
    store = opened(root, tidy=True)
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE_SECONDS)
    return store


def _syncs_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note from now on when this folder is synced."""
    syncs, real = list[int](), os.fsync

    def fsync(descriptor: int) -> None:
        if os.path.samestat(os.fstat(descriptor), folder.stat()):
            syncs.append(descriptor)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return syncs


def _files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and path.name != MARKER)


def _failing(verb: str, number: int, *, times: int = 1) -> System:
    real = getattr(os, verb)
    left = [times]

    def call(*args: object, **options: object) -> object:
        if left[0]:
            left[0] -= 1
            raise OSError(number, os.strerror(number))
        return real(*args, **options)

    return call


async def test_the_steps_of_a_durable_put(opened: Opener, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(root)
    await store.put(ShardName("ab/before-00"), [b"x"])  # the folder is there
    steps: list[str] = []
    for verb in ("writev", "rename"):
        real = getattr(os, verb)
        monkeypatch.setattr(os, verb, lambda *args, real=real, verb=verb, **options: (steps.append(verb), real(*args, **options))[1])
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        steps.append("fsync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "fsync file")
        real_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    await store.put(NAME, [b"head", b"body"])
    assert steps == ["writev", "fsync file", "rename", "fsync folder"]


async def test_a_new_folder_is_made_durable_before_the_put_returns(opened: Opener, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(root)
    synced: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (synced.append(os.fstat(descriptor).st_ino), real(descriptor)))
    await store.put(NAME, [b"x"])
    assert root.stat().st_ino in synced
    assert (root / "ab").stat().st_ino in synced


@pytest.mark.parametrize("verb", ["writev", "close", "rename"])
async def test_a_failed_put_leaves_nothing(store: DirectoryStore, root: Path, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    await store.put(ShardName("ab/before-00"), [b"x"])
    gc.collect()  # a directory that an earlier test left open is closed now: it would meet the failure instead
    monkeypatch.setattr(os, verb, _failing(verb, errno.EIO))
    with pytest.raises(StoreUnavailable):
        await store.put(NAME, [b"x" * 1000])
    assert _files(root) == ["ab/before-00"]


async def test_a_full_disk_is_unavailable_and_the_next_put_may_succeed(
    store: DirectoryStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "writev", _failing("writev", errno.ENOSPC))
    with pytest.raises(StoreUnavailable, match="No space left"):
        await store.put(NAME, [b"x"])
    assert _files(root) == []
    await store.put(NAME, [b"x"])


async def test_a_read_only_directory_is_rejected(store: DirectoryStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.put(ShardName("ab/before-00"), [b"x"])
    monkeypatch.setattr(os, "rename", _failing("rename", errno.EROFS))
    with pytest.raises(StoreRejected) as refused:
        await store.put(NAME, [b"x"])
    assert refused.value.reason == f"{root}: Read-only file system"


async def test_short_writes_are_continued(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.writev
    monkeypatch.setattr(os, "writev", lambda descriptor, buffers: real(descriptor, [b"".join(buffers)[:7]]))
    body = [b"head", bytearray(b"-" * 20), b"", memoryview(b"tail")]
    await store.put(NAME, body)
    assert await store.get(NAME) == b"".join(body)


async def test_a_put_cancelled_while_it_writes_is_not_finished(store: DirectoryStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, writing, go_on, given_up = os.writev, threading.Event(), threading.Event(), threading.Event()
    unlink = os.unlink

    def slow(descriptor: int, buffers: list[bytes]) -> int:
        writing.set()
        go_on.wait(PATIENCE_SECONDS)
        return real(descriptor, buffers)

    monkeypatch.setattr(os, "writev", slow)
    monkeypatch.setattr(os, "unlink", lambda path, **options: (unlink(path, **options), given_up.set()))
    buffer = bytearray(b"x" * 1000)
    task = asyncio.create_task(store.put(NAME, [buffer]))
    await asyncio.to_thread(writing.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    buffer[:] = b"y" * 1000  # the caller's again
    go_on.set()
    assert await asyncio.to_thread(given_up.wait, 10)
    assert _files(root) == []


async def test_a_hung_directory_holds_its_own_threads_only(opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hung, other = opened(tmp_path / "hung"), opened(tmp_path / "other")
    real, go_on = os.stat, threading.Event()

    def maybe_hang(path: str, **options: object) -> object:
        if path.endswith("/hung"):
            go_on.wait(PATIENCE_SECONDS)
        return real(path, **options)

    monkeypatch.setattr(os, "stat", maybe_hang)
    before = threading.active_count()
    stuck = [asyncio.create_task(hung.get(NAME)) for _ in range(50)]
    await other.put(NAME, [b"x"])
    assert await other.get(NAME) == b"x"
    assert threading.active_count() - before <= 2 * LANES
    for task in stuck:
        task.cancel()
    go_on.set()
    assert all(isinstance(result, asyncio.CancelledError) for result in await asyncio.gather(*stuck, return_exceptions=True))


async def test_an_unmounted_root_is_unavailable_and_stays_empty(store: DirectoryStore, root: Path) -> None:
    await store.put(NAME, [b"x"])
    root.rename(root.with_name("elsewhere"))
    root.mkdir()  # the mount point
    for call in (store.get(NAME), store.put(NAME, [b"y"]), store.put(ShardName("cd/new-00"), [b"y"]), store.delete(NAME)):
        with pytest.raises(StoreUnavailable, match="not mounted"):
            await call
    with pytest.raises(StoreUnavailable, match="not mounted"):
        _ = [entry async for entry in store.list("ab/")]
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
async def test_want_of_file_descriptors_is_told_apart(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    await store.put(NAME, [b"x"])
    for call in (lambda: store.get(NAME), lambda: store.put(NAME, [b"y"])):
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", _failing("open", number))
            with pytest.raises(FilesExhausted):
                await call()


async def test_a_folder_tidied_away_is_made_again(store: DirectoryStore, root: Path) -> None:
    await store.put(NAME, [b"x"])
    shutil.rmtree(root / "ab")
    with pytest.raises(ShardMissing):
        await store.get(NAME)
    await store.put(NAME, [b"y"])
    assert await store.get(NAME) == b"y"


async def test_stale_temporaries_are_removed_by_whoever_tidies_up_and_young_ones_kept(opened: Opener, root: Path) -> None:
    await opened(root).put(NAME, [b"x"])
    old, young = root / "ab/.tmp-old", root / "ab/.tmp-young"
    old.touch()
    young.touch()
    os.utime(old, (time.time() - STALE_SECONDS - 60,) * 2)
    before = set(threading.enumerate())
    opened(root)
    assert set(threading.enumerate()) == before
    store = _tidied(opened, root)
    assert _files(root) == ["ab/.tmp-young", NAME]
    assert [entry async for entry in store.list()] == [(NAME, 1)]


def test_one_process_tidies_up_at_a_time(opened: Opener, root: Path) -> None:
    opened(root)
    (root / ".tmp-old").touch()
    os.utime(root / ".tmp-old", (time.time() - STALE_SECONDS - 60,) * 2)
    with (root / MARKER).open() as marker:
        fcntl.flock(marker, fcntl.LOCK_EX)
        _tidied(opened, root)
    assert _files(root) == [".tmp-old"]


def test_a_new_directory_says_whose_it_is(opened: Opener, root: Path) -> None:
    assert opened(root).present
    assert (root / MARKER).read_text() == "s\n"


@pytest.mark.parametrize("content", ["", "\n", " "])
def test_a_marker_made_by_hand_is_filled(opened: Opener, root: Path, content: str) -> None:
    root.mkdir()
    (root / MARKER).write_text(content)
    assert opened(root, create=False).present
    assert (root / MARKER).read_text() == "s\n"
    assert _files(root) == []


def test_the_directory_of_another_store_is_refused_at_the_start(opened: Opener, root: Path) -> None:
    opened(root)
    with pytest.raises(ConfigError, match=r"stores\.other\.path: .* is the disk of store s"):
        opened(root, name="other")


async def test_a_disk_mounted_in_the_place_of_another_is_unavailable_and_not_written(opened: Opener, root: Path, tmp_path: Path) -> None:
    store, other = opened(root), opened(tmp_path / "other", name="other")
    await store.put(NAME, [b"x"])
    await other.put(ShardName("ab/of-the-other"), [b"y"])
    root.rename(tmp_path / "away")
    (tmp_path / "other").rename(root)
    puts = [store.put(ShardName(name), [b"y"]) for name in ("ab/in-a-folder-that-is-known", "cd/new-00")]
    for call in (store.get(NAME), *puts, store.delete(NAME)):
        with pytest.raises(StoreUnavailable, match="is the disk of store other"):
            await call
    with pytest.raises(StoreUnavailable, match="is the disk of store other"):
        _ = [entry async for entry in store.list()]
    assert _files(root) == ["ab/of-the-other"]


async def test_a_disk_that_is_exchanged_under_a_put_does_not_get_it(
    opened: Opener, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = opened(root), opened(tmp_path / "other", name="other")
    await store.put(ShardName("ab/before"), [b"x"])
    await other.put(ShardName("ab/before"), [b"y"])
    real = os.writev

    def exchange(descriptor: int, buffers: list[bytes]) -> int:
        root.rename(tmp_path / "away")
        (tmp_path / "other").rename(root)
        return real(descriptor, buffers)

    monkeypatch.setattr(os, "writev", exchange)
    await store.put(NAME, [b"z"])
    assert _files(root) == ["ab/before"]
    assert (tmp_path / "away" / NAME).read_bytes() == b"z"


async def test_of_a_disk_that_is_exchanged_nothing_is_held_open(opened: Opener, root: Path, tmp_path: Path) -> None:
    store = opened(root)
    await store.put(NAME, [b"x"])
    for number in range(3):
        root.rename(tmp_path / f"away{number}")
        with pytest.raises(StoreUnavailable):
            await store.get(NAME)
        shutil.copytree(tmp_path / f"away{number}", root)
        assert await store.get(NAME) == b"x"
        await store.put(ShardName("cd/new"), [b"y"])
    assert sorted(_open_below(tmp_path)) == [str(root), str(root / "cd")]


def test_a_folder_is_kept_open_for_a_moment_and_few_are(tmp_path: Path) -> None:
    now = 0.0
    folders = OpenFolders(2, now=lambda: now)
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        folders.keep(name, Directory(os.open(tmp_path / name, os.O_RDONLY)))
    assert len(_open_below(tmp_path)) == 2
    assert folders.find("a") is not None
    assert folders.find("b") is None
    now = FOLDER_SECONDS
    assert folders.find("a") is None
    folders.close()
    assert _open_below(tmp_path) == []


async def test_a_folder_in_the_place_of_one_that_was_tidied_away_is_written_to(store: DirectoryStore, root: Path) -> None:
    await store.put(NAME, [b"x"])
    shutil.rmtree(root / "ab")
    (root / "ab").mkdir()
    await store.put(NAME, [b"y"])
    assert await store.get(NAME) == b"y"


def _open_below(path: Path) -> list[str]:
    paths = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of the listing itself
            paths.append(str(link.readlink()))
    return [found for found in paths if found.startswith(str(path))]


async def test_no_symbolic_link_is_followed(store: DirectoryStore, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "abcdef-00").write_bytes(b"not a shard")
    (root / "ab").symlink_to(outside)
    with pytest.raises(StoreUnavailable):
        await store.put(NAME, [b"x"])
    with pytest.raises(ShardMissing):
        await store.get(ShardName("ab/abcdef-00"))
    await store.delete(ShardName("ab/abcdef-00"))
    assert [entry async for entry in store.list()] == []
    assert [entry async for entry in store.list("ab/")] == []
    assert [path.read_bytes() for path in outside.iterdir()] == [b"not a shard"]
    (root / "cd").mkdir()
    (root / "cd/link").symlink_to(outside / "abcdef-00")
    with pytest.raises(StoreUnavailable):
        await store.get(ShardName("cd/link"))
    assert [entry async for entry in store.list()] == []


def test_stale_files_are_not_sought_behind_a_symbolic_link(opened: Opener, root: Path, tmp_path: Path) -> None:
    opened(root)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / ".tmp-old").touch()
    os.utime(outside / ".tmp-old", (time.time() - STALE_SECONDS - 60,) * 2)
    (root / "ab").symlink_to(outside)
    _tidied(opened, root)
    assert (outside / ".tmp-old").exists()


STEPS_OF_A_FIRST_START = ("mkdir", "open", "fsync", "rename", "close", "listdir")


def test_a_first_start_that_is_killed_at_any_step_is_followed_by_one_that_works(opened: Opener, root: Path) -> None:
    kills = 0
    while _killed_in_first_start(root, kills):
        assert opened(root).present
        shutil.rmtree(root)
        kills += 1
    assert kills > 10
    assert opened(root, create=False).present


def _killed_in_first_start(root: Path, steps: int) -> bool:
    """Open a new store in another process, which dies after so many steps. Return whether it did."""
    child = os.fork()
    if child == 0:
        left = [steps]
        for verb in STEPS_OF_A_FIRST_START:
            setattr(os, verb, _dying(getattr(os, verb), left))
        DirectoryStore(INFO, root, create=True)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0


def _dying(real: System, left: list[int]) -> System:
    def call(*args: object, **options: object) -> object:
        if not left[0]:
            os._exit(9)
        left[0] -= 1
        return real(*args, **options)

    return call


def test_a_directory_of_something_else_is_refused(opened: Opener, root: Path) -> None:
    root.mkdir()
    (root / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="other files"):
        opened(root)


def test_an_empty_file_system_is_accepted(opened: Opener, root: Path) -> None:
    (root / "lost+found").mkdir(parents=True)
    opened(root)
    assert (root / MARKER).exists()


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "ab/../../x", MARKER, "ab/.tmp-1", "", "ab//x", "ab/"])
async def test_names_that_lead_elsewhere_are_refused(store: DirectoryStore, name: str) -> None:
    for call in (store.put(ShardName(name), [b"x"]), store.get(ShardName(name)), store.delete(ShardName(name))):
        with pytest.raises(StoreRejected):
            await call


async def test_a_closed_store_is_unavailable(store: DirectoryStore) -> None:
    await store.put(NAME, [b"x"])
    await store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.get(NAME)


async def test_names_may_lie_deeper(store: DirectoryStore) -> None:
    for name in ("journal/00/01", "journal/00/02", "journal/01/01", "top"):
        await store.put(ShardName(name), [b"x"])
    assert sorted([name async for name, _ in store.list("journal/0")]) == ["journal/00/01", "journal/00/02", "journal/01/01"]
    assert sorted([name async for name, _ in store.list("journal/00/")]) == ["journal/00/01", "journal/00/02"]
    assert len([name async for name, _ in store.list()]) == 4


@pytest.mark.parametrize("mount_point", [False, True])
async def test_a_directory_that_should_be_there_is_never_made_and_serves_once_it_is(root: Path, opened: Opener, mount_point: bool) -> None:
    disk = root.with_name("disk")
    first = opened(root)
    await first.put(NAME, [b"x"])
    root.rename(disk)
    if mount_point:
        root.mkdir()
    again = opened(root, create=False)
    assert (first.present, again.present) == (True, False)
    with pytest.raises(StoreUnavailable, match="not mounted"):
        await again.get(NAME)
    with pytest.raises(StoreUnavailable, match="not mounted"):
        await again.put(NAME, [b"y"])
    assert not root.exists() or not list(root.iterdir())
    disk.rename(root)
    assert await again.get(NAME) == b"x"


async def test_pipes_in_place_of_shards_are_no_shards_and_keep_no_thread(store: DirectoryStore, root: Path) -> None:
    (root / "ab").mkdir()
    for number in range(2 * LANES):
        os.mkfifo(root / f"ab/{number}")
    async with asyncio.timeout(PATIENCE_SECONDS):
        for number in range(LANES):
            with pytest.raises(StoreUnavailable, match="Illegal seek"):
                await store.get_range(ShardName(f"ab/{number}"), 0, 5)
            with pytest.raises(StoreUnavailable, match="Illegal seek"):
                await store.get(ShardName(f"ab/{LANES + number}"))
        await store.put(NAME, [b"shard"])
        assert await store.get(NAME) == b"shard"
