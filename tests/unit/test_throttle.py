"""Background work makes its requests at an even pace, and no worker keeps another from its share."""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import Callable
from itertools import count

import pytest

from proxy.engine.throttle import LONGEST_YIELD_SECONDS, Throttle


class HandClock:
    """Time that moves from one timer to the next, when told."""

    def __init__(self) -> None:
        self.now = 0.0
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    def later(self, seconds: float, callback: Callable[[], None]) -> object:
        heapq.heappush(self._timers, (self.now + seconds, next(self._numbers), callback))
        return None

    async def run(self, seconds: float) -> None:
        """Let so much time pass; whoever is woken goes on before the next timer."""
        until = self.now + seconds
        await self._others()
        while self._timers and self._timers[0][0] <= until:
            self.now, _, callback = heapq.heappop(self._timers)
            callback()
            await self._others()
        self.now = until

    async def _others(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)


@pytest.fixture
def time() -> HandClock:
    return HandClock()


async def work(throttle: Throttle, done: Counter[str], name: str, *, size_bytes: int = 0) -> None:
    while True:
        await throttle.take(size_bytes)
        done[name] += 1


async def ran(time: HandClock, seconds: float, *workers: asyncio.Task[None]) -> None:
    await time.run(seconds)
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)


async def test_requests_are_spread_evenly(time: HandClock) -> None:
    throttle, done = Throttle(10, now=lambda: time.now, later=time.later), Counter[str]()
    worker = asyncio.create_task(work(throttle, done, "a"))
    await time.run(1.01)
    assert done["a"] == 11
    await ran(time, 1, worker)
    assert done["a"] == 21


async def test_what_was_not_used_is_made_up_for_only_a_moment(time: HandClock) -> None:
    throttle, done = Throttle(10, now=lambda: time.now, later=time.later), Counter[str]()
    time.now = 100.0
    await ran(time, 1.01, asyncio.create_task(work(throttle, done, "a")))
    assert done["a"] == 12, "one at once, and one that the last tenth of a second was good for"


async def test_bytes_take_their_time_too(time: HandClock) -> None:
    throttle, done = Throttle(1000, 100, now=lambda: time.now, later=time.later), Counter[str]()
    await ran(time, 10.01, asyncio.create_task(work(throttle, done, "a", size_bytes=50)))
    assert done["a"] == 21


async def test_a_worker_that_asks_a_hundred_times_at_once_keeps_no_other_from_its_share(time: HandClock) -> None:
    throttle, done = Throttle(100, now=lambda: time.now, later=time.later), Counter[str]()
    greedy = [asyncio.create_task(work(throttle, done, "greedy")) for _ in range(100)]
    await time.run(1)
    done.clear()
    modest = asyncio.create_task(work(throttle.share(), done, "modest"))
    await ran(time, 1, modest, *greedy)
    assert done["modest"] == pytest.approx(50, abs=2)
    assert done["greedy"] == pytest.approx(50, abs=2)


async def test_shares_are_of_time_whatever_it_is_used_for(time: HandClock) -> None:
    throttle, done = Throttle(1000, 1000, now=lambda: time.now, later=time.later), Counter[str]()
    workers = [
        asyncio.create_task(work(throttle.share(), done, "large", size_bytes=100)),
        asyncio.create_task(work(throttle.share(), done, "small", size_bytes=10)),
    ]
    await ran(time, 10, *workers)
    assert done["small"] == pytest.approx(10 * done["large"], rel=0.1)


async def test_a_worker_that_paused_has_no_claim_on_what_it_did_not_use(time: HandClock) -> None:
    throttle, done = Throttle(100, now=lambda: time.now, later=time.later), Counter[str]()
    other = throttle.share()
    first = asyncio.create_task(work(throttle, done, "a"))
    await time.run(10)
    done.clear()
    await ran(time, 1, first, asyncio.create_task(work(other, done, "b")))
    assert done["a"] == pytest.approx(done["b"], abs=2)


async def test_nobody_goes_while_clients_wait_but_not_for_long(time: HandClock) -> None:
    waiting = True
    throttle = Throttle(10, clients_wait=lambda: waiting, now=lambda: time.now, later=time.later)
    done = Counter[str]()
    worker = asyncio.create_task(work(throttle, done, "a"))
    await time.run(LONGEST_YIELD_SECONDS - 0.1)
    assert done["a"] == 0
    await time.run(0.2)
    assert done["a"] == 1
    await time.run(LONGEST_YIELD_SECONDS)
    assert done["a"] <= 2
    waiting = False
    await ran(time, 1, worker)
    assert done["a"] >= 10


async def test_one_that_gives_up_waiting_takes_no_turn(time: HandClock) -> None:
    throttle, done = Throttle(10, now=lambda: time.now, later=time.later), Counter[str]()
    gone = [asyncio.create_task(throttle.take()) for _ in range(20)]
    await time.run(0)
    for task in gone:
        task.cancel()
    await ran(time, 1.01, asyncio.create_task(work(throttle.share(), done, "a")))
    assert done["a"] == 10
