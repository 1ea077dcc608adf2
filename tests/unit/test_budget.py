"""The byte budget: bounded, in turn, and never lost."""

from __future__ import annotations

import asyncio

import pytest

from proxy.engine.budget import SMALL_SIZE, Budget
from proxy.errors import BudgetExhausted

LARGE = 3 * SMALL_SIZE
CAPACITY = 8 * LARGE


def budget(*, wait_seconds: float = 60) -> Budget:
    return Budget(CAPACITY, wait_seconds=wait_seconds)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_large_requests_get_their_turn_in_the_order_they_came() -> None:
    shared = budget()
    held = [await shared.acquire(LARGE) for _ in range(7)]
    order: list[int] = []

    async def wait(number: int, size: int) -> None:
        await shared.acquire(size)
        order.append(number)

    waiting = [asyncio.create_task(wait(number, size)) for number, size in enumerate((2 * LARGE, LARGE, LARGE))]
    await settle()
    shared.release(held.pop())
    await settle()
    assert order == []  # the first of them needs more, and is not overtaken
    for granted in held:
        shared.release(granted)
    await asyncio.gather(*waiting)
    assert order == [0, 1, 2]


async def test_small_requests_pass_the_large_ones_that_wait() -> None:
    shared = budget()
    held = [await shared.acquire(LARGE) for _ in range(7)]
    waiting = asyncio.create_task(shared.acquire(LARGE))
    await settle()
    assert not waiting.done()
    small = await shared.acquire(SMALL_SIZE)
    assert shared.held_bytes == sum(held) + small
    shared.release(small)
    shared.release(held[0])
    assert await waiting == LARGE


async def test_small_requests_are_bounded_too() -> None:
    shared = budget(wait_seconds=0.01)
    for _ in range(CAPACITY // SMALL_SIZE):
        await shared.acquire(SMALL_SIZE)
    with pytest.raises(BudgetExhausted):
        await shared.acquire(1)
    assert shared.held_bytes == CAPACITY


async def test_one_request_larger_than_all_runs_alone() -> None:
    shared = budget()
    granted = await shared.acquire(10 * CAPACITY)
    assert granted == CAPACITY - CAPACITY // 8
    shared.release(granted)
    assert shared.held_bytes == 0


@pytest.mark.parametrize("granted_meanwhile", [False, True])
async def test_who_gives_up_waiting_leaves_nothing_held(granted_meanwhile: bool) -> None:
    shared = budget()
    held = await shared.acquire(CAPACITY)
    waiting = asyncio.create_task(shared.acquire(LARGE))
    behind = asyncio.create_task(shared.acquire(LARGE))
    await settle()
    if granted_meanwhile:
        shared.release(held)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    if not granted_meanwhile:
        shared.release(held)
    shared.release(await behind)
    assert shared.held_bytes == 0
