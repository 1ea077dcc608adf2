"""Lanes: every call is answered once, cancelled ones are skipped, and closing strands nobody."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Awaitable, Callable
from functools import partial
from queue import SimpleQueue

import pytest

from proxy.errors import NoThread
from proxy.lanes import MAX_CANCELLED, Lanes, LanesClosed, NotBegun, Pool, in_time
from tests.patience import PATIENCE_SECONDS


async def test_every_call_gets_its_own_answer() -> None:
    lanes = Lanes(3, name="t")
    calls = [lanes.run(lambda _, number=number: number) for number in range(5000)]
    assert await asyncio.gather(*calls) == list(range(5000))
    lanes.close()


async def test_an_exception_is_raised_where_the_call_is_awaited() -> None:
    lanes = Lanes(1, name="t")
    with pytest.raises(ZeroDivisionError):
        await lanes.run(lambda _: 1 // 0)
    assert await lanes.run(lambda _: "and the lane goes on") == "and the lane goes on"
    lanes.close()


async def test_an_idle_lane_keeps_nothing_of_its_last_call() -> None:
    class Shard:
        pass

    lanes, gone = Lanes(1, name="t"), threading.Event()
    shard = Shard()
    weakref.finalize(shard, gone.set)
    await lanes.run(lambda _, shard=shard: shard)
    del shard
    await asyncio.sleep(0)  # this very task was woken with the answer in hand
    assert gone.wait(PATIENCE_SECONDS)
    lanes.close()


async def _begin(lanes: Lanes, call: Callable[[object], object]) -> None:
    await lanes.begin(partial(call, None))


@pytest.mark.parametrize(
    "ask",
    [
        Lanes.run,
        partial(Lanes.run, timeout_seconds=PATIENCE_SECONDS),
        partial(Lanes.run_together, begin_within_seconds=PATIENCE_SECONDS),
        _begin,
    ],
    ids=["run", "in time", "together", "begin"],
)
async def test_what_a_call_had_in_hand_is_freed_as_soon_as_its_error_is_dropped(
    ask: Callable[[Lanes, Callable[[object], object]], Awaitable[object]],
) -> None:
    class Shard:
        pass

    shards: list[weakref.ref[Shard]] = []

    def fail(_: object) -> None:
        shard = Shard()
        shards.append(weakref.ref(shard))
        raise ZeroDivisionError

    lanes = Lanes(1, name="t")
    gc.disable()
    try:
        with pytest.raises(ZeroDivisionError) as failure:
            await ask(lanes, fail)
        del failure
        assert await lanes.run(lambda _: "and the lane is at the next call")
        assert [shard() for shard in shards] == [None]
    finally:
        gc.enable()
        lanes.close()


async def test_a_call_cancelled_before_it_began_never_runs() -> None:
    lanes, go_on, ran = Lanes(1, name="t"), threading.Event(), []
    first = asyncio.create_task(lanes.run(lambda _: go_on.wait(PATIENCE_SECONDS)))
    second = asyncio.create_task(lanes.run(lambda _: ran.append("second")))
    await asyncio.sleep(0)
    second.cancel()
    go_on.set()
    assert await first
    assert await lanes.run(lambda _: "third") == "third"
    assert ran == []
    lanes.close()


async def test_a_running_call_can_see_that_it_was_cancelled() -> None:
    lanes, running, go_on, saw = Lanes(1, name="t"), threading.Event(), threading.Event(), []

    def call(cancelled: object) -> None:
        running.set()
        go_on.wait(PATIENCE_SECONDS)
        saw.append(cancelled())  # type: ignore[operator]

    task = asyncio.create_task(lanes.run(call))
    await asyncio.to_thread(running.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    await lanes.run(lambda _: None)
    assert saw == [True]
    lanes.close()


async def test_threads_are_bounded_and_end_with_the_lanes() -> None:
    before = threading.active_count()
    lanes = Lanes(3, name="t")
    barrier = threading.Barrier(3)
    await asyncio.gather(*(lanes.run(lambda _: barrier.wait(PATIENCE_SECONDS)) for _ in range(30)))
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("t-")]
    assert threading.active_count() - before <= 3
    lanes.close()
    for thread in threads:
        await asyncio.to_thread(thread.join, 10)
        assert not thread.is_alive()


async def test_closing_fails_what_has_not_begun() -> None:
    lanes, go_on = Lanes(1, name="t"), threading.Event()
    running = asyncio.create_task(lanes.run(lambda _: go_on.wait(PATIENCE_SECONDS)))
    while not any(thread.name == "t-0" for thread in threading.enumerate()):
        await asyncio.sleep(0)
    await asyncio.to_thread(lambda: None)
    waiting = [asyncio.create_task(lanes.run(lambda _: None)) for _ in range(5)]
    await asyncio.sleep(0)
    lanes.close()
    go_on.set()
    assert await running
    for task in waiting:
        with pytest.raises(LanesClosed):
            await task
    with pytest.raises(LanesClosed):
        await lanes.run(lambda _: None)


async def test_closing_fails_what_was_to_be_taken_together() -> None:
    lanes = Lanes(1, name="t")
    calls = [lanes.run_together(lambda _: "made", begin_within_seconds=PATIENCE_SECONDS) for _ in range(3)]
    lanes.close()  # in the same turn: they are gathered, and not handed over yet
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [LanesClosed] * 3


async def test_of_calls_taken_together_each_has_its_own_answer() -> None:
    lanes = Lanes(1, name="t")
    calls = [lanes.run_together(lambda _, number=number: 10 // number, begin_within_seconds=PATIENCE_SECONDS) for number in (1, 0, 2)]
    first, second, third = await asyncio.gather(*calls, return_exceptions=True)
    assert (first, third) == (10, 5)
    assert isinstance(second, ZeroDivisionError)
    lanes.close()


class Scarce:
    """A system that has so many threads, and no more for now."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, left: int) -> None:
        self.left = left
        self._really = threading.Thread.start
        monkeypatch.setattr(threading.Thread, "start", lambda thread: self._start(thread))

    def _start(self, thread: threading.Thread) -> None:
        if not self.left:
            raise RuntimeError("can't start new thread")
        self.left -= 1
        self._really(thread)


