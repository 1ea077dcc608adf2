"""Large shards go past the page cache where that can be done, and are whole in any case."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.errors import StoreUnavailable
from proxy.stores.direct import BUFFER_SIZE, DIRECT_SIZE, MAX_BUFFERS, O_DIRECT, AlignedBuffers
from proxy.stores.directory import DirectoryStore
from proxy.stores.protocol import ShardName
from tests.unit.stores.conftest import INFO, NAME

SIZES = [DIRECT_SIZE - 1, DIRECT_SIZE, DIRECT_SIZE + 1, BUFFER_SIZE, BUFFER_SIZE + 4096, 3 * BUFFER_SIZE - 1, 2_000_003]
pytestmark = pytest.mark.skipif(not O_DIRECT, reason="this system writes through its cache only")


@pytest.fixture
def buffers() -> AlignedBuffers:
    return AlignedBuffers(BUFFER_SIZE)


@pytest.fixture(params=[True, False], ids=["fsync", "no fsync"])
async def store(request: pytest.FixtureRequest, tmp_path: Path, buffers: AlignedBuffers) -> AsyncIterator[DirectoryStore]:
    opened = DirectoryStore(INFO, tmp_path / "store", create=True, fsync=request.param, buffers=buffers)
    yield opened
    await opened.close()


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
async def test_what_was_written_is_read(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    flags, data = opened_with(monkeypatch), os.urandom(size)
    await store.put(NAME, [b"", data[:1], bytearray(data[1:70_000]), memoryview(data)[70_000:]])
    assert bytes(await store.get(NAME)) == data
    assert flags == [O_DIRECT if size >= DIRECT_SIZE else 0]


async def test_a_file_system_that_refuses_is_asked_once(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    flags, data = opened_with(monkeypatch, refused=True), os.urandom(DIRECT_SIZE)
    for name in ("ab/one", "ab/two"):
        await store.put(ShardName(name), [data])
        assert bytes(await store.get(ShardName(name))) == data
    assert flags == [O_DIRECT, 0, 0]
    assert sorted(path.name for path in (tmp_path / "store/ab").iterdir()) == ["one", "two"]


@pytest.mark.parametrize("blocks", [0, 1])
async def test_a_disk_that_refuses_blocks_in_the_middle_gets_the_rest_through_the_cache(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, blocks: int
) -> None:
    data, real, written = os.urandom(2 * BUFFER_SIZE + 5), os.write, [0]

    def write(descriptor: int, block: memoryview) -> int:
        if written[0] == blocks:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        written[0] += 1
        return real(descriptor, block[:8192])

    monkeypatch.setattr(os, "write", write)
    await store.put(NAME, [data])
    assert bytes(await store.get(NAME)) == data


async def test_where_all_buffers_are_lent_the_cache_is_used(
    store: DirectoryStore, buffers: AlignedBuffers, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags, data = opened_with(monkeypatch), os.urandom(DIRECT_SIZE)
    with buffers.lent() as buffer:
        assert buffer is not None
        await store.put(NAME, [data])
    await store.put(NAME, [data])
    assert flags == [0, O_DIRECT]


async def test_a_write_that_fails_gives_its_buffer_back_and_leaves_nothing(
    store: DirectoryStore, buffers: AlignedBuffers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(descriptor: int, block: memoryview) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(StoreUnavailable, match="No space left"):
            await store.put(NAME, [bytes(DIRECT_SIZE)])
    assert list((tmp_path / "store/ab").iterdir()) == []
    with buffers.lent() as buffer:
        assert buffer is not None


def test_the_buffers_are_bounded_and_say_what_they_take() -> None:
    assert AlignedBuffers(0).capacity_bytes == 0
    assert AlignedBuffers(3 * BUFFER_SIZE - 1).capacity_bytes == 2 * BUFFER_SIZE
    assert AlignedBuffers(10**12).capacity_bytes == MAX_BUFFERS * BUFFER_SIZE
