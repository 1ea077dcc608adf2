"""What a step does to extents: how many versions and parts refer to each, and what becomes garbage when nobody does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from proxy.errors import ExtentMissing
from proxy.manifest.records import Extent, ExtentId, ExtentRef, GarbageSegment, Layout, Record, Segment


class CountedExtent(Record, frozen=True, kw_only=True, omit_defaults=True):
    """An extent as it is stored."""

    extent: Extent
    references: int


class ReferenceChange(Record, frozen=True, kw_only=True, omit_defaults=True):
    """Counts to write, and extents to remove."""

    counts: tuple[tuple[ExtentId, int], ...] = ()
    gone: tuple[Extent, ...] = ()  # their shards are garbage from now on


def plan_references(
    stored: Iterable[CountedExtent], *, shared: Sequence[ExtentRef] = (), released: Iterable[ExtentRef] = ()
) -> ReferenceChange:
    """Count references up and down, all of a step together: what it both shares and releases stays. ExtentMissing of one to be shared."""
    known = {counted.extent.id: counted for counted in stored}
    for ref in shared:
        if ref.id not in known:
            raise ExtentMissing(f"extent {ref.id} is gone")
    changes = Counter(ref.id for ref in shared)
    changes.subtract(ref.id for ref in released if ref.id in known)
    counts = {extent_id: known[extent_id].references + change for extent_id, change in changes.items()}
    return ReferenceChange(
        counts=tuple((extent_id, count) for extent_id, count in counts.items() if count > 0 and changes[extent_id]),
        gone=tuple(known[extent_id].extent for extent_id, count in counts.items() if count <= 0),
    )


def garbage_of(layout: Layout) -> tuple[GarbageSegment, ...]:
    """Return what is to be deleted of a layout nobody refers to."""
    return tuple(_garbage(segment) for segment in layout.segments)


def _garbage(segment: Segment) -> GarbageSegment:
    return GarbageSegment(id=segment.id, stores=segment.stores, generations=segment.generations, strays=segment.strays)
