"""The contract of a store, run on every kind that can be had here."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import boto3
import pytest

from bench.ports import free_port
from proxy.clock import ManualClock, SystemClock
from proxy.codec.column import RUN_SIZE
from proxy.config import StoreConfig
from proxy.errors import ShardMissing, StoreRejected, StoreUnavailable
from proxy.memory import unset_pages
from proxy.stores.build import open_store
from proxy.stores.convoy import Convoy
from proxy.stores.deadline import DeadlineStore
from proxy.stores.directory import DirectoryStore
from proxy.stores.limit import GatedStore, LimitedStore
from proxy.stores.observe import Condition, ObservedStore
from proxy.stores.protocol import ShardName, Store, StoreInfo, StoreName
from proxy.stores.upstream import azure_store, gcs_store, memory_store, s3_store
from tests.faulty_store import FaultyStore
from tests.servers import (
    AZURITE_ACCOUNT,
    AZURITE_KEY,
    azurite_server,
    create_azure_container,
    create_gcs_bucket,
    fake_gcs_server,
    find_azurite,
    find_fake_gcs,
    moto_servers,
)

INFO = StoreInfo(name=StoreName("s"), provider="p", region="us-east-1", jurisdiction="j")
NAME = ShardName("ab/abcdef-00")


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    with moto_servers([free_port()]) as (url,):
        yield url


@pytest.fixture(scope="session")
def azurite() -> Iterator[str]:
    program = find_azurite()
    if program is None:
        pytest.skip("azurite-blob is not installed: npm install --prefix .venv/node azurite, or name it in SHARDGATE_AZURITE")
    with azurite_server(program) as url:
        yield url


@pytest.fixture(scope="session")
def fake_gcs() -> Iterator[str]:
    program = find_fake_gcs()
    if program is None:
        pytest.skip("no wheel of fake-gcs-server for this platform: name the program in SHARDGATE_FAKE_GCS")
    with fake_gcs_server(program) as url:
        yield url


UPSTREAMS = ["s3", "gcs on s3", "gcs", "azure"]
KINDS = [
    "memory",
    "directory",
    "directory without fsync",
    *UPSTREAMS,
    "faulty",
    "gated",
    "deadline",
    "observed",
    "built",
]


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    made = await _make(request, tmp_path)
    yield made
    await made.close()


async def _make(request: pytest.FixtureRequest, path: Path) -> Store:
    match request.param:
        case "memory":
            return memory_store(INFO)
        case "directory":
            return DirectoryStore(INFO, path / "store", create=True)
        case "directory without fsync":
            return DirectoryStore(INFO, path / "store", create=True, fsync=False, convoy=Convoy())
        case "gcs on s3":
            return _moto_gcs_store(request.getfixturevalue("moto"))
        case "gcs":
            return _fake_gcs_store(request.getfixturevalue("fake_gcs"))
        case "azure":
            return _azurite_store(request.getfixturevalue("azurite"))
        case "faulty":
            return FaultyStore(memory_store(INFO))
        case "gated":
            return GatedStore(memory_store(INFO), concurrency=4)
        case "deadline":
            return DeadlineStore(memory_store(INFO), put_seconds=10, get_seconds=10)
        case "observed":
            return ObservedStore(memory_store(INFO), SystemClock())
        case "built":
            return await _built_store(path / "store")
        case _:
            return _moto_store(request.getfixturevalue("moto"), f"b-{os.urandom(6).hex()}")


async def _built_store(path: Path) -> Store:
    config = StoreConfig(kind="directory", provider="p", region="us-east-1", jurisdiction="j", path=str(path), concurrency=4)
    return (await open_store("s", config, clock=SystemClock(), create=True, open_seconds=10, put_seconds=10, get_seconds=10)).store


def _moto_gcs_store(url: str) -> Store:
    # obstore speaks Google's XML API, which is S3's but for the credentials. moto begins a list at `start-after` and pages it, which
    # fake-gcs-server does not: it lists all.
    bucket = f"b{os.urandom(6).hex()}"  # obstore encodes a hyphen in the path, and moto does not decode it in a bucket's name
    _create_bucket(url, bucket)
    return gcs_store(INFO, bucket=bucket, prefix="pre/fix", endpoint=url, anonymous=True)


def _fake_gcs_store(url: str) -> Store:
    bucket = f"b-{os.urandom(6).hex()}"
    create_gcs_bucket(url, bucket)
    return gcs_store(INFO, bucket=bucket, prefix="pre/fix", endpoint=url, anonymous=True)


def _azurite_store(url: str) -> Store:
    container = f"c-{os.urandom(6).hex()}"
    create_azure_container(url, container)
    return azure_store(INFO, container=container, account=AZURITE_ACCOUNT, account_key=AZURITE_KEY, prefix="pre/fix", endpoint=url)


def _create_bucket(url: str, bucket: str) -> None:
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys).create_bucket(Bucket=bucket)


def _moto_store(url: str, bucket: str, *, create: bool = True) -> Store:
    if create:
        _create_bucket(url, bucket)
    return s3_store(INFO, bucket=bucket, prefix="pre/fix", endpoint=url, access_key="testing", secret_key="testing")


async def test_what_is_put_comes_back(store: Store) -> None:
    await store.put(NAME, [b"head", bytearray(b"-"), memoryview(b"tail")])
    assert bytes(await store.get(NAME)) == b"head-tail"
    assert bytes(await store.get_range(NAME, 4, 3)) == b"-ta"
    assert bytes(await store.get_range(NAME, 8, 1)) == b"l"


async def test_buffers_are_not_kept(store: Store) -> None:
    buffer = bytearray(b"0123456789" * 1000)
    await store.put(NAME, [buffer])
    buffer[:] = b"x" * len(buffer)
    assert bytes(await store.get(NAME)) == b"0123456789" * 1000


async def test_a_shard_of_very_many_and_empty_buffers(store: Store) -> None:
    body = [b"", *(bytes([number % 256]) * (number % 7) for number in range(3000)), b""]
    await store.put(NAME, body)
    assert bytes(await store.get(NAME)) == b"".join(body)


async def test_putting_twice_is_a_success(store: Store) -> None:
    await store.put(NAME, [b"same"])
    await store.put(NAME, [b"same"])
    assert [entry async for entry in store.list()] == [(NAME, 4)]


async def test_closing_twice_is_a_success(store: Store) -> None:
    await store.put(NAME, [b"x"])
    await store.close()
    await store.close()


def in_pages(data: bytes) -> list[memoryview]:
    """Return data as sealed cells lie: in runs of whole pages."""
    pages = unset_pages(len(data))
    pages[:] = data
    return [pages[start : start + RUN_SIZE] for start in range(0, len(data), RUN_SIZE)]


async def test_large_shards(store: Store) -> None:
    data = os.urandom(4_200_000)
    await store.put(NAME, in_pages(data))
    assert bytes(await store.get_range(NAME, 4_000_000, 200_000)) == data[4_000_000:]
    assert bytes(await store.get(NAME)) == data


async def test_a_missing_shard_is_missing(store: Store) -> None:
    with pytest.raises(ShardMissing):
        await store.get(NAME)
    with pytest.raises(ShardMissing):
        await store.get_range(NAME, 0, 5)
    await store.delete(NAME)


async def test_a_range_beyond_the_end_is_never_a_short_read(store: Store) -> None:
    await store.put(NAME, [b"0123456789"])
    for start, length in ((5, 6), (10, 1), (4000, 1)):
        with pytest.raises(ShardMissing):
            await store.get_range(NAME, start, length)


async def test_listing_by_plain_prefix(store: Store) -> None:
    for name in ("ab/abc-00", "ab/abc-01", "ab/abd-00", "cd/x-00"):
        await store.put(ShardName(name), [b"12345"])
    assert sorted([entry async for entry in store.list("ab/abc-")]) == [("ab/abc-00", 5), ("ab/abc-01", 5)]
    assert [entry async for entry in store.list("ab/abc-01")] == [("ab/abc-01", 5)]
    assert sorted([name async for name, _ in store.list("ab/a")]) == ["ab/abc-00", "ab/abc-01", "ab/abd-00"]
    assert len([entry async for entry in store.list("ab/")]) == 3
    assert len([entry async for entry in store.list()]) == 4
    assert [entry async for entry in store.list("zz/")] == []


async def test_delete_is_idempotent(store: Store) -> None:
    await store.put(NAME, [b"x"])
    await store.delete(NAME)
    await store.delete(NAME)
    with pytest.raises(ShardMissing):
        await store.get(NAME)


async def test_many_at_once_and_cancelled_ones(store: Store) -> None:
    tasks = [asyncio.create_task(store.put(ShardName(f"{n:02x}/n-{n:02x}"), [bytes([n]) * 5000])) for n in range(60)]
    for task in tasks[::7]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for number in range(60):
        with suppress(ShardMissing):  # a cancelled put happened whole or not at all
            assert bytes(await store.get(ShardName(f"{number:02x}/n-{number:02x}"))) == bytes([number]) * 5000
        if number % 7:
            await store.get(ShardName(f"{number:02x}/n-{number:02x}"))


async def test_a_directory_that_goes_away_is_unavailable_and_never_remade(tmp_path: Path) -> None:
    store = DirectoryStore(INFO, tmp_path / "store", create=True)
    await store.put(NAME, [b"x"])
    (tmp_path / "store").rename(tmp_path / "gone")
    for call in (store.get(NAME), store.put(NAME, [b"y"]), store.put(ShardName("ff/new-00"), [b"y"])):
        with pytest.raises(StoreUnavailable):
            await call
    with pytest.raises(StoreUnavailable):
        _ = [entry async for entry in store.list()]
    assert not (tmp_path / "store").exists()
    (tmp_path / "gone").rename(tmp_path / "store")
    assert await store.get(NAME) == b"x"
    await store.close()


async def test_a_directory_keeps_no_temporaries(tmp_path: Path) -> None:
    store = DirectoryStore(INFO, tmp_path / "store", create=True)
    await asyncio.gather(*(store.put(ShardName(f"aa/x-{n:02x}"), [b"x" * n]) for n in range(20)))
    assert not [path for path in (tmp_path / "store").rglob("*") if ".tmp-" in path.name]
    await store.close()


async def test_an_absent_bucket_is_rejected_and_an_absent_server_unavailable(moto: str) -> None:
    with pytest.raises(StoreRejected):
        await _moto_store(moto, "absent-bucket", create=False).put(NAME, [b"x"])
    with pytest.raises(StoreUnavailable):
        await _moto_store(f"http://127.0.0.1:{free_port()}", "b", create=False).get(NAME)


async def test_the_breaker_opens_probes_and_closes() -> None:
    clock, faulty = ManualClock(), FaultyStore(memory_store(INFO))
    store = ObservedStore(faulty, clock)
    await store.put(NAME, [b"x"])
    faulty.down = True
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await store.get(NAME)
    assert not store.ready_for("get")
    with pytest.raises(StoreUnavailable, match="not asked"):
        await store.get(NAME)
    assert faulty.calls["get"] == 3
    clock.advance(3)
    faulty.down = False
    assert bytes(await store.get(NAME)) == b"x"
    assert store.ready_for("get")


async def test_a_deadline_turns_a_hang_into_unavailable() -> None:
    faulty = FaultyStore(memory_store(INFO))
    await faulty.put(NAME, [b"x"])
    faulty.hanging = True
    store = LimitedStore(faulty, concurrency=1, put_seconds=0.05, get_seconds=60)
    with pytest.raises(StoreUnavailable, match="no answer"):
        await store.put(NAME, [b"y"])
    faulty.hanging = False
    assert bytes(await store.get(NAME)) == b"x"  # the call given up has left its place


async def test_the_condition_tells_of_breakers_latencies_and_the_last_error() -> None:
    clock, faulty = ManualClock(), FaultyStore(memory_store(INFO))
    store = ObservedStore(faulty, clock)
    assert store.condition == Condition(breakers=dict.fromkeys(("put", "get", "list", "delete"), "closed"), p95_ms={})
    await store.put(NAME, [b"x"])
    faulty.down = True
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await store.get(NAME)
    for _ in range(3):
        store.overtaken("put")
    clock.advance(1.5)
    condition = store.condition
    assert condition.breakers == {"put": "late", "get": "open", "list": "closed", "delete": "closed"}
    assert condition.p95_ms == {"put": 0.0}
    assert (condition.last_error, condition.last_error_seconds) == ("down on purpose", 1.5)
