"""Background work holds a part of the memory, and no more."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from proxy.engine.memory.background import PART, BackgroundMemory
from proxy.engine.memory.budget import Budget
from proxy.errors import BudgetExhausted

MIB = 1024 * 1024


async def test_workers_together_hold_no_more_than_their_part() -> None:
    budget = Budget(64 * MIB, wait_seconds=60)
    memory = BackgroundMemory(budget, wait_seconds=0.01)
    async with AsyncExitStack() as held:
        for _ in range(8):
            await held.enter_async_context(memory.held(MIB))
        assert budget.held_bytes == 64 * MIB // PART
        with pytest.raises(BudgetExhausted):
            await held.enter_async_context(memory.held(MIB))
    assert budget.held_bytes == 0


async def test_a_request_has_its_memory_while_workers_wait_for_theirs() -> None:
    budget = Budget(64 * MIB, wait_seconds=60)
    memory = BackgroundMemory(budget, wait_seconds=60)

    async def work() -> None:
        async with memory.held(2 * MIB):
            await asyncio.sleep(0)

    workers = [asyncio.create_task(work()) for _ in range(50)]
    await asyncio.sleep(0)
    grant = await budget.acquire(40 * MIB, owner="tenant")
    assert grant.size_bytes == 40 * MIB
    grant.release()
    await asyncio.gather(*workers)
    assert budget.held_bytes == 0


async def test_a_worker_that_wants_too_much_is_given_what_there_is() -> None:
    memory = BackgroundMemory(Budget(64 * MIB, wait_seconds=60), wait_seconds=60)
    async with memory.held(100 * MIB) as granted:
        assert 4 * MIB <= granted <= 64 * MIB // PART


async def test_memory_is_given_back_whatever_happens() -> None:
    budget = Budget(64 * MIB, wait_seconds=0.01)
    memory = BackgroundMemory(budget, wait_seconds=60)
    with pytest.raises(RuntimeError):
        async with memory.held(MIB):
            raise RuntimeError
    whole = await budget.acquire(56 * MIB, owner="tenant")
    others = [await budget.acquire(MIB, owner="tenant") for _ in range(8)]
    with pytest.raises(BudgetExhausted):  # the budget has none left, though the part has
        async with memory.held(MIB):
            pass
    for grant in (whole, *others):
        grant.release()
    for _ in range(3):
        async with memory.held(5 * MIB):
            assert budget.held_bytes == 5 * MIB
    assert budget.held_bytes == 0
