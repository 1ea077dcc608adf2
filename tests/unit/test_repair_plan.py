"""What is done about a segment: tables, without stores."""

from __future__ import annotations

import dataclasses

from proxy.codec.geometry import Scheme
from proxy.engine.placing.placement import MayFail, Policy
from proxy.engine.repair.plan import PATIENCE_SECONDS, RepairPlan, Stores, plan_repair, unfounded
from proxy.manifest.damage import Damage, Damaged, DamageKind, Leftover
from proxy.manifest.records import Extent, ExtentId, Layout, Segment, SegmentId
from proxy.stores.protocol import StoreInfo, StoreName

PLACES = {
    "s0": "a/EU", "s1": "b/EU", "s2": "c/US", "s3": "d/US", "s4": "e/CH", "s5": "f/JP", "s6": "g/NO",
}  # fmt: skip
INFOS = {
    name: StoreInfo(name=StoreName(name), provider=place.split("/")[0], region="r", jurisdiction=place.split("/")[1])
    for name, place in PLACES.items()
}
SCHEME = Scheme(3, 2)
WHOLE = ("s0", "s1", "s2", "s3", "s4")


def policy(*stores: str, **options: object) -> Policy:
    infos = tuple(INFOS[name] for name in stores or INFOS)
    return Policy(name="p", scheme=SCHEME, stores=infos, **{"may_fail": MayFail(providers=1), **options})  # type: ignore[arg-type]


def stores(*, full: str = "", down: str = "", using: Policy | None = None, leaving: str = "", configured: str = "") -> Stores:
    used = using or policy()
    names = {name: INFOS[name] for name in configured.split() or INFOS}
    staying = policy(*(info.name for info in used.stores if info.name not in leaving.split()))
    return Stores(
        policy=used,
        staying=staying,
        writable=frozenset(info.name for info in staying.stores if info.name not in f"{full} {down}".split()),
        readable=frozenset(names) - set(down.split()),
        infos=names,
    )


def damaged(*places: str, damage: dict[int, DamageKind] | None = None, left: dict[int, str] | None = None, **fields: object) -> Damaged:
    segment = Segment(**{"id": SegmentId(bytes(16)), "size": 1, "stores": places or WHOLE, **fields})  # type: ignore[arg-type]
    layout = Layout(size=1, k=3, m=2, tenant_key_id="t", wrapped_key=b"", segments=(segment,), policy="p")
    found = tuple(
        Damage(extent_id=ExtentId(1), segment_id=segment.id, shard_index=index, kind=kind, store=segment.stores[index])
        for index, kind in (damage or {}).items()
    )
    leftovers = tuple(Leftover(shard_index=index, store=store, name="n") for index, store in (left or {}).items())
    return Damaged(extent=Extent(id=ExtentId(1), layout=layout), segment=segment, damage=found, leftovers=leftovers)


def plan(found: Damaged, there: Stores | None = None, *, age_seconds: float = 0.0) -> RepairPlan:
    return plan_repair(found, there or stores(), age_seconds=age_seconds)


def test_a_shard_that_is_gone_is_put_where_it_was() -> None:
    assert plan(damaged(damage={1: "missing"})).rebuild == {1: "s1"}


def test_a_shard_that_was_forged_goes_to_a_store_that_has_none() -> None:
    assert plan(damaged(damage={1: "forged"})).rebuild[1] in {"s5", "s6"}


def test_a_forged_shard_goes_back_where_there_is_no_other_place() -> None:
    only = policy(*WHOLE)
    assert plan(damaged(damage={1: "forged"}), stores(using=only)).rebuild == {1: "s1"}


def test_a_missing_shard_waits_for_its_store_while_the_promise_is_kept() -> None:
    found = damaged(missing=(1,), damage={1: "missing"})
    waits = plan(found, stores(down="s1"), age_seconds=PATIENCE_SECONDS - 1)
    assert (waits.rebuild, waits.patient, waits.verdict) == ({}, (1,), "repair")
    for age_seconds in (PATIENCE_SECONDS, -1.0):  # or nobody knows how old it is: a clock was set back
        assert plan(found, stores(down="s1"), age_seconds=age_seconds).rebuild[1] in {"s5", "s6"}


def test_a_broken_promise_waits_for_nobody() -> None:
    found = damaged(missing=(1,), damage={1: "missing", 2: "forged"})
    now = plan(found, stores(down="s1"))
    assert (now.verdict, now.patient) == ("urgent", ())
    assert set(now.rebuild) == {1, 2}
    assert "s1" not in now.rebuild.values()


def test_a_store_that_is_left_gets_nothing_and_is_not_waited_for() -> None:
    found = damaged(missing=(1,), damage={1: "missing"})
    assert plan(found, stores(down="s1", leaving="s1")).rebuild[1] in {"s5", "s6"}
    assert plan(damaged(), stores(leaving="s1")).copy == {}, "what lies there is not damage"


