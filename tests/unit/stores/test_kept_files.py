"""What lies in memory of a directory's shards is read on the event loop, which never waits for the disk, and nothing stale is read."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from proxy.clock import ManualClock
from proxy.errors import FilesExhausted, ShardMissing, StoreUnavailable
from proxy.lanes import Lanes
from proxy.stores.cached_names import OpenCached, find_open_cached
from proxy.stores.directory import DirectoryStore
from proxy.stores.kept_files import AT_ONCE_SIZE, KEPT_SECONDS, MAX_DROPPED, KeptFiles, OpenFile, files_to_keep, folders_to_keep
from proxy.stores.late import LateStore
from proxy.stores.limit import LimitedStore
from proxy.stores.observe import ObservedStore
from proxy.stores.protocol import ShardName, Store, StoreName
from proxy.stores.root import LOOK_AHEAD_SECONDS, LOOK_SECONDS, HeldRoot
from tests.patience import PATIENCE_SECONDS
from tests.unit.stores.conftest import INFO, NAME

DATA = os.urandom(AT_ONCE_SIZE + 1)
ATTEMPTS = 20  # to put a file out of memory


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[DirectoryStore]:
    opened = DirectoryStore(INFO, tmp_path / "store", create=True)
    await opened.put(NAME, [DATA])
    yield opened
    await opened.close()


def _is_open(path: Path) -> bool:
    links = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of the listing itself
            links.append(str(link.readlink()))
    return any(link.removesuffix(" (deleted)") == str(path) for link in links)


async def test_a_range_that_is_in_memory_is_read_without_a_thread(store: DirectoryStore) -> None:
    assert store.read_at_once(NAME, 0, 5) is None, "nobody has opened it yet"
    assert await store.get_range(NAME, 0, 5) == DATA[:5]
    assert store.read_at_once(NAME, 3, 1000) == DATA[3:1003]
    assert await store.get_range(NAME, 1, AT_ONCE_SIZE) == DATA[1:]


async def test_many_who_read_from_one_shard_at_a_time_open_it_once(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    read = store._read_and_keep
    monkeypatch.setattr(store, "_read_and_keep", lambda *asked: opened.append(asked) or read(*asked))
    parts = await asyncio.gather(*(store.get_range(NAME, start, 10) for start in range(20)))
    assert parts == [DATA[start : start + 10] for start in range(20)]
    assert len(opened) == 1
    assert store._opening == {}


async def test_who_waits_for_another_to_open_a_shard_does_not_fail_with_him(store: DirectoryStore) -> None:
    with pytest.raises(ShardMissing):
        await store.get_range(ShardName("00/missing"), 0, 5)
    first, second = (asyncio.ensure_future(store.get_range(NAME, start, 5)) for start in (len(DATA) - 2, 0))
    with pytest.raises(ShardMissing):
        await first
    assert await second == DATA[:5]
    assert store._opening == {}


async def test_who_waits_for_another_to_open_a_shard_goes_on_when_he_leaves(store: DirectoryStore) -> None:
    first, second = (asyncio.ensure_future(store.get_range(NAME, start, 5)) for start in (3, 0))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == DATA[:5]
    assert store._opening == {}


async def test_what_was_put_lately_is_opened_without_a_thread(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    _needs_cached_names()
    names = [ShardName(f"0{number}/shard") for number in range(9)]
    for name in names:
        await store.put(name, [name.encode()])
    assert store.read_at_once(names[0], 0, 8) is None, "nobody knows yet whether this disk can read without waiting"
    await store.get_range(NAME, 0, 5)
    assert store.read_at_once(NAME, 0, 5) == DATA[:5]
    in_threads: list[object] = []
    run = store._lanes.run
    monkeypatch.setattr(store._lanes, "run", lambda *call, **how: in_threads.append(call) or run(*call, **how))
    assert [await store.get_range(name, 0, 8) for name in names] == [name.encode() for name in names]
    assert len(in_threads) < len(names) / 2, "a few may be: while anything is renamed anywhere, the kernel does not look for a name"


async def test_a_shard_that_was_deleted_is_not_opened_again(store: DirectoryStore) -> None:
    _needs_cached_names()
    await store.get_range(NAME, 0, 5)
    assert store.read_at_once(NAME, 0, 5) is not None
    await store.delete(NAME)
    assert store.read_at_once(NAME, 0, 5) is None


def _needs_cached_names() -> None:
    if find_open_cached() is None:
        pytest.skip("this kernel opens no file without waiting")


async def test_a_little_does_not_wait_for_who_reads_much(store: DirectoryStore) -> None:
    much = asyncio.ensure_future(store.get_range(NAME, 0, AT_ONCE_SIZE + 1))
    await asyncio.sleep(0)
    assert store._opening == {}
    assert await store.get_range(NAME, 0, 5) == DATA[:5]
    assert await much == DATA


async def test_a_store_that_is_opened_late_has_nothing_at_once_before(store: DirectoryStore) -> None:
    await store.get_range(NAME, 0, 5)
    opening: asyncio.Future[Store] = asyncio.get_running_loop().create_future()
    late = ObservedStore(LimitedStore(LateStore(INFO, opening), concurrency=1, put_seconds=10, get_seconds=10), ManualClock())
    assert late.read_at_once(NAME, 0, 5) is None
    opening.set_result(store)
    assert late.read_at_once(NAME, 0, 5) == DATA[:5]


async def test_the_event_loop_does_not_wait_for_what_is_on_the_disk_alone(store: DirectoryStore, tmp_path: Path) -> None:
    await store.get_range(NAME, 0, 5)
    path = tmp_path / "store" / NAME
    for _ in range(ATTEMPTS):
        _put_out_of_memory(path)
        if store.read_at_once(NAME, 0, 5) is None:
            break
    else:
        _put_out_of_memory(path)
        with path.open("rb") as file, suppress(BlockingIOError):
            os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT)
            pytest.skip("this file system keeps everything in memory")
        pytest.fail("it was read from the disk")
    assert await store.get_range(NAME, 0, 5) == DATA[:5]


def _put_out_of_memory(path: Path) -> None:
    """Whoever asks for it next, even without waiting, has the kernel begin to read it again. It may keep a page it works on."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


