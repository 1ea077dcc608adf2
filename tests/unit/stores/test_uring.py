"""The ring does all of a chain or says that it did not, and a file that hangs takes no more than its directory's share."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.stores import uring
from proxy.stores.directory import DirectoryStore
from proxy.stores.protocol import ShardName
from proxy.stores.uring import MAX_SIZE, SHARE, Ring, RingFiles, open_ring
from tests.unit.stores.conftest import INFO


@pytest.fixture
async def ring() -> AsyncIterator[Ring]:
    opened = open_ring(directories=2)
    if opened is None:
        pytest.skip("this kernel or sandbox has no io_uring")
    yield opened
    await opened.close()


@pytest.fixture
def files(ring: Ring) -> RingFiles:
    return RingFiles(ring)


@pytest.fixture
def pipe(tmp_path: Path) -> str:
    """A file whose opening hangs until somebody writes to it."""
    path = str(tmp_path / "pipe")
    os.mkfifo(path)
    return path


def let_go(pipe: str) -> None:
    os.close(os.open(pipe, os.O_RDWR | os.O_NONBLOCK))


@pytest.mark.parametrize("durably", [True, False])
@pytest.mark.parametrize("size", [1, 5000, MAX_SIZE])
async def test_what_was_written_is_read(files: RingFiles, tmp_path: Path, durably: bool, size: int) -> None:
    data, path = os.urandom(size), str(tmp_path / "file")
    assert await files.write(f"{path}.new", path, [data[:1], memoryview(data)[1:]], fsync_folder=str(tmp_path) if durably else None)
    assert await files.read(path, 0, size) == data
    assert await files.read(path, size // 2, size - size // 2) == data[size // 2 :]
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    assert os.stat(path).st_mode & 0o777 == 0o600


async def test_many_files_at_once(ring: Ring, tmp_path: Path) -> None:
    async def one(number: int) -> None:
        files, path = RingFiles(ring), str(tmp_path / f"{number}")
        assert await files.write(f"{path}.new", path, [b"%d" % number], fsync_folder=str(tmp_path))
        assert await files.read(path, 0, len(str(number))) == b"%d" % number

    for _ in range(5):  # the queues go round
        await asyncio.gather(*(one(number) for number in range(400)))


async def test_a_chain_that_fails_changes_nothing_under_the_name(files: RingFiles, tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    assert not await files.write(f"{tmp_path}/absent/new", path, [b"data"], fsync_folder=None)
    Path(f"{path}.new").write_bytes(b"somebody else's")
    assert not await files.write(f"{path}.new", path, [b"data"], fsync_folder=None)
    assert Path(f"{path}.new").read_bytes() == b"somebody else's"
    assert not Path(path).exists()
    assert await files.write(f"{path}.newer", path, [b"data"], fsync_folder=None)


async def test_a_read_that_cannot_be_whole_is_none(files: RingFiles, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert await files.read(str(tmp_path / "file"), 3, 3) is None
    assert await files.read(str(tmp_path / "absent"), 0, 1) is None
    assert await files.read(str(tmp_path), 0, 1) is None
    assert await files.read(str(tmp_path / "file"), 3, 2) == b"45"


async def test_a_directory_that_hangs_takes_only_its_share(ring: Ring, files: RingFiles, pipe: str, tmp_path: Path) -> None:
    hanging = [asyncio.create_task(files.read(pipe, 0, 1)) for _ in range(SHARE)]
    await asyncio.sleep(0)
    assert files.under_way == SHARE
    assert await files.read(pipe, 0, 1) is None
    other = RingFiles(ring)
    assert await other.write(f"{tmp_path}/new", f"{tmp_path}/file", [b"data"], fsync_folder=str(tmp_path))
    assert await other.read(f"{tmp_path}/file", 0, 4) == b"data"
    while files.under_way:
        let_go(pipe)
        await asyncio.sleep(0.01)
    assert await asyncio.gather(*hanging) == [None] * SHARE


async def test_a_cancelled_call_keeps_its_place_until_it_has_ended(files: RingFiles, pipe: str) -> None:
    call = asyncio.create_task(files.read(pipe, 0, 1))
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert files.under_way == 1
    while files.under_way:
        let_go(pipe)
        await asyncio.sleep(0.01)


async def test_closing_does_not_wait_for_what_hangs(
    ring: Ring, files: RingFiles, pipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uring, "_CLOSE_SECONDS", 0.05)
    call = asyncio.create_task(files.read(pipe, 0, 1))
    await asyncio.sleep(0)
    await ring.close()
    assert await call is None
    assert not await files.write(f"{tmp_path}/new", f"{tmp_path}/file", [b"data"], fsync_folder=None)
    let_go(pipe)


async def test_what_the_kernel_has_no_memory_for_is_submitted_again(
    ring: Ring, files: RingFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused() -> None:
        raise BlockingIOError

    with monkeypatch.context() as patch:
        patch.setattr(ring._queues, "submit", refused)
        writes = [RingFiles(ring).write(f"{tmp_path}/new{n}", f"{tmp_path}/{n}", [b"data"], fsync_folder=str(tmp_path)) for n in range(200)]
        await asyncio.sleep(0.05)
        assert [write.done() for write in writes] == [False] * 128 + [True] * 72  # there are 1,024 entries, and 8 to each
    async with asyncio.timeout(10):
        assert await asyncio.gather(*writes) == [True] * 128 + [False] * 72
    assert await files.read(f"{tmp_path}/127", 0, 4) == b"data"
    assert len(ring._slots) == 512


def test_there_may_be_no_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> object:
        raise PermissionError

    monkeypatch.setattr(uring, "_Queues", refused)
    assert open_ring(directories=1) is None


class NoLanes:
    async def run(self, call: object) -> object:
        raise AssertionError("a thread was used")


async def test_a_small_shard_needs_no_thread_once_its_folder_is_known(ring: Ring, tmp_path: Path) -> None:
    store = DirectoryStore(INFO, tmp_path / "store", create=True, ring=ring)
    await store.put(ShardName("ab/one"), [b"first"])
    lanes, store._lanes = store._lanes, NoLanes()  # type: ignore[assignment]
    await store.put(ShardName("ab/two"), [b"sec", bytearray(b"ond")])
    assert await store.get_range(ShardName("ab/two"), 3, 3) == b"ond"
    store._lanes = lanes
    assert {name async for name, _ in store.list()} == {"ab/one", "ab/two"}
    await store.close()


async def test_beyond_the_share_a_put_is_one_call_of_a_thread(ring: Ring, tmp_path: Path) -> None:
    store = DirectoryStore(INFO, tmp_path / "store", create=True, ring=ring)
    await store.put(ShardName("ab/first"), [b"x"])
    run, calls = store._lanes.run, []
    store._lanes.run = lambda call: (calls.append(call), run(call))[1]  # type: ignore[method-assign]
    await asyncio.gather(*(store.put(ShardName(f"ab/{number}"), [b"x"]) for number in range(SHARE + 5)))
    assert len(calls) == 5
    await store.close()


async def test_a_folder_tidied_away_is_made_again(ring: Ring, tmp_path: Path) -> None:
    store = DirectoryStore(INFO, tmp_path / "store", create=True, ring=ring)
    await store.put(ShardName("ab/one"), [b"first"])
    (tmp_path / "store/ab/one").unlink()
    (tmp_path / "store/ab").rmdir()
    await store.put(ShardName("ab/two"), [b"second"])
    assert await store.get(ShardName("ab/two")) == b"second"
    assert sorted(path.name for path in (tmp_path / "store/ab").iterdir()) == ["two"]
    await store.close()
