"""What a body is charged before it is in a pack: all together pay for whatever their pack takes, however they are composed."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.codec.geometry import Scheme, SegmentGeometry
from proxy.codec.slots import SlotContent, arrange, compose
from proxy.engine.packing.packable import PACK_FOOTER_ALLOWANCE, RECORD_ALLOWANCE, memory_in_pack
from proxy.engine.writing.filling import segment_memory

SIZES = st.lists(st.one_of(st.integers(1, 5_000), st.integers(15_000, 18_000), st.integers(60_000, 131_071)), min_size=1, max_size=40)


@settings(max_examples=150, deadline=None)
@given(scheme=st.builds(Scheme, st.integers(1, 16), st.integers(0, 6)), sizes=SIZES, record_size=st.integers(RECORD_ALLOWANCE, 4096))
def test_the_bodies_of_a_pack_pay_for_all_of_it(scheme: Scheme, sizes: list[int], record_size: int) -> None:
    record = bytes(record_size - 150)  # with the names, and what MessagePack adds
    contents = [SlotContent("b", "k", "v", record, bytes(size)) for size in sizes]
    composition = compose(sizes, scheme.k)
    packed = [body for column in composition.columns for body in column]
    if not packed:
        return
    geometry = SegmentGeometry(scheme, scheme.k * arrange(contents, composition).column_size)
    taken = sum(sizes[body] for body in packed) + geometry.size + scheme.n * (geometry.cells_size + PACK_FOOTER_ALLOWANCE)
    assert taken <= sum(memory_in_pack(sizes[body], scheme, record_size=record_size) for body in packed)


@settings(max_examples=100, deadline=None)
@given(scheme=st.builds(Scheme, st.integers(1, 16), st.integers(0, 6)), size=st.integers(16 * 1024 + 1, 131_071))
def test_a_body_that_is_left_out_has_paid_for_a_segment_of_its_own(scheme: Scheme, size: int) -> None:
    allowed = scheme.n * 4096  # what a footer may take, and seldom does
    assert size + segment_memory(SegmentGeometry(scheme, size)) <= memory_in_pack(size, scheme) + allowed
