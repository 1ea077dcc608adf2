"""Coalitions: no set of hands that may act as one ever holds k shards, at start, in a deal, in a detour and in what is stored."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from proxy.codec.geometry import Scheme
from proxy.config import Config, load_config
from proxy.engine.campaigns.moves import Situation, relocate
from proxy.engine.placing import dealing
from proxy.engine.placing.classify import classify
from proxy.engine.placing.dealing import Bound, deal
from proxy.engine.placing.hands import Coalition, unit_of
from proxy.engine.placing.placement import MayFail, Policy, describe, place
from proxy.errors import ConfigError, NotEnoughShards
from proxy.manifest.records import Segment, SegmentId
from proxy.policies import make_policies
from tests.unit.test_config import MINIMAL
from tests.unit.test_placement import fleet
from tests.unit.test_quorum import FAULTS, Harness

EIGHT = fleet("a/r/US", "b/r/UK", "c/r/CA", "d/r/EU", "e/r/EU", "f/r/CH", "g/r/JP", "h/r/BR")
ALL = [str(info.name) for info in EIGHT]
FIVE_EYES = Coalition("five_eyes", frozenset({"s0", "s1", "s2"}), "jurisdictions US, UK, CA")


def policy(**options: object) -> Policy:
    settings = {
        "name": "p",
        "scheme": Scheme(3, 3),
        "stores": EIGHT,
        "may_fail": MayFail(providers=1),
        "never_together": frozenset({"provider", "five_eyes"}),
        "coalitions": (FIVE_EYES,),
        **options,
    }
    return Policy(**settings)  # type: ignore[arg-type]


def held(plan: Sequence[str], stores: Collection[str]) -> int:
    return sum(store in stores for store in plan)


@settings(max_examples=120, deadline=None)
@given(
    places=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy"), st.sampled_from("12")), min_size=2, max_size=5),
    shards=st.integers(1, 5),
    limits=st.fixed_dictionaries({unit: st.integers(1, 4) for unit in ("store", "provider", "region", "jurisdiction")}),
    bounds=st.lists(st.tuples(st.integers(1, 31), st.integers(0, 3)), max_size=4),
    down=st.integers(0, 31),
)
# Three coalitions that overlap two by two fit into no tree: only the search keeps all of them.
@example(
    places=[("a", "x", "1"), ("b", "x", "2"), ("c", "x", "1"), ("a", "y", "2"), ("b", "y", "1")],
    shards=5,
    limits={"store": 4, "provider": 4, "region": 4, "jurisdiction": 4},
    bounds=[(0b00011, 1), (0b00110, 1), (0b00101, 1), (0b11000, 2)],
    down=0,
)
# Whoever goes straight for a deal that keeps the limits places three shards here, where four can be placed.
@example(
    places=[("b", "x", "1"), ("b", "x", "1"), ("c", "x", "1"), ("b", "y", "2"), ("c", "y", "1")],
    shards=5,
    limits={"store": 4, "provider": 4, "region": 4, "jurisdiction": 3},
    bounds=[(0b11001, 3), (0b11101, 1), (0b01101, 1), (0b00100, 3)],
    down=0,
)
def test_a_deal_under_overlapping_coalitions_is_the_best_of_all(places, shards, limits, bounds, down) -> None:
    stores = fleet(*("/".join(place) for place in places))
    names = [str(info.name) for info in stores]
    usable = [name for number, name in enumerate(names) if not down >> number & 1]
    together = [Bound(frozenset(name for number, name in enumerate(names) if mask >> number & 1), limit) for mask, limit in bounds]

    def worth(plan: Sequence[str]) -> tuple[int, ...] | None:
        infos = [next(info for info in stores if info.name == name) for name in plan]
        holding = {unit: Counter(unit_of(info, unit) for info in infos).values() for unit in limits}
        if any(max(counts, default=0) > limits[unit] for unit, counts in holding.items()):
            return None
        if any(held(plan, bound.stores) > bound.limit for bound in together):
            return None
        squares = [-sum(count * count for count in holding[unit]) for unit in ("store", "provider", "jurisdiction", "region")]
        return len(plan), -sum(name not in usable for name in plan), *squares

    plans = (plan for size in range(shards + 1) for plan in itertools.combinations_with_replacement(names, size))
    best = max(worth(plan) or () for plan in plans)
    assert worth(deal(stores, shards=shards, limits=limits, usable=usable, bounds=together)) == best


def test_coalitions_of_jurisdictions_or_of_providers_need_no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    lowered: list[int] = []
    monkeypatch.setattr(dealing._Network, "_lower", lambda self, edge, flow, limits: lowered.append(edge))
    nested = [Bound(frozenset({"s0", "s1", "gone"}), 1), Bound(frozenset({"s0", "s1", "s2"}), 2), Bound(frozenset({"s2", "s5", "s6"}), 2)]
    plan = deal(EIGHT, shards=6, limits={"provider": 2, "jurisdiction": 2}, usable=ALL, bounds=nested)
    assert len(plan) == 6
    assert all(held(plan, bound.stores) <= bound.limit for bound in nested)
    assert lowered == []


def test_a_tangle_of_coalitions_is_dealt_in_a_bounded_number_of_steps_and_keeps_every_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dealing, "SEARCH_STEPS", 300)
    steps = Counter[str]()
    lower = dealing._Network._lower
    monkeypatch.setattr(dealing._Network, "_lower", lambda self, *given: steps.update(["lower"]) or lower(self, *given))
    stores = fleet(*(f"p{number % 12}/r{number}/j{number % 7}" for number in range(24)))
    tangled = [Bound(frozenset(f"s{number}" for number in range(24) if number % 5 in pair), 9) for pair in ((0, 1), (1, 2), (2, 3), (3, 4))]
    plan = deal(stores, shards=30, limits={"provider": 9}, usable=[str(info.name) for info in stores], bounds=tangled)
    assert 300 <= steps["lower"] < 600
    assert len(plan) == 27  # 9 in the first, third and fifth of the five sets: no deal places more
    assert all(held(plan, bound.stores) <= 9 for bound in tangled)


def test_a_coalition_holds_less_than_k_whatever_store_fails() -> None:
    chosen = policy()
    for down in [None, *ALL]:
        plan = place(chosen, Scheme(3, 3), bytes(16), [name for name in ALL if name != down])
        assert len(plan) == 6
        assert held(plan, FIVE_EYES.stores) < 3


def test_stores_of_a_coalition_that_the_policy_does_not_use_are_not_dealt_to_and_still_are_in_it_when_they_come() -> None:
    chosen = policy(coalitions=(Coalition("five_eyes", frozenset({"s0", "s1", "s2", "far"})),))
    assert held(place(chosen, Scheme(3, 3), bytes(16), ALL), FIVE_EYES.stores) == 2
    assert "far" not in chosen.hands
    (far,) = fleet("z/r/NZ")
    with_far = dataclasses.replace(chosen, stores=(*EIGHT, replace(far, name="far")))
    assert with_far.hands["far"] == ("provider z", "coalition five_eyes")
    assert held(place(with_far, Scheme(3, 3), bytes(16), [*ALL, "far"]), FIVE_EYES.stores | {"far"}) == 2


def test_a_coalition_that_the_policy_does_not_name_is_not_held_to_anything() -> None:
    six = EIGHT[:6]
    assert len(place(policy(stores=six, never_together=frozenset({"provider"})), Scheme(3, 3), bytes(16), ALL[:6])) == 6


def test_an_impossible_coalition_is_refused_by_its_name_with_a_remedy() -> None:
    all_but_two = Coalition("most", frozenset(ALL[:7]))
    with pytest.raises(ConfigError) as caught:
        policy(scheme=Scheme(4, 2), coalitions=(all_but_two,), never_together=frozenset({"provider", "most"}), may_fail=MayFail(stores=1))
    assert "5 can be placed" in str(caught.value)
    assert "each of 8 providers and coalition most (s0, s1, s2, s3, s4, s5, s6) may hold 3 shards at most" in str(caught.value)
    assert "Add stores outside coalition most" in str(caught.value)


def test_a_coalition_that_no_write_can_keep_while_a_provider_is_down_is_refused_by_its_name() -> None:
    six = EIGHT[:6]
    assert policy(stores=six, never_together=frozenset({"provider"}), scheme=Scheme(3, 2))
    with pytest.raises(ConfigError, match=r"with provider [a-f] down, .*Add stores outside coalition five_eyes.* out of never_together"):
        policy(stores=six, scheme=Scheme(3, 3), coalitions=(Coalition("five_eyes", frozenset(ALL[:4])),), may_fail=MayFail(providers=1))


CROSSING = (Coalition("west", frozenset({"s1", "s2", "s4"})), Coalition("north", frozenset({"s4", "s5", "s6"})))
PLACES = ("a/r/A", "b/r/B", "c/r/C", "d/r/D", "e/r/E", "f/r/F", "g/r/G", "h/r/H")


@settings(max_examples=100, deadline=None)
@given(faults=st.lists(st.sampled_from(FAULTS), min_size=len(PLACES), max_size=len(PLACES)))
@example(faults=["keeps_what_it_refuses"] * 3 + [""] * 5)
@example(faults=["", "", "loses_answers", "loses_answers", "", "", "", ""])
def test_whatever_stores_answer_no_coalition_is_sent_k_shards(faults: list[str]) -> None:
    asyncio.run(_put_and_look_at_coalitions(faults))


async def _put_and_look_at_coalitions(faults: Sequence[str]) -> None:
    harness = Harness(*PLACES, scheme=Scheme(3, 2), may_fail=MayFail(providers=1))
    harness.policy = Policy(
        name="p",
        scheme=Scheme(3, 2),
        stores=harness.policy.stores,
        may_fail=MayFail(providers=1),
        never_together=frozenset({"provider", "west", "north"}),
        coalitions=CROSSING,
    )
    for store, fault in zip(harness.stores.values(), faults, strict=True):
        if fault:
            setattr(store, fault, True)
    with suppress(NotEnoughShards):
        await harness.put()
    for coalition in CROSSING:
        assert len(set[str]().union(*(harness.stores[name].sent for name in coalition.stores))) < 3


@settings(max_examples=100, deadline=None)
@given(
    leaving=st.sets(st.sampled_from(ALL), min_size=1, max_size=2),
    members=st.lists(st.sets(st.sampled_from(ALL), min_size=2, max_size=4), min_size=1, max_size=3),
    turn=st.integers(0, 5),
    lingering=st.dictionaries(st.integers(0, 4), st.sampled_from(ALL), max_size=2),
)
def test_shards_that_move_never_bring_a_coalition_to_k_old_places_counted(leaving, members, turn, lingering) -> None:
    coalitions = tuple(Coalition(f"c{number}", frozenset(stores)) for number, stores in enumerate(members))
    names = frozenset({"provider", *(coalition.name for coalition in coalitions)})
    try:
        chosen = policy(scheme=Scheme(3, 2), coalitions=coalitions, never_together=names, may_fail=MayFail())
    except ConfigError:
        return
    segment = Segment(id=SegmentId(bytes([0, 0, 0, turn]) + bytes(12)), size=1, stores=place(chosen, Scheme(3, 2), bytes(16), ALL))
    places = {index: {store, *([lingering[index]] if index in lingering else [])} for index, store in enumerate(segment.stores)}
    hands = {coalition.name: coalition.stores for coalition in coalitions}
    before = {name: sum(bool(stores & held) for held in places.values()) for name, stores in hands.items()}
    situation = Situation(
        policy=chosen,
        scheme=Scheme(3, 2),
        segment=segment,
        usable=frozenset(ALL) - leaving,
        infos={str(info.name): info for info in EIGHT},
        lingering={index: [store] for index, store in lingering.items()},
    )
    moves = relocate(situation, [index for index, store in enumerate(segment.stores) if store in leaving])
    for index, target in moves.targets.items():
        places[index].add(target)
    for name, stores in hands.items():
        assert sum(bool(stores & held) for held in places.values()) <= max(before[name], 2)


def test_a_stored_segment_that_a_coalition_could_read_is_clumped() -> None:
    chosen = policy()
    fine = Segment(id=SegmentId(bytes(16)), size=1, stores=("s0", "s1", "s3", "s4", "s5", "s6"))
    clumped = replace(fine, stores=("s0", "s1", "s2", "s4", "s5", "s6"), missing=(2,))
    assert classify(chosen, Scheme(3, 3), fine).clumped == ()
    assert classify(chosen, Scheme(3, 3), clumped).clumped == ("coalition five_eyes",)
    assert classify(policy(never_together=frozenset({"provider"})), Scheme(3, 3), clumped).clumped == ()


def test_a_report_says_what_each_coalition_would_hold_and_who_it_is() -> None:
    report = describe(policy(), size_bytes=1000, stored_bytes=1500, segments=1)
    (told,) = [holding for holding in report.holdings if holding.unit == "coalition"]
    assert (told.name, told.shards, told.readable, told.guarded, told.members) == ("five_eyes", 2, False, True, "jurisdictions US, UK, CA")
    assert {holding.unit for holding in report.holdings if holding.guarded} == {"provider", "coalition"}
    assert "five_eyes" in report.never_together


FLEET = """
data = "/data"
default_policy = "standard"
manifest = { path = "/data/manifest.sqlite" }
root_key = { path = "/data/root.key" }

