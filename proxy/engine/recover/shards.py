"""All stored segments against the listings: shards that are elsewhere are found, and those that are nowhere go on record as missing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from msgspec.structs import replace

from proxy.clock import Clock
from proxy.engine.recover.lost import tell_lost
from proxy.engine.recover.notes import Notes, Tell
from proxy.engine.recover.placing import find_shards
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Extent, ExtentId, SegmentId
from proxy.manifest.recovery import Sighting
from proxy.manifest.sqlite.notebook import Notebook

BATCH = 500


async def check_shards(
    manifest: Manifest, notes: Notes, clock: Clock, tell: Tell, *, silent: Collection[str], configured: Collection[str]
) -> int:
    """Correct every extent by what the stores list; return how many shards are missing. May be done twice."""
    after, seen, missing = ExtentId(0), 0, 0
    lost: dict[ExtentId, str] = {}
    while extents := await manifest.walk_extents(after=after, limit=BATCH):
        after = extents[-1].id
        listed = await notes.run(Notebook.sightings, [segment.id for extent in extents for segment in extent.layout.segments])
        found = [_found(extent, listed, silent, configured) for extent in extents]
        changed = [now for before, now in zip(extents, found, strict=True) if before != now]
        await manifest.correct_extents(changed, now_ms=clock.now_ms())
        lost |= {extent.id: why for extent in found if (why := _why_lost(extent))}
        missing += sum(len(segment.missing) for extent in found for segment in extent.layout.segments)
        seen += len(extents)
        tell("shards", seen, None)
    if lost:
        await tell_lost(manifest, notes, lost)
    return missing


def _found(extent: Extent, listed: Mapping[SegmentId, Sequence[Sighting]], silent: Collection[str], configured: Collection[str]) -> Extent:
    layout = extent.layout
    segments = tuple(find_shards(segment, listed[segment.id], silent, configured) for segment in layout.segments)
    return replace(extent, layout=replace(layout, segments=segments))


def _why_lost(extent: Extent) -> str:
    """Return which segment of an extent cannot be read any more, or ""."""
    for segment in extent.layout.segments:
        left = len(segment.stores) - len(segment.missing)
        if left < extent.layout.k:
            return f"segment {segment.id.hex()} has {left} shards of the {extent.layout.k} needed"
    return ""
