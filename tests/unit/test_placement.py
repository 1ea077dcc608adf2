"""Placement keeps both promises, under every failure it says it survives, and refuses what it cannot keep."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.codec.geometry import Scheme
from proxy.engine.placing.dealing import deal
from proxy.engine.placing.hands import unit_of
from proxy.engine.placing.placement import MayFail, Policy, describe, place, survives
from proxy.errors import ConfigError, NotEnoughShards
from proxy.stores.protocol import StoreInfo, StoreName


def fleet(*places: str) -> tuple[StoreInfo, ...]:
    """Each place is "provider/region/jurisdiction"."""
    return tuple(
        StoreInfo(name=StoreName(f"s{number}"), provider=place.split("/")[0], region=place.split("/")[1], jurisdiction=place.split("/")[2])
        for number, place in enumerate(places)
    )


SIX = fleet("a/r/EU", "b/r/EU", "c/r/US", "d/r/US", "e/r/CH", "f/r/JP")
ALL = [info.name for info in SIX]


def policy(**options: object) -> Policy:
    settings = {"name": "p", "scheme": Scheme(4, 2), "stores": SIX, "may_fail": MayFail(providers=1), **options}
    return Policy(**settings)  # type: ignore[arg-type]


def test_each_store_gets_one_shard_and_segments_take_turns() -> None:
    plans = {place(policy(), Scheme(4, 2), bytes([0, 0, 0, n]) + bytes(12), ALL) for n in range(6)}
    assert len(plans) == 6
    assert all(sorted(plan) == sorted(ALL) for plan in plans)


def test_a_promise_that_can_be_kept_only_with_fewer_shards_a_region_is_kept() -> None:
    """Dealt evenly over all units alike, two regions would hold more than may be lost."""
    stores = fleet("f/x/2", "c/y/1", "f/x/4", "a/y/1", "e/y/4", "c/y/3", "f/y/3", "d/x/2")
    chosen = policy(scheme=Scheme(2, 3), stores=stores, may_fail=MayFail(regions=2), never_together=frozenset())
    assert survives(chosen, Scheme(2, 3), place(chosen, Scheme(2, 3), bytes(16), [info.name for info in stores]))


def test_a_dead_store_keeps_its_place_while_the_promise_holds_without_it() -> None:
    chosen = policy()
    plan = place(chosen, Scheme(4, 2), bytes(16), [name for name in ALL if name != "s2"])
    assert sorted(plan) == sorted(ALL)
    assert survives(chosen, Scheme(4, 2), [store for store in plan if store != "s2"])


def test_stores_double_up_only_when_the_promise_needs_it() -> None:
    chosen = policy()
    plan = place(chosen, Scheme(4, 2), bytes(16), ALL[:4])
    assert set(plan) == set(ALL[:4])
    assert survives(chosen, Scheme(4, 2), plan)
    with pytest.raises(NotEnoughShards):
        place(chosen, Scheme(4, 2), bytes(16), ALL[:2])


def test_spare_stores_take_the_shards_of_dead_ones() -> None:
    eight = fleet("a/r/1", "b/r/2", "c/r/3", "d/r/4", "e/r/5", "f/r/6", "g/r/7", "h/r/8")
    chosen = policy(stores=eight, may_fail=MayFail(providers=2))
    usable = [info.name for info in eight][2:]
    assert sorted(place(chosen, Scheme(4, 2), bytes(16), usable)) == sorted(usable)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"may_fail": MayFail(providers=2)}, "would leave"),
        ({"may_fail": MayFail(stores=3)}, "Add stores"),
        ({"scheme": Scheme(2, 1), "stores": fleet("a/r/EU", "a/r/EU", "b/r/EU")}, "never_together"),
        ({"scheme": Scheme(2, 1), "stores": fleet("a/r/EU", "b/r/EU", "c/r/EU"), "may_fail": MayFail()}, "jurisdiction"),
        ({"scheme": Scheme(1, 2)}, "each of 6 providers and each of 4 jurisdictions may hold 0 shards at most"),
        ({"stores": ()}, "no store may be used"),
        ({"storage_classes": {"STANDARD_IA": Scheme(5, 1)}}, "storage class STANDARD_IA"),
        ({"stores": fleet("a/x/1", "a/x/2", "b/y/3", "b/y/4", "c/z/5", "c/z/6"), "may_fail": MayFail(regions=1)}, "region"),
    ],
)
def test_an_impossible_policy_is_refused_in_words(options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        policy(**options)


# Dealing shard by shard runs into a dead end here: c's one store needs a jurisdiction that a's third would use up.
@example(
    places=[("a", "x", "1"), ("a", "x", "1"), ("a", "x", "2"), ("b", "x", "2"), ("b", "x", "2"), ("c", "x", "3")],
    k=3,
    m=3,
    count=1,
    unit="stores",
    together={"jurisdiction", "provider"},
)
@settings(max_examples=150, deadline=None)
@given(
    places=st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("xy"), st.sampled_from("1234")), min_size=1, max_size=9),
    k=st.integers(1, 6),
    m=st.integers(0, 4),
    count=st.integers(0, 2),
    unit=st.sampled_from(["stores", "providers", "regions"]),
    together=st.sets(st.sampled_from(["provider", "jurisdiction"])),
)
def test_an_accepted_policy_keeps_its_promises(places, k, m, count, unit, together) -> None:
    stores = fleet(*("/".join(place) for place in places))
    try:
        chosen = Policy(name="p", scheme=Scheme(k, m), stores=stores, may_fail=MayFail(**{unit: count}), never_together=frozenset(together))
    except ConfigError:
        return
    single = unit.removesuffix("s")
    infos = {info.name: info for info in stores}
    units = sorted({unit_of(info, single) for info in stores})
    for down in itertools.combinations(units, count):
        usable = [info.name for info in stores if unit_of(info, single) not in down]
        plan = place(chosen, Scheme(k, m), bytes(16), usable)
        held = [store for store in plan if store in usable]
        assert len(plan) == k + m
        for kind in together:
            assert max(Counter(unit_of(infos[store], kind) for store in plan).values()) < k
        for next_down in itertools.combinations(units, count):
            assert sum(unit_of(infos[store], single) not in next_down for store in held) >= k


@settings(max_examples=60, deadline=None)
@given(
    places=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy"), st.sampled_from("12")), min_size=1, max_size=4),
    shards=st.integers(1, 4),
    limits=st.fixed_dictionaries({unit: st.integers(1, 3) for unit in ("store", "provider", "region", "jurisdiction")}),
    down=st.integers(0, 15),
)
def test_a_deal_is_the_best_of_all(places, shards, limits, down) -> None:
    stores = fleet(*("/".join(place) for place in places))
    usable = [info.name for number, info in enumerate(stores) if not down >> number & 1]

    def worth(plan: Sequence[str]) -> tuple[int, ...] | None:
        infos = [next(info for info in stores if info.name == name) for name in plan]
        holding = {unit: Counter(unit_of(info, unit) for info in infos).values() for unit in limits}
        if any(max(counts, default=0) > limits[unit] for unit, counts in holding.items()):
            return None
        squares = [-sum(count * count for count in holding[unit]) for unit in ("store", "provider", "jurisdiction", "region")]
        return len(plan), -sum(name not in usable for name in plan), *squares

    names = [info.name for info in stores]
    plans = (plan for size in range(shards + 1) for plan in itertools.combinations_with_replacement(names, size))
    best = max(worth(plan) or () for plan in plans)
    assert worth(deal(stores, shards=shards, limits=limits, usable=usable)) == best


def test_a_report_says_who_could_read() -> None:
    report = describe(policy(), size_bytes=1000, stored_bytes=1500, segments=1)
    assert "any 2 of 6 stores" in report.survives
    assert {(holding.name, holding.shards) for holding in report.holdings if holding.unit == "jurisdiction"} == {
        ("EU", 2),
        ("US", 2),
        ("CH", 1),
        ("JP", 1),
    }
    assert not any(holding.readable for holding in report.holdings)
