"""Strays: shards that a put which failed may have left in a store that is not on record for them.

Only the first write leaves any: its names have no generation. So a shard of the segment under such a name, in a store that the segment does
not have it in, is one. It is deleted at once: no reader was ever told of it. It must only have come to rest: a put that was given up may
still be on its way, for as long as a store takes.
"""

from __future__ import annotations

from proxy.codec.format import segment_prefix, shard_name
from proxy.engine.fleet import Fleet
from proxy.engine.throttle import Throttle
from proxy.errors import StoreUnavailable
from proxy.manifest.records import Segment
from proxy.stores.protocol import ShardName

AT_REST_SECONDS = 3600.0  # far beyond the time that a store is given for a put
NAMES = 1000  # of one segment; a store that lists more makes them up


async def delete_strays(segment: Segment, fleet: Fleet, throttle: Throttle) -> int:
    """Search every store, and delete the strays; return how many requests that took. Raises `StoreError`: then it is not done."""
    first_names = {shard_name(segment.id, index): store for index, store in enumerate(segment.stores)}
    requests = 0
    for name in fleet.stores:
        found = await _listed(segment, fleet, throttle, name)
        strays = [shard for shard in found if first_names.get(shard, name) != name]
        for stray in strays:
            await throttle.take()
            await fleet[name].delete(stray)
        requests += 1 + len(strays)
    return requests


async def _listed(segment: Segment, fleet: Fleet, throttle: Throttle, store: str) -> list[ShardName]:
    await throttle.take()
    found: list[ShardName] = []
    async for name, _ in fleet[store].list(segment_prefix(segment.id)):
        found.append(name)
        if len(found) > NAMES:
            raise StoreUnavailable(store, f"lists more names of segment {segment.id.hex()} than it can have")
    return found
