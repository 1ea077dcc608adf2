"""Readers that pause: they lose their read-ahead to who waits, and never a byte of their answer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.engine.reading.read import Reading
from proxy.errors import BudgetExhausted
from proxy.manifest.records import ObjectKey
from tests.laboratory import Laboratory, laboratory

SIZE = 9_000_000


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Laboratory]:
    async with laboratory(tmp_path, memory_mib=64, put_timeout_seconds=30, get_timeout_seconds=30) as running:
        yield running


async def _open(lab: Laboratory, start: int, length: int) -> Reading:
    version = await lab.services.manifest.find_version(lab.bucket.id, ObjectKey("k"))
    assert version is not None
    return await lab.services.engine.open_read(version, lab.tenant, start, length)


@given(start=st.integers(0, SIZE), length=st.integers(0, SIZE), pauses=st.sets(st.integers(0, 20)))
@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_reading_gives_the_same_bytes_wherever_it_is_paused(tmp_path: Path, start: int, length: int, pauses: set[int]) -> None:
    length = min(length, SIZE - start)

    async def run() -> None:
        async with laboratory(tmp_path, memory_mib=64, put_timeout_seconds=30, get_timeout_seconds=30) as lab:
            if await lab.services.manifest.find_version(lab.bucket.id, ObjectKey("k")) is None:
                await lab.put("k", os.urandom(SIZE))
            reading, got, number = await _open(lab, start, length), bytearray(), 0
            async for piece in reading:
                got += piece
                if number in pauses:
                    await reading.pause()
                    assert lab.services.budget.held_bytes == 0
                number += 1
            assert got == await lab.get("k", start, length)
            assert lab.services.budget.held_bytes == 0

    asyncio.run(run())


async def test_readers_that_take_nothing_give_their_memory_to_who_waits(lab: Laboratory) -> None:
    data = os.urandom(SIZE)
    await lab.put("k", data)
    paused = 0

    async def stand(reading: Reading) -> None:
        nonlocal paused
        await anext(reading)
        try:
            async with reading.passing():
                await asyncio.Event().wait()
        except BudgetExhausted:
            await reading.pause()
            paused += 1
            await asyncio.Event().wait()

    readers = [asyncio.create_task(stand(await _open(lab, 0, SIZE))) for _ in range(80)]
    assert await lab.get("k") == data
    await lab.put("other", data)
    assert paused > 0
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
