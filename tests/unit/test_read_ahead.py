"""How many windows of an answer are fetched at a time: one behind the other where stores are near, several from afar. Time is simulated."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import pytest

from proxy.engine.memory.budget import Budget
from proxy.engine.reading.read_ahead import AHEAD_FROM_AFAR, MOST_AHEAD, Fetched, ReadAhead
from proxy.engine.reading.windows import AT_HAND_SIZE, READ_AHEAD_SIZE, SlotWindow, Window
from proxy.manifest.records import Extent, ExtentId, Layout, Segment, SegmentId
from tests.leaping import leap
from tests.turns import others_turns

MIB = 1024 * 1024
TRIP = 0.03


class Stores:
    """Answers each window after a round trip, with its number."""

    def __init__(self, *, count: int, size: int = 4 * MIB, capacity: int = 1024 * MIB) -> None:
        segment = Segment(id=SegmentId(bytes(16)), size=size * count, stores=("s",))
        extent = Extent(id=ExtentId(1), layout=Layout(size=segment.size, k=4, m=2, tenant_key_id="t", wrapped_key=b"", segments=(segment,)))
        self.windows = [Window(extent, segment, number * size, size) for number in range(count)]
        self.budget = Budget(capacity, wait_seconds=10)
        self.under_way = self.most_under_way = 0
        self.begun = 0
        self.in_memory = range(0)  # what lies there of the segment
        self.late: Mapping[int, float] = {}  # seconds that some windows take, by number

    def ahead(self, *, is_far: bool, looks: bool = False) -> ReadAhead:
        return ReadAhead(iter(self.windows), self._begin, self.budget, is_far=is_far, at_hand=self._at_hand if looks else None)

    def _at_hand(self, window: Window | SlotWindow) -> Fetched | None:
        assert window.length <= AT_HAND_SIZE, "the event loop would be kept for long"
        if window.start not in self.in_memory:
            return None
        held = self.budget.take_at_once(2 * window.length, owner="t")
        assert held is not None
        return [memoryview(window.start.to_bytes(8, "big"))], held

    def _begin(self, window: Window | SlotWindow) -> asyncio.Task[Fetched]:
        self.begun += 1
        return asyncio.create_task(self._fetch(window))

    async def _fetch(self, window: Window | SlotWindow) -> Fetched:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        held = await self.budget.acquire(2 * window.length, owner="t")
        try:
            await asyncio.sleep(self.late.get(window.start // window.length, TRIP))
        except asyncio.CancelledError:
            held.release()
            raise
        finally:
            self.under_way -= 1
        return [memoryview(window.start.to_bytes(8, "big"))], held


async def _taken(ahead: ReadAhead, *, count: int = 10_000) -> tuple[list[int], float]:
    """Take windows and give their memory back; return where they start, and how long it took."""
    loop, starts = asyncio.get_running_loop(), []
    began = loop.time()
    while len(starts) < count and (fetched := await ahead.take()):
        starts.append(int.from_bytes(fetched[0][0], "big"))
        fetched[1].release()
    return starts, loop.time() - began


def simulated(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    async def run() -> None:
        await test()

    def whole() -> None:
        leap(run())

    whole.__name__ = test.__name__
    return whole


@pytest.mark.parametrize("is_far", [False, True])
@pytest.mark.parametrize("count", [0, 1, 2, 40])
def test_all_windows_come_in_their_order_and_no_memory_stays(is_far: bool, count: int) -> None:
    async def run() -> None:
        stores = Stores(count=count)
        ahead = stores.ahead(is_far=is_far)
        assert (await _taken(ahead))[0] == [window.start for window in stores.windows]
        await ahead.drop()
        assert stores.budget.held_bytes == 0

    leap(run())


@simulated
async def test_near_stores_are_asked_for_one_window_beside_the_one_that_is_sent() -> None:
    stores = Stores(count=20)
    ahead = stores.ahead(is_far=False)
    assert await _taken(ahead, count=1) == ([0], pytest.approx(TRIP))
    assert stores.begun == 2
    await _taken(ahead)
    assert stores.most_under_way == 1


@simulated
async def test_an_answer_of_two_windows_from_afar_takes_one_round_trip() -> None:
    assert (await _taken(Stores(count=2).ahead(is_far=True)))[1] == pytest.approx(TRIP)


@simulated
async def test_more_is_read_ahead_from_afar_while_the_client_waits() -> None:
    stores = Stores(count=200)
    ahead = stores.ahead(is_far=True)
    await _taken(ahead, count=1)
    assert stores.begun == 1 + AHEAD_FROM_AFAR
    await _taken(ahead, count=100)
    assert stores.most_under_way >= MOST_AHEAD
    assert stores.most_under_way <= MOST_AHEAD + 1


@simulated
async def test_while_one_window_is_late_others_are_begun_in_the_place_of_those_that_come() -> None:
    stores = Stores(count=200)
    stores.late = {2: 10 * TRIP}
    ahead = stores.ahead(is_far=True)
    assert await _taken(ahead, count=3) == ([0, 4 * MIB, 8 * MIB], pytest.approx(10 * TRIP))
    assert stores.begun == 3 + MOST_AHEAD
    assert stores.most_under_way <= 2 + AHEAD_FROM_AFAR


@simulated
async def test_no_more_is_read_ahead_while_the_client_takes_longer_than_the_stores() -> None:
    stores = Stores(count=50)
    ahead = stores.ahead(is_far=True)
    await _taken(ahead, count=1)
    for _ in range(30):
        await asyncio.sleep(2 * TRIP)
        begun = stores.begun
        await _taken(ahead, count=1)
        assert stores.begun == begun + 1


@simulated
async def test_memory_that_others_may_need_is_not_taken_to_read_ahead() -> None:
    stores = Stores(count=50, capacity=64 * MIB)
    await _taken(stores.ahead(is_far=True))
    assert stores.most_under_way <= 64 // 2 // 8
    held = await stores.budget.acquire(30 * MIB, owner="u")
    stores.most_under_way = 0
    ahead = stores.ahead(is_far=True)
    assert len((await _taken(ahead))[0]) == 50  # it goes on, one by one
    assert stores.most_under_way <= 2
    held.release()


@simulated
async def test_after_a_small_window_nothing_is_read_ahead() -> None:
    stores = Stores(count=5, size=READ_AHEAD_SIZE // 2)
    ahead = stores.ahead(is_far=False)
    for number in range(1, 5):
        await _taken(ahead, count=1)
        assert stores.begun == number


@pytest.mark.parametrize("after", [0, TRIP / 2, 2 * TRIP])
def test_what_was_read_ahead_is_broken_off_and_freed(after: float) -> None:
    async def run() -> None:
        stores = Stores(count=50)
        ahead = stores.ahead(is_far=True)
        await _taken(ahead, count=2)
        await asyncio.sleep(after)
        await ahead.drop()
        assert (stores.under_way, stores.budget.held_bytes) == (0, 0)

    leap(run())


@simulated
async def test_what_was_read_ahead_is_freed_even_if_whoever_breaks_it_off_is_cancelled() -> None:
    stores = Stores(count=50)
    stores.late = {5: 10 * TRIP}  # it is still under way when the others have come
    ahead = stores.ahead(is_far=True)
    await _taken(ahead, count=2)
    await asyncio.sleep(2 * TRIP)
    assert stores.under_way > 0
    assert stores.budget.held_bytes > 0
    dropping = asyncio.create_task(ahead.drop())
    await asyncio.sleep(0)
    dropping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dropping
    assert (stores.under_way, stores.budget.held_bytes) == (0, 0)


@simulated
async def test_what_lies_in_memory_is_not_fetched() -> None:
    stores = Stores(count=5)
    stores.in_memory = range(20 * MIB)
    starts, seconds = await _taken(stores.ahead(is_far=False, looks=True))
    assert (starts, seconds, stores.begun) == ([number * MIB for number in range(20)], 0, 0)


@simulated
async def test_a_run_that_is_not_in_memory_is_fetched_and_the_next_one_looked_for() -> None:
    stores = Stores(count=5)
    stores.in_memory = range(MIB, 20 * MIB)
    starts, seconds = await _taken(stores.ahead(is_far=False, looks=True))
    assert starts == [number * MIB for number in range(20)]
    assert (seconds, stores.begun) == (pytest.approx(TRIP), 1)


@simulated
async def test_what_is_on_the_disk_alone_is_read_ahead_by_whole_windows() -> None:
    stores = Stores(count=5)
    ahead = stores.ahead(is_far=False, looks=True)
    assert await _taken(ahead, count=1) == ([0], pytest.approx(TRIP))
    assert stores.begun == 2, "the next one is on its way already"
    starts, _ = await _taken(ahead)
    assert starts == [MIB, *(number * 4 * MIB for number in range(1, 5))]


@simulated
async def test_others_have_a_turn_between_windows_that_lie_in_memory() -> None:
    stores = Stores(count=5)
    stores.in_memory = range(20 * MIB)
    async with others_turns() as turns:
        await _taken(stores.ahead(is_far=False, looks=True))
    assert turns.count >= 19


@simulated
async def test_what_was_found_in_memory_before_it_was_asked_for_is_freed() -> None:
    stores = Stores(count=5)
    stores.in_memory = range(MIB, 2 * MIB)
    ahead = stores.ahead(is_far=False, looks=True)
    await _taken(ahead, count=1)
    assert stores.budget.held_bytes == 2 * MIB
    await ahead.drop()
    assert stores.budget.held_bytes == 0
