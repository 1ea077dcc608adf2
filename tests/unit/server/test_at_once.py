"""Coroutines that begin at once: they run where they are begun, and have a task of their own from the first wait on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import TypeVar

import pytest

from proxy.server.at_once import AtOnce

Result = TypeVar("Result")


@pytest.fixture
async def at_once() -> AsyncIterator[AtOnce]:
    made = AtOnce()
    first = made.begin(asyncio.sleep(0))  # it has a task of its own, and that of the next one is ready then
    assert first is not None
    await first
    yield made
    made.close()


async def outside_a_task(call: Callable[[], Result]) -> Result:
    """Call as the event loop does when bytes have come."""
    outcome: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

    def run() -> None:
        assert asyncio.current_task() is None
        try:
            outcome.set_result(call())
        except ValueError as error:
            outcome.set_exception(error)

    asyncio.get_running_loop().call_soon(run)
    return await outcome


async def test_what_never_waits_ends_at_once_and_the_task_stands_by(at_once: AtOnce) -> None:
    seen: list[asyncio.Task[object] | None] = []

    async def short() -> None:
        seen.append(asyncio.current_task())

    for _ in range(3):
        assert await outside_a_task(lambda: at_once.begin(short())) is None
    assert len(set(seen)) == 1
    assert seen[0] is not None
    await asyncio.sleep(0)
    assert not seen[0].done()


async def test_what_waits_goes_on_in_the_task_it_began_in(at_once: AtOnce) -> None:
    wake = asyncio.Event()

    async def long(seen: list[asyncio.Task[object] | None]) -> None:
        seen.append(asyncio.current_task())
        await asyncio.sleep(0)
        await wake.wait()
        seen.append(asyncio.current_task())

    tasks: list[asyncio.Task[None]] = []
    seen: tuple[list[asyncio.Task[object] | None], ...] = ([], [])
    for one in seen:
        task = await outside_a_task(partial(lambda one: at_once.begin(long(one)), one))
        assert task is not None
        tasks.append(task)
    wake.set()
    await asyncio.wait_for(asyncio.gather(*tasks), 60)
    assert seen == ([tasks[0]] * 2, [tasks[1]] * 2)


async def test_a_deadline_that_was_set_before_the_first_wait_holds(at_once: AtOnce) -> None:
    passed: list[bool] = []

    async def hanging() -> None:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            passed.append(True)
        await asyncio.sleep(0)
        passed.append(asyncio.current_task() is task)

    task = await outside_a_task(lambda: at_once.begin(hanging()))
    assert task is not None
    await asyncio.wait_for(task, 60)
    assert passed == [True, True]
    assert not task.cancelling()


@pytest.mark.parametrize("turns", range(4))
async def test_a_cancellation_reaches_it_whenever_it_comes(at_once: AtOnce, turns: int) -> None:
    waits_for: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    cancelled: list[str] = []

    async def waiting() -> None:
        try:
            await waits_for
        except asyncio.CancelledError:
            cancelled.append("told")
            await asyncio.sleep(0)
            cancelled.append("tidied")
            raise

    def begin_and_cancel() -> asyncio.Task[None] | None:
        task = at_once.begin(waiting())
        assert task is not None
        if not turns:
            task.cancel()
        return task

    task = await outside_a_task(begin_and_cancel)
    assert task is not None
    for _ in range(turns - 1):
        await asyncio.sleep(0)
    if turns:
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cancelled == ["told", "tidied"]
    assert waits_for.cancelled()


async def test_who_takes_a_cancellation_for_an_end_ends(at_once: AtOnce) -> None:
    async def content() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return

    def begin_and_cancel() -> asyncio.Task[None] | None:
        task = at_once.begin(content())
        assert task is not None
        task.cancel()
        return task

    task = await outside_a_task(begin_and_cancel)
    assert task is not None
    await asyncio.wait_for(task, 60)


async def test_an_error_is_raised_where_it_happens(at_once: AtOnce) -> None:
    async def failing(*, later: bool) -> None:
        if later:
            await asyncio.sleep(0)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await outside_a_task(lambda: at_once.begin(failing(later=False)))
    task = await outside_a_task(lambda: at_once.begin(failing(later=True)))
    assert task is not None
    with pytest.raises(ValueError, match="broken"):
        await task


async def test_what_fails_while_it_waits_fails_there(at_once: AtOnce) -> None:
    waits_for: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    told: list[str] = []

    async def waiting() -> None:
        try:
            await waits_for
        except LookupError as error:
            told.append(str(error))

    task = await outside_a_task(lambda: at_once.begin(waiting()))
    assert task is not None
    waits_for.set_exception(LookupError("not there"))
    await asyncio.wait_for(task, 60)
    assert told == ["not there"]


async def test_within_a_task_it_is_a_task_like_any(at_once: AtOnce) -> None:
    seen: list[asyncio.Task[object] | None] = []

    async def short() -> None:
        seen.append(asyncio.current_task())

    task = at_once.begin(short())
    assert task is not None
    assert not seen
    await task
    assert seen == [task]


async def test_what_has_begun_is_told_when_it_is_cancelled_however_many_begin_together(at_once: AtOnce) -> None:
    begun: list[int] = []
    told: list[int] = []

    async def waiting(number: int) -> None:
        begun.append(number)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            told.append(number)
            raise

    def begin_and_cancel() -> list[asyncio.Task[None]]:
        tasks = [task for number in range(5) if (task := at_once.begin(waiting(number))) is not None]
        for task in tasks:
            task.cancel()
        return tasks

    tasks = await outside_a_task(begin_and_cancel)
    await asyncio.wait(tasks)
    assert len(tasks) == 5
    assert begun == told == [0]


async def test_the_first_one_has_a_task_like_any(at_once: AtOnce) -> None:
    first = AtOnce()
    task = await outside_a_task(lambda: first.begin(asyncio.sleep(0)))
    assert task is not None
    await task
    first.close()


async def test_nothing_stands_by_once_it_is_closed(at_once: AtOnce) -> None:
    async def short() -> None: ...

    before = asyncio.all_tasks()
    assert len(before) == 2
    await outside_a_task(lambda: at_once.begin(short()))
    assert asyncio.all_tasks() == before
    at_once.close()
    at_once.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
