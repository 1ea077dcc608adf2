"""The byte budget: bounded, in turn, and never lost."""

from __future__ import annotations

import asyncio

import pytest

from proxy.engine.budget import SMALL_SIZE, Budget, Grant
from proxy.errors import BudgetExhausted

LARGE = 3 * SMALL_SIZE
CAPACITY = 8 * LARGE
EIGHTH = CAPACITY // 8


def budget(*, wait_seconds: float = 60, patience_seconds: float = 60) -> Budget:
    return Budget(CAPACITY, wait_seconds=wait_seconds, patience_seconds=patience_seconds)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def ask(shared: Budget, size: int) -> asyncio.Task[Grant]:
    """Ask for memory; the task is done if it was there."""
    asked = asyncio.create_task(shared.acquire(size))
    await settle()
    return asked


async def test_large_requests_get_their_turn_in_the_order_they_came() -> None:
    shared = budget()
    held = [await shared.acquire(LARGE) for _ in range(7)]
    order: list[int] = []

    async def wait(number: int, size: int) -> None:
        await shared.acquire(size)
        order.append(number)

    waiting = [asyncio.create_task(wait(number, size)) for number, size in enumerate((2 * LARGE, LARGE, LARGE))]
    await settle()
    held.pop().release()
    await settle()
    assert order == []  # the first of them needs more, and is not overtaken
    for granted in held:
        granted.release()
    await asyncio.gather(*waiting)
    assert order == [0, 1, 2]


async def test_small_requests_pass_the_large_ones_that_wait() -> None:
    shared = budget()
    held = [await shared.acquire(LARGE) for _ in range(7)]
    waiting = await ask(shared, LARGE)
    assert not waiting.done()
    small = await shared.acquire(SMALL_SIZE)
    assert shared.held_bytes == 7 * LARGE + SMALL_SIZE
    small.release()
    held[0].release()
    assert (await waiting).size_bytes == LARGE


async def test_small_requests_that_never_cease_do_not_starve_a_large_one() -> None:
    shared = budget(patience_seconds=0)
    held = [await shared.acquire(SMALL_SIZE) for _ in range(CAPACITY // SMALL_SIZE)]
    large = await ask(shared, 4 * LARGE)
    small = [await ask(shared, SMALL_SIZE) for _ in range(100)]
    for granted in held[: (4 * LARGE) // SMALL_SIZE]:
        granted.release()
        await settle()
    assert large.done()
    assert not any(asked.done() for asked in small)
    for granted in held:
        granted.release()
    await settle()
    assert sum(asked.done() for asked in small) == (CAPACITY - 4 * LARGE) // SMALL_SIZE  # nobody large waits: all that is free is theirs
    for asked in small:
        asked.cancel()


async def test_the_largest_request_is_served_while_small_ones_use_their_eighth() -> None:
    shared = budget(patience_seconds=0)
    filler = await shared.acquire(LARGE)
    huge = await ask(shared, CAPACITY)
    small = [await ask(shared, SMALL_SIZE) for _ in range(10)]
    assert sum(asked.done() for asked in small) == EIGHTH // SMALL_SIZE
    filler.release()
    assert (await huge).size_bytes == CAPACITY - EIGHTH
    assert shared.held_bytes == CAPACITY
    for asked in small:
        asked.cancel()


async def test_large_requests_that_wait_for_long_do_not_starve_small_ones() -> None:
    shared = budget(patience_seconds=0)
    held = [await shared.acquire(LARGE) for _ in range(7)]
    waiting = [await ask(shared, LARGE) for _ in range(5)]
    for _ in range(50):
        small = [await ask(shared, SMALL_SIZE) for _ in range(EIGHTH // SMALL_SIZE)]
        assert all(asked.done() for asked in small)
        assert not any(asked.done() for asked in waiting)
        for asked in small:
            asked.result().release()
    for granted in held:
        granted.release()
    await asyncio.gather(*waiting)


async def test_parts_of_a_large_grant_count_as_large_when_they_come_back() -> None:
    shared = budget(patience_seconds=0)
    parts = await shared.acquire(LARGE)
    held = [await shared.acquire(LARGE) for _ in range(6)]
    waiting = await ask(shared, 2 * LARGE)
    parts.release(SMALL_SIZE)
    parts.release(SMALL_SIZE)
    small = [await ask(shared, SMALL_SIZE) for _ in range(10)]
    assert sum(asked.done() for asked in small) == EIGHTH // SMALL_SIZE
    parts.release()
    held[0].release()
    assert (await waiting).size_bytes == 2 * LARGE
    for asked in small:
        asked.cancel()


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
    assert granted.size_bytes == CAPACITY - EIGHTH
    granted.release()
    assert shared.held_bytes == 0


@pytest.mark.parametrize("capacity", [1, SMALL_SIZE // 2, 2 * SMALL_SIZE, 3 * SMALL_SIZE])
async def test_the_smallest_budgets_serve_everybody_in_turn(capacity: int) -> None:
    shared = Budget(capacity, wait_seconds=60, patience_seconds=0)
    for size in (LARGE, SMALL_SIZE, LARGE, 1):
        granted = await shared.acquire(size)
        assert shared.held_bytes <= capacity
        asked = await ask(shared, SMALL_SIZE)
        granted.release()
        (await asked).release()
    assert shared.held_bytes == 0


async def test_bytes_are_given_back_once() -> None:
    shared = budget()
    granted = await shared.acquire(LARGE)
    granted.keep(100)
    assert shared.held_bytes == 100
    granted.release(60)
    granted.keep(70)
    granted.release(60)
    granted.release()
    assert shared.held_bytes == 0


@pytest.mark.parametrize("granted_meanwhile", [False, True])
async def test_who_gives_up_waiting_leaves_nothing_held(granted_meanwhile: bool) -> None:
    shared = budget()
    held = await shared.acquire(CAPACITY)
    waiting = asyncio.create_task(shared.acquire(LARGE))
    behind = asyncio.create_task(shared.acquire(LARGE))
    await settle()
    if granted_meanwhile:
        held.release()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    if not granted_meanwhile:
        held.release()
    (await behind).release()
    assert shared.held_bytes == 0


async def test_small_requests_go_on_when_the_large_one_they_waited_for_gives_up() -> None:
    shared = budget(patience_seconds=0)
    held = [await shared.acquire(LARGE) for _ in range(6)]
    large = await ask(shared, 2 * LARGE)
    small = [await ask(shared, SMALL_SIZE) for _ in range(5)]
    assert sum(asked.done() for asked in small) == EIGHTH // SMALL_SIZE
    large.cancel()
    await settle()
    assert all(asked.done() for asked in small)
    assert len(held) == 6
