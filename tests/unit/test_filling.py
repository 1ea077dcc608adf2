"""Many large bodies that arrive at once, and memory for a few of their segments. Time is simulated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from bench.wan.simulated_upload import SEGMENT_SIZE, SimulatedThreads, Uploads, Zeros
from proxy.codec.geometry import Scheme, SegmentGeometry
from proxy.engine.memory.budget import Budget
from proxy.engine.memory.turns import AT_ONCE, LONGEST_SECONDS
from proxy.engine.writing.body import HereAlready
from proxy.engine.writing.filling import SILENT_SECONDS, STRIDE_SIZE, CodingThreads, segment_memory
from proxy.errors import BudgetExhausted
from proxy.lanes import NotBegun

pytestmark = pytest.mark.leaping
SCHEME = Scheme(4, 2)
MEMORY = segment_memory(SegmentGeometry(SCHEME, SEGMENT_SIZE))


def _uploads(budget: Budget, *, step_seconds: float, store_seconds: float = 0.0) -> Uploads:
    return Uploads(budget, SCHEME, lambda _: asyncio.sleep(store_seconds), step_seconds=step_seconds)


async def _seconds(uploads: Uploads, *, count: int, segments: int) -> float:
    """Return how long so many uploads at once take."""
    begun = asyncio.get_running_loop().time()
    await asyncio.gather(*(uploads.upload(Zeros(segments * SEGMENT_SIZE)) for _ in range(count)))
    return asyncio.get_running_loop().time() - begun


@pytest.mark.parametrize(
    ("step_seconds", "store_seconds"),
    [(0.001, 0.0), (0.010, 0.0), (0.001, 1.0)],
    ids=["all fast", "busy processor", "distant stores"],
)
async def test_sixty_four_uploads_share_the_memory_of_six_segments_and_none_is_refused(step_seconds: float, store_seconds: float) -> None:
    budget = Budget(7 * MEMORY, wait_seconds=30)  # an eighth is for small requests
    uploads = _uploads(budget, step_seconds=step_seconds, store_seconds=store_seconds)
    await _seconds(uploads, count=64, segments=2)
    assert budget.held_bytes == 0
    assert len(uploads.filled_at) == 64 * 2


@pytest.mark.parametrize("count", [8, 24])
async def test_while_segments_are_on_their_way_all_other_memory_is_filled(count: int) -> None:
    uploads = _uploads(Budget(7 * MEMORY, wait_seconds=60), step_seconds=0.001, store_seconds=1.0)
    assert await _seconds(uploads, count=count, segments=3) < 1.3 * (3 * count / 6)


async def test_segments_that_arrive_together_are_complete_one_after_the_other() -> None:
    step_seconds, count = 0.005, 8
    uploads = _uploads(Budget(100 * MEMORY, wait_seconds=30), step_seconds=step_seconds)
    begun = asyncio.get_running_loop().time()
    whole = await _seconds(uploads, count=count, segments=1)
    assert whole == pytest.approx(2 * count * SEGMENT_SIZE / STRIDE_SIZE * step_seconds)  # nobody's turn was lost
    assert sum(uploads.filled_at) / count - begun < 0.7 * whole  # and not all of them at the end


async def test_an_upload_that_gets_no_thread_takes_no_turn_from_others() -> None:
    budget = Budget(100 * MEMORY, wait_seconds=30)
    uploads = _uploads(budget, step_seconds=0.001)
    threads = uploads._filler._threads
    for begun in range(2 * AT_ONCE):  # of the first step no work, or half of it
        few = _FewThreads(begun % 2)
        uploads._filler._threads = CodingThreads(few, few)
        with pytest.raises(NotBegun):
            await uploads.upload(Zeros(SEGMENT_SIZE))
    uploads._filler._threads = threads
    assert await _seconds(uploads, count=1, segments=1) < LONGEST_SECONDS
    assert budget.held_bytes == 0


async def test_a_body_that_comes_whole_has_threads_of_its_own() -> None:
    budget = Budget(7 * MEMORY, wait_seconds=30)
    uploads, whole, strides = _uploads(budget, step_seconds=0.001), _Counted(), _Counted()
    uploads._filler._threads = CodingThreads(whole=whole, strides=strides)
    await uploads.upload(Zeros(STRIDE_SIZE))
    assert (whole.calls, strides.calls) == (1, 0)
    await uploads.upload(Zeros(2 * STRIDE_SIZE))
    assert (whole.calls, strides.calls) == (1, 4)


class _Counted(SimulatedThreads):
    """Threads that count their calls."""

    def __init__(self) -> None:
        super().__init__(0.001)
        self.calls = 0

    def begin(self, call: Callable[[], None]) -> asyncio.Future[None]:
        self.calls += 1
        return super().begin(call)


class _FewThreads(SimulatedThreads):
    """A system that begins so many calls, and then has no thread left."""

    def __init__(self, count: int) -> None:
        super().__init__(0.001)
        self._count = count

    def begin(self, call: Callable[[], None]) -> asyncio.Future[None]:
        if not self._count:
            raise NotBegun
        self._count -= 1
        return super().begin(call)


async def test_slow_threads_are_not_taken_for_a_silent_client() -> None:
    budget = Budget(2 * MEMORY, wait_seconds=60)
    slow = asyncio.create_task(_uploads(budget, step_seconds=SILENT_SECONDS).upload(Zeros(STRIDE_SIZE)))
    await asyncio.sleep(1)
    waiting = asyncio.create_task(budget.acquire(budget.largest_bytes, owner="t"))
    await slow
    (await waiting).release()


async def test_a_silent_client_loses_its_memory_to_those_who_wait() -> None:
    budget = Budget(2 * MEMORY, wait_seconds=60)
    silent = asyncio.create_task(_uploads(budget, step_seconds=0.001).upload(Zeros(SEGMENT_SIZE, silent_seconds=2 * SILENT_SECONDS)))
    await asyncio.sleep(1)
    (await budget.acquire(budget.largest_bytes, owner="t")).release()
    with pytest.raises(BudgetExhausted):
        await silent


@pytest.mark.parametrize(("gathers", "expected"), [(True, True), (False, False)])
async def test_what_is_gathered_is_taken_when_there_is_memory_for_it(gathers: bool, expected: bool) -> None:
    budget = Budget(7 * MEMORY, wait_seconds=30)
    body = _Begun(budget, gathers=gathers)
    await _uploads(budget, step_seconds=0.001).upload(body)
    assert body.had_memory == [expected]
    assert budget.held_bytes == 0


class _Begun(Zeros, HereAlready):
    """A body whose first bytes are here, and are kept or not. It notes whether there was memory when it was first asked for any."""

    def __init__(self, budget: Budget, *, gathers: bool) -> None:
        super().__init__(STRIDE_SIZE)
        self._budget = budget
        self._gathers = gathers
        self.had_memory: list[bool] = []

    def gather(self) -> bool:
        return self._gathers

    async def chunks(self) -> AsyncIterator[bytes | memoryview]:
        self.had_memory.append(self._budget.held_bytes > 0)
        async for chunk in super().chunks():
            yield chunk
