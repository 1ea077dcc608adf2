"""Slots: many small objects in one segment, a **pack**, so that each can be read alone.

The problem: an object of 4 KiB cut into k columns is k tiny shards in k stores. It costs k + m puts to write, and k requests to read.

The idea: a pack is an ordinary segment with an inner structure. Its plaintext is k columns of one length, the column size; column c is
what shard c holds, unsealed, its cells end to end. Each object is sealed on its own, as a slot that lies wholly inside one column. So it is
one run of bytes in one shard, and one ranged request reads it. That request brings no whole cell, so no cell's tag can be checked: the
cell's cipher is undone without (it is a stream), and the slot's own tag says whether the bytes are right. If they are not, or that store
does not answer, the same run of any k other columns gives the slot back, because the code works byte by byte.

A slot's **offset** counts through the columns end to end: column x column size + position in the column. The **table** is one more slot:
it says which object lies where, with the record of each version. The label says where the table lies. So the records are coded like the
data, and not copied into each shard.

Rejected: to seal the slots and to code them without sealing the cells again. The second seal costs a microsecond for 4 KiB, and its tags
are what pins a bad column to its store, parity included; without it, repair, scrub and moves would have to know packs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import msgspec

from proxy.codec.cells import Counter
from proxy.codec.erasure import decode_stripe
from proxy.codec.format import CELL_SIZE, TAG_SIZE
from proxy.codec.geometry import SegmentGeometry
from proxy.codec.segment import SegmentKeys
from proxy.errors import ShardMismatch


class PackEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a pack's table says of one slot."""

    offset: int
    size: int  # plaintext bytes
    bucket: str
    key: str
    version_id: str
    record: bytes  # MessagePack of the version's record, as the label of an object's last segment carries it


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[PackEntry, ...])


def encode_table(entries: Sequence[PackEntry]) -> bytes:
    return _encoder.encode(entries)


def decode_table(plaintext: bytes) -> tuple[PackEntry, ...]:
    """Read a table's plaintext. Raises msgspec.DecodeError."""
    return _decoder.decode(plaintext)


class _Stretch(NamedTuple):
    """The part of a slot that lies in one cell."""

    stripe: int
    at: int  # in the cell, unsealed
    length: int