async def test_a_call_for_which_there_is_no_thread_fails_and_those_after_it_are_made_once_there_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lanes, system, made = Lanes(2, name="t"), Scarce(monkeypatch, 0), list[str]()
    with pytest.raises(NotBegun):
        await lanes.run(lambda _: made.append("too early"))
    with pytest.raises(NotBegun):
        await lanes.run_together(lambda _: made.append("too early"), begin_within_seconds=PATIENCE_SECONDS)
    system.left = 1
    assert await asyncio.gather(*(lanes.run(lambda _, number=number: number) for number in range(3))) == [0, 1, 2]  # one lane is enough
    assert made == []
    lanes.close()


async def test_an_executor_without_a_thread_and_one_that_is_closed_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, system = asyncio.get_running_loop(), Scarce(monkeypatch, 0)
    with Pool(2) as pool:
        with pytest.raises(NoThread, match="can't start new thread"):
            await loop.run_in_executor(pool, int)
        system.left = 1
        assert await loop.run_in_executor(pool, int, "7") == 7
    with pytest.raises(NoThread):
        await loop.run_in_executor(pool, int)


async def test_an_executor_makes_no_call_of_which_it_has_said_that_it_will_not(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, system, made = asyncio.get_running_loop(), Scarce(monkeypatch, 0), list[str]()
    with Pool(1) as pool:
        with pytest.raises(NoThread):
            await loop.run_in_executor(pool, made.append, "too early")
        system.left = 1
        await loop.run_in_executor(pool, made.append, "in time")
    assert made == ["in time"]


async def test_an_executor_that_gets_no_more_threads_has_those_do_the_work_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, go_on, system, made = asyncio.get_running_loop(), threading.Event(), Scarce(monkeypatch, 1), list[str]()
    with Pool(2) as pool:
        first = loop.run_in_executor(pool, go_on.wait, PATIENCE_SECONDS)
        second = loop.run_in_executor(pool, made.append, "by the first one's thread")
        go_on.set()
        await asyncio.gather(first, second)
    assert made == ["by the first one's thread"]
    assert not system.left


async def test_closing_waits_for_no_call_that_a_lane_takes_up_meanwhile() -> None:
    class Raced(SimpleQueue):
        """Has a job when asked, which a lane has taken before we do."""

        def empty(self) -> bool:
            return False

        def get(self, block: bool = True, timeout: float | None = None) -> object:
            assert not block, "the loop would stand still"
            return super().get(block, timeout)

    lanes = Lanes(1, name="t")
    lanes._jobs = Raced()
    lanes.close()


def test_lanes_survive_a_loop_that_closed_before_the_answer() -> None:
    lanes, go_on, running = Lanes(1, name="t"), threading.Event(), threading.Event()

    async def leave() -> None:
        task = asyncio.create_task(lanes.run(lambda _: (running.set(), go_on.wait(PATIENCE_SECONDS))))
        await asyncio.to_thread(running.wait, 10)
        task.cancel()

    asyncio.run(leave())
    go_on.set()
    assert asyncio.run(lanes.run(lambda _: "next loop")) == "next loop"
    lanes.close()


async def test_calls_given_up_behind_one_that_hangs_keep_nothing() -> None:
    lanes, go_on = Lanes(1, name="t"), threading.Event()
    hanging = asyncio.create_task(lanes.run(lambda _: go_on.wait(PATIENCE_SECONDS)))
    await asyncio.sleep(0)
    held = weakref.WeakSet()

    class Buffer:
        pass

    def write(buffer: Buffer) -> Callable[[object], Buffer]:
        held.add(buffer)
        return lambda _: buffer

    for _ in range(20):
        calls = [asyncio.create_task(lanes.run(write(Buffer()))) for _ in range(50)]
        await asyncio.sleep(0)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        del calls
    gc.collect()
    assert len(held) <= 50  # the last ones, which this test still knows
    assert lanes._jobs.qsize() <= MAX_CANCELLED + 50
    go_on.set()
    assert await hanging
    lanes.close()


async def test_a_call_that_takes_too_long_is_given_up() -> None:
    lanes = Lanes(1, name="t")
    go_on = threading.Event()
    with pytest.raises(TimeoutError):
        await lanes.run(lambda _: go_on.wait(PATIENCE_SECONDS), timeout_seconds=0.05)
    go_on.set()
    assert await lanes.run(lambda _: 7, timeout_seconds=30) == 7
    lanes.close()


async def test_a_caller_who_is_cancelled_while_he_waits_hears_of_that_and_of_no_timeout() -> None:
    waiting = asyncio.create_task(in_time(asyncio.get_running_loop().create_future(), 30))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_deadline_of_a_caller_holds_beside_that_of_the_call() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await in_time(asyncio.get_running_loop().create_future(), 30)
