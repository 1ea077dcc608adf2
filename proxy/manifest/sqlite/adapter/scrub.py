"""What the manifest does for those who compare it with its stores."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from proxy.manifest.damage import Draw
from proxy.manifest.quarantine import Orphan, Quarantined
from proxy.manifest.records import ExtentId, Garbage, Intent, IntentId, SegmentId
from proxy.manifest.sqlite import scrub
from proxy.manifest.sqlite.adapter.runner import StepRunner


class Scrub(StepRunner):
    """See the protocol."""

    async def newest_extent(self) -> ExtentId:
        return await self._read(scrub.newest_extent)

    async def walk_intents(self, *, after: IntentId, limit: int) -> tuple[Intent, ...]:
        return await self._list(scrub.walk_intents, after, limit)

    async def walk_garbage(self, *, after: Garbage | None, limit: int) -> tuple[Garbage, ...]:
        return await self._list(scrub.walk_garbage, after, limit)

    async def walk_draws(self, *, after: Draw | None, limit: int) -> tuple[Draw, ...]:
        return await self._list(scrub.walk_draws, after, limit)

    async def lost_shards(self, *, first: ExtentId, last: ExtentId) -> frozenset[tuple[SegmentId, int]]:
        return await self._list(scrub.lost_shards, first, last)

    async def quarantine(self, orphans: Sequence[Orphan], *, pass_id: int, now_ms: int) -> None:
        await self._note(scrub.quarantine, tuple(orphans), pass_id, now_ms)

    async def condemn(self, *, pass_id: int, since_ms: int, now_ms: int, limit: int) -> tuple[Orphan, ...]:
        return await self._note(scrub.condemn, pass_id, since_ms, now_ms, limit)

    async def forget_quarantine(self, *, stores: Collection[str], pass_id: int) -> int:
        return await self._note(scrub.forget_quarantine, tuple(stores), pass_id)

    async def walk_quarantine(self, *, after: Orphan | None, limit: int) -> tuple[Quarantined, ...]:
        return await self._list(scrub.walk_quarantine, after, limit)
