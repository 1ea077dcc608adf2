"""Which shards move: as few as can be, never into hands that would hold too many, wherever an old shard may still be."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.codec.geometry import Scheme
from proxy.engine.campaigns.moves import Move, Moves, conform, may_stand, rebalance, relocate
from proxy.engine.placing.placement import Policy, place
from proxy.stores.protocol import StoreInfo, StoreName
from tests.unit.campaigns.fleets import INFOS, SCHEME, SIX, policy, segment, situation

LEFT = policy(*(name for name in SIX if name != "elm"))


def after(moved: Moves, stores: Sequence[str]) -> list[str]:
    return [moved.targets.get(index, store) for index, store in enumerate(stores)]


def test_the_shard_of_a_store_that_is_left_goes_where_it_may_and_no_other_moves() -> None:
    moved = relocate(situation(LEFT, segment()), [4])
    assert [(move.index, move.source) for move in moved.moves] == [(4, "elm")]
    assert moved.moves[0].target in set(SIX) - {"elm"}
    assert not moved.waiting


def test_a_store_that_is_preferred_gets_the_shard() -> None:
    seven = policy(*(name for name in (*SIX, "gum") if name != "elm"))
    assert relocate(situation(seven, segment()), [4], prefer="gum").moves == (Move(4, "elm", "gum"),)


def test_a_store_that_is_preferred_but_holds_a_shard_already_gets_no_second_one_while_there_is_another() -> None:
    seven = policy(*(name for name in (*SIX, "gum") if name != "elm"))
    stores = ("alder", "birch", "cedar", "gum", "elm", "fir")
    assert relocate(situation(seven, segment(*stores)), [4], prefer="gum").moves == (Move(4, "elm", "dogwood"),)


def test_a_jurisdiction_that_holds_three_of_four_gets_no_fourth() -> None:
    stores = ("alder", "birch", "hazel", "cedar", "elm", "fir")
    left = policy("alder", "birch", "hazel", "cedar", "dogwood", "fir")
    (move,) = relocate(situation(left, segment(*stores)), [4]).moves
    assert INFOS[move.target].jurisdiction == "US"


def test_an_old_shard_that_may_still_be_there_counts_for_its_hand() -> None:
    """Shard 1 has moved from hazel to fir, and hazel has not deleted it: the EU holds 0, 1 and 2 and gets no more."""
    stores = ("alder", "fir", "birch", "cedar", "elm", "gum")
    left = policy("alder", "birch", "hazel", "cedar", "fir", "gum")
    usable = frozenset({"alder", "birch", "hazel"})
    assert relocate(situation(left, segment(*stores), usable=usable), [4]).moves
    waits = relocate(situation(left, segment(*stores), usable=usable, lingering={1: ["hazel"]}), [4])
    assert waits == Moves(waiting=(4,))


def test_an_old_shard_in_a_store_that_the_policy_does_not_use_counts_for_its_hand_all_the_same() -> None:
    """Ivy is of the US as cedar and dogwood are: a third shard there is the last one."""
    stores = ("alder", "cedar", "dogwood", "fir", "elm", "gum")
    left = policy("alder", "cedar", "dogwood", "fir", "gum")
    usable = frozenset({"cedar", "dogwood"})
    assert relocate(situation(left, segment(*stores), usable=usable), [4]).moves
    assert relocate(situation(left, segment(*stores), usable=usable, lingering={0: ["ivy"]}), [4]) == Moves(waiting=(4,))


def test_a_shard_waits_where_no_store_may_take_it() -> None:
    assert relocate(situation(LEFT, segment(), usable=frozenset()), [4]) == Moves(waiting=(4,))


def test_others_make_room_where_no_single_move_helps() -> None:
    """No hand may hold two. Without Switzerland the third shard has no place, unless the first one leaves provider a or the EU before."""
    places = {"one": "a/EU", "two": "a/US", "three": "b/EU", "five": "d/JP", "left": "c/CH"}
    infos = {
        name: StoreInfo(name=StoreName(name), provider=place.split("/")[0], region="r", jurisdiction=place.split("/")[1])
        for name, place in places.items()
    }
    scheme = Scheme(2, 1)
    staying = Policy(name="p", scheme=scheme, stores=tuple(infos[name] for name in ("one", "two", "three", "five")))
    stores = ["one", "five", "left"]
    first = relocate(situation(staying, segment(*stores), scheme=scheme, infos=infos), [2])
    assert [(move.index, move.source) for move in first.moves] == [(0, "one")]
    assert first.waiting == (2,)
    stores[0] = first.moves[0].target
    waits = relocate(situation(staying, segment(*stores), scheme=scheme, infos=infos, lingering={0: ["one"]}), [2])
    assert waits == Moves(waiting=(2,))
    second = relocate(situation(staying, segment(*stores), scheme=scheme, infos=infos), [2])
    assert {*after(second, stores)} == {"two", "three", "five"}


def test_what_lies_as_a_new_write_would_is_left_alone() -> None:
    stores = place(policy(), SCHEME, bytes(16), SIX)
    assert rebalance(situation(policy(), segment(*stores))) == Moves()


def test_a_new_store_gets_one_shard_of_each_segment_that_is_doubled_up() -> None:
    stores = ("alder", "birch", "cedar", "dogwood", "elm", "alder")
    (move,) = rebalance(situation(policy(), segment(*stores))).moves
    assert (move.source, move.target) == ("alder", "fir")
    assert move.index in {0, 5}


def test_shards_in_stores_that_a_policy_does_not_use_move_into_it_and_the_others_stay() -> None:
    europe_out = policy("cedar", "dogwood", "elm", "fir", "gum", "ivy")
    moved = conform(situation(europe_out, segment()))
    assert {move.index for move in moved.moves} == {0, 1}
    assert Counter(after(moved, SIX)) == Counter(["gum", "ivy", "cedar", "dogwood", "elm", "fir"])


def test_hands_that_hold_too_many_for_a_policy_give_some_away() -> None:
    apart = policy(*SIX, "gum", "hazel", scheme=SCHEME, never_together=frozenset({"jurisdiction", "provider"}))
    stores = ("alder", "hazel", "alder", "birch", "cedar", "elm")  # 4 of the EU, 3 of provider a
    moved = conform(situation(apart, segment(*stores)))
    held = Counter(INFOS[store].jurisdiction for store in after(moved, stores))
    assert moved.moves
    assert held["EU"] <= 3


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_no_order_of_moves_and_deletions_gives_a_hand_k_shards(data: st.DataObject) -> None:
    """Round after round: what may move moves, some of the old shards are deleted, and nobody ever holds four of six."""
    names = list(PLACED)
    chosen = policy(*names)
    stores = list(place(chosen, SCHEME, data.draw(st.binary(min_size=16, max_size=16)), names))
    gone = data.draw(st.sampled_from(sorted(set(stores))))
    left = policy(*(name for name in names if name != gone))
    lingering: dict[int, list[str]] = {}
    for _ in range(3):
        ask = data.draw(st.sampled_from(["leave", "rebalance"]))
        of = situation(left, segment(*stores), lingering=lingering)
        moved = relocate(of, [i for i, store in enumerate(stores) if store == gone]) if ask == "leave" else rebalance(of)
        for move in moved.moves:
            assert stores[move.index] == move.source
            lingering.setdefault(move.index, []).append(move.source)
            stores[move.index] = move.target
            for unit in ("jurisdiction", "provider"):
                held = Counter[str]()
                for index, store in enumerate(stores):
                    held.update({getattr(INFOS[other], unit) for other in (store, *lingering.get(index, ()))})
                assert max(held.values()) <= SCHEME.k - 1
        for index in list(lingering):
            if data.draw(st.booleans()):
                del lingering[index]


PLACED = (*SIX, "gum", "hazel", "ivy")


@pytest.mark.parametrize("gone", SIX)
def test_every_store_of_six_can_be_left(gone: str) -> None:
    left = policy(*(name for name in SIX if name != gone))
    for turn in itertools.islice(itertools.permutations(SIX), 0, 720, 37):
        moved = relocate(situation(left, segment(*turn)), [turn.index(gone)])
        assert (len(moved.moves), moved.waiting) == (1, ())


def test_a_move_that_needs_the_place_of_another_may_not_stand_alone() -> None:
    full = segment("alder", "alder", "cedar", "dogwood", "elm", "fir")  # one provider has alder and hazel, and may have two
    now = situation(policy(*SIX, "hazel"), full)
    assert not may_stand(now, {2: "hazel"})
    assert may_stand(now, {2: "hazel", 0: "birch"})
    assert may_stand(now, {0: "birch"})


def test_what_makes_nothing_worse_may_stand_though_too_little_is_left() -> None:
    now = situation(policy(*SIX, "hazel"), segment("alder", "alder", "cedar", "dogwood", "elm", "fir"))
    assert may_stand(now, {2: "birch"}, lost=(3, 4))
    assert may_stand(now, {3: "birch"}, lost=(3, 4)), "one more is good"
    assert not may_stand(now, {2: "hazel"}, lost=(3,))
