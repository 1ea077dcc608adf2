"""Slices: a large manifest is compared with its stores a part of all segments at a time, by the first byte of their ids.

A slice is what is done again after a restart, what lies in the scratch database at once, and what the pace of a pass counts. Each costs a
walk over all extents, so there are as few as these three allow.
"""

from __future__ import annotations

from dataclasses import dataclass

ALL = 256
SMALL = 10_000  # extents that are compared in one go
FEW = 16
EXTENTS_A_SLICE = 8_000_000  # some 50 million names at 4+2: a scratch database of 4 GB


@dataclass(frozen=True, slots=True)
class Slice:
    """Slice `number` of `count`."""

    number: int
    count: int

    @property
    def folders(self) -> tuple[str, ...]:
        """What the names of its shards begin with."""
        return tuple(f"{byte:02x}/" for byte in range(ALL) if self._of(byte) == self.number)

    def holds_segment(self, segment_id: bytes) -> bool:
        return self._of(segment_id[0]) == self.number

    def holds_name(self, name: str) -> bool:
        """Tell whether the name of a shard is one of this slice."""
        return self._of(int(name[:2], 16)) == self.number

    def _of(self, byte: int) -> int:
        return byte * self.count // ALL


def slice_count(extents: int) -> int:
    """Return in how many slices to compare so many extents."""
    if extents <= SMALL:
        return 1
    count = FEW
    while count < ALL and extents > count * EXTENTS_A_SLICE:
        count *= 2
    return count
