"""What a read looks up and what it takes: the extents and cells its range lies in, and no others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.codec.geometry import Scheme, SegmentGeometry
from proxy.engine.reading.windows import AT_HAND_COLUMN_SIZE, aligned_extents, plan_windows, touched_cells, touched_extents
from proxy.manifest.records import Extent, ExtentId, ExtentRef, Layout, Segment, SegmentId


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=30), picks=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_the_extents_of_a_range_hold_it_and_are_no_more_than_it_needs(sizes: list[int], picks: tuple[float, float]) -> None:
    extents = [ExtentRef(id=ExtentId(number), size=size) for number, size in enumerate(sizes)]
    contents = [[(number, offset) for offset in range(size)] for number, size in enumerate(sizes)]
    whole = [byte for content in contents for byte in content]
    start = int(picks[0] * (len(whole) - 1))
    length = 1 + int(picks[1] * (len(whole) - start - 1))

    touched, low = touched_extents(extents, start, length)

    held = [byte for extent in touched for byte in contents[extent.id]]
    assert held[low : low + length] == whole[start : start + length]
    assert {extent.id for extent in touched} == {number for number, _ in whole[start : start + length]}


@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=12), start=st.integers(0, 50), length=st.integers(1, 50))
def test_extents_that_are_just_a_range_are_found_and_no_others(sizes: list[int], start: int, length: int) -> None:
    extents = [ExtentRef(id=ExtentId(number), size=size) for number, size in enumerate(sizes)]
    edges = [sum(sizes[:number]) for number in range(len(sizes) + 1)]

    aligned = aligned_extents(extents, start, length)

    if start in edges and start + length in edges:
        assert aligned == tuple(extents[edges.index(start) : edges.index(start + length)])
    else:
        assert aligned == ()


def test_a_slot_is_no_extent_that_a_part_may_share() -> None:
    ref = ExtentRef(id=ExtentId(1), size=100, offset=0)
    assert aligned_extents([ref], 0, 100) == ()


@given(k=st.integers(1, 12), size=st.integers(1, 5_000_000), picks=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_the_cells_of_a_range_hold_it_and_are_no_more_than_its_stripes(k: int, size: int, picks: tuple[float, float]) -> None:
    start = int(picks[0] * (size - 1))
    length = 1 + int(picks[1] * (size - start - 1))
    columns, cells_size = touched_cells(SegmentGeometry(Scheme(k, 2), size), start, length)
    assert length <= len(columns) * cells_size < length + 2 * k * 65_536
    assert set(columns) <= set(range(k))


@given(k=st.integers(1, 20), size=st.integers(1, 5_000_000), start=st.integers(0, 4_000_000), limit=st.integers(1, 2_000_000))
def test_a_window_is_split_at_a_stripe_and_nothing_of_it_is_lost(k: int, size: int, start: int, limit: int) -> None:
    segment = Segment(id=SegmentId(bytes(16)), size=size + start, stores=("s",) * (k + 2))
    layout = Layout(size=segment.size, k=k, m=2, tenant_key_id="t", wrapped_key=b"", segments=(segment,))
    (window,) = plan_windows([Extent(id=ExtentId(1), layout=layout)], start, size, first_size=2 * segment.size + k * 65_536)

    first, rest = window.split(limit)

    assert (first.start, first.offset) == (window.start, window.offset)
    assert first.length <= max(min(limit, k * AT_HAND_COLUMN_SIZE), k * 65_536)
    if rest is None:
        assert first == window
    else:
        assert rest.start % (k * 65_536) == 0
        assert (rest.start, rest.offset) == (first.start + first.length, first.offset + first.length)
        assert first.length + rest.length == window.length
