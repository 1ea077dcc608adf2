"""A segment on its way out: stripes come in, k + m sealed shards grow; and on its way in, cells to plaintext.

A shard stays in pieces, runs of sealed cells and its footer: the footer comes last, because the label it carries is known only when the
whole body is, and stores take pieces.
"""

from __future__ import annotations

import hmac
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from proxy.codec.cells import CellCipher
from proxy.codec.column import Column
from proxy.codec.erasure import decode_stripe, encode_stripe
from proxy.codec.footer import FixedPart, pack_footer, with_index
from proxy.codec.format import TAG_SIZE
from proxy.codec.geometry import SegmentGeometry
from proxy.codec.keys import DerivedKeys
from proxy.codec.label import LabelCipher
from proxy.codec.slot_cipher import SlotCipher
from proxy.errors import ShardMismatch
from proxy.memory import unset

Shards: TypeAlias = list[list[bytes | memoryview]]  # by index, each in pieces


class SegmentKeys:
    """What one segment is sealed with: fixed parts and ciphers, each made at its first use."""

    __slots__ = ("_ciphers", "_derived", "_first_fixed_part", "_slot_cipher", "geometry", "segment_id")

    def __init__(self, geometry: SegmentGeometry, *, segment_id: bytes, data_key: bytes, tenant_key_id: str) -> None:
        self.geometry = geometry
        self.segment_id = segment_id
        self._derived = DerivedKeys(data_key, segment_id)
        self._first_fixed_part = FixedPart(
            segment_id=segment_id,
            shard_index=0,
            scheme=geometry.scheme,
            segment_size=geometry.size,
            tenant_key_id=tenant_key_id,
            commitment=self._derived.commitment(),
        ).pack()
        self._ciphers: dict[int, CellCipher] = {}
        self._slot_cipher: SlotCipher | None = None

    def fixed_part(self, shard_index: int) -> bytes:
        """Return the packed fixed part of one shard."""
        return with_index(self._first_fixed_part, shard_index)

    def cipher(self, shard_index: int) -> CellCipher:
        """Return the cipher of one shard's cells: a healthy read needs k of the n, or fewer."""
        cipher = self._ciphers.get(shard_index)
        if cipher is None:
            key = self._derived.shard_key(shard_index)
            cipher = CellCipher(key, fixed_part=self.fixed_part(shard_index), stripe_count=self.geometry.stripe_count)
            self._ciphers[shard_index] = cipher
        return cipher

    def label_cipher(self) -> LabelCipher:
        """Return the cipher of the segment's label."""
        return LabelCipher(self._derived.label_key(), first_fixed_part=self._first_fixed_part)

    def slot_cipher(self) -> SlotCipher:
        """Return the cipher of the segment's slots, if it is a pack."""
        if self._slot_cipher is None:
            self._slot_cipher = SlotCipher(self._derived.slots_key(), first_fixed_part=self._first_fixed_part)
        return self._slot_cipher


def keys_of_footer(fixed: FixedPart, data_key: bytes) -> SegmentKeys:
    """Return the keys of the segment that a footer tells of. Raises `ShardMismatch` if it does not commit to this data key.

    Whoever has joined or unwrapped a key and has read a footer comes this way: the footer is a store's word, and so was each share.
    """
    keys = SegmentKeys(fixed.geometry, segment_id=fixed.segment_id, data_key=data_key, tenant_key_id=fixed.tenant_key_id)
    if not hmac.compare_digest(keys.fixed_part(fixed.shard_index), fixed.pack()):
        raise ShardMismatch(f"shard {fixed.shard_index} of segment {fixed.segment_id.hex()} commits to another data key")
    return keys


class SegmentSealer:
    """Codes and seals one segment, stripe by stripe in order."""

    def __init__(self, keys: SegmentKeys) -> None:
        self.geometry = keys.geometry
        self.keys = keys
        self._columns = [Column(self.geometry.cells_size) for _ in range(self.geometry.scheme.n)]
        self._next_stripe = 0

    def add(self, plaintext: Sequence[bytes | memoryview]) -> None:
        """Code and seal whole stripes, in pieces of any size: a multiple of the stripe size, or the segment's end."""
        scheme, pieces = self.geometry.scheme, deque(memoryview(piece) for piece in plaintext)
        while pieces:
            size = self.geometry.stripe_size(self._next_stripe)
            stripe = _take(pieces, size)
            if len(stripe) != size:
                raise ValueError(f"stripe {self._next_stripe} has {len(stripe)} bytes of {size}")
            for index, cell in enumerate(encode_stripe(scheme, stripe)):
                self._columns[index].seal(self.keys.cipher(index), self._next_stripe, cell)
            self._next_stripe += 1

    def shards(self, *, label: bytes, wrapped_shares: Sequence[bytes]) -> Shards:
        """Return the shards by index, each in pieces. To be called once: a label is sealed once.

        `wrapped_shares`, by index too, are of the data key that the cells are sealed with.
        """
        if self._next_stripe != self.geometry.stripe_count:
            raise ValueError(f"{self._next_stripe} stripes of {self.geometry.stripe_count} were added")
        sealed_label = self.keys.label_cipher().seal(label)
        return [
            [*column.runs, pack_footer(sealed_label, share, self.keys.cipher(index).fixed_part, generation=0)]
            for index, (column, share) in enumerate(zip(self._columns, wrapped_shares, strict=True))
        ]


