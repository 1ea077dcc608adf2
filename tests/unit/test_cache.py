"""The cache's memory and its directory: what they keep, for how long, and within which bounds."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from stat import S_IMODE

import pytest

from proxy.engine.cache.disk import LATE_TO_TURN_OFF, CacheDisk
from proxy.engine.cache.folder import BLOCK_SIZE, SHELVES, CacheFolder, shelf_of
from proxy.engine.cache.keys import CacheKey, cell_key, slot_key
from proxy.engine.cache.memory import ENTRY_BYTES, SealedMemory
from proxy.engine.tasks import BackgroundTasks
from proxy.manifest.records import SegmentId
from tests.patience import PATIENCE_SECONDS

SEGMENT = SegmentId(bytes(16))
KIB = 1024


SHELF = "07"


def keys(count: int) -> list[CacheKey]:
    """Return keys that share a shelf."""
    of_shelf = (key for stripe in itertools.count() if shelf_of(key := cell_key(SEGMENT, 0, stripe)) == SHELF)
    return list(itertools.islice(of_shelf, count))


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.rglob("*") if file.is_file()}


def on_disk(folder: Path) -> int:
    return sum(-(-file.stat().st_size // BLOCK_SIZE) * BLOCK_SIZE for file in folder.rglob("*") if file.is_file())


def test_no_two_things_have_one_key() -> None:
    made = [cell_key(SEGMENT, column, stripe) for column in (0, 1, 31) for stripe in (0, 1, 255)]
    made += [slot_key(SEGMENT, offset) for offset in (0, 1, 255, 4_000_000)]
    assert len(set(made)) == len(made)
    assert {len(key) for key in made} == {21}


def test_the_cells_of_one_segment_are_spread_over_all_shelves() -> None:
    shelves = Counter(shelf_of(cell_key(SEGMENT, column, stripe)) for column in range(4) for stripe in range(256))
    assert len(shelves) > 200
    assert max(shelves.values()) < 20


def test_memory_keeps_what_fits_and_forgets_what_was_not_asked_for_longest() -> None:
    memory = SealedMemory(10 * (1000 + ENTRY_BYTES))
    for key in keys(11):
        memory.put(key, bytes(1000))
    assert [memory.get(key) is not None for key in keys(11)] == [False] + [True] * 10
    assert memory.held_bytes == 10 * (1000 + ENTRY_BYTES)


def test_what_was_asked_for_again_outlives_whatever_is_read_once() -> None:
    memory = SealedMemory(100 * (1000 + ENTRY_BYTES))
    wanted, *others = keys(1000)
    memory.put(wanted, b"w" * 1000)
    assert memory.get(wanted) == b"w" * 1000
    for key in others:
        memory.put(key, bytes(1000))
    assert memory.get(wanted) == b"w" * 1000


def test_what_was_asked_for_again_does_not_take_all_the_memory_for_good() -> None:
    memory = SealedMemory(10 * (1000 + ENTRY_BYTES))
    for key in keys(10):
        memory.put(key, bytes(1000))
        memory.get(key)
    newest = keys(11)[-1]
    memory.put(newest, b"new")
    assert memory.get(newest) == b"new"


def test_memory_counts_what_it_drops() -> None:
    memory = SealedMemory(100_000)
    once, kept, other = keys(3)
    for key in (once, kept, other):
        memory.put(key, bytes(1000))
    memory.get(kept)
    memory.drop(once)
    memory.drop(kept)
    memory.drop(kept)
    assert memory.held_bytes == 1000 + ENTRY_BYTES
    assert (memory.get(once), memory.get(kept)) == (None, None)


@pytest.mark.parametrize("capacity", [0, 1000])
def test_memory_takes_nothing_that_is_larger_than_itself(capacity: int) -> None:
    memory = SealedMemory(capacity)
    memory.put(keys(1)[0], bytes(1000))
    assert (memory.get(keys(1)[0]), memory.held_bytes) == (None, 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "below"


def opened(path: Path, *, shelf_kib: int = 1024) -> CacheFolder:
    cache = CacheFolder(path, capacity_bytes=SHELVES * shelf_kib * KIB)
    cache.make()
    return cache


def test_another_process_finds_what_one_has_kept_and_so_does_the_next_start(folder: Path) -> None:
    key, absent = keys(2)
    opened(folder).write([(key, b"sealed")])
    assert opened(folder).read({key: 6, absent: 6}) == {key: b"sealed"}


def test_nobody_else_can_read_the_directory(folder: Path) -> None:
    opened(folder).write([(keys(1)[0], b"sealed")])
    assert {S_IMODE(path.stat().st_mode) for path in (folder, *folder.rglob("*"))} == {0o700, 0o600}


@pytest.mark.parametrize("content", [b"", b"seal", b"sealed and more"])
def test_a_file_of_another_size_is_a_miss_and_goes(folder: Path, content: bytes) -> None:
    (key,) = keys(1)
    cache = opened(folder)
    cache.write([(key, b"sealed")])
    (file,) = [path for path in folder.rglob("*") if path.is_file()]
    file.write_bytes(content)
    assert cache.read({key: 6}) == {}
    assert not file.exists()


@pytest.mark.parametrize("make", [os.mkfifo, lambda file: file.symlink_to(__file__)])
def test_what_is_no_file_is_a_miss_and_goes(folder: Path, make: Callable[[Path], None]) -> None:
    """A pipe would hold the reader up for ever, and a link would keep it from all that is in order."""
    key, other = keys(2)
    cache = opened(folder)
    cache.write([(key, b"sealed"), (other, b"in order")])
    (file,) = folder.rglob(key.hex())
    file.unlink()
    make(file)
    assert cache.read({key: 6, other: 8}) == {other: b"in order"}
    assert not os.path.lexists(file)


def test_a_removed_entry_is_a_miss_and_may_be_removed_again(folder: Path) -> None:
    (key,) = keys(1)
    cache = opened(folder)
    cache.write([(key, b"sealed")])
    cache.remove(key)
    cache.remove(key)
    assert cache.read({key: 6}) == {}


def test_a_directory_that_was_emptied_while_it_is_used_is_filled_again(folder: Path) -> None:
    first, second = keys(2)
    cache = opened(folder)
    cache.write([(first, b"sealed")])
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert cache.read({first: 6}) == {}
    cache.write([(second, b"sealed")])
    assert cache.read({second: 6}) == {second: b"sealed"}


def _fill(cache: CacheFolder, made: list[CacheKey], size: int, *, since: int = 1_000_000_000) -> Iterator[None]:
    """Write entries one by one, each a second younger than the one before."""
    for number, key in enumerate(made):
        cache.write([(key, bytes(size))])
        file = cache._file(key)
        if file.exists():
            os.utime(file, (since + number, since + number))
        yield


def test_a_shelf_never_outgrows_its_bound_and_loses_its_oldest(folder: Path) -> None:
    cache = opened(folder, shelf_kib=1024)
    made = keys(200)
    for _ in _fill(cache, made, 16 * KIB):
        assert on_disk(folder) <= 1024 * KIB
    left = [key for key in made if cache.read({key: 16 * KIB})]
    assert left == made[-len(left) :]
    assert len(left) >= 48


def test_the_bound_holds_although_several_processes_fill_the_directory(folder: Path) -> None:
    caches = [opened(folder, shelf_kib=1024) for _ in range(4)]
    made = keys(400)
    filling = [_fill(cache, made[number::4], 16 * KIB, since=1_000_000_000 + number) for number, cache in enumerate(caches)]
    for _ in zip(*filling, strict=True):
        assert on_disk(folder) <= 1024 * KIB
    assert on_disk(folder) > 512 * KIB


def test_a_bound_that_was_lowered_holds_from_the_next_write_on(folder: Path) -> None:
    list(_fill(opened(folder, shelf_kib=1024), keys(60), 16 * KIB))
    opened(folder, shelf_kib=256).write([(keys(61)[-1], bytes(16 * KIB))])
    assert on_disk(folder) <= 256 * KIB


def test_what_was_asked_for_lately_stays(folder: Path) -> None:
    cache = opened(folder, shelf_kib=1024)
    made = keys(100)
    wanted = made[0]
    for number, _ in enumerate(_fill(cache, made, 16 * KIB)):
        if number == 10:
            assert cache.read({wanted: 16 * KIB})
    assert cache.read({wanted: 16 * KIB})


def test_what_a_crash_left_counts_and_goes_and_what_others_keep_there_stays(folder: Path) -> None:
    cache = opened(folder, shelf_kib=256)
    shelf = folder / SHELF
    shelf.mkdir()
    left, foreign = shelf / ".tmp-0123456789abcdef-0", shelf / "notes.txt"
    left.write_bytes(bytes(200 * KIB))
    foreign.write_bytes(b"mine")
    os.utime(left, (1, 1))
    os.utime(foreign, (1, 1))
    list(_fill(cache, keys(10), 16 * KIB))
    assert not left.exists()
    assert foreign.read_bytes() == b"mine"


def test_an_entry_larger_than_a_shelf_is_not_kept(folder: Path) -> None:
    opened(folder, shelf_kib=32).write([(keys(1)[0], bytes(64 * KIB))])
    assert names(folder) == set()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine the disk may be late: it is not done without for that."""
    monkeypatch.setattr("proxy.engine.cache.disk.READ_SECONDS", 1000.0)
    monkeypatch.setattr("proxy.engine.cache.disk.WRITE_SECONDS", 1000.0)


