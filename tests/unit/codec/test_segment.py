"""Segments round-trip through any k of their shards, and nothing tampered with opens."""

from __future__ import annotations

import itertools
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.codec.format import HEADER_BASE_SIZE, parse_header, shard_name
from proxy.codec.geometry import Scheme, SegmentGeometry, parse_scheme, segment_sizes
from proxy.codec.segment import ColumnReader, SegmentKeys, SegmentSealer, open_segment
from proxy.errors import CellForged, ShardMismatch

SEGMENT_ID = bytes(range(16))
DATA_KEY = bytes(range(32))
TENANT_KEY_ID = "00112233-4455-6677-8899-aabbccddeeff"
SCHEMES = [Scheme(4, 2), Scheme(1, 1), Scheme(3, 2), Scheme(2, 1), Scheme(8, 3), Scheme(2, 0), Scheme(1, 0)]


def keys_for(scheme: Scheme, size: int, *, data_key: bytes = DATA_KEY) -> SegmentKeys:
    return SegmentKeys(SegmentGeometry(scheme, size), segment_id=SEGMENT_ID, data_key=data_key, tenant_key_id=TENANT_KEY_ID)


def pattern(size: int) -> bytes:
    block = b"".join(sha256(bytes([i])).digest() for i in range(251))
    return (block * (size // len(block) + 1))[:size]


def seal(scheme: Scheme, data: bytes, *, label: bytes = b"label") -> tuple[int, list[bytes]]:
    geometry = SegmentGeometry(scheme, len(data))
    sealer = SegmentSealer(geometry, keys_for(scheme, len(data)))
    step = scheme.stripe_size
    for offset in range(0, len(data), step):
        sealer.add(data[offset : offset + step])
    header_size, shards = sealer.shards(wrapped_key=bytes(60), sealed_label=label)
    return header_size, [b"".join(shard) for shard in shards]


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize("size", [1, 2, 15, 4096, 65536, 262143, 262144, 262145, 700_001])
def test_any_k_shards_give_the_segment_back(scheme: Scheme, size: int) -> None:
    data = pattern(size)
    header_size, shards = seal(scheme, data)
    for chosen in itertools.islice(itertools.combinations(range(scheme.n), scheme.k), 20):
        columns = {index: shards[index][header_size:] for index in chosen}
        assert open_segment(scheme, size, keys_for(scheme, size), columns) == data


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
    header_size, shards = seal(scheme, data)
    geometry = SegmentGeometry(scheme, size)
    first, last = geometry.stripes_of(start, length)
    offset, span = geometry.cells_span(first, last)
    reader = ColumnReader(geometry, keys_for(scheme, size), first=first, last=last)
    for index in picks.sample(range(scheme.n), scheme.k):  # type: ignore[attr-defined]
        reader.add(index, shards[index][header_size + offset : header_size + offset + span])
    assert b"".join(reader.plaintext(start, length)) == data[start : start + length]


def test_one_data_column_is_enough_for_a_range_inside_it() -> None:
    data = pattern(300_000)
    header_size, shards = seal(Scheme(4, 2), data)
    geometry = SegmentGeometry(Scheme(4, 2), len(data))
    reader = ColumnReader(geometry, keys_for(Scheme(4, 2), len(data)), first=0, last=0)
    offset, span = geometry.cells_span(0, 0)
    reader.add(1, shards[1][header_size + offset : header_size + offset + span])
    assert b"".join(reader.plaintext(70_000, 1000)) == data[70_000:71_000]


@pytest.mark.parametrize("position", [0, 100, 65_536, -1])
def test_a_flipped_bit_is_refused(position: int) -> None:
    data = pattern(600_000)
    header_size, shards = seal(Scheme(4, 2), data)
    cells = bytearray(shards[2][header_size:])
    cells[position] ^= 1
    with pytest.raises(CellForged):
        open_segment(Scheme(4, 2), len(data), keys_for(Scheme(4, 2), len(data)), {2: bytes(cells)})


@pytest.mark.parametrize("cut", [1, 16, 70_000])
def test_a_truncated_shard_is_refused(cut: int) -> None:
    data = pattern(600_000)
    header_size, shards = seal(Scheme(4, 2), data)
    with pytest.raises(CellForged):
        open_segment(Scheme(4, 2), len(data), keys_for(Scheme(4, 2), len(data)), {0: shards[0][header_size:-cut]})


def test_a_shard_in_anothers_place_is_refused() -> None:
    data = pattern(5000)
    header_size, shards = seal(Scheme(4, 2), data)
    with pytest.raises(CellForged):
        open_segment(Scheme(4, 2), len(data), keys_for(Scheme(4, 2), len(data)), {0: shards[1][header_size:]})


def test_swapped_stripes_are_refused() -> None:
    data = pattern(3 * 262_144)
    header_size, shards = seal(Scheme(4, 2), data)
    cells = shards[0][header_size:]
    swapped = cells[65_552:131_104] + cells[:65_552] + cells[131_104:]
    with pytest.raises(CellForged):
        open_segment(Scheme(4, 2), len(data), keys_for(Scheme(4, 2), len(data)), {0: swapped})


def test_another_data_key_opens_nothing() -> None:
    header_size, shards = seal(Scheme(4, 2), pattern(5000))
    with pytest.raises(CellForged):
        open_segment(Scheme(4, 2), 5000, keys_for(Scheme(4, 2), 5000, data_key=bytes(32)), {0: shards[0][header_size:]})


def test_header_round_trips_and_garbage_is_refused() -> None:
    header_size, shards = seal(Scheme(4, 2), pattern(5000), label=b"sealed label")
    header = parse_header(shards[3])
    assert header.size == header_size == HEADER_BASE_SIZE + 12
    assert (header.fixed.shard_index, header.fixed.k, header.fixed.m, header.fixed.segment_size) == (3, 4, 2, 5000)
    assert (header.sealed_label, header.fixed.tenant_key_id) == (b"sealed label", TENANT_KEY_ID)
    for bad in (b"", shards[3][:100], b"XXXX" + shards[3][4:], shards[3][:140]):
        with pytest.raises(ShardMismatch):
            parse_header(bad)


def test_golden_vector_of_format_v1() -> None:
    """Stored bytes must never change under one format version."""
    _, shards = seal(Scheme(4, 2), pattern(300_001))
    digests = [sha256(shard).hexdigest()[:16] for shard in shards]
    assert shards[0][:72].hex() == (
        "5348475401010402000102030405060708090a0b0c0d0e0f000000000001000000000000000493e1"
        "00112233445566778899aabbccddeeff" + GOLDEN_COMMITMENT
    )
    assert digests == GOLDEN_SHARDS
    assert shard_name(SEGMENT_ID, 5) == "00/000102030405060708090a0b0c0d0e0f-05"


GOLDEN_COMMITMENT = "4c4dd10ecfdcdd87d7ba17f1b6a0e480"
GOLDEN_SHARDS = ["d26e2857c5a1c4ed", "70c4eed4c0731d5b", "b68fbb1fbb02b5f8", "ccdae65c78439776", "7a3a73d26e5ad4df", "54fc6f05242b8757"]


def test_segment_sizes_cover_the_object() -> None:
    assert list(segment_sizes(0)) == []
    assert list(segment_sizes(33, 16)) == [16, 16, 1]


@pytest.mark.parametrize("text", ["4", "4+", "+2", "0+2", "30+9", "a+b", "4-2"])
def test_a_scheme_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="scheme"):
        parse_scheme(text)
