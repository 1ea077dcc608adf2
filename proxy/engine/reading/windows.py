"""Windows: a range, cut into runs of whole stripes that are fetched, opened and sent one after the other. Arithmetic only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from msgspec import Struct

from proxy.codec.format import CELL_SIZE
from proxy.codec.geometry import SegmentGeometry
from proxy.manifest.records import Extent, ExtentRef, Segment

WINDOW_SIZE = 4 * 1024 * 1024  # plaintext: a store is asked for 1 MiB at a time at 4+2
FIRST_WINDOW_SIZE = 1024 * 1024  # the first byte leaves sooner
FAR_WINDOW_SIZE = WINDOW_SIZE  # from afar the round trip takes longer than the bytes, and is paid for each window
RESUMED_WINDOW_SIZE = 256 * 1024  # after a pause: a slow reader may pause again soon, and what was read ahead is read in vain
AT_HAND_SIZE = 1024 * 1024  # taken from memory and opened on the event loop, 0.5 ms; more is read in threads, while it does something else
AT_HAND_COLUMN_SIZE = 256 * 1024  # of that in one store
READ_AHEAD_SIZE = 512 * 1024  # after a smaller window, the next one is read only when it is asked for
SLOT_TAGS_SIZE = 1024  # more than the tags of a slot and of the cells that it crosses
SOURCE_WINDOW_SIZE = 2 * 1024 * 1024  # of a copy: no less than a stripe of 32 cells


class Window(Struct, frozen=True):
    """A run of stripes of one segment, and the plaintext start .. start+length-1 (counted in the segment) wanted of it."""

    extent: Extent
    segment: Segment
    start: int
    length: int
    offset: int = 0  # of `start` in the extent

    def split(self, size_limit: int) -> tuple[Window, Window | None]:
        """Return a window of as many bytes at most, or one stripe, but no more than a store has at hand; and what is left."""
        end = _window_end(self.extent, self.start, min(size_limit, self.extent.layout.k * AT_HAND_COLUMN_SIZE))
        length = end - self.start
        if length >= self.length:
            return self, None
        rest = Window(self.extent, self.segment, end, self.length - length, self.offset + length)
        return Window(self.extent, self.segment, self.start, length, self.offset), rest


class SlotWindow(Struct, frozen=True):
    """The plaintext start .. start+length-1 wanted of an object of `size` bytes that is one slot of a pack."""

    extent: Extent
    segment: Segment
    slot_offset: int  # in the pack
    size: int
    start: int
    length: int

    @property
    def offset(self) -> int:
        """Return where `start` is in what the version refers to, as `Window.offset`."""
        return self.start

    def split(self, size_limit: int) -> tuple[SlotWindow, None]:  # noqa: ARG002 -- its tag needs all of it
        """As `Window.split`: a slot is always whole."""
        return self, None


class Stored(NamedTuple):
    """Where a version's bytes, or a stretch of them, are: in extents, one behind the other, or in one slot of a pack."""

    extents: Sequence[Extent]
    slot: ExtentRef | None = None

    def windows(
        self, start: int, length: int, *, first_size: int = FIRST_WINDOW_SIZE, size: int = WINDOW_SIZE
    ) -> Iterator[Window | SlotWindow]:
        """Cut the plaintext start .. start+length-1 into windows, as `plan_windows` does. A slot is always one: its tag needs all of it."""
        if self.slot is None or self.slot.offset is None:
            return plan_windows(self.extents, start, length, first_size=first_size, size=size)
        if not length:
            return iter(())
        extent = self.extents[0]
        return iter((SlotWindow(extent, extent.layout.segments[0], self.slot.offset, self.slot.size, start, length),))

    @property
    def slot_memory(self) -> int:
        """Return what it takes to read the slot from k others, tags and all; 0 if this is no slot."""
        return 0 if self.slot is None or not self.extents else 3 * self.extents[0].layout.k * (self.slot.size + SLOT_TAGS_SIZE)


def slot_of(refs: Sequence[ExtentRef]) -> ExtentRef | None:
    """Return a version's use of a pack, if that is where it is: then it is its only one."""
    return refs[0] if len(refs) == 1 and refs[0].offset is not None else None


def plan_windows(
    extents: Sequence[Extent], start: int, length: int, *, first_size: int = FIRST_WINDOW_SIZE, size: int = WINDOW_SIZE
) -> Iterator[Window]:
    """Cut the plaintext start .. start+length-1 of the concatenated extents into windows, in order, each twice as long as the one before
    until they have `size`."""
    position, end, size_limit = 0, start + length, first_size
    for extent in extents:
        begin = position
        for segment in extent.layout.segments:
            low, high = max(start, position), min(end, position + segment.size)
            while low < high:
                stop = min(_window_end(extent, low - position, size_limit) + position, high)
                yield Window(extent, segment, low - position, stop - low, low - begin)
                low, size_limit = stop, min(2 * size_limit, size)
            position += segment.size


def touched_cells(geometry: SegmentGeometry, start: int, length: int) -> tuple[frozenset[int], int]:
    """Return the data columns of a window, and the bytes of each column's cells."""
    first, last = geometry.stripes_of(start, length)
    cells_size = (last - first) * CELL_SIZE + geometry.cell_size(last)
    if last - first > 1:  # a stripe between lies in all of them
        return frozenset(range(geometry.scheme.k)), cells_size
    return frozenset(column for stripe in range(first, last + 1) for column in _columns(geometry, stripe, start, length)), cells_size


def _columns(geometry: SegmentGeometry, stripe: int, start: int, length: int) -> range:
    base = stripe * geometry.scheme.stripe_size
    low = max(start - base, 0)
    high = min(start + length - base, geometry.stripe_size(stripe))
    return geometry.columns_of(stripe, low, high - low)


def source_memory(size: int) -> int:
    """Return what a copy's source holds at most in a run of `size` bytes: one window that is being written, while the next one's sealed
    cells are opened, and decoded if they must be."""
    return 4 * min(size, SOURCE_WINDOW_SIZE)


def touched_extents(extents: Sequence[ExtentRef], start: int, length: int) -> tuple[list[ExtentRef], int]:
    """Return the extents that hold the range, and its start counted in the first of them: a version of many parts has as many extents."""
    touched: list[ExtentRef] = []
    position = first = 0
    for extent in extents:
        if position < start + length and start < position + extent.size:
            first = first if touched else position
            touched.append(extent)
        position += extent.size
    return touched, start - first


def aligned_extents(extents: Sequence[ExtentRef], start: int, length: int) -> tuple[ExtentRef, ...]:
    """Return the extents that are just the range; none if it begins or ends inside one, or is in a pack: parts are extents, whole."""
    if slot_of(extents) is not None:
        return ()
    found: list[ExtentRef] = []
    position = 0
    for extent in extents:
        if start <= position and position + extent.size <= start + length:
            found.append(extent)
        position += extent.size
    return tuple(found) if sum(extent.size for extent in found) == length else ()


def _window_end(extent: Extent, start: int, size_limit: int) -> int:
    stripe = extent.layout.k * CELL_SIZE
    return (start // stripe + max(size_limit // stripe, 1)) * stripe
