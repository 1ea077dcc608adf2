"""Slots of packs: each opens from its own run of bytes alone, from those of any k other shards, and never otherwise."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.codec import cells
from proxy.codec.decode import decode_segment
from proxy.codec.format import CELL_SIZE, KEY_SIZE, MAX_PACK_SIZE, MAX_PACK_SLOTS, MAX_SEGMENT_SIZE, MAX_TABLE_SIZE, TAG_SIZE
from proxy.codec.geometry import MAX_CELLS, Scheme, SegmentGeometry
from proxy.codec.label import Label
from proxy.codec.segment import SegmentKeys, open_segment
from proxy.codec.slots import (
    ALWAYS_PACKED_SIZE,
    Arrangement,
    Composition,
    Slot,
    SlotContent,
    SlotOpener,
    arrange,
    compose,
    decode_table,
)  # fmt: skip
from proxy.errors import IntegrityError, ShardMismatch, SlotForged
from tests.unit.codec.samples import DATA_KEY, SEGMENT_ID, keys_for, open_share, pattern, seal

SCHEMES = st.builds(Scheme, st.integers(1, 9), st.integers(0, 4))
SIZES = st.lists(st.one_of(st.integers(0, 5_000), st.integers(60_000, 140_000)), min_size=1, max_size=12)


@dataclass
class Pack:
    """A pack of bodies of these sizes, sealed. All are in it."""

    scheme: Scheme
    contents: list[SlotContent]
    arrangement: Arrangement
    keys: SegmentKeys
    shards: list[bytes]

    def slot(self, body: int) -> Slot:
        return Slot(self.keys.geometry, self.arrangement.offsets[body], len(self.contents[body].plaintext))

    @property
    def table(self) -> Slot:
        return Slot(self.keys.geometry, self.arrangement.table_offset, len(self.arrangement.table))

    def run(self, slot: Slot, index: int) -> bytes:
        return self.shards[index][slot.start : slot.start + slot.length]


def pack(scheme: Scheme, sizes: list[int]) -> Pack:
    data = pattern(sum(sizes))
    ends = list(itertools.accumulate(sizes))
    contents = [
        SlotContent("bucket", f"key {number}", f"v{number}", pattern(100 + number), data[end - size : end])
        for number, (size, end) in enumerate(zip(sizes, ends, strict=True))
    ]
    columns: list[list[int]] = [[] for _ in range(scheme.k)]
    for number in range(len(sizes)):
        columns[number % scheme.k].append(number)
    arrangement = arrange(contents, Composition(tuple(tuple(column) for column in columns), ()))
    keys = keys_for(scheme, scheme.k * arrangement.column_size)
    plaintext = bytes(arrangement.plaintext(keys, contents))
    label = Label(bucket="", key="", segment=0, offset=0, table_offset=arrangement.table_offset, table_size=len(arrangement.table))
    return Pack(scheme, contents, arrangement, keys, list(seal(scheme, plaintext, label=label).values()))


@settings(max_examples=60, deadline=None)
@given(scheme=SCHEMES, sizes=SIZES)
@example(scheme=Scheme(4, 2), sizes=[CELL_SIZE - TAG_SIZE] * 5)  # slots end where cells do
@example(scheme=Scheme(2, 1), sizes=[0])
def test_every_slot_opens_from_the_run_of_its_own_shard(scheme: Scheme, sizes: list[int]) -> None:
    made = pack(scheme, sizes)
    for body, content in enumerate(made.contents):
        slot = made.slot(body)
        assert slot.open(made.keys, made.run(slot, slot.column)) == content.plaintext


def test_to_open_a_slot_no_cipher_of_whole_cells_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes more time and memory than all else that is kept of a small object, and there is one for each column."""
    made = pack(Scheme(4, 2), [4096])
    keys, slot = keys_for(made.scheme, made.keys.geometry.size), made.slot(0)
    ciphers: list[bytes] = []

    def noted(key: bytes) -> AESGCM:
        ciphers.append(key)
        return AESGCM(key)

    monkeypatch.setattr(cells, "AESGCM", noted)
    assert SlotOpener(slot, keys).open(made.run(slot, slot.column)) == made.contents[0].plaintext
    assert ciphers == []
    keys.cipher(0).seal(0, b"whole")
    keys.cipher(0).seal(0, b"whole")
    assert len(ciphers) == 1


