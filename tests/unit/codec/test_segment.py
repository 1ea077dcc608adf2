"""Segments round-trip through any k of their shards, and nothing tampered with opens."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.codec.geometry import Scheme, SegmentGeometry, parse_scheme, segment_sizes
from proxy.codec.segment import ColumnReader, open_segment
from proxy.errors import CellForged
from tests.unit.codec.samples import keys_for, pattern
from tests.unit.codec.samples import seal as seal_by_name

SCHEMES = [Scheme(4, 2), Scheme(1, 1), Scheme(3, 2), Scheme(2, 1), Scheme(8, 3), Scheme(2, 0), Scheme(1, 0)]


def seal(scheme: Scheme, data: bytes) -> list[bytes]:
    return list(seal_by_name(scheme, data).values())


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize("size", [1, 2, 15, 4096, 65536, 262143, 262144, 262145, 700_001])
def test_any_k_shards_give_the_segment_back(scheme: Scheme, size: int) -> None:
    data = pattern(size)
    shards = seal(scheme, data)
    for chosen in itertools.islice(itertools.combinations(range(scheme.n), scheme.k), 20):
        columns = {index: shards[index] for index in chosen}
        assert open_segment(keys_for(scheme, size), columns) == data


@settings(max_examples=60, deadline=None)
@given(
    scheme=st.builds(Scheme, st.integers(1, 9), st.integers(0, 4)),
    size=st.integers(1, 900_000),
    picks=st.randoms(use_true_random=False),
)
def test_any_range_of_any_geometry(scheme: Scheme, size: int, picks: object) -> None:
    data = pattern(size)
    start = picks.randrange(size)  # type: ignore[attr-defined]
    length = picks.randrange(1, size - start + 1)  # type: ignore[attr-defined]
    shards = seal(scheme, data)
    geometry = SegmentGeometry(scheme, size)
    first, last = geometry.stripes_of(start, length)
    offset, span = geometry.cells_span(first, last)
    reader = ColumnReader(keys_for(scheme, size), first=first, last=last)
    for index in picks.sample(range(scheme.n), scheme.k):  # type: ignore[attr-defined]
        reader.add(index, shards[index][offset : offset + span])
    assert b"".join(reader.plaintext(start, length)) == data[start : start + length]


def test_one_data_column_is_enough_for_a_range_inside_it() -> None:
    data = pattern(300_000)
    shards = seal(Scheme(4, 2), data)
    geometry = SegmentGeometry(Scheme(4, 2), len(data))
    reader = ColumnReader(keys_for(Scheme(4, 2), len(data)), first=0, last=0)
    offset, span = geometry.cells_span(0, 0)
    reader.add(1, shards[1][offset : offset + span])
    assert b"".join(reader.plaintext(70_000, 1000)) == data[70_000:71_000]


@pytest.mark.parametrize("laid_out", [True, False])
def test_a_range_is_the_same_wherever_its_cells_are_opened(laid_out: bool) -> None:
    data, scheme = pattern(700_001), Scheme(4, 2)
    shards, geometry = seal(scheme, data), SegmentGeometry(scheme, len(data))
    for indexes in ([0, 1, 2, 3], [3, 1, 0, 2], [5, 0, 2, 3]):
        reader = ColumnReader(keys_for(scheme, len(data)), first=1, last=geometry.stripe_count - 1)
        if laid_out:
            reader.lay_out()
        start, span = geometry.cells_span(1, geometry.stripe_count - 1)
        for index in indexes:
            reader.add(index, shards[index][start : start + span])
        for low, high in [(262_144, 700_001), (262_145, 262_146), (300_000, 700_000), (524_288, 524_289)]:
            assert b"".join(reader.plaintext(low, high - low)) == data[low:high]


def test_what_is_open_is_not_written_over_by_a_forgery() -> None:
    data, scheme = pattern(600_000), Scheme(4, 2)
    shards, geometry = seal(scheme, data), SegmentGeometry(scheme, len(data))
    reader = ColumnReader(keys_for(scheme, len(data)), first=0, last=geometry.stripe_count - 1)
    reader.lay_out()
    for index in range(scheme.k):
        reader.add(index, shards[index])
    with pytest.raises(CellForged):
        reader.add(1, bytes(len(shards[1])))
    assert b"".join(reader.plaintext(0, len(data))) == data


def test_a_column_that_was_forged_at_first_can_be_opened_later() -> None:
    data, scheme = pattern(600_000), Scheme(4, 2)
    shards = seal(scheme, data)
    reader = ColumnReader(keys_for(scheme, len(data)), first=0, last=SegmentGeometry(scheme, len(data)).stripe_count - 1)
    reader.lay_out()
    with pytest.raises(CellForged):
        reader.add(1, bytes(len(shards[1])))
    for index in (0, 2, 3, 5):
        reader.add(index, shards[index])
    assert b"".join(reader.plaintext(0, len(data))) == data
    reader.add(1, shards[1])
    assert b"".join(reader.plaintext(0, len(data))) == data


@pytest.mark.parametrize("position", [0, 100, 65_536, -1])
def test_a_flipped_bit_is_refused(position: int) -> None:
    data = pattern(600_000)
    cells = bytearray(seal(Scheme(4, 2), data)[2][: SegmentGeometry(Scheme(4, 2), len(data)).cells_size])
    cells[position] ^= 1
    with pytest.raises(CellForged):
        open_segment(keys_for(Scheme(4, 2), len(data)), {2: bytes(cells)})


@pytest.mark.parametrize("cut", [1, 16, 70_000])
def test_a_truncated_shard_is_refused(cut: int) -> None:
    data = pattern(600_000)
    shards = seal(Scheme(4, 2), data)
    with pytest.raises(CellForged):
        open_segment(keys_for(Scheme(4, 2), len(data)), {0: shards[0][: SegmentGeometry(Scheme(4, 2), len(data)).cells_size - cut]})


def test_a_shard_in_anothers_place_is_refused() -> None:
    data = pattern(5000)
    shards = seal(Scheme(4, 2), data)
    with pytest.raises(CellForged):
        open_segment(keys_for(Scheme(4, 2), len(data)), {0: shards[1]})


def test_swapped_stripes_are_refused() -> None:
    data = pattern(3 * 262_144)
    shards = seal(Scheme(4, 2), data)
    cells = shards[0]
    swapped = cells[65_552:131_104] + cells[:65_552] + cells[131_104:]
    with pytest.raises(CellForged):
        open_segment(keys_for(Scheme(4, 2), len(data)), {0: swapped})


def test_another_data_key_opens_nothing() -> None:
    shards = seal(Scheme(4, 2), pattern(5000))
    with pytest.raises(CellForged):
        open_segment(keys_for(Scheme(4, 2), 5000, data_key=bytes(32)), {0: shards[0]})


def test_segment_sizes_cover_the_object() -> None:
    assert list(segment_sizes(0)) == []
    assert list(segment_sizes(33, 16)) == [16, 16, 1]


@pytest.mark.parametrize("text", ["4", "4+", "+2", "0+2", "30+9", "a+b", "4-2"])
def test_a_scheme_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="scheme"):
        parse_scheme(text)
