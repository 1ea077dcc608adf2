"""The small shards of one segment, put to several stores by one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from proxy.stores.convoy import Ride
from proxy.stores.observe import ObservedStore
from proxy.stores.protocol import ShardName

Body = Sequence[bytes | memoryview]


async def put_together(stores: Sequence[ObservedStore], names: Sequence[ShardName], shards: Sequence[Body]) -> Mapping[int, float | None]:
    """Put each shard to its store, where all are in one convoy and keep pace; else none. Return in how many seconds each was stored.

    None stands for one that is still to be put. Whatever went wrong with it will go wrong again, and then be told; but it may be stored all
    the same.
    """
    size_bytes = sum(map(len, shards[0]))  # of each
    rides = _board(stores, names, shards, size_bytes)
    goes = len(rides) == len(stores) and not rides[0].convoy.rests
    made: Sequence[float | None] = [None] * len(rides)
    try:
        if goes:
            made = await rides[0].convoy.make_all(rides)
    finally:
        for store, ride, seconds in zip(stores, rides, made, strict=False):
            store.alight(ride, size_bytes, seconds)
    return dict(enumerate(made)) if goes else {}


def _board(stores: Sequence[ObservedStore], names: Sequence[ShardName], shards: Sequence[Body], size_bytes: int) -> list[Ride]:
    """Return a ride for each shard; fewer if not all go in a convoy."""
    rides: list[Ride] = []
    for store, name, shard in zip(stores, names, shards, strict=True):
        ride = store.board(name, shard, size_bytes)
        if ride is None:
            break
        rides.append(ride)
    return rides
