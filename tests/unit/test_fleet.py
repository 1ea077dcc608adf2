"""In which order stores are read from."""

from __future__ import annotations

import pytest

from proxy.clock import ManualClock
from proxy.codec.geometry import Scheme
from proxy.engine.placing.fleet import Fleet
from proxy.engine.placing.placement import Policy
from proxy.errors import StoreUnavailable
from proxy.stores.observe import ObservedStore
from proxy.stores.protocol import Prices, ShardName, StoreInfo, StoreName
from proxy.stores.upstream import memory_store
from tests.faulty_store import FaultyStore


class _Slow(FaultyStore):
    """Takes so many seconds of the clock to read."""

    clock: ManualClock
    seconds = 0.0
    at_hand = False  # in this machine's memory

    async def get_range(self, name: ShardName, start: int, length: int) -> bytes | memoryview:
        self.clock.advance(self.seconds)
        return await super().get_range(name, start, length)

    def read_at_once(self, name: ShardName, start: int, length: int) -> bytes | memoryview | None:
        return b"x" if self.at_hand else None


async def _fleet(**seconds_and_egress: tuple[float, float]) -> tuple[Fleet, dict[str, _Slow]]:
    clock, stores = ManualClock(), {}
    for name, (seconds, egress) in seconds_and_egress.items():
        info = StoreInfo(name=StoreName(name), provider=name, region="r", jurisdiction="J", prices=Prices(egress_gb=egress))
        stores[name] = _Slow(memory_store(info))
        stores[name].clock, stores[name].seconds = clock, seconds
    fleet = Fleet({name: ObservedStore(store, clock) for name, store in stores.items()})
    for name in stores:
        await fleet[name].put(ShardName("aa/x"), [b"x"])
        await fleet[name].get_range(ShardName("aa/x"), 0, 1)
    return fleet, stores


async def test_the_fast_come_first_and_of_those_that_are_as_fast_the_cheap() -> None:
    fleet, _ = await _fleet(slow=(0.5, 0.0), dear=(0.02, 0.09), cheap=(0.02, 0.01), middling=(0.2, 0.0))
    order = fleet.by_readiness(list(enumerate(fleet.stores)))
    assert [list(fleet.stores)[index] for index in order] == ["cheap", "dear", "middling", "slow"]


async def test_a_store_that_fails_comes_last_and_one_that_is_not_configured_not_at_all() -> None:
    fleet, stores = await _fleet(fast=(0.01, 0.0), slow=(0.5, 0.0))
    stores["fast"].down = True
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await fleet["fast"].get_range(ShardName("aa/x"), 0, 1)
    assert fleet.by_readiness([(4, "fast"), (2, "gone"), (7, "slow")]) == [7, 4]


async def test_stores_of_this_machine_are_not_far_however_long_they_take() -> None:
    fleet, stores = await _fleet(**dict.fromkeys("abc", (0.05, 0.0)))
    infos = tuple(store.info for store in fleet.stores.values())
    policy = Policy(name="p", scheme=Scheme(2, 1), stores=infos, never_together=frozenset({"provider"}))
    assert fleet.are_far(["a", "b", "c"])
    for name in "ab":
        assert not fleet.are_nearby(policy)
        stores[name].at_hand = True
        await fleet[name].get_range(ShardName("aa/x"), 0, 1)
        stores[name].at_hand = False
        await fleet[name].get_range(ShardName("aa/x"), 0, 1)  # it comes from a busy disk
    assert not fleet.are_far(["a", "b", "c"]), "most of them have had something in this machine's memory"
    assert fleet.are_nearby(policy)


async def test_a_store_that_is_being_left_gets_nothing_and_the_policy_without_it_is_made_once() -> None:
    fleet, _ = await _fleet(**dict.fromkeys("abcde", (0.01, 0.0)))
    infos = tuple(store.info for store in fleet.stores.values())
    policy = Policy(name="p", scheme=Scheme(2, 1), stores=infos, never_together=frozenset({"provider"}))
    assert fleet.staying(policy) is policy
    fleet.leave(frozenset({"b"}))
    staying = fleet.staying(policy)
    assert [info.name for info in staying.stores] == ["a", "c", "d", "e"]
    assert fleet.staying(policy) is staying
    fleet.leave(frozenset())
    assert fleet.staying(policy) is policy


async def test_a_policy_that_cannot_do_without_a_store_goes_on_using_it(caplog: pytest.LogCaptureFixture) -> None:
    fleet, _ = await _fleet(**dict.fromkeys("abc", (0.01, 0.0)))
    infos = tuple(store.info for store in fleet.stores.values())
    policy = Policy(name="p", scheme=Scheme(2, 1), stores=infos, never_together=frozenset({"provider"}))
    fleet.leave(frozenset({"b"}))
    assert fleet.staying(policy) is policy
    assert "shards go on being placed in stores that are being left" in caplog.text
