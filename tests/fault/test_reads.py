"""What a read leaves behind when it ends, is broken off or meets a store that hangs or lies: no request, no memory, and a word to the
operator."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.engine.reading.read import Reading
from proxy.engine.reading.windows import FIRST_WINDOW_SIZE
from proxy.manifest.records import ObjectKey
from proxy.stores.late import LateStore
from proxy.stores.protocol import Store
from tests.laboratory import Laboratory, laboratory
from tests.patience import PATIENCE_SECONDS

MIB = 1024 * 1024


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Laboratory]:
    async with laboratory(tmp_path, get_timeout_seconds=1000) as running:
        yield running


async def _open(lab: Laboratory) -> Reading:
    version = await lab.services.manifest.find_version(lab.bucket.id, ObjectKey("k"))
    assert version is not None
    return await lab.services.engine.open_read(version, lab.tenant, 0, version.size)


async def _store_of_first_cell(lab: Laboratory) -> str:
    version = await lab.services.manifest.find_version(lab.bucket.id, ObjectKey("k"))
    assert version is not None
    (extent,) = await lab.services.manifest.load_extents([ref.id for ref in version.extents])
    return extent.layout.segments[0].stores[0]


def _under_way(coroutine: str) -> set[asyncio.Task[object]]:
    return {task for task in asyncio.all_tasks() if coroutine in repr(task.get_coro())}


@pytest.mark.impatient
async def test_a_read_does_not_wait_for_a_store_that_hangs_nor_leave_a_request_to_it(lab: Laboratory) -> None:
    data = os.urandom(5000)
    await lab.put("k", data)
    lab.stores[await _store_of_first_cell(lab)].hanging = True
    async with asyncio.timeout(PATIENCE_SECONDS):  # its deadline is 1,000 s here
        assert await lab.get("k") == data
    assert _under_way("get_range") == set()


@pytest.mark.parametrize("is_refused", [False, True])
async def test_a_read_does_without_a_store_that_has_not_been_opened(lab: Laboratory, is_refused: bool) -> None:
    data = os.urandom(5000)
    await lab.put("k", data)
    store = lab.stores[await _store_of_first_cell(lab)]
    store.answers_at_once, there = True, store.inner
    opening: asyncio.Future[Store] = asyncio.get_running_loop().create_future()
    if is_refused:
        opening.set_exception(LookupError("what a library raises"))
    store.inner = LateStore(there.info, opening)
    assert await lab.get("k") == data
    store.inner = there


async def test_what_was_read_ahead_is_freed_when_the_client_goes_away(lab: Laboratory) -> None:
    await lab.put("k", os.urandom(20 * MIB))
    reading = await _open(lab)
    await anext(reading)
    (ahead,) = _under_way("Reader._fetch_ahead")
    await asyncio.wait([ahead])
    assert lab.services.budget.held_bytes > 0
    await reading.aclose()
    assert lab.services.budget.held_bytes == 0


async def test_what_waits_to_be_sent_holds_no_more_memory_than_its_plaintext(lab: Laboratory) -> None:
    await lab.put("k", os.urandom(20 * MIB))
    reading = await _open(lab)
    await anext(reading)
    await asyncio.wait(_under_way("Reader._fetch_ahead"))
    assert lab.services.budget.held_bytes == 3 * FIRST_WINDOW_SIZE  # that which is being sent, and the next, twice as long
    await reading.aclose()


async def test_what_is_being_read_ahead_is_broken_off_when_the_client_goes_away(lab: Laboratory) -> None:
    await lab.put("k", os.urandom(20 * MIB))
    reading = await _open(lab)
    await anext(reading)
    for store in lab.stores.values():
        store.hanging = True
        store.calls.clear()
    while not any(store.calls["get_range"] for store in lab.stores.values()):
        await asyncio.sleep(0)
    closing = asyncio.create_task(reading.aclose())
    async with asyncio.timeout(PATIENCE_SECONDS):
        await closing
    assert _under_way("get_range") == set()
    assert lab.services.budget.held_bytes == 0


async def test_a_failure_that_nobody_foresaw_ends_a_read_and_a_write(lab: Laboratory) -> None:
    """A fault of ours is not held against a store, and not hidden by the others."""
    await lab.put("k", b"data" * 1000)
    broken = lab.stores[await _store_of_first_cell(lab)]
    broken.before = _raise
    with pytest.raises(ZeroDivisionError):
        await lab.get("k")
    with pytest.raises(ZeroDivisionError):
        await lab.put("k", b"newer" * 1000)
    broken.before = None
    assert await lab.get("k") == b"data" * 1000


def _raise(_: str) -> None:
    raise ZeroDivisionError("a fault of ours, on purpose")


async def test_a_forged_shard_is_told_with_its_store(lab: Laboratory, caplog: pytest.LogCaptureFixture) -> None:
    data = os.urandom(5000)
    await lab.put("k", data)
    name = await _store_of_first_cell(lab)
    lab.stores[name].flips_bits = True
    with caplog.at_level(logging.ERROR, logger="proxy.engine.damage"):
        assert await lab.get("k") == data
    (message,) = (record.getMessage() for record in caplog.records if record.name == "proxy.engine.damage")
    assert f"store {name} is forged" in message


async def test_much_from_afar_is_not_asked_of_a_store_that_has_much_to_send(lab: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.urandom(8 * MIB)
    await lab.put("k", data)
    name = await _store_of_first_cell(lab)
    monkeypatch.setattr(lab.services.fleet, "are_far", lambda names: True)
    lab.services.fleet[name].reads = 100
    assert await lab.get("k") == data
    assert not lab.stores[name].calls["get_range"]
    assert lab.services.budget.held_bytes == 0
