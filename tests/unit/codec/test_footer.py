"""Footers: read from the end of a shard as it is listed; whatever is not known is refused."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.codec.footer import Footer, footer_length, parse_footer
from proxy.codec.format import FIXED_PART_SIZE, MAX_GENERATION, is_shard_name, segment_prefix, shard_name
from proxy.codec.geometry import Scheme
from proxy.codec.segment import keys_of_footer
from proxy.errors import ShardMismatch
from tests.unit.codec.samples import DATA_KEY, SEGMENT_ID, TENANT_KEY_ID, keys_for, pattern, seal

SHARDS = seal(Scheme(4, 2), pattern(5000))
NAME, SHARD = list(SHARDS.items())[3]


def read(shard: bytes, name: str = NAME) -> Footer:
    return parse_footer(shard, name=name, size_bytes=len(shard))


def changed(offset: int, value: bytes) -> bytes:
    at = len(SHARD) - FIXED_PART_SIZE - 8 + offset
    return SHARD[:at] + value + SHARD[at + len(value) :]


def test_a_footer_is_read_from_the_end_of_a_shard() -> None:
    footer = read(SHARD)
    fixed = footer.fixed
    assert (fixed.segment_id, fixed.shard_index, fixed.scheme, fixed.segment_size) == (SEGMENT_ID, 3, Scheme(4, 2), 5000)
    assert (fixed.tenant_key_id, footer.generation, footer.shard_name) == (TENANT_KEY_ID, 0, NAME)
    assert fixed.pack() == keys_for(Scheme(4, 2), 5000).fixed_part(3)
    assert SHARD.endswith(footer.pack())
    assert fixed.geometry.cells_size + len(footer.pack()) == len(SHARD)


def test_the_end_of_a_shard_is_enough() -> None:
    length = footer_length(SHARD[-8:])
    assert parse_footer(SHARD[-length:], name=NAME, size_bytes=len(SHARD)) == read(SHARD)
    assert parse_footer(memoryview(SHARD)[-length - 100 :], name=NAME, size_bytes=len(SHARD)) == read(SHARD)
    with pytest.raises(ShardMismatch, match="does not fit"):
        parse_footer(SHARD[1 - length :], name=NAME, size_bytes=len(SHARD))


@pytest.mark.parametrize(
    ("offset", "value", "match"),
    [
        (0, b"SHGX", "does not end with a footer"),
        (4, b"\x02", "version 2"),
        (5, b"\x02", "code 2"),
        (6, b"\x00", "scheme 0.2"),
        (6, b"\xff", "scheme 255.2"),
        (7, b"\x1d", "scheme 4.29"),
        (6, b"\x05", "bytes"),
        (8, b"\xff", "has the footer of"),
        (24, b"\x06", "no shard 6"),
        (24, b"\x02", "has the footer of"),
        (25, b"\x01", "reserved 010000"),
        (27, b"\x01", "reserved 000001"),
        (28, struct.pack(">I", 1 << 17), "cell 131072"),
        (32, struct.pack(">Q", 0), "of 0 bytes"),
        (32, struct.pack(">Q", 5004), "bytes; its footer tells of"),
        (32, struct.pack(">Q", (16 << 20) + 1), "of 16777217 bytes"),
        (32, struct.pack(">Q", 1 << 63), "of 9223372036854775808 bytes"),
        (88, struct.pack(">I", 1), "has the footer of"),
        (92, struct.pack(">I", 0), "no 0 bytes"),
        (92, struct.pack(">I", 528), "bytes; its footer tells of"),
        (92, struct.pack(">I", 1 << 31), "does not fit"),
    ],
)  # fmt: skip
def test_what_a_reader_does_not_know_is_refused(offset: int, value: bytes, match: str) -> None:
    with pytest.raises(ShardMismatch, match=match):
        read(changed(offset, value))


@pytest.mark.parametrize("size", [0, 16, 255, 256, 271, 273])
def test_a_label_that_is_not_padded_to_a_step_is_refused(size: int) -> None:
    footer = replace(read(SHARD), sealed_label=bytes(size))
    shard = SHARD[: footer.fixed.geometry.cells_size] + footer.pack()
    with pytest.raises(ShardMismatch, match=f"no {size} bytes"):
        read(shard)


@pytest.mark.parametrize("shard", [b"", bytes(7), bytes(8), bytes(144), SHARD[:-1], SHARD[1:], SHARD + b"\0", b"\0" + SHARD])
def test_what_is_no_shard_is_refused(shard: bytes) -> None:
    with pytest.raises(ShardMismatch):
        read(shard)


def test_a_shard_of_the_layout_with_a_header_is_refused_and_told_from_others() -> None:
    fixed = struct.pack(">4sBBBB16sB3xIQ16s16s", b"SHGT", 1, 1, 4, 2, SEGMENT_ID, 3, 65_536, 5000, bytes(16), bytes(16))
    old = fixed + bytes(60) + struct.pack(">I", 200) + pattern(200) + pattern(1266)
    with pytest.raises(ShardMismatch, match="written in a layout that was given up before format 1 was final"):
        read(old)


@given(end=st.binary(max_size=400), size=st.integers(0, 1 << 40))
def test_whatever_a_store_lists_is_refused_in_words(end: bytes, size: int) -> None:
    with pytest.raises(ShardMismatch):
        parse_footer(end, name=NAME, size_bytes=size)


def test_a_footer_that_commits_to_another_key_is_refused() -> None:
    assert keys_of_footer(read(SHARD).fixed, DATA_KEY).fixed_part(3) == read(SHARD).fixed.pack()
    for forged in (changed(56, b"\xff"), changed(87, b"\xff")):
        with pytest.raises(ShardMismatch, match="commits to another data key"):
            keys_of_footer(read(forged).fixed, DATA_KEY)
    with pytest.raises(ShardMismatch, match="commits to another data key"):
        keys_of_footer(read(SHARD).fixed, bytes(32))


@pytest.mark.parametrize("generation", [1, 10, 255, MAX_GENERATION])
def test_a_shard_that_is_put_anew_differs_in_name_and_generation_alone(generation: int) -> None:
    """Repair makes the same bytes again, and a move copies them: nothing that is sealed knows the generation."""
    footer = replace(read(SHARD), generation=generation)
    name = shard_name(SEGMENT_ID, 3, generation)
    anew = SHARD[: footer.fixed.geometry.cells_size] + footer.pack()
    assert read(anew, name) == footer
    assert SHARD[:-8] == anew[:-8]
    for other in (NAME, shard_name(SEGMENT_ID, 3, generation - 1)):
        with pytest.raises(ShardMismatch, match="has the footer of"):
            read(anew, other)


def test_names_are_told_from_others() -> None:
    text = SEGMENT_ID.hex()
    assert shard_name(SEGMENT_ID, 5) == f"00/{text}-05"
    assert shard_name(SEGMENT_ID, 31, 26) == f"00/{text}-1f.1a"
    for generation in (0, 1, 255, MAX_GENERATION):
        assert is_shard_name(shard_name(SEGMENT_ID, 5, generation))
        assert shard_name(SEGMENT_ID, 5, generation).startswith(segment_prefix(SEGMENT_ID))
    for other in ("-05.0", "-05.01", "-05.A", "-05.", "-05.100000000", "-5", "-05.1.1", "-05 ", "-05\n", ""):
        assert not is_shard_name(f"00/{text}{other}")
    assert not is_shard_name(f"01/{text}-05")
