"""Large shards go past the page cache where that can be done, and are whole in any case."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from proxy.errors import StoreUnavailable
from proxy.memory import PAGE_SIZE, unset_pages
from proxy.stores.direct import DIRECT_SIZE, O_DIRECT, UNSYNCED_DIRECT_SIZE, split_pages
from proxy.stores.directory import DirectoryStore
from proxy.stores.protocol import ShardName
from tests.unit.stores.conftest import INFO, NAME

FOOTER = b"the footer"
SIZES = [DIRECT_SIZE - 1, DIRECT_SIZE, DIRECT_SIZE + 1, DIRECT_SIZE + PAGE_SIZE, UNSYNCED_DIRECT_SIZE - 1, 3 * DIRECT_SIZE - 1, 2_000_003]
pytestmark = pytest.mark.skipif(not O_DIRECT, reason="this system writes through its cache only")


@pytest.fixture(params=[True, False], ids=["fsync", "no fsync"])
def fsync(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
async def store(tmp_path: Path, fsync: bool) -> AsyncIterator[DirectoryStore]:
    opened = DirectoryStore(INFO, tmp_path / "store", create=True, fsync=fsync)
    yield opened
    await opened.close()


def in_pages(data: bytes) -> memoryview:
    pages = unset_pages(len(data))
    pages[:] = data
    return pages


def in_runs(data: bytes) -> list[memoryview]:
    """Return data as sealed cells lie: in runs of whole pages, the last of them as long as what is left."""
    return [in_pages(data[start : start + 2 * PAGE_SIZE]) for start in range(0, len(data), 2 * PAGE_SIZE)]


def opened_with(monkeypatch: pytest.MonkeyPatch, *, refused: bool = False) -> list[int]:
    """Return the flags that new files are opened with from now on. `refused`: as by a file system that has no direct writes."""
    flags: list[int] = []
    real = os.open

    def opening(path: str, how: int, *args: int, **options: int) -> int:
        if how & os.O_CREAT:
            flags.append(how & O_DIRECT)
        if refused and how & O_DIRECT:
            os.close(real(path, how & ~O_DIRECT, *args, **options))  # as ext4 does with data in its journal
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real(path, how, *args, **options)

    monkeypatch.setattr(os, "open", opening)
    return flags


@pytest.mark.parametrize("size", SIZES)
async def test_what_was_written_is_read(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, fsync: bool, size: int) -> None:
    flags, data = opened_with(monkeypatch), os.urandom(size)
    await store.put(NAME, [*in_runs(data), FOOTER])
    assert bytes(await store.get(NAME)) == data + FOOTER
    assert flags == [O_DIRECT if size >= (DIRECT_SIZE if fsync else UNSYNCED_DIRECT_SIZE) else 0]


async def test_what_lies_in_no_whole_pages_goes_through_the_cache(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    flags, data = opened_with(monkeypatch), os.urandom(2 * DIRECT_SIZE)
    for number, pieces in enumerate(([data], [bytearray(data)], [b"", in_pages(data)], [in_pages(b"-" + data)[1:]])):
        await store.put(ShardName(f"ab/{number}"), pieces)
        assert bytes(await store.get(ShardName(f"ab/{number}"))) == data
    assert flags == [0, 0, 0, 0]


async def test_a_file_system_that_refuses_is_asked_once(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    flags, data = opened_with(monkeypatch, refused=True), os.urandom(UNSYNCED_DIRECT_SIZE)
    for name in ("ab/one", "ab/two"):
        await store.put(ShardName(name), [in_pages(data)])
        assert bytes(await store.get(ShardName(name))) == data
    assert flags == [O_DIRECT, 0, 0]
    assert sorted(path.name for path in (tmp_path / "store/ab").iterdir()) == ["one", "two"]


@pytest.mark.parametrize("written", [0, 8192])
async def test_a_disk_that_refuses_blocks_in_the_middle_gets_the_rest_through_the_cache(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    data, real, left = os.urandom(2 * DIRECT_SIZE + 5), os.writev, [written, 0]

    def writev(descriptor: int, pieces: Sequence[memoryview]) -> int:
        if not left:
            return real(descriptor, pieces)
        if (size := left.pop(0)) == 0:
            left.clear()
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real(descriptor, [pieces[0][:size]])

    monkeypatch.setattr(os, "writev", writev)
    await store.put(NAME, [*in_runs(data), FOOTER])
    assert bytes(await store.get(NAME)) == data + FOOTER


async def test_a_write_that_fails_leaves_nothing(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(descriptor: int, pieces: Sequence[memoryview]) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "writev", full)
    with pytest.raises(StoreUnavailable, match="No space left"):
        await store.put(NAME, [in_pages(bytes(UNSYNCED_DIRECT_SIZE))])
    assert list((tmp_path / "store/ab").iterdir()) == []


def test_a_body_is_split_behind_its_last_whole_page() -> None:
    two, more = in_pages(os.urandom(2 * PAGE_SIZE)), in_pages(os.urandom(PAGE_SIZE + 7))
    pages, rest = split_pages([two, more, two, FOOTER])
    assert pages == [two, more[:PAGE_SIZE]]
    assert list(rest) == [more[PAGE_SIZE:], two, FOOTER]
    assert split_pages([two]) == ([two], [])
    assert split_pages([two, two[16:], two]) == ([two], [two[16:], two])
    assert split_pages([more[:7], FOOTER]) == ([], [more[:7], FOOTER])
    assert split_pages([]) == ([], [])