async def test_a_large_range_is_left_to_the_threads(store: DirectoryStore) -> None:
    await store.get_range(NAME, 0, 5)
    assert store.read_at_once(NAME, 0, AT_ONCE_SIZE) is not None
    assert store.read_at_once(NAME, 0, AT_ONCE_SIZE + 1) is None


async def test_a_file_of_which_a_large_range_was_read_is_kept_for_the_next_small_one(store: DirectoryStore) -> None:
    assert await store.get_range(NAME, 0, AT_ONCE_SIZE + 1) == DATA
    assert store.read_at_once(NAME, 3, 1000) == DATA[3:1003]


async def test_a_range_that_ends_behind_the_shard_is_missing(store: DirectoryStore) -> None:
    await store.get_range(NAME, 0, 5)
    assert store.read_at_once(NAME, len(DATA) - 2, 3) is None
    with pytest.raises(ShardMissing):
        await store.get_range(NAME, len(DATA) - 2, 3)


async def test_a_deleted_shard_is_missing_at_once_and_gives_its_room_back(store: DirectoryStore, tmp_path: Path) -> None:
    await store.get_range(NAME, 0, 5)
    assert _is_open(tmp_path / "store" / NAME)
    await store.delete(NAME)
    assert store.read_at_once(NAME, 0, 5) is None
    with pytest.raises(ShardMissing):
        await store.get_range(NAME, 0, 5)
    assert not _is_open(tmp_path / "store" / NAME)


async def test_a_disk_that_was_exchanged_is_not_read_on(store: DirectoryStore, tmp_path: Path) -> None:
    await store.get_range(NAME, 0, 5)
    other = DirectoryStore(msgspec.structs.replace(INFO, name=StoreName("other")), tmp_path / "other", create=True)
    (tmp_path / "store").rename(tmp_path / "away")
    (tmp_path / "other").rename(tmp_path / "store")
    store._root._looked_at -= 2 * LOOK_SECONDS
    assert store.read_at_once(NAME, 0, 5) is None
    with pytest.raises(StoreUnavailable, match="is the disk of store other"):
        await store.get_range(NAME, 0, 5)
    assert store.read_at_once(NAME, 0, 5) is None
    await other.close()


