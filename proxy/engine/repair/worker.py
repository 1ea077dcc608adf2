"""The worker that repairs segments: those that can lose least first.

The queue is in the manifest, one row a segment with damage, so it survives everything, and whoever takes a turn goes on where another
stopped. Nothing is believed without a look: a shard that was reported may be well by now, or may always have been. What is wrong is made
good by a `ShardMover`, and with that the row goes.

What does not work out is tried again later, and later each time, and stays in the queue. So does a segment that has fewer than k good
shards: it is lost, as far as is known today, and told of; but a store may come back, and nothing of it is ever deleted.

A store that is only down should not cost a copy of all that it missed. While a segment keeps its promises without the shard, and the store
is one that the policy still uses, the shard waits for that store for an hour. A store that says that it has lost very much at once is
believed only by an operator: see `proxy.engine.repair.brake`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from proxy.clock import Clock
from proxy.engine.repair.brake import Brake
from proxy.engine.repair.segment import Outcome, SegmentRepair, Trouble
from proxy.engine.workers import Progress
from proxy.manifest.damage import Repair
from proxy.manifest.protocol import Manifest

BATCH = 16  # rows of the queue: what becomes more urgent meanwhile waits for these
AT_ONCE = 2  # segments: one is read while the other is put
STEP_SECONDS = 15.0
IDLE_SECONDS = 10.0
COUNTED = 10_000  # of what remains

_WORDS: dict[Trouble, str] = {
    "lost": "cannot be read: fewer than k good shards are left",
    "no place": "wait for a place: no store that the policy allows can take their shards now",
    "no policy": "are under a policy that is not configured any more",
    "strays": "may have a shard in a store that does not answer, or is not configured any more",
    "held": "wait for an operator: their store says that it lost too much at once (see shardgate status)",
    "failed": "could not be repaired, and are tried again later",
}


class Repairer:
    """Takes segments from the queue and repairs them."""

    name = "repair"
    everywhere = False
    idle_seconds = IDLE_SECONDS

    def __init__(self, manifest: Manifest, clock: Clock, repair: SegmentRepair, brake: Brake) -> None:
        self._manifest = manifest
        self._clock = clock
        self._repair = repair
        self._brake = brake

    async def step(self) -> Progress:
        """Repair the most urgent segments, for a bounded time."""
        braked = await self._brake.look()
        rows = await self._manifest.due_repairs(now_ms=self._clock.now_ms(), limit=BATCH)
        if rows:
            await self._manifest.revoke_expired_draws(now_ms=self._clock.now_ms())
        until = self._clock.monotonic() + STEP_SECONDS
        gate = asyncio.Semaphore(AT_ONCE)
        outcomes: list[Outcome] = []

        async def one(row: Repair) -> None:
            async with gate:
                if self._clock.monotonic() <= until:
                    outcomes.append(await self._one(row, braked))

        asked_before = self._repair.inspector.requests
        failures = [failure for failure in await asyncio.gather(*map(one, rows), return_exceptions=True) if failure is not None]
        if failures:
            raise failures[0]
        asked = self._repair.inspector.requests - asked_before
        left = (await self._manifest.count_damage(limit=COUNTED)).by_redundancy
        return Progress(
            idle=not rows,
            done=sum(outcome.done for outcome in outcomes),
            remaining=sum(left.values()),
            requests=asked + sum(outcome.requests for outcome in outcomes),
            size_bytes=sum(outcome.size_bytes for outcome in outcomes),
            trouble=_trouble(outcomes),
        )

    async def _one(self, row: Repair, braked: frozenset[str]) -> Outcome:
        outcome = await self._repair.run(row, braked=braked)
        if outcome.again_seconds is not None:
            due_ms = self._clock.now_ms() + int(outcome.again_seconds * 1000)
            await self._manifest.put_off_repair(row, due_ms=due_ms)
        return outcome


def _trouble(outcomes: Iterable[Outcome]) -> str:
    """Say how many segments are in trouble, and of each kind the first."""
    details: dict[Trouble, list[str]] = {}
    for outcome in outcomes:
        if outcome.trouble is not None:
            details.setdefault(outcome.trouble, []).append(outcome.detail)
    return "; ".join(f"{len(found)} segments {_WORDS[kind]} (first: {found[0]})" for kind, found in details.items())
