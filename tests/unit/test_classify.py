"""A segment is judged as it was written, by the policy as it is today."""

from __future__ import annotations

from msgspec.structs import replace

from proxy.codec.geometry import Scheme
from proxy.engine.placing.classify import classify, keeps_promises, placed_wrongly
from proxy.engine.placing.placement import MayFail, Policy
from proxy.manifest.damage import Damage, DamageKind, Leftover
from proxy.manifest.records import ExtentId, Layout, Segment, SegmentId
from proxy.stores.protocol import StoreInfo, StoreName

PLACES = {
    "s0": "a/EU", "s1": "b/EU", "s2": "c/US", "s3": "d/US", "s4": "e/CH", "s5": "f/JP", "s6": "a/CH", "s7": "a/JP",
}  # fmt: skip
INFOS = {
    name: StoreInfo(name=StoreName(name), provider=place.split("/")[0], region="r", jurisdiction=place.split("/")[1])
    for name, place in PLACES.items()
}
SCHEME = Scheme(3, 2)


def policy(*stores: str, **options: object) -> Policy:
    infos = tuple(INFOS[name] for name in stores or INFOS)
    return Policy(name="p", scheme=SCHEME, stores=infos, **{"may_fail": MayFail(providers=1), **options})  # type: ignore[arg-type]


def segment(*stores: str, **options: object) -> Segment:
    return Segment(id=SegmentId(bytes(16)), size=1, stores=stores, **options)  # type: ignore[arg-type]


WHOLE = segment("s0", "s1", "s2", "s3", "s4")


def test_a_whole_segment_is_fine() -> None:
    found = classify(policy(), SCHEME, WHOLE)
    assert found.is_whole
    assert (found.healthy, found.verdict, found.spare) == ((0, 1, 2, 3, 4), "fine", 2)


def test_one_missing_shard_is_to_be_repaired_and_the_promise_kept_while_the_rest_survives_a_failure() -> None:
    found = classify(policy(), SCHEME, replace(WHOLE, missing=(1,)))
    assert (found.is_whole, found.keeps_promises, found.missing, found.verdict) == (False, True, (1,), "repair")
    assert not classify(policy(), SCHEME, replace(WHOLE, missing=(1, 2))).keeps_promises


def test_shards_that_one_failure_would_take_together_are_a_shortfall() -> None:
    verdict = classify(policy(), SCHEME, segment("s0", "s6", "s2", "s3", "s4", missing=(4,)))
    assert [words.partition(" would")[0] for words in verdict.shortfalls] == ["losing 1 provider (a)"]
    assert not verdict.keeps_promises
    assert classify(policy(may_fail=MayFail(stores=1)), SCHEME, segment("s0", "s6", "s2", "s3", "s4", missing=(4,))).keeps_promises


def test_a_store_that_the_policy_does_not_use_is_misplaced_and_not_counted_on() -> None:
    europe_is_out = policy("s2", "s3", "s4", "s5", "s6", "s7")
    verdict = classify(europe_is_out, SCHEME, WHOLE)
    assert verdict.misplaced == (0, 1)
    assert verdict.shortfalls
    assert not verdict.keeps_promises


def test_a_store_that_was_removed_is_misplaced_even_if_its_shard_is_missing() -> None:
    verdict = classify(policy(), SCHEME, replace(WHOLE, stores=("gone", "s1", "s2", "s3", "s4"), missing=(0,)))
    assert verdict.misplaced == (0,)
    assert not verdict.keeps_promises


def test_a_hand_with_k_shards_is_clumped_though_one_of_them_is_on_record_as_missing() -> None:
    clumped = segment("s0", "s6", "s7", "s2", "s3", missing=(2,))
    assert classify(policy(), SCHEME, clumped).clumped == ("provider a",)
    assert classify(policy(never_together=frozenset()), SCHEME, clumped).clumped == ()


def test_strays_promise_nothing() -> None:
    assert not classify(policy(), SCHEME, replace(WHOLE, strays=True)).keeps_promises


def damage(index: int, kind: DamageKind) -> Damage:
    return Damage(extent_id=ExtentId(1), segment_id=WHOLE.id, shard_index=index, kind=kind, store=WHOLE.stores[index])