class FullFolder(CacheFolder):
    """A directory on a disk without room."""

    def _write(self, shelf: str, key: CacheKey, sealed: bytes) -> None:
        raise OSError(28, "No space left on device")


class HangingFolder(CacheFolder):
    """A directory whose disk answers when the test ends."""

    def read(self, wanted: object) -> dict[CacheKey, bytes]:
        self.release.wait()
        return {}

    def __init__(self, path: Path, *, capacity_bytes: int) -> None:
        super().__init__(path, capacity_bytes=capacity_bytes)
        self.release = threading.Event()


async def test_a_full_disk_is_done_without_for_a_while_and_reads_go_on(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = keys(2)
    opened(folder).write([(first, b"sealed")])
    tasks = BackgroundTasks()
    disk = CacheDisk(FullFolder(folder, capacity_bytes=SHELVES * 1024 * KIB), tasks)
    disk.write(second, b"other")
    await tasks.drain(PATIENCE_SECONDS)
    assert await disk.read({first: 6, second: 5}) == {}
    assert [record.message for record in caplog.records if "No space left" in record.message] != []
    disk.write(second, b"other")
    assert tasks._tasks == set()  # nothing more is tried
    disk.close()


async def test_a_disk_that_hangs_holds_up_a_few_reads_for_a_moment_and_then_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.engine.cache.disk.READ_SECONDS", 0.01)
    hanging = HangingFolder(folder, capacity_bytes=SHELVES * 1024 * KIB)
    disk = CacheDisk(hanging, BackgroundTasks())
    (key,) = keys(1)
    async with asyncio.timeout(PATIENCE_SECONDS):
        for late in range(LATE_TO_TURN_OFF):
            assert not disk._is_off(), late
            assert await disk.read({key: 6}) == {}
        assert disk._is_off()
        assert await disk.read({key: 6}) == {}
    hanging.release.set()
    disk.close()


class SlowToRemove(CacheFolder):
    """A directory whose disk takes its time to remove a file."""

    def __init__(self, path: Path, *, capacity_bytes: int) -> None:
        super().__init__(path, capacity_bytes=capacity_bytes)
        self.go_on, self.begun = threading.Event(), threading.Event()

    def remove(self, key: CacheKey) -> None:
        self.begun.set()
        self.go_on.wait(PATIENCE_SECONDS)
        super().remove(key)


async def test_what_replaces_a_spoilt_entry_is_not_removed_in_its_stead(folder: Path) -> None:
    (key,) = keys(1)
    opened(folder).write([(key, b"spoilt")])
    slow, tasks = SlowToRemove(folder, capacity_bytes=SHELVES * 1024 * KIB), BackgroundTasks()
    disk = CacheDisk(slow, tasks)
    disk.remove(key)
    await asyncio.to_thread(slow.begun.wait, PATIENCE_SECONDS)
    disk.write(key, b"sealed")
    await asyncio.sleep(0)
    assert await disk.read({key: 6}) == {key: b"spoilt"}, "the other thread has nothing to write yet"
    slow.go_on.set()
    await tasks.drain(PATIENCE_SECONDS)
    assert await disk.read({key: 6}) == {key: b"sealed"}
    disk.close()


async def test_what_waits_to_be_written_is_bounded(folder: Path) -> None:
    tasks = BackgroundTasks()
    disk = CacheDisk(opened(folder, shelf_kib=64 * 1024), tasks)
    for key in keys(200):
        disk.write(key, bytes(64 * KIB))
    assert disk._pending_bytes <= 8 * KIB * KIB
    await tasks.drain(PATIENCE_SECONDS)
    assert len(names(folder)) == 128
    disk.close()


async def test_a_disk_for_which_there_is_no_thread_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = CacheDisk(CacheFolder(tmp_path, capacity_bytes=SHELVES * 1024 * KIB), BackgroundTasks())
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    assert await disk.read({keys(1)[0]: 10}) == {}
    disk.close()


def no_thread(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")
