"""A write ends, whatever stores do to it, and no answer that is lost puts too much into one hand."""

from __future__ import annotations

from contextlib import suppress

import pytest

from proxy.clock import ManualClock
from proxy.codec.format import shard_name
from proxy.codec.geometry import Scheme
from proxy.engine.fleet import Fleet
from proxy.engine.placement import MayFail, Policy
from proxy.engine.quorum import Placed, ShardPutter
from proxy.errors import NotEnoughShards
from proxy.manifest.records import SegmentId
from proxy.stores.observe import ObservedStore
from proxy.stores.protocol import ShardName, StoreInfo, StoreName
from proxy.stores.upstream import memory_store
from tests.faulty_store import FaultyStore

ID = SegmentId(bytes(16))


class Harness:
    """Faulty stores under a policy. Each place is provider/region/jurisdiction; the stores are called s1, s2, ..."""

    def __init__(self, *places: str, scheme: Scheme, may_fail: MayFail) -> None:
        infos = []
        for number, place in enumerate(places, 1):
            provider, region, jurisdiction = place.split("/")
            infos.append(StoreInfo(name=StoreName(f"s{number}"), provider=provider, region=region, jurisdiction=jurisdiction))
        self.stores = {str(info.name): FaultyStore(memory_store(info)) for info in infos}
        clock = ManualClock()
        self.fleet = Fleet({name: ObservedStore(store, clock) for name, store in self.stores.items()})
        self.policy = Policy(name="p", scheme=scheme, stores=tuple(infos), may_fail=may_fail)

    async def put(self) -> Placed:
        scheme = self.policy.scheme
        putter = ShardPutter(self.fleet, max_grace_seconds=0.05)
        return await putter.put(self.policy, scheme, ID, [[b"shard %d" % index] for index in range(scheme.n)])

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
    assert placed.garbage().stores == ()


async def test_a_refusal_leaves_no_doubt(four: Harness) -> None:
    used = (await four.put()).stores
    four.stores[used[0]].rejects = True
    placed = await four.put()
    assert placed.stores[0] != used[0]
    assert not placed.strays


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
    assert six.fleet.writable(six.stores) == frozenset(list(six.stores)[4:])
