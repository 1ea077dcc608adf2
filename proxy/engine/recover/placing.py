"""Where the shards of a segment are, from what stores list. Decided purely.

A store that did not answer may hold the shards that no other lists. They are recorded there as missing: repair makes them anew, and what
that store has when it is back is not counted on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

from msgspec.structs import replace

from proxy.manifest.damage import Draw
from proxy.manifest.plans.damage import generation_of
from proxy.manifest.records import Segment, SegmentId
from proxy.manifest.recovery import Sighting


def place_shards(
    segment_id: SegmentId,
    *,
    size: int,
    shard_count: int,
    shard_size: int,
    sightings: Iterable[Sighting],
    silent: Collection[str],
    stores: Sequence[str],
) -> Segment:
    """Return a segment of `shard_count` shards, each of `shard_size` bytes in its store.

    `silent` are stores that did not answer; `stores` are those of its policy, which a shard that nobody lists was sent to one of.
    """
    seen = defaultdict(list)
    for sighting in sightings:
        if sighting.shard_index < shard_count and sighting.size_bytes == shard_size:
            seen[sighting.shard_index].append(sighting)
    newest = {index: max(copies, key=lambda copy: (copy.generation, copy.store)) for index, copies in seen.items()}
    missing = [index for index in range(shard_count) if index not in newest]
    homes = _homes(missing, {copy.store for copy in newest.values()}, silent, stores)
    generations = tuple(newest[index].generation if index in newest else 0 for index in range(shard_count))
    return Segment(
        id=segment_id,
        size=size,
        stores=tuple(newest[index].store if index in newest else homes[index] for index in range(shard_count)),
        generations=generations if any(generations) else (),
        missing=tuple(missing),
        drawn=max((sighting.generation for copies in seen.values() for sighting in copies), default=0),
        strays=any(len(copies) > 1 for copies in seen.values()) or bool(missing and len(silent) > 1),
    )


def find_shards(
    segment: Segment, sightings: Iterable[Sighting], silent: Collection[str], configured: Collection[str], begun: Draw | None = None
) -> Segment:
    """Return a segment that the journal tells of with its shards where they are now: one may have moved after the journal's end.

    What a silent store should hold is left as it is. A shard that its store does not list is where its newest generation is, if that is a
    newer one, or is missing. A store that is not configured any more may have another name now, and a shard of it is where it is listed.
    No sighting may be of what is to be deleted. `begun` is the move that the journal knows as begun: what it has put is no stray.
    """
    seen = defaultdict(set)
    drawn = segment.drawn
    for sighting in sightings:
        seen[sighting.shard_index].add((sighting.generation, sighting.store))
        drawn = max(drawn, sighting.generation)
    count = len(segment.stores)
    places = [(segment.generations[index] if segment.generations else 0, segment.stores[index]) for index in range(count)]
    missing = set(segment.missing)
    for index, place in enumerate(places):
        if place in seen[index]:
            missing.discard(index)
        elif place[1] not in silent:
            oldest = place[0] + (place[1] in configured)  # older ones are to be deleted
            newer = [found for found in seen[index] if found[0] >= oldest]
            places[index] = max(newer, default=place)
            (missing.discard if newer else missing.add)(index)
    generations = tuple(generation for generation, _ in places)
    # Put by a move that the journal does not know, not even as begun: until it is deleted, its store's hands hold one more.
    known = {} if begun is None else {index: (begun.generation, store) for index, store in begun.targets.items()}
    unknown = any(found[0] > places[index][0] and found != known.get(index) for index in range(count) for found in seen[index])
    return replace(
        segment,
        stores=tuple(store for _, store in places),
        generations=generations if any(generations) else (),
        missing=tuple(sorted(missing)),
        drawn=drawn,
        strays=segment.strays or unknown,
    )


def not_used(draw: Draw, segment: Segment) -> Draw:
    """Return the draw without those targets that the segment points to."""
    used = {(index, store) for index, store in enumerate(segment.stores) if generation_of(segment, index) == draw.generation}
    return replace(draw, targets={index: store for index, store in draw.targets.items() if (index, store) not in used})


def _homes(missing: Iterable[int], taken: set[str], silent: Collection[str], stores: Sequence[str]) -> dict[int, str]:
    """Return a store for each shard that nobody lists: first those that did not answer, then those that hold nothing, then any."""
    free = [store for store in stores if store not in taken]
    order = sorted(free, key=lambda store: store not in silent) or list(stores)
    return {index: order[place % len(order)] for place, index in enumerate(missing)}
