"""Which packs become one, and which slots go together: decided from what the manifest counts."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.codec.format import MAX_PACK_SIZE, MAX_PACK_SLOTS
from proxy.codec.geometry import Scheme
from proxy.codec.slots import SlotContent
from proxy.engine.repack.bundles import Bundle, LiveSlot, PackSlots, bundles_of
from proxy.engine.repack.merging import FEWEST, GROWTH, first_fill, worth_merging
from proxy.engine.repack.rewriting import _fills, _Piece
from proxy.manifest.campaigns import ExtentUser
from proxy.manifest.packs import Pack, SlotUser
from proxy.manifest.records import BucketId, Extent, ExtentId, ExtentRef, Layout, ObjectKey, Segment, SegmentId, VersionId

WIDE, NARROW = Scheme(4, 2), Scheme(3, 3)


def pack(number: int, *, live: int = 4096, slots: int = 1, kind: str = "a") -> Pack:
    return Pack(extent_id=ExtentId(number), kind=kind, whole=live, live=live, slots=slots, made_ms=0)


def user(offset: int, *, bucket: int = 1, policy: str = "standard", storage_class: str = "STANDARD", extent: int = 1) -> SlotUser:
    who = ExtentUser(bucket_id=BucketId(bucket), key=ObjectKey(f"k{offset}"), version_id=VersionId("v"), sequence=1)
    return SlotUser(user=who, ref=ExtentRef(id=ExtentId(extent), size=1, offset=offset), policy=policy, storage_class=storage_class)


def slot(offset: int, size: int, *users: SlotUser) -> LiveSlot:
    return LiveSlot(offset, size, users or (user(offset),))


def slots_of(number: int, slots: Iterable[LiveSlot], *, key_id: str = "t") -> PackSlots:
    segment = Segment(id=SegmentId(number.to_bytes(16, "big")), size=4, stores=("a",))
    layout = Layout(size=4, k=4, m=2, tenant_key_id=key_id, wrapped_key=b"", segments=(segment,))
    return PackSlots(Extent(id=ExtentId(number), layout=layout), tuple(slots))


def as_asked(user: SlotUser) -> tuple[str, Scheme]:
    return user.policy, NARROW if user.storage_class == "COLD" else WIDE


def offsets(bundle: Bundle) -> list[tuple[int, int]]:
    return [(pack.extent.id, slot.offset) for pack in bundle.packs for slot in pack.slots]


def test_few_small_packs_are_left_alone() -> None:
    assert worth_merging([pack(n) for n in range(FEWEST - 1)]) == ()
    assert worth_merging([pack(n) for n in range(FEWEST)]) == tuple(pack(n) for n in range(FEWEST))


def test_a_pack_is_not_read_and_written_again_for_the_sake_of_a_few_small_ones() -> None:
    merged, lone = pack(0, live=8 * 4096, slots=8), [pack(n) for n in range(1, 8)]
    assert worth_merging([merged, *lone]) == ()
    more = [pack(n) for n in range(1, 1 + 8 * (GROWTH - 1))]
    assert merged in worth_merging([merged, *more])
    assert worth_merging([merged, *more[:-1]]) == tuple(more[:-1]), "without it the others are worth it"


@given(st.lists(st.integers(1, 1_000_000), max_size=60))
def test_what_is_merged_grows_manifold(sizes: list[int]) -> None:
    chosen = worth_merging([pack(n, live=size) for n, size in enumerate(sizes)])
    assert not chosen or len(chosen) >= FEWEST
    assert sum(p.live for p in chosen) >= GROWTH * max((p.live for p in chosen), default=0)


def test_packs_of_two_kinds_are_not_merged() -> None:
    packs = [pack(1), pack(2), pack(3, kind="b")]
    assert first_fill(packs) == (packs[0], packs[1])


@pytest.mark.parametrize(("each", "count"), [({"slots": 60}, 4), ({"live": MAX_PACK_SIZE // 5}, 5)])
def test_no_more_is_taken_than_a_pack_holds(each: dict[str, int], count: int) -> None:
    assert len(first_fill([pack(n, **each) for n in range(9)])) == count


def test_a_single_pack_too_large_is_taken_alone_so_that_a_walk_goes_on() -> None:
    assert len(first_fill([pack(1, slots=1000), pack(2)])) == 1


def test_slots_of_one_target_go_into_one_pack() -> None:
    packs = [slots_of(1, [slot(0, 10), slot(10, 20)]), slots_of(2, [slot(5, 5)])]
    (bundle,) = bundles_of(packs, as_asked)
    assert offsets(bundle) == [(1, 0), (1, 10), (2, 5)]
    assert (bundle.size, bundle.slots) == (35, 3)


def test_each_use_goes_where_its_bucket_and_class_want_it() -> None:
    shared = slot(0, 10, user(0), user(0, bucket=2, policy="other"), user(0, storage_class="COLD"))
    found = {(b.target.policy, b.target.scheme): b for b in bundles_of([slots_of(1, [shared, slot(7, 1)])], as_asked)}
    assert {key: offsets(bundle) for key, bundle in found.items()} == {
        ("standard", WIDE): [(1, 0), (1, 7)],
        ("other", WIDE): [(1, 0)],
        ("standard", NARROW): [(1, 0)],
    }
    (moved,) = found["other", WIDE].packs[0].slots[0].users
    assert moved.user.bucket_id == 2


def test_keys_are_never_mixed() -> None:
    packs = [slots_of(1, [slot(0, 10)]), slots_of(2, [slot(0, 10)], key_id="kms")]
    assert [bundle.target.key_id for bundle in bundles_of(packs, as_asked)] == ["t", "kms"]


def test_what_stays_is_in_no_bundle() -> None:
    assert list(bundles_of([slots_of(1, [slot(0, 10)])], lambda _: None)) == []


@given(st.lists(st.lists(st.integers(1, MAX_PACK_SIZE // 3), min_size=1, max_size=40), max_size=12))
def test_every_slot_is_in_one_bundle_that_a_pack_can_hold(packs: list[list[int]]) -> None:
    made = [slots_of(n, [slot(place, size) for place, size in enumerate(sizes)]) for n, sizes in enumerate(packs)]
    bundles = list(bundles_of(made, as_asked))
    assert sorted(place for bundle in bundles for place in offsets(bundle)) == [
        (n, place) for n, sizes in enumerate(packs) for place in range(len(sizes))
    ]
    assert all(bundle.slots <= MAX_PACK_SLOTS and (bundle.size <= MAX_PACK_SIZE or bundle.slots == 1) for bundle in bundles)


def test_a_pack_is_read_once_if_it_fits() -> None:
    packs = [slots_of(n, [slot(place, MAX_PACK_SIZE // 8) for place in range(5)]) for n in range(3)]
    assert [[p.extent.id for p in bundle.packs] for bundle in bundles_of(packs, as_asked)] == [[0], [1], [2]]


def test_what_was_read_is_cut_where_its_records_fill_a_table() -> None:
    content = SlotContent("b", "k", "v", bytes(85_000), b"x")  # 256 KiB are the most
    extent = slots_of(1, []).extent
    pieces = [_Piece(extent, slot(place, 1), content) for place in range(7)]
    assert [len(fill) for fill in _fills(pieces)] == [3, 3, 1]


def test_what_was_read_is_cut_where_it_fills_a_pack() -> None:
    extent = slots_of(1, []).extent
    many = [_Piece(extent, slot(place, 1), SlotContent("b", "k", "v", b"", b"x")) for place in range(MAX_PACK_SLOTS + 1)]
    assert [len(fill) for fill in _fills(many)] == [MAX_PACK_SLOTS, 1]
    large = [_Piece(extent, slot(place, MAX_PACK_SIZE // 2), SlotContent("b", "k", "v", b"", b"x")) for place in range(3)]
    assert [len(fill) for fill in _fills(large)] == [2, 1]