def test_damage_on_record_is_told_by_what_it_is() -> None:
    found = classify(policy(), SCHEME, WHOLE, damage=[damage(0, "truncated"), damage(2, "forged")])
    assert (found.missing, found.forged, found.healthy) == ((0,), (2,), (1, 3, 4))
    assert (found.spare, found.verdict) == (0, "urgent")


def test_a_segment_of_fewer_than_k_good_shards_is_lost() -> None:
    found = classify(policy(), SCHEME, replace(WHOLE, missing=(4,)), damage=[damage(0, "missing"), damage(2, "forged")])
    assert (found.spare, found.verdict) == (-1, "lost")


def test_what_nobody_can_reach_does_not_count_for_loss_and_does_for_disclosure() -> None:
    all_but_two = frozenset(INFOS) - {"s0", "s1"}
    found = classify(policy(), SCHEME, WHOLE, answering=all_but_two)
    assert (found.unreachable, found.spare, found.verdict) == ((0, 1), 0, "urgent")
    crowd = segment("s0", "s6", "s7", "s2", "s3")
    assert classify(policy(), SCHEME, crowd, answering=frozenset(INFOS) - {"s0"}).clumped == ("provider a",)


def test_a_store_that_is_not_configured_any_more_is_unreachable_and_not_misplaced() -> None:
    found = classify(policy("s1", "s2", "s3", "s4", "s5", "s6"), SCHEME, WHOLE, configured=frozenset(INFOS) - {"s0"})
    assert (found.unreachable, found.misplaced, found.verdict) == ((0,), (), "repair")


def test_one_shard_too_many_for_a_provider_is_crowded_though_nobody_can_read() -> None:
    found = classify(policy(), Scheme(4, 1), segment("s0", "s6", "s2", "s3", "s4"))
    assert (found.crowded, found.clumped, found.healthy) == ((1,), (), (0, 2, 3, 4))
    assert classify(policy(may_fail=MayFail()), Scheme(4, 1), segment("s0", "s6", "s2", "s3", "s4")).crowded == ()


def test_what_a_move_left_behind_counts_until_it_is_deleted() -> None:
    left = Leftover(shard_index=3, store="s7", name="n")
    found = classify(policy(), SCHEME, segment("s0", "s6", "s2", "s3", "s4"), leftovers=[left])
    assert (found.surplus, found.clumped, found.verdict) == (("s7",), ("provider a",), "urgent")
    same = Leftover(shard_index=0, store="s7", name="n")
    found = classify(policy(), SCHEME, segment("s0", "s6", "s2", "s3", "s4"), leftovers=[same])
    assert found.clumped == (), "two copies of one shard tell no more than one"


def test_what_a_hand_holds_too_much_is_urgent_though_nothing_is_lost() -> None:
    found = classify(policy(may_fail=MayFail()), SCHEME, segment("s0", "s6", "s7", "s2", "s3"))
    assert (found.clumped, found.crowded, found.shortfalls, found.verdict) == (("provider a",), (2,), (), "urgent")


def test_where_the_policy_would_not_have_put_a_shard_is_told_with_the_reason() -> None:
    assert placed_wrongly(policy(), SCHEME, WHOLE.stores) == {}
    assert placed_wrongly(policy(), SCHEME, ("s0", "s6", "s7", "gone", "s3")) == {2: "clumped", 3: "misplaced"}


def test_a_layout_is_kept_only_if_every_segment_is_and_its_scheme_is_the_same() -> None:
    layout = Layout(size=2, policy="p", k=3, m=2, tenant_key_id="t", wrapped_key=b"", segments=(WHOLE, WHOLE))
    assert keeps_promises(policy(), SCHEME, layout)
    assert not keeps_promises(policy(), SCHEME, replace(layout, segments=(WHOLE, replace(WHOLE, strays=True))))
    assert not keeps_promises(policy(), Scheme(3, 1), layout)
    assert not keeps_promises(policy(), Scheme(2, 3), layout)
    assert not keeps_promises(policy(), SCHEME, replace(layout, policy="another"))