@settings(max_examples=60, deadline=None)
@given(scheme=st.builds(Scheme, st.integers(1, 9), st.integers(1, 4)), sizes=SIZES, picks=st.randoms(use_true_random=False))
def test_every_slot_is_joined_from_the_same_run_of_any_k_other_shards(scheme: Scheme, sizes: list[int], picks: random.Random) -> None:
    made = pack(scheme, sizes)
    for body, content in enumerate(made.contents):
        slot = made.slot(body)
        others = picks.sample([index for index in range(scheme.n) if index != slot.column], scheme.k)
        assert slot.join(made.keys, {index: made.run(slot, index) for index in others}) == content.plaintext


@settings(max_examples=40, deadline=None)
@given(scheme=SCHEMES, sizes=SIZES)
def test_a_pack_is_an_ordinary_segment_and_its_table_names_every_slot(scheme: Scheme, sizes: list[int]) -> None:
    made = pack(scheme, sizes)
    plaintext = open_segment(made.keys, dict(enumerate(made.shards[-scheme.k :], scheme.m)))
    entries = decode_table(made.table.extract(made.keys, plaintext))
    assert len(entries) == len(sizes)
    for entry, content in zip(entries, made.contents, strict=True):
        assert (entry.bucket, entry.key, entry.version_id, entry.record) == (
            content.bucket,
            content.key,
            content.version_id,
            content.record,
        )
        assert Slot(made.keys.geometry, entry.offset, entry.size).extract(made.keys, plaintext) == content.plaintext


def test_the_shards_alone_give_label_table_and_objects() -> None:
    made = pack(Scheme(4, 2), [4096, 100_000, 1, 0, 70_000])
    names = seal(made.scheme, bytes(CELL_SIZE)).keys()
    decoded = decode_segment(dict(list(zip(names, made.shards, strict=True))[2:]), open_share)
    assert decoded.label.table_size == len(made.arrangement.table)
    table = Slot(decoded.fixed.geometry, decoded.label.table_offset, decoded.label.table_size)
    assert [entry.key for entry in decode_table(table.extract(made.keys, decoded.plaintext))] == [f"key {number}" for number in range(5)]


@settings(max_examples=60, deadline=None)
@given(scheme=SCHEMES, sizes=SIZES, picks=st.randoms(use_true_random=False))
def test_no_changed_byte_of_a_slot_goes_unnoticed(scheme: Scheme, sizes: list[int], picks: random.Random) -> None:
    made = pack(scheme, sizes)
    slot = made.slot(picks.randrange(len(sizes)))
    run = bytearray(made.run(slot, slot.column))
    at = picks.choice(bytes_of_the_slot(slot))
    run[at] ^= 1 << picks.randrange(8)
    with pytest.raises(SlotForged):
        slot.open(made.keys, run)


def bytes_of_the_slot(slot: Slot) -> list[int]:
    """Return which bytes of the slot's run are not tags of cells."""
    sealed_cell = CELL_SIZE + TAG_SIZE
    return [at for at in range(slot.length) if (slot.start + at) % sealed_cell < CELL_SIZE]


@pytest.mark.parametrize("liar", [0, 3, 4])
def test_a_slot_joined_with_a_changed_byte_does_not_open(liar: int) -> None:
    made = pack(Scheme(3, 2), [100_000] * 4)
    slot = made.slot(1)
    runs = {index: bytearray(made.run(slot, index)) for index in (0, 3, 4)}
    assert slot.join(made.keys, runs) == made.contents[1].plaintext
    runs[liar][5] ^= 1
    with pytest.raises(SlotForged):
        slot.join(made.keys, runs)


def test_a_slot_does_not_open_in_the_place_of_another() -> None:
    made = pack(Scheme(2, 1), [500] * 4)
    here, there = made.slot(0), made.slot(2)
    assert here.column == there.column
    with pytest.raises(SlotForged):
        here.open(made.keys, made.run(there, there.column))
    with pytest.raises(SlotForged):
        Slot(made.keys.geometry, here.offset, 499).open(made.keys, made.run(here, here.column)[:-1])


