"""What the cache saves, and that it is trusted no more than a store."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import msgspec
import pytest

from proxy.config import CacheConfig, Config
from proxy.engine.cache.cache import RecordCache, SealedCache
from proxy.engine.cache.keys import cell_key
from proxy.engine.cache.memory import SealedMemory
from proxy.engine.cache.opening import open_cache
from proxy.engine.tasks import BackgroundTasks
from proxy.errors import ConfigError, NotEnoughShards
from proxy.manifest.records import SegmentId
from tests.laboratory import Laboratory, laboratory, laboratory_config
from tests.packs import store_pack

MIB = 1024 * 1024
SIZES = [1, 5000, 1_500_000, 9_000_000]

Open = Callable[[], AbstractAsyncContextManager[Laboratory]]


def with_cache(**settings: object) -> Callable[[Config], Config]:
    cache = msgspec.convert({"use": "always", **settings}, CacheConfig)
    return lambda config: msgspec.structs.replace(config, cache=cache)


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Laboratory]:
    async with laboratory(tmp_path, adjust=with_cache()) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def open_lab(tmp_path: Path, folder: Path) -> Open:
    """Start the same laboratory again and again: its memory is lost in between, and its directory stays."""
    return lambda: laboratory(tmp_path / "data", adjust=with_cache(directory=str(folder)))


def _asked(lab: Laboratory) -> int:
    return sum(len(store.ranges) for store in lab.stores.values())


def _forget(lab: Laboratory) -> None:
    for store in lab.stores.values():
        store.ranges.clear()


def _break(lab: Laboratory, fault: str, *names: str) -> None:
    for name in names or lab.stores:
        setattr(lab.stores[name], fault, True)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("size", SIZES)
async def test_what_was_read_is_not_asked_for_again(lab: Laboratory, size: int) -> None:
    data = os.urandom(size)
    await lab.put("k", data)
    assert await lab.get("k") == data
    _forget(lab)
    assert await lab.get("k") == data
    assert await lab.get("k", size // 2, 1) == data[size // 2 : size // 2 + 1]
    assert _asked(lab) == 0


async def test_a_slot_that_was_read_is_not_asked_for_again(lab: Laboratory) -> None:
    pack = await store_pack(lab, [os.urandom(size) for size in (4096, 100_000, 70_000)])
    for _ in range(2):
        assert [await pack.read(body) for body in range(3)] == list(pack.bodies)
    assert _asked(lab) == 3


async def test_without_clouds_nothing_is_cached_unless_it_is_asked_for(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        await lab.put("k", b"data" * 1000)
        for _ in range(2):
            assert await lab.get("k") == b"data" * 1000
        assert _asked(lab) == 8


@pytest.mark.parametrize("size", SIZES)
async def test_a_range_that_was_not_read_is_fetched(lab: Laboratory, size: int) -> None:
    data = os.urandom(size)
    await lab.put("k", data)
    half = size // 2
    assert await lab.get("k", half) == data[half:]
    assert await lab.get("k") == data


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("fault", ["down", "flips_bits", "truncates"])
async def test_what_others_stood_in_for_is_cached_as_well(lab: Laboratory, size: int, fault: str) -> None:
    data = os.urandom(size)
    await lab.put("k", data)
    _break(lab, fault, "alder", "dogwood")
    assert await lab.get("k") == data
    _break(lab, "down")
    assert await lab.get("k") == data


@pytest.mark.parametrize("fault", ["down", "flips_bits", "truncates"])
@pytest.mark.parametrize("liars", [1, 2])
async def test_a_slot_that_others_stood_in_for_is_cached_as_well(lab: Laboratory, fault: str, liars: int) -> None:
    pack = await store_pack(lab, [os.urandom(size) for size in (4096, 100_000, 70_000)])
    for body, content in enumerate(pack.bodies):
        broken = [pack.store_of(index) for index in (pack.slot(body).column, *pack.others(body)[: liars - 1])]
        _break(lab, fault, *broken)
        assert await pack.read(body) == content
        for name in broken:
            setattr(lab.stores[name], fault, False)
        lab.clock.advance(5)
    _break(lab, "down")
    assert [await pack.read(body) for body in range(3)] == list(pack.bodies)


async def test_the_directory_serves_after_a_restart_though_every_store_is_down(open_lab: Open) -> None:
    data = os.urandom(3 * MIB)
    async with open_lab() as lab:
        await lab.put("k", data)
        assert await lab.get("k") == data
        await lab.settled()
    async with open_lab() as lab:
        _break(lab, "down")
        assert await lab.get("k") == data
        assert _asked(lab) == 0


async def test_slots_are_in_the_directory_as_well(open_lab: Open) -> None:
    async with open_lab() as lab:
        pack = await store_pack(lab, [os.urandom(70_000)])
        assert await pack.read(0) == pack.bodies[0]
        await lab.settled()
    async with open_lab() as lab:
        _break(lab, "down")
        again = msgspec.structs.replace(pack.versions[0])
        reading = await lab.services.engine.open_read(again, lab.tenant, 0, again.size, extents=[pack.extent])
        assert b"".join([bytes(piece) async for piece in reading]) == pack.bodies[0]


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def _swap(file: Path) -> None:
    file.write_bytes(os.urandom(file.stat().st_size))


@pytest.mark.parametrize("damage", [_flip, _cut, _swap, Path.unlink], ids=["flipped", "cut", "replaced", "gone"])
async def test_a_damaged_file_is_a_miss_and_is_replaced(open_lab: Open, folder: Path, damage: Callable[[Path], None]) -> None:
    data = os.urandom(3 * MIB)
    async with open_lab() as lab:
        pack = await store_pack(lab, [os.urandom(5000)])
        await lab.put("k", data)
        assert await lab.get("k") == data
        assert await pack.read(0) == pack.bodies[0]
        await lab.settled()
    before = {file: file.read_bytes() for file in _files(folder)}
    for file in before:
        damage(file)
    async with open_lab() as lab:
        assert await lab.get("k") == data
        reading = await lab.services.engine.open_read(pack.versions[0], lab.tenant, 0, 5000, extents=[pack.extent])
        assert b"".join([bytes(piece) async for piece in reading]) == pack.bodies[0]
        assert _asked(lab) > 0
        await lab.settled()
        assert (await lab.services.manifest.count_damage()).by_store == {}  # no store is to blame
    assert {file: file.read_bytes() for file in _files(folder)} == before


async def test_files_of_one_object_do_not_pass_for_those_of_another(open_lab: Open, folder: Path) -> None:
    async with open_lab() as lab:
        await lab.put("a", b"a" * 5000)
        await lab.put("b", b"b" * 5000)
        assert [await lab.get("a"), await lab.get("b")] == [b"a" * 5000, b"b" * 5000]
        await lab.settled()
    files = _files(folder)
    contents = [file.read_bytes() for file in files]
    for file, content in zip(files, contents[1:] + contents[:1], strict=True):
        file.write_bytes(content)
    async with open_lab() as lab:
        assert [await lab.get("a"), await lab.get("b")] == [b"a" * 5000, b"b" * 5000]


async def test_what_is_in_the_directory_is_sealed(open_lab: Open, folder: Path) -> None:
    data = b"this must not be seen " * 10_000
    async with open_lab() as lab:
        pack = await store_pack(lab, [data[:50_000]])
        await lab.put("k", data)
        await lab.get("k")
        await pack.read(0)
        await lab.settled()
    assert len(_files(folder)) >= 5
    assert not any(b"must not be seen" in file.read_bytes() for file in _files(folder))


async def test_what_a_store_lies_about_is_never_cached(lab: Laboratory) -> None:
    data = os.urandom(200_000)
    await lab.put("k", data)
    _break(lab, "flips_bits", "alder", "birch", "cedar")
    with pytest.raises(NotEnoughShards):
        await lab.get("k")
    for store in lab.stores.values():
        store.flips_bits = False
    assert await lab.get("k") == data
    _break(lab, "down")
    assert await lab.get("k") == data


async def test_a_directory_that_does_not_take_files_is_done_without(open_lab: Open, folder: Path) -> None:
    async with open_lab() as lab:
        for number in range(256):
            (folder / f"{number:02x}").write_bytes(b"no folder")
        await lab.put("k", b"data" * 1000)
        for _ in range(3):
            assert await lab.get("k") == b"data" * 1000
        await lab.settled()
        assert await lab.get("k") == b"data" * 1000


async def test_with_no_memory_the_directory_serves_alone(tmp_path: Path, folder: Path) -> None:
    async with laboratory(tmp_path, adjust=with_cache(memory_mib=0, directory=str(folder))) as lab:
        data = os.urandom(MIB)
        await lab.put("k", data)
        assert await lab.get("k") == data
        await lab.settled()
        _forget(lab)
        assert await lab.get("k") == data
        assert _asked(lab) == 0


async def test_a_copy_reads_from_the_cache(lab: Laboratory) -> None:
    data = os.urandom(100_000)
    version = await lab.put("k", data)
    assert await lab.get("k") == data
    _forget(lab)
    keys = await lab.services.engine._read_keys(version, lab.tenant, None)
    source = await lab.services.parts.reader.open_source(version, keys, 0, version.size, run_size=MIB)
    assert b"".join([bytes(piece) async for piece in source.pieces]) == data
    assert _asked(lab) == 0


async def test_every_look_is_told_with_what_came_of_it() -> None:
    told: list[tuple[str, int]] = []
    held: list[int] = []
    cache = SealedCache(SealedMemory(MIB), None, RecordCache(lambda outcome, size: told.append((outcome, size)), held.append))
    there, absent = (cell_key(SegmentId(bytes(16)), 0, stripe) for stripe in range(2))
    cache.keep(there, b"sealed")
    await cache.recall({there: 6, absent: 6})
    cache.spoilt(there)
    await cache.recall({there: 6})
    assert told == [("memory", 6), ("miss", 0), ("spoilt", 0), ("miss", 0)]
    assert held[0] > 6
    assert held[-1] == 0


@pytest.mark.parametrize(("use", "kind", "is_used"), [
    ("clouds", "directory", False), ("clouds", "s3", True), ("clouds", "gcs", True), ("clouds", "azure", True), ("never", "s3", False),
])  # fmt: skip
async def test_clouds_are_cached_by_default(tmp_path: Path, use: str, kind: str, is_used: bool) -> None:
    config = with_cache(use=use)(laboratory_config(tmp_path))
    stores = {name: msgspec.structs.replace(store, kind=kind) for name, store in config.stores.items()}
    async with open_cache(msgspec.structs.replace(config, stores=stores), BackgroundTasks(), RecordCache(), workers=2) as cache:
        assert (cache is not None) == is_used


async def test_workers_have_the_memory_of_the_cache_together(tmp_path: Path) -> None:
    config = with_cache(memory_mib=2)(laboratory_config(tmp_path))
    async with open_cache(config, BackgroundTasks(), RecordCache(), workers=2) as cache:
        assert cache is not None
        first, second = (cell_key(SegmentId(bytes(16)), 0, stripe) for stripe in range(2))
        for key in (first, second):
            cache.keep(key, bytes(600 * 1024))
        assert set(await cache.recall({first: 600 * 1024, second: 600 * 1024})) == {second}


async def test_a_directory_that_cannot_be_made_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    config = with_cache(directory=str(tmp_path / "file" / "cache"))(laboratory_config(tmp_path))
    with pytest.raises(ConfigError, match=r"cache\.directory"):
        async with open_cache(config, BackgroundTasks(), RecordCache(), workers=1):
            pass
