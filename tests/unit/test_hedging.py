"""A read asks others when a store is late, and does not wait to see whether one is back. Time is simulated."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle

import pytest

from proxy.engine.placing.fleet import FAR_SECONDS, Fleet
from proxy.engine.reading.fetch import QUEUE_TURNS, ColumnFetch, Upstream
from proxy.engine.reading.keys_in_use import KeysInUse
from proxy.errors import ProxyError
from proxy.manifest.records import Extent, ExtentId, Layout, Segment, SegmentId
from proxy.stores.breaker import FAILURES_TO_OPEN
from proxy.stores.latency import SAMPLES, SAMPLES_A_SORT
from proxy.stores.observe import LARGE_SIZE, LATE_FACTOR, PROBE_SECONDS, ObservedStore
from proxy.stores.protocol import ShardName, StoreInfo, StoreName
from tests.fault.machine.network import MemoryStore
from tests.faulty_store import FaultyStore
from tests.leaping import LoopClock, leap

USUAL = 0.03
PATIENCE = LATE_FACTOR * USUAL
SLOW = 10 * USUAL
K = 4


class _Columns:
    """Takes what comes."""

    def __init__(self) -> None:
        self.taken: list[int] = []

    @property
    def indexes(self) -> frozenset[int]:
        return frozenset(self.taken)

    def add(self, shard_index: int, sealed: bytes | memoryview) -> None:
        self.taken.append(shard_index)


class _NoDamage:
    def found(self, extent_id: ExtentId, segment: Segment, shard_index: int, failure: ProxyError) -> None:
        raise AssertionError(f"shard {shard_index}: {failure}")


class Six:
    """Six stores that hold a shard of 4+2 each: s0 the first."""

    def __init__(self) -> None:
        names = [f"s{index}" for index in range(6)]
        self.segment = Segment(id=SegmentId(bytes(16)), size=100, stores=tuple(names))
        layout = Layout(size=100, k=K, m=2, tenant_key_id="t", wrapped_key=b"", segments=(self.segment,))
        self.extent = Extent(id=ExtentId(1), layout=layout)
        self.stores = [
            FaultyStore(MemoryStore(StoreInfo(name=StoreName(name), provider=name, region="r", jurisdiction="J"))) for name in names
        ]
        self.fleet = Fleet({name: ObservedStore(store, LoopClock()) for name, store in zip(names, self.stores, strict=True)})

    async def begin(self) -> None:
        """Put the shards, and let it be known how fast the stores are."""
        for index, store in enumerate(self.stores):
            await store.inner.put(ShardName(self.segment.shard_name(index)), [b"x" * LARGE_SIZE])
            store.slow_seconds = USUAL
        for _ in range(SAMPLES_A_SORT):
            await self.read(range(K))
            await self.read((4, 5))

    async def read(self, wanted: range | tuple[int, ...], *, size: int = 10) -> tuple[list[int], float]:
        """Return which columns were used, and how long it took."""
        columns, loop = _Columns(), asyncio.get_running_loop()
        for store in self.stores:
            store.calls.clear()
        began = loop.time()
        with ThreadPoolExecutor(1) as threads:
            upstream = Upstream(self.fleet, threads, _NoDamage(), KeysInUse())
            await ColumnFetch(self.extent, self.segment, columns, wanted=frozenset(wanted), span=(0, size), upstream=upstream).gather()
        return sorted(columns.taken), loop.time() - began

    @property
    def asked(self) -> list[int]:
        return [index for index, store in enumerate(self.stores) if store.calls["get_range"]]


def _on_six(test: Callable[[Six], Awaitable[None]]) -> Callable[[], None]:
    async def run() -> None:
        six = Six()
        await six.begin()
        await test(six)

    def whole() -> None:
        leap(run())

    whole.__name__ = test.__name__
    return whole


@_on_six
async def test_only_the_columns_wanted_are_asked_for_while_nobody_is_late(six: Six) -> None:
    assert await six.read((2,)) == ([2], pytest.approx(USUAL))
    assert six.asked == [2]


@_on_six
async def test_others_are_asked_at_a_fixed_time_however_many_answer_before(six: Six) -> None:
    six.stores[0].hanging = True
    for index, seconds in ((1, 0.8), (2, 1.2), (3, 1.6)):
        six.stores[index].slow_seconds = seconds * USUAL
    taken, seconds = await six.read(range(K))
    assert sorted(taken) in ([1, 2, 3, 4], [1, 2, 3, 5])
    assert seconds == pytest.approx(PATIENCE + USUAL)


@_on_six
async def test_for_two_that_are_late_two_others_are_asked_at_once(six: Six) -> None:
    six.stores[0].hanging = six.stores[1].hanging = True
    taken, seconds = await six.read(range(K))
    assert sorted(taken) == [2, 3, 4, 5]
    assert seconds == pytest.approx(PATIENCE + USUAL)


@_on_six
async def test_a_store_that_is_always_slow_does_not_put_the_time_off(six: Six) -> None:
    six.stores[5].slow_seconds = 1.0
    for _ in range(SAMPLES_A_SORT):
        await six.read((5,))
    six.stores[0].hanging = True
    assert (await six.read(range(K)))[1] == pytest.approx(PATIENCE + USUAL)


@_on_six
async def test_large_reads_that_wait_for_one_another_are_not_late_by_the_measure_of_small_ones(six: Six) -> None:
    for store in six.stores:
        store.slow_seconds = 2 * PATIENCE  # as long as their bytes take
    for _ in range(2):
        assert await six.read(range(K), size=LARGE_SIZE) == ([0, 1, 2, 3], pytest.approx(2 * PATIENCE))
        assert await six.read((4, 5), size=LARGE_SIZE) == ([4, 5], pytest.approx(2 * PATIENCE))
    six.stores[0].hanging = True
    taken, seconds = await six.read(range(K), size=LARGE_SIZE)
    assert (taken[:3], seconds) == ([1, 2, 3], pytest.approx((LATE_FACTOR + 1) * 2 * PATIENCE))
    for store in six.stores[1:]:
        store.slow_seconds = USUAL
    assert (await six.read(range(K)))[1] == pytest.approx(PATIENCE + USUAL)  # what is small is late as soon as before


async def _late_large_read(six: Six, *, busy: tuple[int, ...], answering: tuple[int, ...] = ()) -> float:
    """Return how long a large read takes whose first column does not come for long, where stores have large reads of others to answer, and
    some do so meanwhile."""
    for wanted in (range(K), (4, 5)):
        await six.read(wanted, size=LARGE_SIZE)
    _hit(six.stores[0], seconds=100 * USUAL)
    for index in busy:
        six.fleet[f"s{index}"].reads = 1

    async def answer(index: int) -> None:
        while True:
            await _read_alone(six, six.stores[index], size=LARGE_SIZE)

    read = asyncio.create_task(six.read(range(K), size=LARGE_SIZE))
    await asyncio.sleep(USUAL / 2)
    others = [asyncio.create_task(answer(index)) for index in answering]
    _, seconds = await read
    for other in others:
        other.cancel()
    return seconds


@_on_six
async def test_a_large_read_that_is_late_waits_while_all_others_are_busy_with_large_ones(six: Six) -> None:
    assert await _late_large_read(six, busy=(4, 5)) == pytest.approx((1 + QUEUE_TURNS) * PATIENCE + USUAL)


@_on_six
async def test_a_large_read_does_not_wait_so_long_for_a_store_that_is_silent_while_all_others_answer(six: Six) -> None:
    assert await _late_large_read(six, busy=(4, 5), answering=(4, 5)) == pytest.approx(2 * PATIENCE + USUAL)


@pytest.mark.parametrize("answering", [(4,), (0, 4, 5)])
def test_a_large_read_waits_for_its_turn_while_another_store_is_silent_too_or_its_own_answers_others(answering: tuple[int, ...]) -> None:
    async def test(six: Six) -> None:
        assert await _late_large_read(six, busy=(4, 5), answering=answering) == pytest.approx((1 + QUEUE_TURNS) * PATIENCE + USUAL)

    _on_six(test)()


@_on_six
async def test_a_large_read_that_is_late_is_asked_of_one_that_is_not_busy(six: Six) -> None:
    assert await _late_large_read(six, busy=(4,)) == pytest.approx(PATIENCE + USUAL)


def _hit(store: FaultyStore, *, calls: int = 1, seconds: float = 10 * USUAL) -> None:
    """Let the next calls take long, and those after them as long as before."""
    left = [calls]

    def before(_verb: str) -> None:
        left[0] -= 1
        store.slow_seconds = seconds if left[0] >= 0 else USUAL

    store.before = before


@_on_six
async def test_one_column_that_is_late_is_asked_for_again_before_k_others_are(six: Six) -> None:
    for _ in range(2 * FAILURES_TO_OPEN):
        _hit(six.stores[2])
        assert await six.read((2,)) == ([2], pytest.approx(PATIENCE + USUAL))
        assert (six.asked, six.stores[2].calls["get_range"]) == ([2], 2)
    assert six.fleet["s2"].keeps_pace("get_range")


@_on_six
async def test_the_answer_that_comes_first_counts(six: Six) -> None:
    _hit(six.stores[2], seconds=PATIENCE + USUAL / 2)
    assert await six.read((2,)) == ([2], pytest.approx(PATIENCE + USUAL / 2))
    assert six.fleet["s2"].keeps_pace("get_range")


@_on_six
async def test_a_second_request_that_fails_leaves_the_first_one(six: Six) -> None:
    loop = asyncio.get_running_loop()
    second_at = loop.time() + PATIENCE - USUAL / 2
    _hit(six.stores[2], seconds=PATIENCE + 1.5 * USUAL)
    six.stores[2].fails = lambda: second_at < loop.time() < second_at + 1.8 * USUAL
    assert await six.read((2,)) == ([2], pytest.approx(PATIENCE + 1.5 * USUAL))
    assert six.asked == [2]


@_on_six
async def test_a_second_request_that_fails_at_the_instant_in_which_the_first_answers_is_heard(six: Six) -> None:
    loop = asyncio.get_running_loop()
    complaints: list[str] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context["message"]))
    six.stores[2].hanging, six.stores[2].slow_seconds = True, 0

    def before(_verb: str) -> None:
        if six.stores[2].calls["get_range"] == 2:
            loop.call_later(USUAL, setattr, six.stores[2], "hanging", False)  # both go on

    six.stores[2].before = before
    six.stores[2].fails = cycle((False, True)).__next__
    assert await six.read((2,)) == ([2], pytest.approx(PATIENCE + USUAL))
    gc.collect()
    await asyncio.sleep(0)
    assert (six.stores[2].calls["get_range"], complaints) == (2, [])


@_on_six
async def test_a_store_that_is_asked_twice_is_overtaken_once(six: Six) -> None:
    six.stores[2].hanging = True
    for reads in range(FAILURES_TO_OPEN):
        assert six.fleet["s2"].keeps_pace("get_range"), reads
        await six.read((2,))
    assert not six.fleet["s2"].keeps_pace("get_range")


@_on_six
async def test_k_others_are_asked_when_the_second_request_is_late_too_and_at_once_from_the_next_read_on(six: Six) -> None:
    six.stores[2].hanging = True
    assert await six.read((2,)) == ([0, 1, 3, 4], pytest.approx(2 * PATIENCE + USUAL))
    assert await six.read((2,)) == ([0, 1, 3, 4], pytest.approx(PATIENCE + USUAL))
    assert six.stores[2].calls["get_range"] == 1


@_on_six
async def test_where_no_other_store_is_left_the_same_is_asked_again(six: Six) -> None:
    six.stores[4].hanging = six.stores[5].hanging = True
    for _ in range(FAILURES_TO_OPEN):
        await six.read((4, 5))
    _hit(six.stores[1])
    assert await six.read(range(K)) == ([0, 1, 2, 3], pytest.approx(PATIENCE + USUAL))
    assert six.asked == [0, 1, 2, 3]


@pytest.mark.parametrize(("reads", "patience"), [(1, PATIENCE), (2, (1 + QUEUE_TURNS) * PATIENCE)])
def test_where_no_other_store_is_left_a_large_read_is_asked_again_unless_it_waits_for_its_turn(reads: int, patience: float) -> None:
    async def test(six: Six) -> None:
        await six.read(range(K), size=LARGE_SIZE)
        six.stores[4].hanging = six.stores[5].hanging = True
        for _ in range(FAILURES_TO_OPEN):
            await six.read((4, 5))
        _hit(six.stores[1], seconds=10 * patience)
        six.fleet["s1"].reads = reads  # its own among them
        assert await six.read(range(K), size=LARGE_SIZE) == ([0, 1, 2, 3], pytest.approx(patience + USUAL))

    _on_six(test)()


@_on_six
async def test_where_fewer_others_are_left_than_are_late_one_is_asked_again(six: Six) -> None:
    six.stores[5].hanging = True
    for _ in range(FAILURES_TO_OPEN):
        await six.read((5,))
    for index in (1, 2):
        _hit(six.stores[index])
    taken, seconds = await six.read(range(K))
    assert taken in ([0, 1, 3, 4], [0, 2, 3, 4])
    assert seconds == pytest.approx(PATIENCE + USUAL)


@_on_six
async def test_one_call_in_sixteen_that_is_hit_does_not_put_the_time_off(six: Six) -> None:
    for store in six.stores:
        for number in range(2 * SAMPLES):
            if number % 16 == 0:
                _hit(store)
            await _read_alone(six, store)
    _hit(six.stores[2])
    assert await six.read((2,)) == ([2], pytest.approx(PATIENCE + USUAL))


async def _read_alone(six: Six, store: FaultyStore, *, size: int = 10) -> None:
    index = six.stores.index(store)
    await six.fleet[f"s{index}"].get_range(ShardName(six.segment.shard_name(index)), 0, size)


@_on_six
async def test_nobody_waits_to_see_whether_a_late_store_is_back(six: Six) -> None:
    six.stores[0].hanging = True
    for _ in range(FAILURES_TO_OPEN):
        await six.read(range(K))
    assert await six.read(range(K)) == ([1, 2, 3, 4], pytest.approx(USUAL))
    assert 0 not in six.asked
    await asyncio.sleep(PROBE_SECONDS)
    assert await six.read(range(K)) == ([1, 2, 3, 4], pytest.approx(USUAL))
    assert 0 in six.asked
    assert await six.read((0,)) == ([1, 2, 3, 4], pytest.approx(USUAL))
    await asyncio.sleep(PROBE_SECONDS)
    assert await six.read((0,)) == ([1, 2, 3, 4], pytest.approx(USUAL))
    assert 0 in six.asked


@_on_six
async def test_a_store_that_is_back_is_found_and_used_again(six: Six) -> None:
    six.stores[0].hanging = True
    for _ in range(FAILURES_TO_OPEN):
        await six.read(range(K))
    six.stores[0].hanging = False
    await asyncio.sleep(PROBE_SECONDS)
    await six.read(range(K))
    assert await six.read((0,)) == ([0], pytest.approx(USUAL))


async def _overtake_first(six: Six) -> None:
    """Let the others overtake the first store until it is left out; then let all be as slow as it is, so that it answers."""
    six.stores[0].slow_seconds = SLOW
    for _ in range(FAILURES_TO_OPEN):
        await six.read(range(K))
    for store in six.stores[1:]:
        store.slow_seconds = SLOW
    await asyncio.sleep(PROBE_SECONDS)
    assert 0 in (await six.read(range(K)))[0]
    for store in six.stores[1:]:
        store.slow_seconds = USUAL


@_on_six
async def test_a_slow_store_is_left_out_though_all_others_were_as_slow_for_a_moment(six: Six) -> None:
    await _overtake_first(six)
    assert await six.read(range(K)) == ([1, 2, 3, 4], pytest.approx(USUAL))
    assert 0 not in six.asked


@_on_six
async def test_a_slow_store_is_read_from_again_once_all_others_have_become_as_slow(six: Six) -> None:
    await _overtake_first(six)
    for store in six.stores:
        store.slow_seconds = 2 * PATIENCE  # as after a change of the route, and slower than the first was to be used again
    for _ in range(SAMPLES):
        await six.read((1, 2, 3, 4, 5)[:K])
        await six.read((4, 5))
    await asyncio.sleep(PROBE_SECONDS)
    await six.read(range(K))
    assert six.fleet["s0"].keeps_pace("get_range")


@_on_six
async def test_a_large_read_that_takes_as_long_as_it_always_did_shows_that_a_store_keeps_pace(six: Six) -> None:
    six.stores[0].slow_seconds = 2 * PATIENCE
    await _read_alone(six, six.stores[0], size=LARGE_SIZE)
    await _overtake_first(six)
    six.stores[0].slow_seconds = 2 * PATIENCE
    await _read_alone(six, six.stores[0], size=LARGE_SIZE)
    assert six.fleet["s0"].keeps_pace("get_range")


@_on_six
async def test_a_large_read_that_takes_longer_than_ever_shows_nothing_of_the_kind(six: Six) -> None:
    await _read_alone(six, six.stores[0], size=LARGE_SIZE)
    await _overtake_first(six)
    await _read_alone(six, six.stores[0], size=LARGE_SIZE)
    assert not six.fleet["s0"].keeps_pace("get_range")


@_on_six
async def test_stores_are_far_if_most_of_them_are(six: Six) -> None:
    names = six.segment.stores
    assert six.fleet.are_far(names)
    near = Six()
    assert not near.fleet.are_far(names)  # nobody knows yet
    await near.begin()
    for store in near.stores:
        store.slow_seconds = FAR_SECONDS / 2
    for _ in range(8 * SAMPLES_A_SORT):
        await near.read(range(6))
    near.stores[0].slow_seconds = 1.0
    await near.read((0,))
    assert not near.fleet.are_far(names)
