"""A segment is judged as it was written, by the policy as it is today."""

from __future__ import annotations

from msgspec.structs import replace

from proxy.codec.geometry import Scheme
from proxy.engine.classify import classify, keeps_promises
from proxy.engine.placement import MayFail, Policy
from proxy.manifest.records import Layout, Segment, SegmentId
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


def test_a_whole_segment_is_healthy() -> None:
    assert classify(policy(), SCHEME, WHOLE).healthy


def test_one_missing_shard_is_not_healthy_and_keeps_the_promise_while_the_rest_survives_a_failure() -> None:
    verdict = classify(policy(), SCHEME, replace(WHOLE, missing=(1,)))
    assert (verdict.healthy, verdict.keeps_promises, verdict.missing) == (False, True, (1,))
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


def test_a_layout_is_kept_only_if_every_segment_is_and_its_scheme_is_the_same() -> None:
    layout = Layout(size=2, policy="p", k=3, m=2, tenant_key_id="t", wrapped_key=b"", segments=(WHOLE, WHOLE))
    assert keeps_promises(policy(), SCHEME, layout)
    assert not keeps_promises(policy(), SCHEME, replace(layout, segments=(WHOLE, replace(WHOLE, strays=True))))
    assert not keeps_promises(policy(), Scheme(3, 1), layout)
    assert not keeps_promises(policy(), Scheme(2, 3), layout)
    assert not keeps_promises(policy(), SCHEME, replace(layout, policy="another"))
