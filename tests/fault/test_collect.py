"""Collection goes on, whatever one row of garbage or one run of background work comes to."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.services import _every
from tests.laboratory import Laboratory, laboratory


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Laboratory]:
    async with laboratory(tmp_path) as running:
        for _ in range(4):
            await running.put("k", os.urandom(5000))
        yield running


async def test_a_row_that_cannot_be_read_does_not_stop_the_others(lab: Laboratory) -> None:
    with sqlite3.connect(lab.services.config.manifest.path) as database:
        database.execute("UPDATE garbage SET record = x'c1' WHERE id = (SELECT min(id) FROM garbage)")
    database.close()
    await lab.collect()
    assert await lab.services.manifest.count_garbage() == 1
    assert len(await lab.shards()) == 2 * 6
    await lab.put("k", b"the manifest goes on")


async def test_a_row_that_fails_unexpectedly_does_not_stop_the_others(lab: Laboratory) -> None:
    struck: list[str] = []

    def strike_once(verb: str) -> None:
        if verb == "delete" and not struck:
            struck.append(verb)
            raise ArithmeticError

    for store in lab.stores.values():
        store.before = strike_once
    await lab.collect()
    assert await lab.services.manifest.count_garbage() == 1
    lab.clock.advance(1000)
    await lab.services.collector.run_once()
    assert await lab.services.manifest.count_garbage() == 0


async def test_background_work_goes_on_after_an_unexpected_failure(caplog: pytest.LogCaptureFixture) -> None:
    runs: asyncio.Queue[None] = asyncio.Queue()

    async def fail() -> None:
        runs.put_nowait(None)
        raise ArithmeticError("by nobody foreseen")

    task = asyncio.create_task(_every(0, fail))
    for _ in range(3):
        await runs.get()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert "by nobody foreseen" in caplog.text
