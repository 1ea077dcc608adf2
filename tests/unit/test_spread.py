"""Much from afar is asked of the stores that have least to send, and nothing else is."""

from __future__ import annotations

from contextlib import ExitStack, suppress

import pytest

from proxy.engine.placing.fleet import FAR_SECONDS, Fleet
from proxy.engine.reading.spread import SPREAD_READS, SPREAD_SIZE, Booking, is_spread, spread
from proxy.manifest.records import Segment, SegmentId
from proxy.stores.breaker import FAILURES_TO_OPEN
from proxy.stores.observe import ObservedStore
from proxy.stores.protocol import Prices, ShardName, StoreInfo, StoreName
from tests.fault.machine.network import MemoryStore
from tests.faulty_store import FaultyStore
from tests.leaping import LoopClock, leap

K = 4
NAMES = tuple(f"s{index}" for index in range(6))
DATA = frozenset(range(K))


async def _fleet(*, seconds: float = 2 * FAR_SECONDS, dear: tuple[str, ...] = ()) -> Fleet:
    stores = {}
    for name in NAMES:
        prices = Prices(egress_gb=0.09 if name in dear else 0.01)
        store = FaultyStore(MemoryStore(StoreInfo(name=StoreName(name), provider=name, region="r", jurisdiction="J", prices=prices)))
        await store.inner.put(ShardName("aa/x"), [b"x"])
        store.slow_seconds = seconds
        stores[name] = ObservedStore(store, LoopClock())
        await stores[name].get_range(ShardName("aa/x"), 0, 1)
    return Fleet(stores)


def _spread(
    reads: dict[str, int],
    *,
    wanted: frozenset[int] = DATA,
    size: int = SPREAD_SIZE,
    late: tuple[str, ...] = (),
    missing: tuple[int, ...] = (),
    seconds: float = 2 * FAR_SECONDS,
    dear: tuple[str, ...] = (),
) -> frozenset[int]:
    async def run() -> frozenset[int]:
        fleet = await _fleet(seconds=seconds, dear=dear)
        for name in late:
            for _ in range(FAILURES_TO_OPEN):
                fleet[name].overtaken("get_range")
        for name, under_way in reads.items():
            fleet[name].reads = under_way
        segment = Segment(id=SegmentId(bytes(16)), size=100, stores=NAMES, missing=missing)
        return spread(fleet, segment, wanted) if is_spread(fleet, segment, wanted, k=K, size_bytes=size) else wanted

    return leap(run())


def test_the_busiest_stores_are_done_without() -> None:
    assert _spread({"s1": 5, "s2": SPREAD_READS}) == {0, 3, 4, 5}
    assert _spread({"s0": 3, "s1": 5, "s2": 4, "s3": 1, "s4": 1, "s5": 9}) == {0, 2, 3, 4}


@pytest.mark.parametrize(
    ("why", "chosen"),
    [
        ("a little busier", _spread({"s1": SPREAD_READS - 1})),
        ("all are busy", _spread(dict.fromkeys(NAMES, 7))),
        ("little is read", _spread({"s1": 5}, size=SPREAD_SIZE - 1)),
        ("they are near", _spread({"s1": 5}, seconds=FAR_SECONDS / 2)),
        ("the others are late", _spread({"s1": 5}, late=("s4", "s5"))),
        ("the others have lost theirs", _spread({"s1": 5}, missing=(4, 5))),
        ("the others are dearer", _spread({"s1": 5}, dear=("s4", "s5"))),
    ],
)
def test_what_need_not_be_decoded_is_asked_for_where(why: str, chosen: frozenset[int]) -> None:
    assert chosen == DATA, why


def test_windows_that_are_begun_together_are_spread_over_all_stores() -> None:
    async def run() -> list[int]:
        fleet = await _fleet()
        segment = Segment(id=SegmentId(bytes(16)), size=100, stores=NAMES)
        with ExitStack() as windows:
            for _ in range(3):
                windows.enter_context(Booking(fleet, segment, spread(fleet, segment, DATA)).kept())
            return [fleet[name].reads for name in NAMES]

    assert leap(run()) == [2] * 6


def test_what_is_booked_counts_until_it_has_ended_and_never_twice() -> None:
    async def run() -> None:
        fleet = await _fleet()
        booking = Booking(fleet, Segment(id=SegmentId(bytes(16)), size=100, stores=(*NAMES[:5], "gone")), {0, 1, 5})
        assert fleet["s0"].reads == 0
        with suppress(RuntimeError), booking.kept():
            assert (fleet["s0"].reads, fleet["s1"].reads) == (1, 1)
            booking.ended(0)
            booking.ended(0)
            assert (fleet["s0"].reads, fleet["s1"].reads) == (0, 1)
            raise RuntimeError
        assert {store.reads for store in fleet.stores.values()} == {0}

    leap(run())


def test_a_column_alone_is_never_asked_of_others() -> None:
    assert _spread({"s1": 5}, wanted=frozenset((1,))) == {1}
