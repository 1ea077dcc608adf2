"""Requests that are broken off in the middle: no memory stays taken, no shard behind, and nothing is half done."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from proxy.engine.writing.body import Body
from proxy.engine.writing.intents import IntentLedger
from proxy.errors import ManifestUnavailable, StoreUnavailable
from proxy.manifest.records import ObjectAttributes, ObjectKey, SegmentId, Version
from proxy.stores.protocol import ShardName
from tests.laboratory import BytesBody, Laboratory, laboratory
from tests.packing import alone, company, extent_of, has_packs, packs_leave, put_promptly_together, sized, some_objects
from tests.patience import PATIENCE_SECONDS

MIB = 1024 * 1024


@pytest.fixture(params=[False, True], ids=["alone", "packed"])
async def lab(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Laboratory]:
    async with laboratory(tmp_path, packs=request.param) as running, packs_leave(running):
        yield running


class Silent(BytesBody):
    """Sends so many bytes, then nothing."""

    def __init__(self, data: bytes, sends: int) -> None:
        super().__init__(data)
        self._sends = sends
        self.is_silent = asyncio.Event()

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self._data[: self._sends]
        self.is_silent.set()
        await asyncio.Event().wait()


def _put(lab: Laboratory, body: Body, key: str = "k") -> asyncio.Task[Version]:
    return asyncio.create_task(lab.services.engine.put_object(lab.bucket, lab.tenant, ObjectKey(key), body, ObjectAttributes()))


async def _cancelled(task: asyncio.Task[Version]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@sized(alone=[1, 100_000, 20 * MIB, 39 * MIB], packed=[1, 5000])
async def test_a_client_that_goes_away_leaves_no_memory_taken_and_no_shard(lab: Laboratory, size: int) -> None:
    declared = 6000 if has_packs(lab) else 40 * MIB
    body = Silent(os.urandom(declared), sends=size)
    async with company(lab):
        put = _put(lab, body)
        await body.is_silent.wait()
        await _cancelled(put)
    assert lab.services.budget.held_bytes == 0
    await lab.collect()
    assert await lab.shards() == set()


async def test_no_memory_stays_taken_when_no_id_can_be_leased(lab: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_: IntentLedger) -> SegmentId:
        raise ManifestUnavailable("fails on purpose")

    with monkeypatch.context() as broken:
        broken.setattr(IntentLedger, "take", fail)
        for size in (100, 3 * MIB, 20 * MIB):
            with pytest.raises(ManifestUnavailable):
                await lab.put("k", bytes(size))
    assert lab.services.budget.held_bytes == 0


async def test_a_commit_runs_to_its_end_though_its_client_is_gone(lab: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = lab.services.manifest
    commits = {step: getattr(manifest, step) for step in ("commit_version", "commit_pack")}
    begun, go_on = asyncio.Event(), asyncio.Event()

    def slowly(commit: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
        async def commit_slowly(*arguments: object, **options: object) -> object:
            begun.set()
            await go_on.wait()
            return await commit(*arguments, **options)

        return commit_slowly

    for step, commit in commits.items():
        monkeypatch.setattr(manifest, step, slowly(commit))
    put = _put(lab, BytesBody(b"data" * 1000))
    await begun.wait()
    await _cancelled(put)
    go_on.set()
    await lab.services.parts.tasks.drain(PATIENCE_SECONDS)
    await lab.collect()
    assert await lab.get("k") == b"data" * 1000


@alone  # a pack that has left goes on: others are in it
async def test_no_put_goes_on_when_its_caller_was_cancelled(lab: Laboratory) -> None:
    for store in lab.stores.values():
        store.hanging = True
    running = asyncio.all_tasks()
    put = _put(lab, BytesBody(os.urandom(2 * MIB)))
    while sum(store.calls["put"] for store in lab.stores.values()) < len(lab.stores):
        await asyncio.sleep(0)
    await _cancelled(put)
    assert {task for task in asyncio.all_tasks() - running if "put" in repr(task.get_coro())} == set()
    for store in lab.stores.values():
        store.hanging = False
    assert await lab.shards() == set()
    assert lab.services.budget.held_bytes == 0


@pytest.mark.parametrize("fails", [False, True])
@sized(alone=[100_000], packed=[4096])
async def test_a_late_put_counts_as_stored_only_if_it_was(lab: Laboratory, size: int, fails: bool) -> None:
    late, go_on = next(iter(lab.stores.values())), asyncio.Event()
    put_now = late.put

    async def put_late(name: ShardName, body: Sequence[bytes | bytearray | memoryview]) -> None:
        await go_on.wait()
        if fails:
            raise StoreUnavailable(late.info.name, "fails late on purpose")
        await put_now(name, body)

    late.put = put_late  # type: ignore[method-assign]
    versions = await put_promptly_together(lab, some_objects(lab, size))
    go_on.set()
    await lab.services.parts.tasks.drain(PATIENCE_SECONDS)
    (segment,) = (await extent_of(lab, versions)).layout.segments
    assert [segment.stores[index] for index in segment.missing] == ([late.info.name] if fails else [])


@alone
@pytest.mark.parametrize("sends", [MIB, 3 * MIB])  # it is cancelled while it waits for its client, or for the threads
async def test_the_memory_of_a_cancelled_write_is_not_given_back_while_threads_work_in_it(lab: Laboratory, sends: int) -> None:
    working, go_on = threading.Event(), threading.Event()

    class Slow(Silent):
        def digest(self, data: bytes) -> None:
            working.set()
            go_on.wait(PATIENCE_SECONDS)

    write = _put(lab, Slow(os.urandom(4 * MIB), sends))
    await asyncio.to_thread(working.wait, 30)
    for _ in range(3):  # however often
        write.cancel()
        for _ in range(10):
            await asyncio.sleep(0)
        assert not write.done()
        assert lab.services.budget.held_bytes > 0
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await write
    assert lab.services.budget.held_bytes == 0