async def test_a_directory_that_hangs_is_not_relied_on(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.get_range(NAME, 0, 5)
    real, go_on = os.stat, threading.Event()
    monkeypatch.setattr(os, "stat", lambda path, **options: (go_on.wait(PATIENCE_SECONDS), real(path, **options))[1])
    store._root._looked_at -= 2 * LOOK_SECONDS
    reading = asyncio.create_task(store.get_range(NAME, 0, 5))
    await asyncio.sleep(0)
    assert not reading.done()
    go_on.set()
    assert await reading == DATA[:5]


class Looks:
    """Looks at a store's path, which are counted, and end only when told."""

    def __init__(self, store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self._store = store
        self._look = store._root.opened
        self._may_end, self._ended = threading.Event(), threading.Event()
        self.count = 0
        monkeypatch.setattr(store._root, "opened", self._counted)

    def _counted(self) -> HeldRoot:
        self.count += 1
        self._may_end.wait(PATIENCE_SECONDS)
        try:
            return self._look()
        finally:
            self._ended.set()

    async def end(self) -> None:
        """Let the one that was begun end."""
        self._may_end.set()
        assert await asyncio.to_thread(self._ended.wait, PATIENCE_SECONDS)
        assert self._store._look_under_way is not None
        await self._store._look_under_way


async def test_who_goes_on_reading_waits_for_no_look_at_the_path(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.get_range(NAME, 0, 5)
    looks = Looks(store, monkeypatch)
    store._root._looked_at -= LOOK_AHEAD_SECONDS
    assert [store.read_at_once(NAME, 0, 5) for _ in range(3)] == [DATA[:5]] * 3
    await looks.end()
    assert looks.count == 1
    assert not store._root.is_look_due
    assert store.read_at_once(NAME, 0, 5) == DATA[:5]
    assert looks.count == 1


async def test_a_look_for_which_there_is_no_thread_is_made_once_there_is_one(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    await store.get_range(NAME, 0, 5)
    store._lanes.close()
    store._lanes = Lanes(1, name="new")
    looks = Looks(store, monkeypatch)
    store._root._looked_at -= LOOK_AHEAD_SECONDS
    with monkeypatch.context() as scarce:
        scarce.setattr(threading.Thread, "start", refuse)
        assert store.read_at_once(NAME, 0, 5) == DATA[:5]
    assert store.read_at_once(NAME, 0, 5) == DATA[:5]
    await looks.end()
    assert looks.count == 1


async def test_a_look_that_does_not_end_is_the_only_one_and_soon_nothing_is_read(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.get_range(NAME, 0, 5)
    looks = Looks(store, monkeypatch)
    store._root._looked_at -= LOOK_AHEAD_SECONDS
    store.read_at_once(NAME, 0, 5)
    store._root._looked_at -= LOOK_SECONDS
    assert [store.read_at_once(NAME, 0, 5) for _ in range(3)] == [None] * 3
    await looks.end()
    assert looks.count == 1
    assert store.read_at_once(NAME, 0, 5) == DATA[:5]


async def test_when_the_path_is_gone_at_a_look_nothing_is_read_any_more(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.get_range(NAME, 0, 5)
    looks = Looks(store, monkeypatch)
    (tmp_path / "store").rename(tmp_path / "away")
    store._root._looked_at -= LOOK_AHEAD_SECONDS
    store.read_at_once(NAME, 0, 5)
    await looks.end()
    assert store.read_at_once(NAME, 0, 5) is None


async def test_a_store_that_is_closed_before_a_look_was_begun_says_nothing(store: DirectoryStore, caplog: pytest.LogCaptureFixture) -> None:
    await store.get_range(NAME, 0, 5)
    store._root._looked_at -= LOOK_AHEAD_SECONDS
    store.read_at_once(NAME, 0, 5)
    await store.close()
    assert store.read_at_once(NAME, 0, 5) is None
    gc.collect()
    await asyncio.sleep(0)
    assert not caplog.records


class Folder:
    """Files to keep, with a clock that moves when told."""

    def __init__(self, path: Path) -> None:
        self.now = 1000.0
        self.root = HeldRoot(str(path))
        self._path = path

    def kept(self, limit: int, *, open_cached: OpenCached | None = None) -> KeptFiles:
        return KeptFiles(limit, open_cached=open_cached, now=lambda: self.now)

    def opened(self, name: str, root: HeldRoot | None = None) -> OpenFile:
        (self._path / name).write_bytes(name.encode())
        return OpenFile(root or self.root, os.open(self._path / name, os.O_RDONLY), self.now)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    made = Folder(tmp_path)
    yield made
    made.root.close()


def test_only_so_many_files_are_kept_and_the_oldest_are_closed(folder: Folder, tmp_path: Path) -> None:
    kept = folder.kept(2)
    for name in ("a", "b", "c"):
        kept.keep(name, folder.opened(name))
    assert [kept.read(folder.root, name, 0, 1) for name in ("a", "b", "c")] == [None, b"b", b"c"]
    kept.close_dropped()
    assert [_is_open(tmp_path / name) for name in ("a", "b", "c")] == [False, True, True]


def test_a_file_is_relied_on_for_a_few_seconds(folder: Folder, tmp_path: Path) -> None:
    kept = folder.kept(2)
    kept.keep("a", folder.opened("a"))
    folder.now += KEPT_SECONDS - 0.1
    assert kept.read(folder.root, "a", 0, 1) == b"a"
    folder.now += 0.1
    assert kept.read(folder.root, "a", 0, 1) is None
    kept.close_dropped()
    assert not _is_open(tmp_path / "a")


def test_no_read_waits_for_the_disk(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, flags, real = folder.kept(2), [], os.preadv
    kept.keep("a", folder.opened("a"))
    monkeypatch.setattr(os, "preadv", lambda file, data, start, asked=0: (flags.append(asked), real(file, data, start, asked))[1])
    assert kept.read(folder.root, "a", 0, 1) == b"a"
    assert flags == [os.RWF_NOWAIT]


def test_files_that_nobody_asks_for_are_closed_after_a_few_seconds_too(folder: Folder, tmp_path: Path) -> None:
    kept = folder.kept(9)
    for name in ("a", "b", "c"):
        kept.keep(name, folder.opened(name))
        folder.now += 1
    folder.now += KEPT_SECONDS - 2
    kept.drop_old()
    kept.close_dropped()
    assert [_is_open(tmp_path / name) for name in ("a", "b", "c")] == [False, False, True]


async def test_any_call_closes_files_that_were_kept_for_long(store: DirectoryStore, tmp_path: Path) -> None:
    await store.get_range(NAME, 0, 5)
    (tmp_path / "store" / NAME).unlink()  # by another process
    store._kept._files[NAME].opened_at -= KEPT_SECONDS
    await store.put(ShardName("another"), [b"x"])
    assert not _is_open(tmp_path / "store" / NAME)


async def test_who_reads_only_what_is_in_memory_gives_deleted_shards_their_room_back_too(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = ShardName("another")
    await store.put(other, [b"x"])
    for name in (NAME, other):
        await store.get_range(name, 0, 1)
    (tmp_path / "store" / NAME).unlink()  # by another process
    store._kept._files[NAME].opened_at -= KEPT_SECONDS
    looks = Looks(store, monkeypatch)
    store._root._looked_at -= LOOK_AHEAD_SECONDS
    assert store.read_at_once(other, 0, 1) == b"x"
    await looks.end()
    assert not _is_open(tmp_path / "store" / NAME)


async def test_when_files_run_out_those_that_are_kept_are_given_up(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object, **__: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    await store.get_range(NAME, 0, 5)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", exhausted)
        with pytest.raises(FilesExhausted):
            await store.put(ShardName("another"), [b"x"])
    assert store.read_at_once(NAME, 0, 5) is None
    assert await store.get_range(NAME, 0, 5) == DATA[:5]


def test_a_file_below_another_root_is_not_read(folder: Folder, tmp_path: Path) -> None:
    kept, other = folder.kept(2), HeldRoot(str(tmp_path))
    kept.keep("a", folder.opened("a"))
    assert kept.read(other, "a", 0, 1) is None
    other.close()


def test_a_file_system_that_cannot_tell_is_not_asked_again(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    def unable(*_: object) -> int:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    opening = Opening()
    kept = folder.kept(2, open_cached=opening)
    kept.keep("a", folder.opened("a"))
    folder.root.reads_at_once = True
    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", unable)
        assert kept.read(folder.root, "a", 0, 1) is None
    kept.keep("a", folder.opened("a"))
    assert kept.read(folder.root, "a", 0, 1) is None
    assert opening.count == 0


class Opening:
    """Opens any file at once, and counts."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, folder: int, path: str) -> int:
        self.count += 1
        return os.open(path, os.O_RDONLY, dir_fd=folder)


def test_a_file_is_opened_at_once_where_another_was_read_so(folder: Folder) -> None:
    opening = Opening()
    kept = folder.kept(9, open_cached=opening)
    folder.opened("b")
    assert kept.read(folder.root, "b", 0, 1) is None
    kept.keep("a", folder.opened("a"))
    assert kept.read(folder.root, "a", 0, 1) == b"a"
    assert opening.count == 0
    assert [kept.read(folder.root, "b", 0, 1) for _ in range(3)] == [b"b"] * 3
    assert opening.count == 1


def test_on_a_disk_that_was_exchanged_no_file_is_opened_at_once_before_one_was_read_so(folder: Folder, tmp_path: Path) -> None:
    opening = Opening()
    kept, other = folder.kept(9, open_cached=opening), HeldRoot(str(tmp_path))
    kept.keep("a", folder.opened("a"))
    assert kept.read(folder.root, "a", 0, 1) == b"a"
    assert kept.read(other, "a", 0, 1) is None
    assert opening.count == 0
    other.close()


def test_a_file_that_was_relied_on_for_long_is_opened_again(folder: Folder) -> None:
    opening = Opening()
    kept = folder.kept(9, open_cached=opening)
    kept.keep("a", folder.opened("a"))
    assert kept.read(folder.root, "a", 0, 1) == b"a"
    folder.now += KEPT_SECONDS
    assert kept.read(folder.root, "a", 0, 1) == b"a"
    assert opening.count == 1


def test_of_files_opened_at_once_only_so_many_wait_to_be_closed(folder: Folder) -> None:
    opening = Opening()
    kept = folder.kept(1, open_cached=opening)
    kept.keep("a", folder.opened("a"))
    folder.opened("b")
    assert kept.read(folder.root, "a", 0, 1) == b"a"
    read = [kept.read(folder.root, "ba"[number % 2], 0, 1) for number in range(MAX_DROPPED + 2)]
    assert read == [b"b", b"a"] * (MAX_DROPPED // 2) + [None, b"a"]
    assert len(kept._dropped) == MAX_DROPPED
    kept.close_dropped()
    assert kept.read(folder.root, "b", 0, 1) == b"b"


def test_a_process_that_may_open_few_files_keeps_few(monkeypatch: pytest.MonkeyPatch) -> None:
    def limited(soft: int) -> Callable[[int], tuple[int, int]]:
        return lambda _: (soft, 1 << 20)  # what it might be raised to does not help

    monkeypatch.setattr("resource.getrlimit", limited(1024))
    assert (files_to_keep(), folders_to_keep()) == (32, 32)
    monkeypatch.setattr("resource.getrlimit", limited(20_000))
    assert (files_to_keep(), folders_to_keep()) == (625, 256)
    monkeypatch.setattr("resource.getrlimit", limited(1 << 20))
    assert (files_to_keep(), folders_to_keep()) == (1024, 256)


async def test_what_is_read_at_once_takes_no_turn_and_counts(store: DirectoryStore) -> None:
    calls: list[tuple[str, str, str]] = []
    limited = LimitedStore(store, concurrency=1, put_seconds=10, get_seconds=10)
    observed = ObservedStore(limited, ManualClock(), record=lambda name, verb, outcome, _: calls.append((name, verb, outcome)))
    await observed.get_range(NAME, 0, 5)
    usual = observed.latency_p95("get_range")
    reading = observed.get_range(NAME, 0, 7)
    with pytest.raises(StopIteration) as answered:
        reading.send(None)  # it ends without waiting for anything
    assert answered.value.value == DATA[:7]
    assert calls == [("s", "get_range", "ok")] * 2
    assert observed.answers == 2
    assert observed.latency_p95("get_range") == usual
