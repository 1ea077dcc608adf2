"""All stored segments against the listings: shards that are elsewhere are found, and those that are nowhere go on record as missing.

What is queued for deletion is none of them, however good it looks: it will not be there for long. What a move has put that the journal
knows as begun, and no segment points to now, is deleted as after a crash: now, and a day later once more, for a put may still be on its
way to its store. Until then its place counts as taken.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence

from msgspec.structs import replace

from proxy.clock import Clock
from proxy.codec.format import parse_shard_name
from proxy.engine.recover.lost import tell_lost
from proxy.engine.recover.notes import Notes, Tell
from proxy.engine.recover.placing import find_shards, not_used
from proxy.manifest.damage import Draw
from proxy.manifest.journal import Key
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Extent, ExtentId, SegmentId
from proxy.manifest.recovery import Sighting
from proxy.manifest.sqlite.notebook import Notebook

BATCH = 500
Begun = dict[SegmentId, Draw]  # moves that the journal knows as begun: one of a segment, and few at any time


async def check_shards(
    manifest: Manifest, notes: Notes, clock: Clock, tell: Tell, *, silent: Collection[str], configured: Collection[str]
) -> int:
    """Correct every extent by what the stores list; return how many shards are missing. May be done twice."""
    begun = await _leave_out_doomed(manifest, notes)
    after, seen, missing = ExtentId(0), 0, 0
    lost: dict[ExtentId, str] = {}
    while extents := await manifest.walk_extents(after=after, limit=BATCH):
        after = extents[-1].id
        listed = await notes.run(Notebook.sightings, [segment.id for extent in extents for segment in extent.layout.segments])
        found = [_found(extent, listed, silent, configured, begun) for extent in extents]
        changed = [now for before, now in zip(extents, found, strict=True) if before != now]
        await manifest.correct_extents(changed, now_ms=clock.now_ms())
        begun |= _without_used(begun, found)
        lost |= {extent.id: why for extent in found if (why := _why_lost(extent))}
        missing += sum(len(segment.missing) for extent in found for segment in extent.layout.segments)
        seen += len(extents)
        tell("shards", seen, None)
    await manifest.revoke_draws(tuple(begun.values()), now_ms=clock.now_ms())
    if lost:
        await tell_lost(manifest, notes, lost)
    return missing


async def _leave_out_doomed(manifest: Manifest, notes: Notes) -> Begun:
    """Forget the sightings of what is to be deleted; return the moves that may still have come to their end."""
    begun: Begun = {}
    async for draws in _draws(manifest):
        await _forget(notes, (shard for draw in draws if draw.revoked for shard in draw.shards))
        begun |= {draw.segment_id: draw for draw in draws if not draw.revoked}
    position: Key = ()
    while rows := await manifest.rows_of("garbage", after=position, limit=10 * BATCH):
        position = rows[-1].key
        await _forget(notes, ((str(store), str(name)) for store, _, name in (row.key for row in rows)))
    return begun


async def _draws(manifest: Manifest) -> AsyncIterator[Sequence[Draw]]:
    after: Draw | None = None
    while draws := await manifest.walk_draws(after=after, limit=BATCH):
        after = draws[-1]
        yield draws


async def _forget(notes: Notes, shards: Iterable[tuple[str, str]]) -> None:
    places = ((store, parse_shard_name(name)) for store, name in shards)  # a search has no name of a shard
    doomed = [(SegmentId(at.segment_id), at.shard_index, at.generation, store) for store, at in places if at is not None]
    await notes.run(Notebook.forget_sightings, doomed)


def _found(
    extent: Extent, listed: Mapping[SegmentId, Sequence[Sighting]], silent: Collection[str], configured: Collection[str], begun: Begun
) -> Extent:
    layout = extent.layout
    segments = tuple(find_shards(segment, listed[segment.id], silent, configured, begun.get(segment.id)) for segment in layout.segments)
    return replace(extent, layout=replace(layout, segments=segments))


def _without_used(begun: Begun, extents: Iterable[Extent]) -> Begun:
    segments = (segment for extent in extents for segment in extent.layout.segments)
    return {segment.id: not_used(begun[segment.id], segment) for segment in segments if segment.id in begun}


def _why_lost(extent: Extent) -> str:
    """Return which segment of an extent cannot be read any more, or ""."""
    for segment in extent.layout.segments:
        left = len(segment.stores) - len(segment.missing)
        if left < extent.layout.k:
            return f"segment {segment.id.hex()} has {left} shards of the {extent.layout.k} needed"
    return ""
