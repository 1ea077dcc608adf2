"""A write ends, whatever stores do to it, and no answer that is lost puts too much into one hand. Time is simulated."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from weakref import ref

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.clock import Clock, ManualClock
from proxy.codec.format import shard_name
from proxy.codec.geometry import Scheme
from proxy.engine.memory.budget import Budget
from proxy.engine.placing.fleet import Fleet
from proxy.engine.placing.hands import unit_of
from proxy.engine.placing.placement import MayFail, Policy
from proxy.engine.tasks import BackgroundTasks
from proxy.engine.writing.quorum import Placed, ShardPutter
from proxy.errors import FilesExhausted, NotEnoughShards, StoreRejected, StoreUnavailable
from proxy.manifest.records import SegmentId
from proxy.stores.observe import ObservedStore
from proxy.stores.protocol import ShardName, Store, StoreInfo, StoreName
from tests.fault.machine.network import MemoryStore
from tests.faulty_store import FaultyStore
from tests.leaping import leap

pytestmark = pytest.mark.leaping
ID = SegmentId(bytes(16))


class Harness:
    """Faulty stores under a policy. Each place is provider/region/jurisdiction; the stores are called s1, s2, ..."""

    def __init__(
        self,
        *places: str,
        scheme: Scheme,
        may_fail: MayFail,
        clock: Clock | None = None,
        make: Callable[[StoreInfo], Store] = MemoryStore,
    ) -> None:
        infos = []
        for number, place in enumerate(places, 1):
            provider, region, jurisdiction = place.split("/")
            infos.append(StoreInfo(name=StoreName(f"s{number}"), provider=provider, region=region, jurisdiction=jurisdiction))
        self.stores = {str(info.name): FaultyStore(make(info)) for info in infos}
        clock = clock or ManualClock()
        self.fleet = Fleet({name: ObservedStore(store, clock) for name, store in self.stores.items()})
        self.tasks = BackgroundTasks()
        self.budget = Budget(64 * 1024 * 1024, wait_seconds=0)
        self.policy = Policy(name="p", scheme=scheme, stores=tuple(infos), may_fail=may_fail)

    async def put(self, *, max_grace_seconds: float = 0.05, shard_bytes: int = 7) -> Placed:
        scheme = self.policy.scheme
        putter = ShardPutter(self.fleet, max_grace_seconds=max_grace_seconds, tasks=self.tasks, budget=self.budget)
        return await putter.put(self.policy, scheme, ID, [[(b"shard %d" % index).ljust(shard_bytes)] for index in range(scheme.n)])

    async def indexes(self, store: str) -> set[int]:
        names = [name async for name, _ in self.stores[store].inner.list()]
        return {index for index in range(self.policy.scheme.n) if ShardName(shard_name(ID, index)) in names}

    @property
    def puts(self) -> int:
        return sum(store.calls["put"] for store in self.stores.values())


@pytest.fixture
def four() -> Harness:
    return Harness("a/r/A", "b/r/B", "c/r/C", "d/r/D", scheme=Scheme(2, 1), may_fail=MayFail())


@pytest.mark.parametrize("loses", ["s1", "s2", "s3", "s4"])
@pytest.mark.parametrize("fails", ["s1", "s2", "s3", "s4"])
async def test_a_lost_answer_never_lets_one_provider_read(four: Harness, loses: str, fails: str) -> None:
    four.stores[loses].loses_answers = True
    four.stores[fails].down = True
    with suppress(NotEnoughShards):
        await four.put()
    for name in four.stores:
        assert len(await four.indexes(name)) < four.policy.scheme.k


async def test_where_a_lost_answer_may_have_left_a_shard_is_remembered(four: Harness) -> None:
    used = (await four.put()).stores
    assert not (await four.put()).strays
    four.stores[used[0]].loses_answers = True
    placed = await four.put()
    assert placed.stores[0] != used[0]
    assert 0 in await four.indexes(used[0])
    assert placed.strays
    assert placed.garbage().strays
    assert placed.garbage().stores == tuple(placed.stores[index] for index in range(len(placed.stores)))


async def test_a_refused_shard_is_searched_for_like_a_lost_answer(four: Harness) -> None:
    used = (await four.put()).stores
    four.stores[used[0]].keeps_what_it_refuses = True
    placed = await four.put()
    assert placed.stores[0] != used[0]
    assert 0 in await four.indexes(used[0])
    assert placed.strays
    assert placed.garbage().strays


async def test_a_store_that_was_not_asked_leaves_no_doubt(four: Harness) -> None:
    used = (await four.put()).stores
    four.stores[used[0]].before = lambda verb: _raise(FilesExhausted(used[0], "on purpose"))
    placed = await four.put()
    assert placed.stores[0] != used[0]
    assert not placed.strays


def _raise(error: Exception) -> None:
    raise error


FAULTS = ("", "down", "rejects", "loses_answers", "keeps_what_it_refuses", "full")
PLACES = ("a/r/A", "a/s/A", "a/t/B", "b/r/B", "b/s/A", "c/r/C", "c/s/C", "d/r/D")


@settings(max_examples=150, deadline=None)
@given(faults=st.lists(st.sampled_from(FAULTS), min_size=len(PLACES), max_size=len(PLACES)), opened=st.sets(st.integers(1, len(PLACES))))
@example(faults=["keeps_what_it_refuses"] * 3 + [""] * 5, opened=set())
def test_whatever_stores_answer_no_hand_is_sent_k_shards(faults: list[str], opened: set[int]) -> None:
    leap(_put_and_look_at_hands(faults, opened))


async def _put_and_look_at_hands(faults: list[str], opened: set[int]) -> None:
    harness = Harness(*PLACES, scheme=Scheme(3, 2), may_fail=MayFail(providers=1))
    for number in opened:  # their breakers are open
        with suppress(StoreRejected):
            harness.stores[f"s{number}"].rejects = True
            await harness.fleet[f"s{number}"].put(ShardName("aa/other"), [b"x"])
        harness.stores[f"s{number}"].rejects = False
    for store, fault in zip(harness.stores.values(), faults, strict=True):
        if fault:
            setattr(store, fault, True)
    with suppress(NotEnoughShards):
        await harness.put()
    for unit in harness.policy.never_together:
        hands: dict[str, set[ShardName]] = {}
        for store in harness.stores.values():
            hands.setdefault(unit_of(store.info, unit), set()).update(store.sent - {"aa/other"})
        assert all(len(shards) < harness.policy.scheme.k for shards in hands.values())


async def test_stores_that_are_back_are_asked_at_once_where_the_promise_needs_them(four: Harness) -> None:
    for store in four.stores.values():
        store.rejects = True
    with pytest.raises(NotEnoughShards):
        await four.put()
    with pytest.raises(NotEnoughShards):
        await four.put()  # still down: it ends all the same
    for store in four.stores.values():
        store.rejects = False
    assert four.fleet.writable(four.policy) == frozenset()
    assert not (await four.put()).missing


async def test_a_store_that_is_back_is_asked_where_the_others_fail_in_the_middle() -> None:
    five = Harness("a/r/A", "b/r/B", "c/r/C", "d/r/D", "e/r/E", scheme=Scheme(2, 2), may_fail=MayFail(stores=1))
    five.stores["s1"].rejects = True
    await five.put()
    five.stores["s1"].rejects = False
    assert not five.fleet["s1"].ready_for("put")
    five.stores["s2"].down = five.stores["s3"].down = True
    placed = await five.put()
    assert "s1" in set(placed.stores.values())


async def test_puts_end_with_their_caller(four: Harness) -> None:
    for store in four.stores.values():
        store.hanging = True
    before = asyncio.all_tasks()
    call = asyncio.create_task(four.put())
    while four.puts < four.policy.scheme.n:
        await asyncio.sleep(0)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert asyncio.all_tasks() == before


async def test_a_put_that_fails_in_the_tail_stays_missing(four: Harness) -> None:
    late = four.stores["s1"]
    gate = asyncio.Event()

    class Late(FaultyStore):
        async def put(self, name: ShardName, body: Sequence[bytes | bytearray | memoryview]) -> None:
            await gate.wait()
            raise StoreUnavailable("s1", "late, and failing on purpose")

    four.fleet["s1"]._inner = Late(late.inner)
    placed = await four.put()
    (index,) = placed.tail
    gate.set()
    await asyncio.gather(*placed.tail.values(), return_exceptions=True)
    placed.settle()
    assert placed.missing == {index}
    assert not placed.tail


async def test_a_put_that_arrives_in_the_tail_is_not_missing(four: Harness) -> None:
    late = four.stores["s1"]
    gate = asyncio.Event()

    class Late(FaultyStore):
        async def put(self, name: ShardName, body: Sequence[bytes | bytearray | memoryview]) -> None:
            await gate.wait()
            await super().put(name, body)

    four.fleet["s1"]._inner = Late(late.inner)
    placed = await four.put()
    assert placed.missing == set(placed.tail) != set()
    gate.set()
    await asyncio.gather(*placed.tail.values())
    placed.settle()
    assert placed.missing == set()
    assert not placed.tail


async def test_the_memory_of_a_shard_is_free_once_it_is_stored(four: Harness) -> None:
    hanging = (await four.put()).stores[0]
    four.stores[hanging].hanging = True
    shards: list[list[bytes | memoryview]] = [[memoryview(bytearray(b"shard"))] for _ in range(four.policy.scheme.n)]
    in_memory = [ref(piece) for pieces in shards for piece in pieces if isinstance(piece, memoryview)]

    call = asyncio.create_task(
        ShardPutter(four.fleet, max_grace_seconds=1000.0, tasks=four.tasks, budget=four.budget).put(
            four.policy, four.policy.scheme, ID, shards
        )
    )
    del shards
    for _ in range(50):
        await asyncio.sleep(0)

    assert not call.done()
    assert [piece() is not None for piece in in_memory] == [True, False, False]
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)


@pytest.mark.parametrize("max_grace_seconds", [0.0, 1000.0])
async def test_a_store_that_hangs_gets_no_longer_than_the_others_took(four: Harness, max_grace_seconds: float) -> None:
    used = (await four.put()).stores
    four.stores[used[0]].hanging = True
    async with asyncio.timeout(1.0):
        placed = await four.put(max_grace_seconds=max_grace_seconds)
    assert placed.missing == set(placed.tail) == {0}
    placed.tail[0].cancel()


async def test_no_store_gets_a_second_shard_while_the_promise_holds_without_it() -> None:
    six = Harness("a/r/A", "b/r/B", "c/r/C", "d/r/D", "e/r/E", "f/r/F", scheme=Scheme(4, 2), may_fail=MayFail(providers=1))
    six.stores["s3"].down = True
    placed = await six.put()
    assert [placed.stores[index] for index in placed.missing] == ["s3"]
    assert all([len(await six.indexes(name)) <= 1 for name in six.stores])


async def test_a_write_that_every_store_fails_ends(four: Harness) -> None:
    for store in four.stores.values():
        store.down = True
    with pytest.raises(NotEnoughShards):
        await four.put()
    assert four.puts <= len(four.stores)


async def test_a_write_ends_though_reads_go_on_succeeding() -> None:
    """Full disks: their reads must not make them look fit for puts."""
    six = Harness("a/r/A", "b/r/B", "c/r/C", "d/r/D", "e/r/E", "f/r/F", scheme=Scheme(4, 2), may_fail=MayFail(providers=1))
    await six.put()
    for store in list(six.stores.values())[:4]:
        store.full = True
    for _ in range(5):
        before = six.puts
        with pytest.raises(NotEnoughShards):
            await six.put()
        assert six.puts - before <= 2 * len(six.stores)
        for name in six.stores:
            for index in await six.indexes(name):
                await six.fleet[name].get_range(ShardName(shard_name(ID, index)), 0, 1)
    assert six.fleet.writable(six.policy) == frozenset(list(six.stores)[4:])
