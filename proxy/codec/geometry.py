"""Geometry: where a segment's bytes lie in its stripes, cells and shards. Arithmetic only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from proxy.codec.format import CELL_SIZE, MAX_SEGMENT_SIZE, SEALED_CELL_SIZE, TAG_SIZE

MAX_CELLS = 32  # k + m: ISA-L's Cauchy matrix stays fast and every shard index fits two hex digits


@dataclass(frozen=True, slots=True)
class Scheme:
    """k data cells and m parity cells a stripe."""

    k: int
    m: int

    def __post_init__(self) -> None:
        if not (self.k >= 1 and self.m >= 0 and self.k + self.m <= MAX_CELLS):
            raise ValueError(f"scheme {self.k}+{self.m}: at least 1 data cell and at most {MAX_CELLS} cells in all")

    @property
    def n(self) -> int:
        """Cells of a stripe, shards of a segment."""
        return self.k + self.m

    @property
    def stripe_size(self) -> int:
        """Plaintext bytes of a full stripe."""
        return self.k * CELL_SIZE

    def __str__(self) -> str:
        return f"{self.k}+{self.m}"


def parse_scheme(text: str) -> Scheme:
    """Read "4+2". Raises ValueError."""
    k, plus, m = text.partition("+")
    if not plus or not k.strip().isdigit() or not m.strip().isdigit():
        raise ValueError(f'scheme "{text}": write data + parity, as in "4+2"')
    return Scheme(int(k), int(m))


def segment_sizes(size: int, segment_size: int = MAX_SEGMENT_SIZE) -> Iterator[int]:
    """Yield the plaintext sizes of the segments of `size` bytes: full ones, then the rest. Nothing for 0."""
    while size > 0:
        yield min(size, segment_size)
        size -= segment_size


@dataclass(frozen=True, slots=True)
class SegmentGeometry:
    """One segment of `size` > 0 plaintext bytes under a scheme.

    `last_stripe_size` is 1 .. stripe_size plaintext bytes; `last_cell_size` bytes has each cell of the last stripe: evenly sized, the
    plaintext padded with fewer than k zeros.
    """

    scheme: Scheme
    size: int
    stripe_count: int = field(init=False)
    last_stripe_size: int = field(init=False)
    last_cell_size: int = field(init=False)

    def __post_init__(self) -> None:
        # Once each: they are asked for at every cell.
        count = -(-self.size // self.scheme.stripe_size)
        last = self.size - (count - 1) * self.scheme.stripe_size
        object.__setattr__(self, "stripe_count", count)
        object.__setattr__(self, "last_stripe_size", last)
        object.__setattr__(self, "last_cell_size", -(-last // self.scheme.k))

    @property
    def cells_size(self) -> int:
        """Bytes of all sealed cells of one shard."""
        return (self.stripe_count - 1) * SEALED_CELL_SIZE + self.last_cell_size + TAG_SIZE

    def stripe_size(self, stripe: int) -> int:
        """Plaintext bytes of a stripe."""
        return self.last_stripe_size if stripe == self.stripe_count - 1 else self.scheme.stripe_size

    def cell_size(self, stripe: int) -> int:
        """Bytes of one unsealed cell of a stripe."""
        return self.last_cell_size if stripe == self.stripe_count - 1 else CELL_SIZE

    def cells_span(self, first: int, last: int) -> tuple[int, int]:
        """Return (offset, length) in a shard's cells of the sealed cells of stripes first..last, both included."""
        start = first * SEALED_CELL_SIZE
        return start, (last - first) * SEALED_CELL_SIZE + self.cell_size(last) + TAG_SIZE

    def stripes_of(self, start: int, length: int) -> tuple[int, int]:
        """Return the first and last stripe that hold plaintext start .. start+length-1."""
        return start // self.scheme.stripe_size, (start + length - 1) // self.scheme.stripe_size

    def columns_of(self, stripe: int, start: int, length: int) -> range:
        """Return the data columns of one stripe that hold the plaintext bytes start .. start+length-1, counted in the stripe."""
        cell = self.cell_size(stripe)
        return range(start // cell, (start + length - 1) // cell + 1)
