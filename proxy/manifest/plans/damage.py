"""What a step does to damage, and to the shards of a segment that moves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from proxy.codec.format import shard_name
from proxy.manifest.damage import LOSSES, WHOLE_SEGMENT, Damage, Leftover
from proxy.manifest.records import ExtentId, Layout, Segment, SegmentId

ARRIVES_WITHIN_MS = 2 * 60 * 1000  # a shard that is late at a commit mostly arrives by itself
LONGEST_WAIT_MS = 24 * 60 * 60 * 1000  # no repair is put off for longer; a time farther ahead is of a clock that was set back since
LONGEST_DRAW_MS = 60 * 60 * 1000  # no move is leased for longer; a time farther ahead is of a clock that was set back since
TRUSTED = 4  # times that a shard is put anew without a wait
FIRST_WAIT_MS = 60 * 1000
SPOILT_WAIT_MS = 60 * 60 * 1000
DRAW_KEPT_MS = 24 * 60 * 60 * 1000  # a put of a process that was suspended may come as late


def find_segment(layout: Layout, segment_id: SegmentId) -> Segment | None:
    return next((segment for segment in layout.segments if segment.id == segment_id), None)


def with_segment(layout: Layout, changed: Segment) -> Layout:
    """Return the layout with one segment changed."""
    return replace(layout, segments=tuple(changed if segment.id == changed.id else segment for segment in layout.segments))


def generation_of(segment: Segment, index: int) -> int:
    return segment.generations[index] if segment.generations else 0


def damage_at_commit(extent_id: ExtentId, layout: Layout) -> tuple[Damage, ...]:
    """Return what is known to be wrong with an extent when it is written, or found by a recovery."""
    found = [
        Damage(
            extent_id=extent_id,
            segment_id=segment.id,
            shard_index=index,
            kind="missing",
            store=segment.stores[index],
            generation=generation_of(segment, index),
        )
        for segment in layout.segments
        for index in segment.missing
    ]
    found += [
        Damage(extent_id=extent_id, segment_id=segment.id, shard_index=WHOLE_SEGMENT, kind="stray", store="")
        for segment in layout.segments
        if segment.strays
    ]
    return tuple(found)


def is_current(segment: Segment, damage: Damage) -> bool:
    """Tell whether a report is of the segment as it is: its shards may have been put anew since somebody looked."""
    index = damage.shard_index
    if index == WHOLE_SEGMENT:
        return True
    return 0 <= index < len(segment.stores) and (segment.stores[index], generation_of(segment, index)) == (damage.store, damage.generation)


def outweighs(new: Damage, known: Damage | None) -> bool:
    """Tell whether a report takes the place of what is on record of the same shard."""
    if known is None or (new.store, new.generation) != (known.store, known.generation):
        return True
    return new.kind in LOSSES and known.kind not in LOSSES


def redundancy(layout: Layout, damage: Iterable[Damage]) -> int:
    """Return how many more shards may be lost before a segment with this damage cannot be read."""
    lost = {found.shard_index for found in damage if found.kind in LOSSES}
    return layout.m - len(lost)


def waits_ms(damage: Damage, level: int) -> int:
    """Return how long a repair waits for its turn: a store that spoils whatever it gets must not be given the same again and again.

    That is of a shard that was put anew many times and is lost once more. What could lose no other shard does not wait.
    """
    over = damage.generation - TRUSTED
    if over < 0 or level <= 0 or damage.kind not in LOSSES:
        return 0
    return min(FIRST_WAIT_MS << min(over, 16), SPOILT_WAIT_MS)


def changed_shards(before: Segment, after: Segment) -> tuple[int, ...]:
    """Return the indexes whose shards are other ones, or no longer missing: what was wrong with them is not any more."""
    return tuple(
        index
        for index in range(len(after.stores))
        if (before.stores[index], generation_of(before, index)) != (after.stores[index], generation_of(after, index))
        or (index in before.missing and index not in after.missing)
    )


def without_missing(segment: Segment, indexes: Iterable[int]) -> Segment:
    gone = set(indexes)
    return replace(segment, missing=tuple(index for index in segment.missing if index not in gone))


def without_strays(segment: Segment) -> Segment:
    return replace(segment, strays=False)


def moved(segment: Segment, targets: Mapping[int, str], generation: int) -> Segment:
    """Return the segment with some shards in other stores, or put anew in the same."""
    generations = segment.generations or (0,) * len(segment.stores)
    return replace(
        without_missing(segment, targets),
        stores=tuple(targets.get(index, store) for index, store in enumerate(segment.stores)),
        generations=tuple(generation if index in targets else before for index, before in enumerate(generations)),
    )


def left_behind(segment: Segment, indexes: Iterable[int]) -> tuple[Leftover, ...]:
    """Return the shards that a move of these indexes leaves where they are."""
    return tuple(Leftover(shard_index=index, store=segment.stores[index], name=segment.shard_name(index)) for index in sorted(indexes))


def drawn_shards(segment_id: SegmentId, targets: Mapping[int, str], generation: int) -> tuple[Leftover, ...]:
    """Return what may have been put under a draw."""
    return tuple(
        Leftover(shard_index=index, store=store, name=shard_name(segment_id, index, generation)) for index, store in sorted(targets.items())
    )


def unless_used(segment: Segment | None, shards: Iterable[Leftover]) -> tuple[Leftover, ...]:
    """Return those of the shards that a segment, if there is one, does not point to."""
    if segment is None:
        return tuple(shards)
    used = {(store, segment.shard_name(index)) for index, store in enumerate(segment.stores)}
    return tuple(shard for shard in shards if (shard.store, shard.name) not in used)