def test_a_shard_in_a_store_that_the_policy_left_is_copied_and_rebuilt_if_it_cannot_be_read() -> None:
    used = policy("s1", "s2", "s3", "s4", "s5", "s6")
    found = damaged(damage={0: "misplaced"})
    assert plan(found, stores(using=used)).copy[0] in {"s5", "s6"}
    assert plan(found, stores(using=used, down="s0")).rebuild[0] in {"s5", "s6"}
    gone = stores(using=used, configured="s1 s2 s3 s4 s5 s6")
    assert plan(damaged(damage={0: "unreachable"}), gone).rebuild[0] in {"s5", "s6"}


def test_fewer_than_k_good_shards_are_lost_and_nothing_is_moved() -> None:
    found = plan(damaged(damage={0: "missing", 1: "forged", 2: "truncated"}))
    assert (found.verdict, found.rebuild, found.copy) == ("lost", {}, {})


def test_stores_that_are_down_make_nothing_lost() -> None:
    assert plan(damaged(damage={0: "missing"}), stores(down="s1 s2 s3")).verdict == "urgent"


def test_a_shard_without_a_place_waits() -> None:
    found = plan(damaged(damage={0: "missing"}), stores(full=" ".join(INFOS)), age_seconds=PATIENCE_SECONDS)
    assert (found.rebuild, found.waiting) == ({}, (0,))


def test_what_a_hand_may_still_hold_keeps_it_from_getting_more() -> None:
    # s0 and s1 are in one jurisdiction, which may hold two shards: 0 and 1, and the old 2 that is not deleted yet.
    used = policy(never_together=frozenset({"jurisdiction"}), may_fail=MayFail())
    crowded = damaged("s0", "s2", "s4", "s5", "s6", damage={1: "forged"}, left={2: "s1"})
    found = plan(crowded, stores(using=used, full="s2 s3 s4 s5 s6"), age_seconds=PATIENCE_SECONDS)
    assert (found.rebuild, found.waiting) == ({}, (1,))
    deleted = damaged("s0", "s2", "s4", "s5", "s6", damage={1: "forged"})
    assert plan(deleted, stores(using=used, full="s2 s3 s4 s5 s6")).rebuild == {1: "s1"}


def test_with_strays_about_a_shard_may_only_go_where_it_was() -> None:
    found = plan(damaged(strays=True, damage={0: "missing", 1: "missing"}), stores(full="s1"), age_seconds=PATIENCE_SECONDS)
    assert (found.rebuild, found.waiting) == ({0: "s0"}, (1,))


def test_the_only_place_of_one_is_not_given_to_another() -> None:
    used = policy(never_together=frozenset({"provider", "jurisdiction"}), may_fail=MayFail(stores=1))
    found = plan(damaged(damage={0: "missing", 1: "forged"}), stores(using=used, full="s0 s5"), age_seconds=PATIENCE_SECONDS)
    assert set(found.rebuild) == {0, 1}


def test_what_is_on_record_about_places_goes_when_the_configuration_has_changed_back() -> None:
    found = damaged(damage={0: "misplaced", 1: "unreachable", 2: "clumped", 3: "forged"})
    assert [damage.shard_index for damage in unfounded(found, stores())] == [0, 1, 2]
    left = stores(using=policy("s1", "s2", "s3", "s4", "s5", "s6"))
    assert [damage.shard_index for damage in unfounded(found, left)] == [1, 2]


def test_what_a_store_under_the_brake_has_lost_is_held_while_the_promise_is_kept() -> None:
    braked = dataclasses.replace(stores(), braked=frozenset({"s1"}))
    for kind in ("missing", "truncated", "forged"):
        held = plan(damaged(damage={1: kind}), braked)  # type: ignore[dict-item]
        assert (held.rebuild, held.held, held.verdict) == ({}, (1,), "repair"), kind
    assert plan(damaged(damage={2: "missing"}), braked).rebuild == {2: "s2"}, "that is another store's"


def test_a_broken_promise_is_repaired_under_the_brake_too() -> None:
    braked = dataclasses.replace(stores(), braked=frozenset({"s1"}))
    now = plan(damaged(damage={1: "missing", 2: "missing"}), braked)
    assert (now.verdict, now.rebuild, now.held) == ("urgent", {1: "s1", 2: "s2"}, ())


def test_what_left_the_configuration_is_not_under_a_brake() -> None:
    there = dataclasses.replace(stores(configured="s0 s2 s3 s4 s5 s6"), braked=frozenset({"s1"}))
    assert plan(damaged(damage={1: "unreachable"}), there).held == ()
