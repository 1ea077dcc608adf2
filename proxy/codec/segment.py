"""A segment on its way out: stripes come in, k + m sealed shards grow; and on its way in, cells to plaintext.

A shard stays in pieces, its header and its sealed cells: the header comes last, because the label it carries is known only when the whole
body is, and stores take pieces. Rejected: one preallocated buffer a shard, to seal into. Making those of a segment cost more (24 MiB to be
zeroed, far from any cache) than the small buffers of the cells do together.
"""

from __future__ import annotations

from collections.abc import Mapping

from proxy.codec.cells import CellCipher
from proxy.codec.erasure import decode_stripe, encode_stripe
from proxy.codec.format import FIXED_PART_SIZE, TAG_SIZE, FixedPart, pack_tail, with_index
from proxy.codec.geometry import Scheme, SegmentGeometry
from proxy.codec.keys import DerivedKeys


class SegmentKeys:
    """What one segment is sealed with: fixed parts and cell ciphers by shard index, each made at its first use."""

    __slots__ = ("_ciphers", "_derived", "_first_fixed_part", "_stripe_count")

    def __init__(self, geometry: SegmentGeometry, *, segment_id: bytes, data_key: bytes, tenant_key_id: str) -> None:
        self._derived = DerivedKeys(data_key, segment_id)
        self._stripe_count = geometry.stripe_count
        self._first_fixed_part = FixedPart(
            segment_id=segment_id,
            shard_index=0,
            k=geometry.scheme.k,
            m=geometry.scheme.m,
            segment_size=geometry.size,
            tenant_key_id=tenant_key_id,
            commitment=self._derived.commitment(),
        ).pack()
        self._ciphers: dict[int, CellCipher] = {}

    def cipher(self, shard_index: int) -> CellCipher:
        """Return the cipher of one shard's cells: a healthy read needs k of the n, or fewer."""
        cipher = self._ciphers.get(shard_index)
        if cipher is None:
            fixed_part = with_index(self._first_fixed_part, shard_index)
            key = self._derived.shard_key(shard_index)
            cipher = self._ciphers[shard_index] = CellCipher(key, fixed_part=fixed_part, stripe_count=self._stripe_count)
        return cipher


class SegmentSealer:
    """Codes and seals one segment, stripe by stripe in order."""

    def __init__(self, geometry: SegmentGeometry, keys: SegmentKeys) -> None:
        self.geometry = geometry
        self._keys = keys
        self._columns: list[list[bytes]] = [[] for _ in range(geometry.scheme.n)]
        self._next_stripe = 0

    def add(self, plaintext: bytes) -> None:
        """Code and seal whole stripes: a multiple of the stripe size, or the segment's end."""
        scheme, offset = self.geometry.scheme, 0
        while offset < len(plaintext):
            size = self.geometry.stripe_size(self._next_stripe)
            stripe = plaintext if size == len(plaintext) else plaintext[offset : offset + size]
            if len(stripe) != size:
                raise ValueError(f"stripe {self._next_stripe} has {len(stripe)} bytes of {size}")
            for index, cell in enumerate(encode_stripe(scheme, stripe)):
                self._columns[index].append(self._keys.cipher(index).seal(self._next_stripe, cell))
            self._next_stripe += 1
            offset += size

    def shards(self, *, wrapped_key: bytes, sealed_label: bytes) -> tuple[int, list[list[bytes]]]:
        """Return (header size, the shards by index, each in pieces)."""
        if self._next_stripe != self.geometry.stripe_count:
            raise ValueError(f"{self._next_stripe} stripes of {self.geometry.stripe_count} were added")
        tail = pack_tail(wrapped_key, sealed_label)
        shards = [[self._keys.cipher(index).fixed_part + tail, *cells] for index, cells in enumerate(self._columns)]
        return FIXED_PART_SIZE + len(tail), shards


class ColumnReader:
    """Authenticated cells of a run of stripes first..last, collected by shard index until the plaintext can be given."""

    def __init__(self, geometry: SegmentGeometry, keys: SegmentKeys, *, first: int, last: int) -> None:
        self._geometry = geometry
        self._keys = keys
        self._first = first
        self._last = last
        self._columns: dict[int, list[memoryview]] = {}

    @property
    def indexes(self) -> frozenset[int]:
        """Shard indexes whose cells have been opened."""
        return frozenset(self._columns)

    def add(self, shard_index: int, sealed: bytes | memoryview) -> None:
        """Open one shard's sealed cells of the run, as `SegmentGeometry.cells_span` cuts them. Raises `CellForged`."""
        view = memoryview(sealed)
        cipher = self._keys.cipher(shard_index)
        cells, offset = [], 0
        for stripe in range(self._first, self._last + 1):
            size = self._geometry.cell_size(stripe)
            cells.append(memoryview(cipher.open(stripe, view[offset : offset + size + TAG_SIZE])))
            offset += size + TAG_SIZE
        self._columns[shard_index] = cells

    def plaintext(self, start: int, length: int) -> list[memoryview]:
        """Return the bytes start .. start+length-1, counted in the segment, as pieces in order.

        Data cells at hand are passed on as they are; a stripe with a needed one missing is decoded, for which any k must be there.
        """
        pieces: list[memoryview] = []
        for stripe in range(self._first, self._last + 1):
            stripe_start = stripe * self._geometry.scheme.stripe_size
            low = max(start - stripe_start, 0)
            high = min(start + length - stripe_start, self._geometry.stripe_size(stripe))
            if low < high:
                pieces += self._stripe(stripe, low, high)
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


def open_segment(scheme: Scheme, size: int, keys: SegmentKeys, columns: Mapping[int, bytes | memoryview]) -> bytes:
    """Return a whole segment's plaintext from the sealed cells (headers cut off) of any k of its shards."""
    geometry = SegmentGeometry(scheme, size)
    reader = ColumnReader(geometry, keys, first=0, last=geometry.stripe_count - 1)
    for index, sealed in columns.items():
        reader.add(index, sealed)
    return b"".join(reader.plaintext(0, size))