@pytest.mark.parametrize("other", [{"data_key": bytes(32)}, {"segment_id": bytes(16)}], ids=["data key", "segment"])
def test_a_slot_opens_in_no_other_pack(other: dict[str, bytes]) -> None:
    made = pack(Scheme(2, 1), [500])
    slot = made.slot(0)
    sealed = b"".join(
        memoryview(made.arrangement.plaintext(made.keys, made.contents))[at : at + size] for at, size in slot.plaintext_runs()
    )
    assert slot.open_sealed(made.keys, sealed) == made.contents[0].plaintext
    with pytest.raises(SlotForged):
        slot.open_sealed(keys_for(made.scheme, made.keys.geometry.size, **other), sealed)


@pytest.mark.parametrize(("offset", "size"), [(-1, 5), (0, -1), (0, 985), (999, 0), (1000, 985), (1990, 0), (2000, 0), (2**63, 1)])
def test_what_is_not_wholly_in_one_column_is_no_slot(offset: int, size: int) -> None:
    with pytest.raises(ShardMismatch):
        Slot(SegmentGeometry(Scheme(2, 1), 2000), offset, size)


def test_a_segment_that_is_not_of_equal_columns_has_no_slots() -> None:
    with pytest.raises(ShardMismatch):
        Slot(SegmentGeometry(Scheme(2, 1), 2001), 0, 10)


def test_a_run_of_another_length_is_refused() -> None:
    made = pack(Scheme(2, 1), [500])
    slot = made.slot(0)
    with pytest.raises(IntegrityError):
        slot.open(made.keys, made.run(slot, slot.column)[:-1])


@given(sizes=st.lists(st.integers(0, 128 * 1024), max_size=MAX_PACK_SLOTS), k=st.integers(1, 16))
@settings(max_examples=100, deadline=None)
def test_a_composition_has_each_body_once_and_wastes_little(sizes: list[int], k: int) -> None:
    columns, left_out = compose(sizes, k)
    assert sorted([*left_out, *itertools.chain(*columns)]) == list(range(len(sizes)))
    assert len(columns) == k
    lengths = [sum(sizes[body] + TAG_SIZE for body in column) for column in columns]
    if max(lengths) > ALWAYS_PACKED_SIZE + TAG_SIZE:
        assert 2 * sum(lengths) >= k * max(lengths) or max(sizes[body] for column in columns for body in column) <= ALWAYS_PACKED_SIZE
    staying = [sizes[body] for column in columns for body in column]
    assert all(sizes[body] >= max(staying, default=0) and sizes[body] > ALWAYS_PACKED_SIZE for body in left_out)


@pytest.mark.parametrize(
    ("sizes", "left_out"),
    [
        ([4096], []),
        ([16 * 1024], []),
        ([100_000], [0]),
        ([100_000] * 2, []),
        ([100_000, 4096], [0]),
        ([120_000, 4096, 100_000, 4096, 110_000], []),
        ([128 * 1024, 20_000, 4096], [0, 1]),
    ],
)
def test_a_body_leaves_where_it_would_waste_space(sizes: list[int], left_out: list[int]) -> None:
    assert list(compose(sizes, 4).left_out) == left_out


@pytest.mark.parametrize("k", [1, 4, MAX_CELLS])
def test_the_largest_pack_is_no_larger_than_a_segment_may_be(k: int) -> None:
    body, record = b"\0" * (128 * 1024), b"\0" * (MAX_TABLE_SIZE // (MAX_PACK_SIZE // (128 * 1024)))
    contents = [SlotContent("b", "k", "v", record, body)] * (MAX_PACK_SIZE // len(body))
    arrangement = arrange(contents, compose([len(body)] * len(contents), k))
    assert k * arrangement.column_size <= MAX_SEGMENT_SIZE


def test_a_slot_is_one_message_of_aes_gcm_under_the_key_and_nonce_of_the_format() -> None:
    made = pack(Scheme(2, 1), [5, 300])
    slot = made.slot(1)
    key = HKDF(SHA256(), KEY_SIZE, salt=None, info=b"shardgate v1 slots " + SEGMENT_ID).derive(DATA_KEY)
    sealed = AESGCM(key).encrypt(slot.offset.to_bytes(12, "big"), made.contents[1].plaintext, made.keys.fixed_part(0))
    assert slot.open_sealed(made.keys, sealed) == made.contents[1].plaintext