class Slot:
    """One slot of a pack: `size` plaintext bytes, sealed at `offset`. Raises `ShardMismatch` if it does not lie in one column.

    `start` and `length` say which bytes of a shard hold it, in shard `column` as well as in all others. Tags of cells lie between them
    where it crosses from one cell to the next.
    """

    __slots__ = ("_position", "column", "geometry", "length", "offset", "size", "start")

    def __init__(self, geometry: SegmentGeometry, offset: int, size: int) -> None:
        column_size, rest = divmod(geometry.size, geometry.scheme.k)
        if rest or offset < 0 or size < 0 or offset >= geometry.size:
            raise ShardMismatch(f"a pack of {geometry.size} bytes has no slot at {offset}")
        column, position = divmod(offset, column_size)
        end = position + size + TAG_SIZE
        if end > column_size:
            raise ShardMismatch(f"the slot at {offset} ends at {end} in a column of {column_size} bytes")
        self.geometry = geometry
        self.offset = offset
        self.size = size
        self.column = column
        self.start = position + TAG_SIZE * (position // CELL_SIZE)
        self.length = end + TAG_SIZE * ((end - 1) // CELL_SIZE) - self.start
        self._position = position  # in the column, as it is unsealed

    def open(self, keys: SegmentKeys, run: bytes | memoryview) -> bytes:
        """Return the object from the slot's run of bytes in its own shard. Raises `SlotForged`."""
        return self.open_sealed(keys, self.sealed(keys, run))

    def join(self, keys: SegmentKeys, runs: Mapping[int, bytes | memoryview]) -> bytes:
        """Return the object from the same run of any k other shards, by index. Raises `SlotForged`: then one of them is wrong, or more."""
        return self.open_sealed(keys, self.sealed_by(keys, runs))

    def sealed(self, keys: SegmentKeys, run: bytes | memoryview) -> bytes:
        """Return the sealed slot from its run of bytes in its own shard. Nothing of it is authenticated."""
        return self._decipher(keys, self.column, run)

    def sealed_by(self, keys: SegmentKeys, runs: Mapping[int, bytes | memoryview]) -> bytes:
        """Return the sealed slot from the same run of any k other shards, by index. Nothing of it is authenticated."""
        columns = {index: memoryview(self._decipher(keys, index, run)) for index, run in runs.items()}
        scheme, sealed, done = self.geometry.scheme, [], 0
        for stretch in self._stretches():
            end = done + stretch.length
            stripe = decode_stripe(scheme, {index: column[done:end] for index, column in columns.items()}, scheme.k * stretch.length)
            sealed.append(stripe[self.column * stretch.length : (self.column + 1) * stretch.length])
            done = end
        return b"".join(sealed)

    def open_sealed(self, keys: SegmentKeys, sealed: bytes | memoryview) -> bytes:
        """Return the object from the sealed slot. Raises `SlotForged`."""
        return keys.slot_cipher().open(self.offset, sealed)

    def plaintext_runs(self) -> list[tuple[int, int]]:
        """Return (start, length) in the segment's plaintext of each run that the sealed slot lies in, in order."""
        return list(_plaintext_runs(self.geometry, self.column, self._stretches()))

    def extract(self, keys: SegmentKeys, plaintext: bytes | memoryview) -> bytes:
        """Return the object from the whole segment's plaintext. Raises `SlotForged`."""
        view = memoryview(plaintext)
        return self.open_sealed(keys, b"".join(view[start : start + length] for start, length in self.plaintext_runs()))

    def counter(self, keys: SegmentKeys) -> Counter | None:
        """Return where its own shard is deciphered from, if it lies in one cell, as most do."""
        if self.length != self.size + TAG_SIZE:
            return None
        return keys.cipher(self.column).counter(*divmod(self._position, CELL_SIZE))

    def _decipher(self, keys: SegmentKeys, index: int, run: bytes | memoryview) -> bytes:
        cipher = keys.cipher(index)
        if len(run) != self.length:
            raise ShardMismatch(f"{len(run)} bytes of shard {index} were read where the slot has {self.length}")
        if self.length == self.size + TAG_SIZE:
            stripe, at = divmod(self._position, CELL_SIZE)
            return cipher.decipher(stripe, at, run)
        view, done, plain = memoryview(run), 0, []
        for stretch in self._stretches():
            plain.append(cipher.decipher(stretch.stripe, stretch.at, view[done : done + stretch.length]))
            done += stretch.length + TAG_SIZE
        return b"".join(plain)

    def _stretches(self) -> Iterator[_Stretch]:
        return _stretches(self._position, self.size + TAG_SIZE)


class SlotOpener:
    """Opens one slot from its run of bytes in its own shard, again and again: what that takes is worked out once."""

    __slots__ = ("_cell", "_counter", "_keys", "_slot", "_slot_cipher")

    def __init__(self, slot: Slot, keys: SegmentKeys) -> None:
        self._slot = slot
        self._keys = keys
        self._cell = keys.cipher(slot.column)
        self._counter = slot.counter(keys)
        self._slot_cipher = keys.slot_cipher()

    def open(self, run: bytes | memoryview) -> bytes:
        """As `Slot.open`."""
        slot, counter = self._slot, self._counter
        if counter is None or len(run) != slot.length:
            return slot.open(self._keys, run)
        return self._slot_cipher.open(slot.offset, self._cell.decipher_from(counter, run))


class Composition(NamedTuple):
    """Which bodies, by their place in what was asked, lie in which column, in order; and which are not worth a place in this pack."""

    columns: tuple[tuple[int, ...], ...]
    left_out: tuple[int, ...]


ALWAYS_PACKED_SIZE = 16 * 1024  # n times as much is stored of the only body in a pack, and that is still little


def compose(sizes: Sequence[int], k: int) -> Composition:
    """Deal bodies of these sizes to k columns: the largest first, each to the shortest column.

    All columns are stored as long as the longest. While that would waste more than half of them, the largest body leaves; it is a
    segment of its own, which wastes nothing. Small ones stay, though they waste most: in a pack they are read by one request.
    """
    order = sorted(range(len(sizes)), key=sizes.__getitem__, reverse=True)
    total = sum(sizes) + TAG_SIZE * len(sizes)
    for out in range(len(order)):
        columns, longest = _deal([(body, sizes[body] + TAG_SIZE) for body in order[out:]], k)
        if 2 * total >= k * longest or sizes[order[out]] <= ALWAYS_PACKED_SIZE:
            return Composition(columns, tuple(order[:out]))
        total -= sizes[order[out]] + TAG_SIZE
    return Composition(((),) * k, tuple(order))


def _deal(bodies: Sequence[tuple[int, int]], k: int) -> tuple[tuple[tuple[int, ...], ...], int]:
    columns: list[list[int]] = [[] for _ in range(k)]
    lengths = [0] * k
    for body, sealed_size in bodies:
        shortest = lengths.index(min(lengths))
        columns[shortest].append(body)
        lengths[shortest] += sealed_size
    return tuple(tuple(column) for column in columns), max(lengths)


class SlotContent(msgspec.Struct, frozen=True):
    """What is to be a slot: an object's bytes, and what the table is to say of it."""

    bucket: str
    key: str
    version_id: str
    record: bytes
    plaintext: bytes | memoryview


class Arrangement(msgspec.Struct, frozen=True, kw_only=True):
    """Where everything lies in a pack. `offsets` has those of the bodies that were not left out."""

    column_size: int
    offsets: Mapping[int, int]
    table_offset: int
    table: bytes

    def plaintext(self, keys: SegmentKeys, contents: Sequence[SlotContent]) -> bytearray:
        """Seal the slots and lay them into the segment's plaintext. Once: each nonce is used once."""
        cipher, geometry = keys.slot_cipher(), keys.geometry
        whole = bytearray(geometry.size)
        slots = [(offset, contents[body].plaintext) for body, offset in self.offsets.items()]
        for offset, plaintext in (*slots, (self.table_offset, self.table)):
            sealed = cipher.seal(offset, plaintext)
            if geometry.stripe_count == 1:  # the columns lie end to end
                whole[offset : offset + len(sealed)] = sealed
            else:
                self._lay(geometry, whole, offset, memoryview(sealed))
        return whole

    def _lay(self, geometry: SegmentGeometry, whole: bytearray, offset: int, sealed: memoryview) -> None:
        column, position = divmod(offset, self.column_size)
        for start, length in _plaintext_runs(geometry, column, _stretches(position, len(sealed))):
            whole[start : start + length] = sealed[:length]
            sealed = sealed[length:]


WIDEST_OFFSET = 2**32 - 1  # in MessagePack: no number a segment has room for takes more bytes


def arrange(contents: Sequence[SlotContent], composition: Composition) -> Arrangement:
    """Say where each body lies, and make the table, which goes behind the shortest column.

    How long the columns are depends on the table, and the offsets in the table on the columns: the table gets room for the widest offsets.
    """
    positions, lengths = _positions(contents, composition.columns)
    bodies = sorted(chain.from_iterable(composition.columns))
    room = len(_table(contents, dict.fromkeys(bodies, WIDEST_OFFSET))) + TAG_SIZE
    column = lengths.index(min(lengths))
    column_size = max(*lengths, lengths[column] + room)
    offsets = {body: positions[body].column * column_size + positions[body].at for body in bodies}
    return Arrangement(
        column_size=column_size,
        offsets=offsets,
        table_offset=column * column_size + lengths[column],
        table=_table(contents, offsets),
    )


class _Position(msgspec.Struct, frozen=True):
    column: int
    at: int


def _positions(contents: Sequence[SlotContent], columns: Sequence[Sequence[int]]) -> tuple[dict[int, _Position], list[int]]:
    positions: dict[int, _Position] = {}
    lengths = []
    for number, column in enumerate(columns):
        length = 0
        for body in column:
            positions[body] = _Position(number, length)
            length += len(contents[body].plaintext) + TAG_SIZE
        lengths.append(length)
    return positions, lengths


def _table(contents: Sequence[SlotContent], offsets: Mapping[int, int]) -> bytes:
    return encode_table([_entry(contents[body], offset) for body, offset in offsets.items()])


def _entry(content: SlotContent, offset: int) -> PackEntry:
    return PackEntry(
        offset=offset,
        size=len(content.plaintext),
        bucket=content.bucket,
        key=content.key,
        version_id=content.version_id,
        record=content.record,
    )


def _stretches(position: int, length: int) -> Iterator[_Stretch]:
    """Cut a run of a column, as it is unsealed, at the borders of its cells."""
    while length > 0:
        stripe, at = divmod(position, CELL_SIZE)
        taken = min(length, CELL_SIZE - at)
        yield _Stretch(stripe, at, taken)
        position += taken
        length -= taken


def _plaintext_runs(geometry: SegmentGeometry, column: int, stretches: Iterator[_Stretch]) -> Iterator[tuple[int, int]]:
    for stretch in stretches:
        start = stretch.stripe * geometry.scheme.stripe_size + column * geometry.cell_size(stretch.stripe) + stretch.at
        yield start, stretch.length
