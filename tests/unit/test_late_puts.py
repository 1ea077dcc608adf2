"""A write does not wait for a store that is slow or hangs, and gives away nothing for it: what is promised holds, and shards go where they
belong. Time is simulated."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from itertools import cycle

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.codec.geometry import Scheme
from proxy.engine.placing.fleet import FAR_SECONDS
from proxy.engine.placing.hands import unit_of
from proxy.engine.placing.placement import MayFail, survives
from proxy.engine.writing.quorum import LATE_FACTOR, NEAR_DOUBT_SECONDS, SMALL_SHARD_SIZE, Placed
from proxy.engine.writing.spare import SPARE_SECONDS
from proxy.errors import NotEnoughShards
from proxy.stores.breaker import FAILURES_TO_OPEN
from proxy.stores.latency import SAMPLES_A_SORT
from proxy.stores.observe import PROBE_SECONDS, SILENT_SECONDS
from tests.faulty_store import FaultyStore
from tests.leaping import LoopClock, leap
from tests.unit.test_quorum import Harness

USUAL = 0.03  # seconds that a put takes
SLOW = 10 * USUAL


def _six() -> Harness:
    places = ("a/r/A", "b/r/B", "c/r/C", "d/r/D", "e/r/E", "f/r/F")
    return _usual(Harness(*places, scheme=Scheme(4, 2), may_fail=MayFail(providers=1), clock=LoopClock()))


def _usual(harness: Harness) -> Harness:
    for store in harness.stores.values():
        store.slow_seconds = USUAL
    return harness


async def _timed(harness: Harness) -> tuple[Placed, float]:
    loop = asyncio.get_running_loop()
    began = loop.time()
    placed = await harness.put(max_grace_seconds=2.0)
    return placed, loop.time() - began


async def _learn(harness: Harness, *, writes: int = FAILURES_TO_OPEN) -> list[Placed]:
    return [(await _timed(harness))[0] for _ in range(writes)]


def _on_six(test: Callable[[Harness], Awaitable[None]]) -> Callable[[], None]:
    """Run a test with six stores, in simulated time."""

    async def run() -> None:
        await test(_six())

    def whole() -> None:
        leap(run())

    whole.__name__, whole.__doc__ = test.__name__, test.__doc__
    return whole


@_on_six
async def test_a_slow_store_is_waited_for_until_it_is_late_and_after_three_writes_not_at_all(six: Harness) -> None:
    six.stores["s1"].slow_seconds = SLOW
    seconds = [(await _timed(six))[1] for _ in range(6)]
    assert seconds == pytest.approx([LATE_FACTOR * USUAL] * FAILURES_TO_OPEN + [USUAL] * 3)


@_on_six
async def test_a_slow_store_is_sent_its_shards_and_gets_them(six: Harness) -> None:
    six.stores["s1"].slow_seconds = SLOW
    for _ in range(2 * FAILURES_TO_OPEN):
        placed, _ = await _timed(six)
        (index,) = placed.tail
        assert placed.stores[index] == "s1"
        assert not placed.strays
        await asyncio.wait(placed.tail.values())
        placed.settle()
        assert not placed.missing


@_on_six
async def test_late_answers_do_not_make_a_store_keep_pace(six: Harness) -> None:
    six.stores["s1"].slow_seconds = SLOW
    for placed in await _learn(six):
        await asyncio.wait(placed.tail.values())
    assert not six.fleet["s1"].keeps_pace("put")
    assert six.fleet["s1"].ready_for("put")


@_on_six
async def test_a_store_that_is_fast_again_is_waited_for_again(six: Harness) -> None:
    six.stores["s1"].slow_seconds = SLOW
    await _learn(six)
    await asyncio.sleep(SLOW)
    six.stores["s1"].slow_seconds = 1.2 * USUAL
    placed, seconds = await _timed(six)
    assert (set(placed.tail.values()) != set(), seconds) == (True, pytest.approx(USUAL))
    await asyncio.sleep(USUAL)
    placed, seconds = await _timed(six)
    assert (placed.tail, placed.missing, seconds) == ({}, set(), pytest.approx(1.2 * USUAL))


@_on_six
async def test_a_store_is_waited_for_again_where_all_others_have_become_as_slow(six: Harness) -> None:
    six.stores["s1"].slow_seconds = SLOW
    for placed in await _learn(six):
        await asyncio.wait(placed.tail.values())
    assert not six.fleet["s1"].keeps_pace("put")
    for store in six.stores.values():
        store.slow_seconds = SLOW
    await _learn(six, writes=2 * SAMPLES_A_SORT)
    assert six.fleet["s1"].keeps_pace("put")


@_on_six
async def test_a_moment_in_which_all_are_slow_does_not_take_a_slow_store_back(six: Harness) -> None:
    await _learn(six, writes=2 * SAMPLES_A_SORT)
    six.stores["s1"].slow_seconds = SLOW
    for placed in await _learn(six):
        await asyncio.wait(placed.tail.values())
    for store in six.stores.values():
        store.slow_seconds = SLOW
    placed, _ = await _timed(six)
    await asyncio.sleep(SLOW)
    assert not six.fleet["s1"].keeps_pace("put")


@_on_six
async def test_a_store_that_hangs_is_left_out_once_it_has_been_silent_and_asked_now_and_then(six: Harness) -> None:
    await _learn(six)
    six.stores["s1"].hanging = True
    await _learn(six)
    await asyncio.sleep(SILENT_SECONDS)
    asked = six.stores["s1"].calls["put"]
    tried = await _learn(six, writes=10)
    assert six.stores["s1"].calls["put"] == asked
    assert all([placed.stores[index] for index in placed.missing] == ["s1"] and not placed.strays for placed in tried)
    await asyncio.sleep(PROBE_SECONDS)
    await _learn(six, writes=10)
    assert six.stores["s1"].calls["put"] == asked + 1
    six.stores["s1"].hanging = False
    await asyncio.sleep(PROBE_SECONDS)
    await _learn(six, writes=2)
    assert six.fleet["s1"].keeps_pace("put")


@_on_six
async def test_a_probe_of_a_store_that_hangs_is_not_waited_for(six: Harness) -> None:
    six.stores["s1"].hanging = True
    await _learn(six)
    for _ in range(5):
        await asyncio.sleep(max(PROBE_SECONDS, SILENT_SECONDS))
        assert (await _timed(six))[1] == pytest.approx(USUAL)


@_on_six
async def test_where_the_promise_needs_a_late_shard_another_store_is_sent_it(six: Harness) -> None:
    await _learn(six)
    six.stores["s1"].rejects = True
    await _learn(six)  # it is left out: now every shard counts
    six.stores["s2"].hanging = True
    placed, seconds = await _timed(six)
    assert seconds == pytest.approx((LATE_FACTOR + 1) * USUAL)
    assert "s2" not in placed.stores.values()
    assert placed.strays
    assert not placed.missing
    for index, store in placed.stores.items():
        assert index in await six.indexes(store)
    assert placed.spare  # in vain, as nobody knows yet
    await asyncio.sleep(SPARE_SECONDS + USUAL)
    assert not asyncio.all_tasks() - {asyncio.current_task()}


@_on_six
async def test_a_put_whose_shard_lies_elsewhere_is_let_end_so_that_its_connection_stays(six: Harness) -> None:
    six.stores["s1"].rejects = True
    await _learn(six)
    _hit(six.stores["s2"])
    placed, seconds = await _timed(six)
    assert seconds == pytest.approx((LATE_FACTOR + 1) * USUAL)
    assert "s2" not in placed.stores.values()
    assert six.fleet["s2"].puts == 1
    await asyncio.gather(*placed.spare)  # or one of them has been cancelled
    assert six.fleet["s2"].puts == 0


@_on_six
async def test_a_large_put_whose_shard_lies_elsewhere_is_broken_off(six: Harness) -> None:
    six.stores["s1"].rejects = True
    for _ in range(FAILURES_TO_OPEN):
        await six.put(max_grace_seconds=2.0, shard_bytes=SMALL_SHARD_SIZE + 1)
    _hit(six.stores["s2"])
    placed = await six.put(max_grace_seconds=2.0, shard_bytes=SMALL_SHARD_SIZE + 1)
    await asyncio.sleep(0)
    assert "s2" not in placed.stores.values()
    assert (placed.spare, six.fleet["s2"].puts) == ([], 0)


@_on_six
async def test_a_small_shard_is_sent_to_two_others_at_once_since_either_may_be_hit(six: Harness) -> None:
    six.stores["s1"].rejects = True
    await _learn(six)
    six.stores["s2"].hanging = True
    for number, store in enumerate(six.stores.values()):
        store.before = _second_put_takes(store, SLOW if number == 2 else USUAL)  # s3 is the one that would be asked alone
    placed, seconds = await _timed(six)
    assert seconds == pytest.approx((LATE_FACTOR + 1) * USUAL)
    assert "s2" not in placed.stores.values()


def _second_put_takes(store: FaultyStore, seconds: float) -> Callable[[str], None]:
    turns = iter([USUAL, seconds])

    def before(_verb: str) -> None:
        store.slow_seconds = next(turns, USUAL)

    return before


@_on_six
async def test_where_a_shard_that_counts_is_late_nobody_waits_for_a_slow_store_either(six: Harness) -> None:
    six.stores["s1"].slow_seconds = SLOW
    for placed in await _learn(six, writes=SAMPLES_A_SORT):
        await asyncio.gather(*placed.tail.values())
    six.stores["s2"].hanging = True
    placed, seconds = await _timed(six)
    assert seconds == pytest.approx((LATE_FACTOR + 1) * USUAL)
    assert {"s1", "s2"}.isdisjoint(placed.stores.values())
    assert placed.strays
    assert not placed.missing


@_on_six
async def test_once_the_promise_holds_nobody_waits_for_the_copies_of_what_a_slow_store_was_sent(six: Harness) -> None:
    six.stores["s1"].slow_seconds = SLOW
    for placed in await _learn(six, writes=SAMPLES_A_SORT):
        await asyncio.gather(*placed.tail.values())
    six.stores["s2"].slow_seconds = (LATE_FACTOR + 0.5) * USUAL
    placed, seconds = await _timed(six)
    assert seconds == pytest.approx((LATE_FACTOR + 0.5) * USUAL)
    (late,) = placed.missing
    assert placed.stores[late] == "s1"
    await asyncio.gather(*placed.tail.values())
    assert late in await six.indexes("s1")


async def _put_while_two_are_hit_and_one_is_slow() -> tuple[Placed, float]:
    places = ("a/r/EU", "b/r/EU", "c/r/US", "d/r/US", "e/r/CH", "f/r/JP")
    six = _usual(Harness(*places, scheme=Scheme(4, 2), may_fail=MayFail(providers=1), clock=LoopClock()))
    six.stores["s2"].slow_seconds = SLOW
    for placed in await _learn(six, writes=SAMPLES_A_SORT):
        await asyncio.gather(*placed.tail.values())
    for name in ("s5", "s6"):
        _hit(six.stores[name])
    return await _timed(six)


def test_a_store_of_which_one_put_is_late_is_sent_what_no_other_may_have() -> None:
    placed, seconds = leap(_put_while_two_are_hit_and_one_is_slow())  # what is sent twice fills what the others may have
    assert seconds == pytest.approx((LATE_FACTOR + 1) * USUAL)
    assert "s2" not in placed.stores.values()


def _hit(store: FaultyStore) -> None:
    """Let the next call take long, and those after it as long as before."""
    seconds = iter([SLOW])

    def before(_verb: str) -> None:
        store.slow_seconds = next(seconds, USUAL)

    store.before = before


async def _assert_a_stall_is_waited_for(six: Harness, *, usual_seconds: float) -> None:
    for store in six.stores.values():
        store.slow_seconds = usual_seconds
    await _learn(six)
    six.stores["s1"].rejects = True
    await _learn(six)
    six.stores["s2"].slow_seconds = NEAR_DOUBT_SECONDS / 2
    placed, seconds = await _timed(six)
    assert (placed.strays, seconds) == (False, pytest.approx(NEAR_DOUBT_SECONDS / 2))


@_on_six
async def test_a_disk_nearby_that_stalls_for_a_moment_is_waited_for(six: Harness) -> None:
    await _assert_a_stall_is_waited_for(six, usual_seconds=FAR_SECONDS / 5)


@_on_six
async def test_a_disk_nearby_is_waited_for_on_a_busy_machine_where_all_take_as_long_as_distant_ones(six: Harness) -> None:
    for observed in six.fleet.stores.values():
        observed.is_nearby = True  # it had something in memory
    await _assert_a_stall_is_waited_for(six, usual_seconds=2 * FAR_SECONDS)


@_on_six
async def test_a_shard_that_was_sent_twice_is_where_it_came_first(six: Harness) -> None:
    await _learn(six)
    six.stores["s1"].rejects = True
    await _learn(six)
    six.stores["s2"].slow_seconds = (LATE_FACTOR + 0.5) * USUAL
    placed, seconds = await _timed(six)
    assert seconds == pytest.approx((LATE_FACTOR + 0.5) * USUAL)
    assert "s2" in placed.stores.values()
    assert placed.strays
    (late,) = placed.missing  # the shard of the store that is out: the promise holds without it
    await placed.tail[late]
    assert late in await six.indexes(placed.stores[late])


@_on_six
async def test_a_shard_whose_second_store_fails_still_comes_to_its_first(six: Harness) -> None:
    await _learn(six)
    six.stores["s1"].rejects = True
    await _learn(six)
    six.stores["s2"].slow_seconds = SLOW
    for store in six.stores.values():
        store.fails = _from_the_second_put_on(store)
    placed, seconds = await _timed(six)
    assert seconds == pytest.approx(SLOW)
    assert "s2" in placed.stores.values()
    assert placed.strays


def _from_the_second_put_on(store: FaultyStore) -> Callable[[], bool]:
    before = asyncio.get_running_loop().time() + 1.5 * USUAL
    return lambda: store.slow_seconds == USUAL and asyncio.get_running_loop().time() > before


@_on_six
async def test_with_a_store_down_writes_do_without_one_that_has_slowed(six: Harness) -> None:
    await _learn(six)
    six.stores["s2"].slow_seconds = SLOW
    await _learn(six)
    six.stores["s1"].rejects = True
    await _learn(six)
    placed, seconds = await _timed(six)
    assert seconds == pytest.approx(USUAL)
    assert {"s1", "s2"}.isdisjoint(placed.stores.values())
    assert not placed.missing


def _three_are_far(six: Harness) -> None:
    """No two of them equally far, and each now the farthest, now not."""
    for name in ("s4", "s5", "s6"):
        turns = cycle((1.0, 1.01, 1.02) if name == "s4" else (1.01, 1.02, 1.0) if name == "s5" else (1.02, 1.0, 1.01))
        _take_turns(six.stores[name], turns)


def _take_turns(store: FaultyStore, turns: Iterator[float]) -> None:
    def before(_verb: str) -> None:
        store.slow_seconds = next(turns) * SLOW

    store.before = before


@_on_six
async def test_stores_that_are_far_away_keep_their_share_of_the_shards(six: Harness) -> None:
    _three_are_far(six)
    for placed in await _learn(six, writes=30):
        assert set(placed.stores.values()) == set(six.stores)
        await asyncio.gather(*placed.tail.values())
    placed_later = await _learn(six, writes=10)
    assert not any(placed.strays for placed in placed_later)
    assert not any(placed.missing for placed in placed_later)  # the farthest comes a moment later: no second commit for that


@_on_six
async def test_a_slow_store_gets_no_more_time_than_the_others_took(six: Harness) -> None:
    six.stores["s1"].slow_seconds = SLOW
    for placed in await _learn(six, writes=SAMPLES_A_SORT):
        await asyncio.gather(*placed.tail.values())
    placed, seconds = await _timed(six)
    assert (len(placed.missing), seconds) == (1, pytest.approx(USUAL))


@_on_six
async def test_with_one_far_store_down_the_other_far_ones_are_waited_for(six: Harness) -> None:
    _three_are_far(six)
    for placed in await _learn(six, writes=10):
        await asyncio.gather(*placed.tail.values())
    for name in ("s5", "s6"):  # each has a few puts that take long, now and then
        _take_turns(six.stores[name], cycle((1.01, 1.0, 3.0)))
    for placed in await _learn(six, writes=3 * FAILURES_TO_OPEN):
        await asyncio.gather(*placed.tail.values())
    _three_are_far(six)
    six.stores["s4"].down = True
    for placed in await _learn(six, writes=2 * FAILURES_TO_OPEN):
        assert {"s5", "s6"} <= {store for index, store in placed.stores.items() if index not in placed.missing}


async def _put_whatever_stores_do(seconds: list[float], faults: list[str], before: int) -> None:
    places = ("a/r/A", "b/s/B", "b/t/B", "c/r/C", "d/s/A", "e/t/E", "f/r/F")
    harness = Harness(*places, scheme=Scheme(4, 2), may_fail=MayFail(providers=1), clock=LoopClock())
    for store, takes, fault in zip(harness.stores.values(), seconds, faults, strict=True):
        store.slow_seconds = takes
        if fault:
            setattr(store, fault, True)
    placed = None
    for _ in range(before + 1):
        for store in harness.stores.values():
            store.sent.clear()
        with suppress(NotEnoughShards, TimeoutError):
            placed = None
            async with asyncio.timeout(100):
                placed = await harness.put(max_grace_seconds=2.0)
        if placed is not None:
            await _check(harness, placed)
            await asyncio.sleep(0.001)  # what is still to be sent of this write would be taken for the next one's
    for unit in harness.policy.never_together:
        hands: dict[str, set[str]] = {}
        for store in harness.stores.values():
            hands.setdefault(unit_of(store.info, unit), set()).update(store.sent)
        assert all(len(shards) < harness.policy.scheme.k for shards in hands.values())
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()


async def _check(harness: Harness, placed: Placed) -> None:
    """What is said to be stored is there, and is enough."""
    stored = {index: store for index, store in placed.stores.items() if index not in placed.missing}
    for index, store in stored.items():
        assert index in await harness.indexes(store)
    assert survives(harness.policy, harness.policy.scheme, tuple(stored.values()))
    assert set(placed.tail) <= placed.missing
    if not placed.strays:
        for name, store in harness.stores.items():
            assert len(store.sent) <= sum(planned == name for planned in placed.stores.values())


@settings(max_examples=200, deadline=None)
@example(seconds=[0.001, 0.001, 3.0, 3.0, 0.001, 0.001, 0.001], faults=["", "", "down", "", "", "", "rejects"], before=2)
@given(
    seconds=st.lists(st.sampled_from((0.001, 0.03, 0.04, 0.1, 0.5, 3.0)), min_size=7, max_size=7),
    faults=st.lists(st.sampled_from(("", "", "", "down", "hanging", "loses_answers", "rejects")), min_size=7, max_size=7),
    before=st.integers(0, 8),
)
def test_however_late_stores_are_the_promise_holds_and_what_is_said_to_be_stored_is_there(
    seconds: list[float], faults: list[str], before: int
) -> None:
    leap(_put_whatever_stores_do(seconds, faults, before))
