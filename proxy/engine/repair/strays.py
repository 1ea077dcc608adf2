"""Strays: shards of a segment that lie where no record has them.

A put that failed may have left one, in the store that was tried before the detour; a recovery may have found several of one index. Whatever
bears a name of the segment in a store that it does not point to for that name is dead, and is deleted at once: no reader is told of it. Two
things are not strays. What is drawn after this look began has a higher generation than any before, and is left alone. And a put that was
given up may still be on its way: so this waits until it must have come to rest.
"""

from __future__ import annotations

from proxy.codec.format import parse_shard_name, segment_prefix
from proxy.engine.placing.fleet import Fleet
from proxy.engine.throttle import Throttle
from proxy.errors import StoreUnavailable
from proxy.manifest.records import Segment
from proxy.stores.protocol import ShardName

AT_REST_SECONDS = 3600.0  # far beyond the time that a store is given for a put
NAMES = 1000  # of one segment; a store that lists more makes them up


async def delete_strays(segment: Segment, fleet: Fleet, throttle: Throttle) -> int:
    """Search every store, and delete the strays; return how many requests that took. Raises `StoreError`: then it is not done.

    No move of the segment may have been under way when it was read.
    """
    on_record = {(store, segment.shard_name(index)) for index, store in enumerate(segment.stores)}
    requests = 0
    for store in fleet.stores:
        found = await _listed(segment, fleet, throttle, store)
        strays = [name for name in found if (store, name) not in on_record and _is_settled(segment, name)]
        for stray in strays:
            await throttle.take()
            await fleet[store].delete(stray)
        requests += 1 + len(strays)
    return requests


def _is_settled(segment: Segment, name: str) -> bool:
    """Tell whether whoever drew a name has used it or given it up: by now a record would have it."""
    place = parse_shard_name(name)
    return place is not None and place.generation <= segment.drawn


async def _listed(segment: Segment, fleet: Fleet, throttle: Throttle, store: str) -> list[ShardName]:
    await throttle.take()
    found: list[ShardName] = []
    async for name, _ in fleet[store].list(segment_prefix(segment.id)):
        found.append(name)
        if len(found) > NAMES:
            raise StoreUnavailable(store, f"lists more names of segment {segment.id.hex()} than it can have")
    return found
