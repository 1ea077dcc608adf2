"""Limits, deadlines and health, over a store that misbehaves on demand."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from proxy.clock import ManualClock
from proxy.errors import FilesExhausted, ShardMissing, StoreError, StoreNotAsked, StoreRejected, StoreUnavailable
from proxy.stores.deadline import DeadlineStore
from proxy.stores.late import LateStore
from proxy.stores.limit import GatedStore, LimitedStore
from proxy.stores.observe import DEFAULT_P95_SECONDS, ObservedStore
from proxy.stores.protocol import Store
from proxy.stores.upstream import memory_store
from tests.faulty_store import FaultyStore
from tests.patience import PATIENCE_SECONDS
from tests.unit.stores.conftest import INFO, NAME


@pytest.fixture
def faulty() -> FaultyStore:
    return FaultyStore(memory_store(INFO))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def _fail(store: ObservedStore, times: int, kind: type[StoreError] = StoreUnavailable) -> None:
    for _ in range(times):
        with pytest.raises(kind):
            await store.get(NAME)


async def test_a_gate_lets_so_many_in_and_no_more(faulty: FaultyStore) -> None:
    inside, most = 0, 0
    gate = asyncio.Event()

    class Counting(FaultyStore):
        async def _enter(self, verb: str) -> None:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            await gate.wait()
            inside -= 1

    store = GatedStore(Counting(memory_store(INFO)), concurrency=3)
    tasks = [asyncio.create_task(store.put(NAME, [b"x"])) for _ in range(20)]
    for _ in range(10):
        await asyncio.sleep(0)
    assert most == inside == 3
    gate.set()
    await asyncio.gather(*tasks)
    assert most == 3


@pytest.mark.filterwarnings("error")  # a coroutine never awaited, above all
async def test_a_wait_for_a_turn_can_be_cancelled(faulty: FaultyStore) -> None:
    faulty.hanging = True
    store = GatedStore(faulty, concurrency=1)
    first, second = asyncio.create_task(store.get(NAME)), asyncio.create_task(store.get(NAME))
    for _ in range(3):
        await asyncio.sleep(0)
    second.cancel()
    first.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    assert faulty.calls["get"] == 1
    faulty.hanging = False
    await store.put(NAME, [b"x"])


async def _call(store: Store, verb: str) -> None:
    match verb:
        case "put":
            await store.put(NAME, [b"x"])
        case "get":
            await store.get(NAME)
        case "get_range":
            await store.get_range(NAME, 0, 1)
        case "delete":
            await store.delete(NAME)
        case "list":
            await anext(aiter(store.list()))


@pytest.mark.parametrize("fault", ["down", "hanging"])
@pytest.mark.parametrize("verb", ["put", "get", "get_range", "delete", "list"])
async def test_a_call_that_fails_or_is_given_up_leaves_its_place_to_the_next(faulty: FaultyStore, verb: str, fault: str) -> None:
    store = GatedStore(faulty, concurrency=1)
    setattr(faulty, fault, True)
    call = asyncio.create_task(_call(store, verb))
    while not faulty.calls[verb]:
        await asyncio.sleep(0)
    if fault == "hanging":
        call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    setattr(faulty, fault, False)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await store.put(NAME, [b"x"])


@pytest.mark.parametrize("verb", ["put", "get", "get_range", "delete", "list"])
@pytest.mark.filterwarnings("error")
async def test_every_verb_has_a_deadline(faulty: FaultyStore, verb: str) -> None:
    faulty.hanging = True
    store = DeadlineStore(faulty, put_seconds=0.02, get_seconds=0.02)
    calls = {
        "put": lambda: store.put(NAME, [b"x"]),
        "get": lambda: store.get(NAME),
        "get_range": lambda: store.get_range(NAME, 0, 1),
        "delete": lambda: store.delete(NAME),
        "list": lambda: anext(aiter(store.list())),
    }
    async with asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(StoreUnavailable, match=r"no answer in 0\.02 s"):
            await calls[verb]()


@pytest.mark.parametrize("verb", ["put", "get", "get_range", "delete", "list"])
async def test_a_put_has_a_deadline_of_its_own(faulty: FaultyStore, verb: str) -> None:
    faulty.hanging = True
    store = DeadlineStore(faulty, put_seconds=0.03, get_seconds=0.02)
    with pytest.raises(StoreUnavailable, match=f"no answer in {0.03 if verb == 'put' else 0.02} s"):
        await _call(store, verb)


async def test_those_who_wait_behind_a_hung_store_fail_with_it(faulty: FaultyStore) -> None:
    faulty.hanging = True
    store = LimitedStore(faulty, concurrency=1, put_seconds=0.5, get_seconds=0.5)
    async with asyncio.timeout(PATIENCE_SECONDS):  # a hundred deadlines one after another would take 50 s
        results = await asyncio.gather(*(store.get(NAME) for _ in range(100)), return_exceptions=True)
    assert all(isinstance(result, StoreUnavailable) for result in results)


async def test_one_refusal_opens_the_breaker(faulty: FaultyStore, clock: ManualClock) -> None:
    store = ObservedStore(faulty, clock)
    faulty.rejects = True
    await _fail(store, 1, StoreRejected)
    assert not store.ready_for("get")
    await _fail(store, 5)
    assert faulty.calls["get"] == 1


async def test_two_failures_leave_it_closed_and_a_success_forgets_them(faulty: FaultyStore, clock: ManualClock) -> None:
    store = ObservedStore(faulty, clock)
    await store.put(NAME, [b"x"])
    for _ in range(3):
        faulty.down = True
        await _fail(store, 2)
        faulty.down = False
        await store.get(NAME)
    assert store.ready_for("get")


async def test_a_missing_shard_is_an_answer(clock: ManualClock) -> None:
    store = ObservedStore(memory_store(INFO), clock)
    await _fail(store, 5, ShardMissing)
    assert store.ready_for("get")


async def test_one_probe_at_a_time_while_open(faulty: FaultyStore, clock: ManualClock) -> None:
    store = ObservedStore(faulty, clock, probe_seconds=7)
    faulty.down = True
    await _fail(store, 3)
    clock.advance(6.9)
    await _fail(store, 1)
    assert faulty.calls["get"] == 3
    clock.advance(0.2)
    assert store.ready_for("get")
    await _fail(store, 4)
    assert faulty.calls["get"] == 4
    assert not store.ready_for("get")


async def test_latencies_are_of_each_verb(faulty: FaultyStore, clock: ManualClock) -> None:
    steps: Iterator[float] = iter([0.010] * 90 + [0.5] * 14)
    store = ObservedStore(faulty, clock)
    faulty.before = lambda verb: clock.advance(next(steps) if verb == "put" else 0)
    assert store.latency_p95("put") == DEFAULT_P95_SECONDS
    for _ in range(90):
        await store.put(NAME, [b"x"])
    assert store.latency_p95("put") == pytest.approx(0.010)
    for _ in range(14):
        await store.put(NAME, [b"x"])
    assert store.latency_p95("put") == pytest.approx(0.5)
    assert store.latency_p95("get") == DEFAULT_P95_SECONDS


async def test_every_call_is_recorded(faulty: FaultyStore, clock: ManualClock) -> None:
    told: list[tuple[str, str, str]] = []
    store = ObservedStore(faulty, clock, record=lambda name, verb, outcome, _: told.append((name, verb, outcome)))
    await store.put(NAME, [b"x"])
    await _fail(ObservedStore(faulty, clock), 0)
    _ = [entry async for entry in store.list()]
    faulty.down = True
    await _fail(store, 1)
    assert told == [("s", "put", "ok"), ("s", "list", "ok"), ("s", "get", "StoreUnavailable")]


@pytest.mark.parametrize(("seconds", "healthy"), [(6.0, False), (1.0, True)])
async def test_calls_given_up_late_count_as_failures_and_those_given_up_soon_do_not(
    faulty: FaultyStore, clock: ManualClock, seconds: float, healthy: bool
) -> None:
    store = ObservedStore(faulty, clock)
    faulty.hanging = True
    puts = [asyncio.create_task(store.put(NAME, [b"x"])) for _ in range(3)]
    await asyncio.sleep(0)
    clock.advance(seconds)
    for put in puts:
        put.cancel()
    await asyncio.gather(*puts, return_exceptions=True)
    assert store.ready_for("put") == healthy


async def test_each_kind_of_work_has_a_breaker_of_its_own(faulty: FaultyStore, clock: ManualClock) -> None:
    store = ObservedStore(faulty, clock)
    await store.put(NAME, [b"x"])
    faulty.rejects = True
    with pytest.raises(StoreRejected):
        await store.delete(NAME)
    faulty.rejects = False
    assert not store.ready_for("delete")
    assert store.ready_for("put")
    assert bytes(await store.get_range(NAME, 0, 1)) == b"x"
    faulty.down = True
    await _fail(store, 3)
    assert not store.ready_for("get_range")
    assert store.ready_for("put")


async def test_a_store_overtaken_three_times_in_a_row_is_left_out_but_not_refused(faulty: FaultyStore, clock: ManualClock) -> None:
    store = ObservedStore(faulty, clock)
    await store.put(NAME, [b"x"])
    for _ in range(2):
        store.overtaken("get_range")
    await store.get(NAME)
    for _ in range(3):
        assert store.ready_for("get_range")
        store.overtaken("get_range")
    assert not store.ready_for("get_range")
    clock.advance(2)
    assert store.ready_for("get_range")
    faulty.hanging = True
    probe = asyncio.create_task(store.get(NAME))
    await asyncio.sleep(0)
    assert not store.ready_for("get_range")  # one at a time
    faulty.hanging = False
    assert await store.get(NAME) == b"x"  # whoever needs it is served
    assert store.ready_for("get_range")
    probe.cancel()
    for _ in range(3):
        store.overtaken("get_range")
    faulty.down = True
    await _fail(store, 3)
    await _fail(store, 1, StoreNotAsked)


async def test_a_call_given_up_tells_how_slow_the_store_is_at_least(faulty: FaultyStore, clock: ManualClock) -> None:
    store = ObservedStore(faulty, clock)
    faulty.hanging = True
    read = asyncio.create_task(store.get_range(NAME, 0, 1))
    await asyncio.sleep(0)
    clock.advance(2)
    read.cancel()
    await asyncio.gather(read, return_exceptions=True)
    assert store.latency_p95("get_range") == pytest.approx(2)


async def test_a_store_that_cannot_be_opened_late_is_refused_whatever_the_reason(clock: ManualClock) -> None:
    opening: asyncio.Future[Store] = asyncio.get_running_loop().create_future()
    store = ObservedStore(LateStore(INFO, opening), clock)
    await _fail(store, 1)
    opening.set_exception(LookupError("what a library raises"))
    await _fail(store, 1, StoreRejected)
    assert not store.ready_for("get")
    await store.close()


async def test_a_turn_given_to_one_who_is_cancelled_goes_to_the_next(faulty: FaultyStore) -> None:
    store = GatedStore(faulty, concurrency=1)
    await store.put(NAME, [b"x"])
    faulty.hanging = True
    first, second, third = (asyncio.create_task(store.get(NAME)) for _ in range(3))
    for _ in range(3):
        await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)  # the first leaves, and gives its place to the second
    second.cancel()
    faulty.hanging = False
    assert bytes(await asyncio.wait_for(third, PATIENCE_SECONDS)) == b"x"
    await asyncio.gather(first, second, return_exceptions=True)


async def test_a_cancellation_from_outside_is_no_missed_deadline(faulty: FaultyStore) -> None:
    store = DeadlineStore(faulty, put_seconds=10, get_seconds=10)
    faulty.hanging = True
    call = asyncio.create_task(store.get(NAME))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_a_deadline_missed_leaves_its_task_uncancelled(faulty: FaultyStore) -> None:
    store = DeadlineStore(faulty, put_seconds=0.01, get_seconds=0.01)
    faulty.hanging = True
    with pytest.raises(StoreUnavailable):
        await store.get(NAME)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)


async def test_want_of_file_descriptors_is_no_failure_of_the_store(faulty: FaultyStore, clock: ManualClock) -> None:
    told: list[str] = []
    store = ObservedStore(faulty, clock, record=lambda _store, _verb, outcome, _seconds: told.append(outcome))

    def no_file(verb: str) -> None:
        raise FilesExhausted("s", f"too many open files to {verb}")

    faulty.before = no_file
    await _fail(store, 10, FilesExhausted)
    assert store.ready_for("get")
    assert told == ["FilesExhausted"] * 10


async def test_a_store_that_fails_and_comes_back_is_logged_once_each(
    faulty: FaultyStore, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    store = ObservedStore(faulty, clock)
    await store.put(NAME, [b"x"])
    faulty.down = True
    for _ in range(5):
        await _fail(store, 2)
        clock.advance(3)
    faulty.down = False
    for _ in range(3):
        await store.get(NAME)
    assert [record.getMessage() for record in caplog.records] == [
        "store s: down on purpose; it is not used to get for now",
        "store s is used again to get",
    ]


async def test_a_store_that_fails_and_answers_by_turns_is_logged_once_a_minute(
    faulty: FaultyStore, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    store = ObservedStore(faulty, clock)
    await store.put(NAME, [b"x"])
    for _ in range(100):  # five minutes
        faulty.down = True
        await _fail(store, 3)
        clock.advance(3)
        faulty.down = False
        await store.get(NAME)
    first, more = "store s: down on purpose; it is not used to get for now", "; it came and went 19 times more since this was last said"
    again = "store s is used again to get"
    assert [record.getMessage() for record in caplog.records] == [first, again, *[first + more, again] * 4]


async def test_a_store_that_is_late_and_not_by_turns_is_logged_once_a_minute(
    faulty: FaultyStore, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    store = ObservedStore(faulty, clock)
    for _ in range(100):
        for _ in range(3):
            store.overtaken("put", pace_seconds=0.1)
        clock.advance(1)
        store.kept_pace("put")
    late, more = "store s answers late, if at all: where others will do, nobody waits for it to put", "; it came and went 59 times more"
    again = "store s is used again to put"
    assert [record.getMessage() for record in caplog.records] == [late, again, f"{late}{more} since this was last said", again]


async def test_that_a_store_is_missed_is_said_once_and_that_it_fails_again_later(
    faulty: FaultyStore, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    store = ObservedStore(faulty, clock)
    store.missed()
    faulty.down = True
    await _fail(store, 3)
    assert caplog.records == []
    faulty.down = False
    clock.advance(3)
    await store.put(NAME, [b"x"])
    assert bytes(await store.get(NAME)) == b"x"
    faulty.down = True
    await _fail(store, 3)
    assert [record.getMessage() for record in caplog.records] == ["store s: down on purpose; it is not used to get for now"]


async def test_that_a_store_is_back_that_was_missed_at_the_start_is_said(
    faulty: FaultyStore, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    store = ObservedStore(faulty, clock)
    store.missed()
    faulty.down = True
    for _ in range(5):
        await _fail(store, 3)
        clock.advance(3)
    faulty.down = False
    await store.put(NAME, [b"x"])
    await store.get(NAME)
    assert [record.getMessage() for record in caplog.records] == ["store s is used again to get"]


async def test_whoever_cannot_do_without_a_store_may_insist(faulty: FaultyStore, clock: ManualClock) -> None:
    store = ObservedStore(faulty, clock)
    faulty.down = True
    await _fail(store, 3)
    await _fail(store, 1, StoreNotAsked)
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="down on purpose"):
            await store.get_range(NAME, 0, 1, insist=True)
    faulty.down = False
    await store.put(NAME, [b"x"])
    assert bytes(await store.get_range(NAME, 0, 1, insist=True)) == b"x"
    assert store.ready_for("get_range")


async def test_a_store_that_gives_no_answer_to_one_who_insists_is_not_asked_by_others(faulty: FaultyStore, clock: ManualClock) -> None:
    store = ObservedStore(faulty, clock)
    faulty.down = True
    await _fail(store, 3)
    faulty.down, faulty.hanging = False, True
    waiting = [asyncio.create_task(store.get_range(NAME, 0, 1, insist=True)) for _ in range(2)]
    await asyncio.sleep(0)
    clock.advance(1.0)
    with pytest.raises(StoreNotAsked):
        async with asyncio.timeout(PATIENCE_SECONDS):
            await store.get_range(NAME, 0, 1, insist=True)
    assert faulty.calls["get_range"] == 2
    waiting[0].cancel()
    await asyncio.sleep(0)
    waiting.append(asyncio.create_task(store.get_range(NAME, 0, 1, insist=True)))
    await asyncio.sleep(0)
    assert faulty.calls["get_range"] == 3
    for call in waiting:
        call.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
