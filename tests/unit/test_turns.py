"""Of several large bodies that arrive together, the segment that was begun first is coded first. Time is simulated."""

from __future__ import annotations

import asyncio

import pytest

from proxy.engine.memory.turns import AT_ONCE, LONGEST_SECONDS, Turns

pytestmark = pytest.mark.leaping
STEP = 0.01  # seconds that threads need for what a body brings at a time
STEPS = 8


async def _fill(turns: Turns, number: int, order: list[int], *, steps: int = STEPS, silent_seconds: float = 0.0) -> float:
    """Code a body step by step; return when it was complete."""
    loop = asyncio.get_running_loop()
    for _ in range(steps):
        await asyncio.sleep(silent_seconds)
        has_turn = await turns.take(number)
        order.append(number)
        work = asyncio.ensure_future(asyncio.sleep(STEP))
        if has_turn:
            turns.end_with([work])
        await work
    return loop.time()


async def test_segments_are_complete_one_after_the_other_as_they_were_begun() -> None:
    turns, order, begun = Turns(), list[int](), asyncio.get_running_loop().time()
    ended = await asyncio.gather(*(_fill(turns, number, order) for number in range(4 * AT_ONCE)))
    seconds = [end - begun for end in ended]
    assert seconds == pytest.approx([STEP * STEPS * (1 + number // AT_ONCE) for number in range(4 * AT_ONCE)], abs=STEP)
    assert len(order) == STEPS * 4 * AT_ONCE


async def test_a_body_that_sends_slowly_keeps_nobody_waiting() -> None:
    turns, order, begun = Turns(), list[int](), asyncio.get_running_loop().time()
    slow = [asyncio.create_task(_fill(turns, number, order, silent_seconds=10 * STEP)) for number in range(AT_ONCE)]
    await asyncio.sleep(0)
    end = await _fill(turns, AT_ONCE, order)
    assert end - begun < STEP * (STEPS + 2)
    await asyncio.gather(*slow)


async def test_nobody_waits_for_long() -> None:
    turns, order, begun = Turns(), list[int](), asyncio.get_running_loop().time()
    steps = int(4 * LONGEST_SECONDS / STEP)
    older = [asyncio.create_task(_fill(turns, number, order, steps=steps)) for number in range(AT_ONCE)]
    await asyncio.sleep(0)
    end = await _fill(turns, AT_ONCE, order, steps=2)
    assert end - begun == pytest.approx(2 * (LONGEST_SECONDS + STEP))
    await asyncio.gather(*older)


async def test_turns_are_left_to_others_by_those_who_go_away() -> None:
    turns, order = Turns(), list[int]()
    holders = [asyncio.get_running_loop().create_future() for _ in range(AT_ONCE)]
    for number, holder in enumerate(holders):
        assert await turns.take(number)
        turns.end_with([holder])
    waiting = [asyncio.create_task(turns.take(AT_ONCE + number)) for number in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    holders[0].set_result(None)
    while not (turns._free == 0 and len(turns._waiting) == 1):
        await asyncio.sleep(0)
    waiting[1].cancel()  # whose turn has come in this very moment
    assert await waiting[2]
    turns.end_with([asyncio.ensure_future(asyncio.sleep(STEP))])
    holders[1].set_result(None)
    await asyncio.gather(*(_fill(turns, number, order, steps=1) for number in range(AT_ONCE)))
    await asyncio.sleep(STEP)
    assert turns._free == AT_ONCE
