"""What the manifest promises to those who compare it with its stores."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from proxy.manifest.damage import Draw
from proxy.manifest.quarantine import Orphan, Quarantined
from proxy.manifest.records import ExtentId, Garbage, Intent, IntentId, SegmentId


class Scrub(Protocol):
    """See `Manifest`. Pages are in order of their keys: what was there before the first page was asked for, and still is, is in one."""

    async def newest_extent(self) -> ExtentId: ...  # no extent that is there now has a higher id; 0 if none was ever made
    async def walk_intents(self, *, after: IntentId, limit: int) -> tuple[Intent, ...]: ...

    """All leases, each with the ids that are not settled: those of workers, and those revoked within the last day."""

    async def walk_garbage(self, *, after: Garbage | None, limit: int) -> tuple[Garbage, ...]: ...

    async def walk_draws(self, *, after: Draw | None, limit: int) -> tuple[Draw, ...]: ...  # of moves under way, or revoked within a day
    async def lost_shards(self, *, first: ExtentId, last: ExtentId) -> frozenset[tuple[SegmentId, int]]: ...

    """Shards of these extents, by segment and index, that are on record as damaged in a way that no read can count on them."""

    # Orphans: see `proxy.engine.scrub.orphans`
    async def quarantine(self, orphans: Sequence[Orphan], *, pass_id: int, now_ms: int) -> None: ...

    """Put orphans on record, or note that this pass has seen them again."""

    async def condemn(self, *, pass_id: int, since_ms: int, now_ms: int, limit: int) -> tuple[Orphan, ...]: ...

    """Queue as garbage what this pass has seen, another has found, and was on record at `since_ms` already; return what was queued."""

    async def forget_quarantine(self, *, stores: Collection[str], pass_id: int) -> int: ...

    """Take off the record what this pass, which has listed these stores to their end, has not seen there; return how many."""

    async def walk_quarantine(self, *, after: Orphan | None, limit: int) -> tuple[Quarantined, ...]: ...
