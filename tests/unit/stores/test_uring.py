"""The ring does all of a chain or says that it did not, and a file that hangs takes no more than its directory's share."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from proxy.errors import StoreNotAsked, StoreUnavailable
from proxy.stores import uring
from proxy.stores.directory import DirectoryStore, Shared
from proxy.stores.protocol import ShardName, StoreName
from proxy.stores.ring_files import READ_SIZE, WRITE_SIZE, RingFiles
from proxy.stores.root import LOOK_SECONDS, HeldRoot
from proxy.stores.uring import SHARE, Ring, open_ring
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
def root(tmp_path: Path) -> HeldRoot:
    return HeldRoot(str(tmp_path))


@pytest.fixture
def pipe(tmp_path: Path) -> str:
    """A file whose opening hangs until somebody writes to it."""
    path = str(tmp_path / "pipe")
    os.mkfifo(path)
    return path


def let_go(pipe: str) -> None:
    os.close(os.open(pipe, os.O_RDWR | os.O_NONBLOCK))


@pytest.mark.parametrize("durably", [True, False])
@pytest.mark.parametrize("size", [1, 5000, WRITE_SIZE])
@pytest.mark.parametrize("folder", ["", "ab", "ab/cd"])
async def test_what_was_written_is_read(files: RingFiles, root: HeldRoot, tmp_path: Path, folder: str, durably: bool, size: int) -> None:
    data, path = os.urandom(size), f"{folder}/file".lstrip("/")
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    assert await files.write(root, folder, "new", "file", [data[:1], memoryview(data)[1:]], fsync=durably)
    assert await files.read(root, path, 0, size) == data
    assert await files.read(root, path, size // 2, size - size // 2) == data[size // 2 :]
    assert [entry.name for entry in (tmp_path / folder).iterdir()] == ["file"]
    assert (tmp_path / path).stat().st_mode & 0o777 == 0o600


async def test_a_large_range_is_read(files: RingFiles, root: HeldRoot, tmp_path: Path) -> None:
    data = os.urandom(READ_SIZE + 1)
    (tmp_path / "file").write_bytes(data)
    assert await files.read(root, "file", 1, READ_SIZE) == data[1:]


async def test_no_symbolic_link_is_followed(files: RingFiles, root: HeldRoot, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/file").write_bytes(b"data")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "file").symlink_to("real/file")
    assert await files.read(root, "real/file", 0, 4) == b"data"
    assert await files.read(root, "link/file", 0, 4) is None
    assert await files.read(root, "file", 0, 4) is None
    assert await files.read(root, "../file", 0, 4) is None
    assert not await files.write(root, "link", "new", "other", [b"data"], fsync=True)
    assert [entry.name for entry in (tmp_path / "real").iterdir()] == ["file"]


async def test_many_files_at_once(ring: Ring, root: HeldRoot) -> None:
    async def one(number: int) -> None:
        files = RingFiles(ring)
        assert await files.write(root, "", f"new{number}", f"{number}", [b"%d" % number], fsync=True)
        assert await files.read(root, f"{number}", 0, len(str(number))) == b"%d" % number

    for _ in range(5):  # the queues go round
        await asyncio.gather(*(one(number) for number in range(400)))


async def test_a_chain_that_fails_changes_nothing_under_the_name(files: RingFiles, root: HeldRoot, tmp_path: Path) -> None:
    assert not await files.write(root, "absent", "new", "file", [b"data"], fsync=False)
    (tmp_path / "new").write_bytes(b"somebody else's")
    assert not await files.write(root, "", "new", "file", [b"data"], fsync=False)
    assert (tmp_path / "new").read_bytes() == b"somebody else's"
    assert not (tmp_path / "file").exists()
    assert await files.write(root, "", "newer", "file", [b"data"], fsync=False)


async def test_a_read_that_cannot_be_whole_is_none(files: RingFiles, root: HeldRoot, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert await files.read(root, "file", 3, 3) is None
    assert await files.read(root, "absent", 0, 1) is None
    assert await files.read(root, ".", 0, 1) is None
    assert await files.read(root, "file", 3, 2) == b"45"


async def test_a_directory_that_hangs_takes_only_its_share(ring: Ring, files: RingFiles, root: HeldRoot, pipe: str) -> None:
    hanging = [asyncio.create_task(files.read(root, "pipe", 0, 1)) for _ in range(SHARE)]
    await asyncio.sleep(0)
    assert files.share.under_way == SHARE
    assert await files.read(root, "pipe", 0, 1) is None
    other = RingFiles(ring)
    assert await other.write(root, "", "new", "file", [b"data"], fsync=True)
    assert await other.read(root, "file", 0, 4) == b"data"
    while files.share.under_way:
        let_go(pipe)
        await asyncio.sleep(0.01)
    assert await asyncio.gather(*hanging) == [None] * SHARE


async def test_a_cancelled_call_keeps_its_place_until_it_has_ended(files: RingFiles, root: HeldRoot, pipe: str) -> None:
    call = asyncio.create_task(files.read(root, "pipe", 0, 1))
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert files.share.under_way == 1
    while files.share.under_way:
        let_go(pipe)
        await asyncio.sleep(0.01)


async def test_closing_does_not_wait_for_what_hangs(
    ring: Ring, files: RingFiles, root: HeldRoot, pipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uring, "_CLOSE_SECONDS", 0.05)
    call = asyncio.create_task(files.read(root, "pipe", 0, 1))
    await asyncio.sleep(0)
    await ring.close()
    assert await call is None
    assert not await files.write(root, "", "new", "file", [b"data"], fsync=False)
    let_go(pipe)


async def test_what_the_kernel_has_no_memory_for_is_submitted_again(
    ring: Ring, files: RingFiles, root: HeldRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused() -> None:
        raise BlockingIOError

    with monkeypatch.context() as patch:
        patch.setattr(ring._queues, "submit", refused)
        writes = [RingFiles(ring).write(root, "", f"new{n}", f"{n}", [b"data"], fsync=True) for n in range(200)]
        await asyncio.sleep(0.05)
        assert [write.done() for write in writes] == [False] * 128 + [True] * 72  # there are 1,024 entries, and 8 to each
    async with asyncio.timeout(10):
        assert await asyncio.gather(*writes) == [True] * 128 + [False] * 72
    assert await files.read(root, "127", 0, 4) == b"data"
    assert len(ring._slots) == 512


def test_there_may_be_no_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> object:
        raise PermissionError

    monkeypatch.setattr(uring, "Queues", refused)
    assert open_ring(directories=1) is None


class NoLanes:
    async def run(self, call: object) -> object:
        raise AssertionError("a thread was used")


async def test_a_small_shard_needs_no_thread_once_its_folder_is_known(ring: Ring, tmp_path: Path) -> None:
    store = DirectoryStore(INFO, tmp_path / "store", create=True, shared=Shared(ring))
    await store.put(ShardName("ab/one"), [b"first"])
    lanes, store._lanes = store._lanes, NoLanes()  # type: ignore[assignment]
    await store.put(ShardName("ab/two"), [b"sec", bytearray(b"ond")])
    assert await store.get_range(ShardName("ab/two"), 3, 3) == b"ond"
    store._lanes = lanes
    assert {name async for name, _ in store.list()} == {"ab/one", "ab/two"}
    await store.close()


async def test_beyond_the_share_a_put_is_one_call_of_a_thread(ring: Ring, tmp_path: Path) -> None:
    store = DirectoryStore(INFO, tmp_path / "store", create=True, shared=Shared(ring))
    await store.put(ShardName("ab/first"), [b"x"])
    run, calls = store._lanes.run, []
    store._lanes.run = lambda call: (calls.append(call), run(call))[1]  # type: ignore[method-assign]
    await asyncio.gather(*(store.put(ShardName(f"ab/{number}"), [b"x"]) for number in range(SHARE + 5)))
    assert len(calls) == 5
    await store.close()


async def test_a_folder_tidied_away_is_made_again(ring: Ring, tmp_path: Path) -> None:
    store = DirectoryStore(INFO, tmp_path / "store", create=True, shared=Shared(ring))
    await store.put(ShardName("ab/one"), [b"first"])
    (tmp_path / "store/ab/one").unlink()
    (tmp_path / "store/ab").rmdir()
    await store.put(ShardName("ab/two"), [b"second"])
    assert await store.get(ShardName("ab/two")) == b"second"
    assert sorted(path.name for path in (tmp_path / "store/ab").iterdir()) == ["two"]
    await store.close()


async def test_a_disk_that_is_exchanged_is_not_written_by_the_ring(ring: Ring, tmp_path: Path) -> None:
    paths = [tmp_path / "store", tmp_path / "other"]
    infos = [INFO, msgspec.structs.replace(INFO, name=StoreName("other"))]
    stores = [DirectoryStore(info, path, create=True, shared=Shared(ring)) for info, path in zip(infos, paths, strict=True)]
    for store in stores:
        await store.put(ShardName("ab/one"), [b"first"])
    paths[0].rename(tmp_path / "away")
    paths[1].rename(paths[0])
    with suppress(StoreUnavailable):
        await stores[0].put(ShardName("ab/two"), [b"second"])
    assert [path.name for path in (paths[0] / "ab").iterdir()] == ["one"]
    stores[0]._root._looked_at -= 2 * LOOK_SECONDS
    for call in (stores[0].put(ShardName("ab/two"), [b"second"]), stores[0].get_range(ShardName("ab/one"), 0, 1)):
        with pytest.raises(StoreUnavailable, match="is the disk of store other"):
            await call
    for store in stores:
        await store.close()


async def test_what_the_ring_may_have_stored_is_not_said_to_be_unasked(ring: Ring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DirectoryStore(INFO, tmp_path / "store", create=True, shared=Shared(ring))
    await store.put(ShardName("ab/one"), [b"first"])

    def no_file(*_: object, **__: object) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    failed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    failed.set_result(False)
    monkeypatch.setattr(ring, "run", lambda *_, **__: failed)
    monkeypatch.setattr(os, "open", no_file)
    with pytest.raises(StoreUnavailable) as caught:
        await store.put(ShardName("ab/two"), [b"second"])
    assert not isinstance(caught.value, StoreNotAsked)
    await store.close()
