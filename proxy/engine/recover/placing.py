"""Where the shards of a segment are, from what stores list. Decided purely.

A store that did not answer may hold the shards that no other lists. They are recorded there as missing: repair makes them anew, and what
that store has when it is back is not counted on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

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
        strays=any(len(copies) > 1 for copies in seen.values()) or bool(missing and len(silent) > 1),
    )


def _homes(missing: Iterable[int], taken: set[str], silent: Collection[str], stores: Sequence[str]) -> dict[int, str]:
    """Return a store for each shard that nobody lists: first those that did not answer, then those that hold nothing, then any."""
    free = [store for store in stores if store not in taken]
    order = sorted(free, key=lambda store: store not in silent) or list(stores)
    return {index: order[place % len(order)] for place, index in enumerate(missing)}