[policies.standard]
scheme = "3+2"
never_together = ["store", "region", "five_eyes", "holding"]

[coalitions]
five_eyes = { jurisdictions = ["US", "UK", "CA", "AU", "NZ"] }
holding = { providers = ["b", "d"], stores = ["s5"], regions = ["e/r"] }
""" + "\n".join(
    f'[stores.s{number}]\nkind = "memory"\nprovider = "{provider}"\nregion = "r"\njurisdiction = "{place}"\n'
    for number, (provider, place) in enumerate(zip("abcdefgh", ("US", "UK", "CA", "EU", "EU", "CH", "JP", "BR"), strict=True))
)


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str], Config]:
    def loaded(text: str) -> Config:
        (tmp_path / "s.toml").write_text(text)
        return load_config(tmp_path / "s.toml", {})

    return loaded


def test_coalitions_are_configured_by_providers_jurisdictions_regions_and_stores(load: Callable[[str], Config]) -> None:
    made = make_policies(load(FLEET))["standard"]
    assert {coalition.name: coalition.stores for coalition in made.guarded_coalitions} == {
        "five_eyes": {"s0", "s1", "s2"},
        "holding": {"s1", "s3", "s4", "s5"},
    }
    assert made.hands["s1"] == ("store s1", "region b/r", "coalition five_eyes", "coalition holding")
    plan = place(made, Scheme(3, 2), bytes(16), [info.name for info in made.stores])
    assert all(held(plan, coalition.stores) < 3 for coalition in made.guarded_coalitions)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            ('"holding"]', '"holdings"]'),
            'policies.standard.never_together: "holdings" is no unit and no coalition; one of: store, provider, region, jurisdiction, '
            "five_eyes, holding; or add it to [coalitions]",
        ),
        (('providers = ["b", "d"]', 'providers = ["z"]'), 'coalitions.holding.providers: there is no provider "z"; one of: a, b, c'),
        (('stores = ["s5"]', 'stores = ["s9"]'), 'coalitions.holding.stores: there is no store "s9"; one of: s0, s1'),
        (('regions = ["e/r"]', 'regions = ["r"]'), 'coalitions.holding.regions: there is no region "r"; one of: a/r, b/r'),
        (('"US", "UK"', '"US", "GB"'), 'coalitions.five_eyes.jurisdictions: no store is in "GB", but one is in "UK"; spell it'),
        (('"US", "UK"', '"us", "UK"'), 'coalitions.five_eyes.jurisdictions: no store is in "us", but one is in "US"; spell it'),
        (('["US", "UK", "CA", "AU", "NZ"]', '["NZ"]'), "coalitions.five_eyes.jurisdictions: no store is in NZ; one of: BR, CA, CH"),
        (("five_eyes = {", "region = {"), 'coalitions.region: never_together = ["region"] means each region alone; give'),
        (("five_eyes = {", '"Five Eyes" = {'), "coalitions.Five Eyes: a coalition's name is lower-case letters, digits"),
        (('five_eyes = { jurisdictions = ["US", "UK", "CA", "AU", "NZ"] }', "five_eyes = {}"), "coalitions.five_eyes: names nobody; add"),
        (("{ providers =", "{ owners ="), "coalitions.holding.owners: there is no such key"),
        (("{ providers = [", '{ providers = ["",'), "coalitions.holding.providers[0]: expected `str` of length >= 1"),
    ],
)
def test_a_fault_in_a_coalition_is_refused_by_key_and_remedy(
    load: Callable[[str], Config], change: tuple[str, str], complaint: str
) -> None:
    assert change[0] in FLEET
    with pytest.raises(ConfigError) as caught:
        load(FLEET.replace(*change, 1))
    assert complaint in str(caught.value)


def test_without_coalitions_nothing_changes(load: Callable[[str], Config]) -> None:
    assert make_policies(load(MINIMAL))["standard"].coalitions == ()
