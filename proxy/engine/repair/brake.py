"""The brake: when one store says that it has lost very much at once, repair of that waits for an operator.

The problem. A store may answer "there is no such object" to every read although it has everything: its credentials see another bucket, a
prefix was changed, two stores were swapped, the provider has an outage. Or a provider has emptied the bucket. Nobody can tell these apart
from here. Repair would read k shards for each that is missing, write all of it anew, and pay for that, perhaps for nothing.

The idea. Whatever puts a loss on record counts it for its store, in the same step of the manifest. Above a limit the store is **paused**:
what it has lost stays on record, and is rebuilt only where the segment would otherwise break its policy's promise. Whoever operates it
repairs the cause, or says that the loss is real (`shardgate stores rebuild`). In the first case nothing need be said: each shard is looked
at again within the hour, those that are there are taken back from the count, and below the limit repair goes on by itself.

The limit is the larger of a number of shards and a share of what the store should hold: a small loss costs little, and some shards that go
each day in a large store are no event. What was counted is forgotten when nothing was added for a day. So is a confirmation: until then it
holds for whatever else is found, since a scrub needs its time to find all of it.

What was missing when an object was written is not counted: the store has refused it, or was known to be down.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Literal

from proxy.clock import Clock
from proxy.engine.walking.tally import load_tally
from proxy.manifest.damage import Losses, how_many
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import ExtentId, SegmentId

logger = logging.getLogger(__name__)

WINDOW_MS = 24 * 60 * 60 * 1000
FIRST = (ExtentId(0), SegmentId(b""))
PAGE = 1000  # repairs that are made due in one step of the manifest


class Brake:
    """Decides for which stores repair waits, and keeps that in the manifest, where whoever shows it finds it."""

    def __init__(self, manifest: Manifest, clock: Clock, stores: Collection[str], *, shards: int, share: float) -> None:
        """`stores` are those that are configured: what any other had is rebuilt."""
        self._manifest = manifest
        self._clock = clock
        self._stores = stores
        self._shards = shards
        self._share = share

    async def look(self) -> frozenset[str]:
        """Put the brake on or take it off, as what was lost says; return the stores that it is on for."""
        found = await self._manifest.list_losses()
        if not found:
            return frozenset()
        tally = await load_tally(self._manifest)
        placed = {} if tally is None else tally.placed
        return frozenset([losses.store for losses in found if await self._is_on(losses, placed.get(losses.store, 0))])

    async def _is_on(self, losses: Losses, placed: int) -> bool:
        limit = max(self._shards, int(self._share * placed))
        step = decide(losses, limit=limit, configured=losses.store in self._stores, now_ms=self._clock.now_ms())
        if step == "forget":
            await self._manifest.forget_losses(losses.store)
        elif step == "pause":
            await self._manifest.set_brake(losses.store, "paused", shards=placed)
            logger.error(
                "store %s says that it has lost %s: their repair is paused; look at the store first, and if they are really gone, run: "
                "shardgate stores rebuild %s",
                losses.store, how_many(losses.found, placed), losses.store,
            )  # fmt: skip
        elif step == "go on":
            await self._manifest.set_brake(losses.store, "counting")
            logger.warning("store %s has most of its shards again: repair of the others goes on", losses.store)
        return step in {"pause", "stay paused"}


Step = Literal["count", "forget", "pause", "stay paused", "go on"]


def decide(losses: Losses, *, limit: int, configured: bool, now_ms: int) -> Step:
    """Say what to do about a store. One that is paused stays so, however old that is, until its count goes down."""
    is_much = losses.found > limit
    if not configured or (not losses.found and losses.state != "allowed"):
        return "forget"
    if losses.state == "paused":
        return "stay paused" if is_much else "go on"
    if is_much and losses.state == "counting":  # however old: nobody may have looked for days
        return "pause"
    return "count" if 0 <= now_ms - losses.last_ms < WINDOW_MS else "forget"  # also if the clock was set back


async def rebuild_lost(manifest: Manifest, store: str, *, now_ms: int) -> Losses | None:
    """An operator says that the loss is real: take the brake off, and let repair begin at once. None if it was not on."""
    losses = next((losses for losses in await manifest.list_losses() if losses.store == store and losses.state == "paused"), None)
    if losses is not None:
        await manifest.set_brake(store, "allowed", shards=losses.shards)
        after: tuple[ExtentId, SegmentId] | None = FIRST
        while after is not None:
            after = await manifest.hasten_repairs(after=after, now_ms=now_ms, limit=PAGE)
    return losses
