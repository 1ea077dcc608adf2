"""Which stores are being left: each process asks the manifest every few seconds, so that it places no new shard there.

A write that has begun before may still bring a shard. So a campaign that leaves a store goes on looking until all have asked.
"""

from __future__ import annotations

from proxy.engine.placing.fleet import Fleet
from proxy.engine.workers import Progress
from proxy.manifest.protocol import Manifest

IDLE_SECONDS = 5.0  # a small part of `SETTLE_MS`


class LeavingWatch:
    """The worker that tells this process's fleet which stores are being left."""

    name = "leaving-stores"
    everywhere = True
    idle_seconds = IDLE_SECONDS

    def __init__(self, manifest: Manifest, fleet: Fleet) -> None:
        self._manifest = manifest
        self._fleet = fleet
        self._told: frozenset[str] | None = None

    async def step(self) -> Progress:
        names = await self._manifest.leaving_stores()
        self._fleet.leave(names)
        told, self._told = self._told, names
        return Progress(idle=True, done=int(names != told))  # what is news goes on record