def _take(pieces: deque[memoryview], size: int) -> bytes | memoryview:
    """Take as many bytes off the pieces, fewer if there are no more; where they lie, if they lie together."""
    taken: list[memoryview] = []
    while size and pieces:
        piece = pieces.popleft()
        if len(piece) > size:
            pieces.appendleft(piece[size:])
        taken.append(piece[:size])
        size -= len(taken[-1])
    return taken[0] if len(taken) == 1 else b"".join(taken)


class ColumnReader:
    """Authenticated cells of a run of stripes first..last, collected by shard index until the plaintext can be given."""

    def __init__(self, keys: SegmentKeys, *, first: int, last: int) -> None:
        geometry = keys.geometry
        self._geometry = geometry
        self._keys = keys
        self._first = first
        self._last = last
        self._columns: dict[int, list[memoryview]] = {}
        self._cell_sizes = [geometry.cell_size(stripe) for stripe in range(first, last + 1)]
        self._stripes: list[memoryview] = []  # the plaintext, if it was laid out

    def lay_out(self) -> None:
        """Take memory for all of the plaintext, to open data columns into. Where all are likely to come, and before the first does."""
        if not self._stripes and not self._columns:
            self._stripes = [unset(self._geometry.scheme.k * size) for size in self._cell_sizes]

    @property
    def indexes(self) -> frozenset[int]:
        """Shard indexes whose cells have been opened."""
        return frozenset(self._columns)

    def add(self, shard_index: int, sealed: bytes | memoryview) -> None:
        """Open one shard's sealed cells of the run, as `SegmentGeometry.cells_span` cuts them. Raises `CellForged`."""
        view, cipher, cells = memoryview(sealed), self._keys.cipher(shard_index), self._room_for(shard_index)
        start = 0
        for stripe, cell in enumerate(cells, self._first):
            end = start + len(cell) + TAG_SIZE
            cipher.open_into(stripe, view[start:end], cell)
            start = end
        self._columns[shard_index] = cells

    def _room_for(self, shard_index: int) -> list[memoryview]:
        """Return memory for a column's cells. What is open already is never written over."""
        if self._stripes and shard_index < self._geometry.scheme.k and shard_index not in self._columns:
            rows = zip(self._stripes, self._cell_sizes, strict=True)
            return [stripe[shard_index * size : (shard_index + 1) * size] for stripe, size in rows]
        return [unset(size) for size in self._cell_sizes]

    def plaintext(self, start: int, length: int) -> list[memoryview]:
        """Return the bytes start .. start+length-1, counted in the segment, as pieces in order.

        Data cells at hand are passed on as they are; a stripe with a needed one missing is decoded, for which any k must be there.
        """
        pieces: list[memoryview] = []
        size = self._geometry.scheme.stripe_size
        is_whole = bool(self._stripes) and all(index in self._columns for index in range(self._geometry.scheme.k))
        for stripe in range(self._first, self._last + 1):
            low = max(start - stripe * size, 0)
            high = min(start + length - stripe * size, self._geometry.stripe_size(stripe))
            if low < high:
                pieces += [self._stripes[stripe - self._first][low:high]] if is_whole else self._stripe(stripe, low, high)
        return pieces

    def _stripe(self, stripe: int, low: int, high: int) -> list[memoryview]:
        wanted = self._geometry.columns_of(stripe, low, high - low)
        row = stripe - self._first
        if all(column in self._columns for column in wanted):
            cell = self._geometry.cell_size(stripe)
            return [self._columns[column][row][max(low - column * cell, 0) : min(high - column * cell, cell)] for column in wanted]
        cells: Mapping[int, memoryview] = {index: column[row] for index, column in self._columns.items()}
        whole = decode_stripe(self._geometry.scheme, cells, self._geometry.stripe_size(stripe))
        return [memoryview(whole)[low:high]]


def open_segment(keys: SegmentKeys, columns: Mapping[int, bytes | memoryview]) -> bytes:
    """Return a whole segment's plaintext from the sealed cells of any k of its shards (a footer behind them does not matter)."""
    geometry = keys.geometry
    reader = ColumnReader(keys, first=0, last=geometry.stripe_count - 1)
    for index, sealed in columns.items():
        reader.add(index, sealed)
    return b"".join(reader.plaintext(0, geometry.size))
