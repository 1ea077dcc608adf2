"""The memory of background work: a part of the budget that requests share.

All workers of a process together hold no more than that part, so that however much there is to do, most of the memory is left to clients.
They take it from the same budget: while nobody works in the background, clients may use all of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from proxy.engine.memory.budget import Budget

PART = 8  # one eighth: the data shards of a segment of 16 MiB fit into that of the default budget
BACKGROUND = "(background)"  # who holds it, where the budget compares tenants: no tenant's id looks like this


class BackgroundMemory:
    """What workers hold of a budget. Whoever finds the part used up waits for as long as a request would."""

    def __init__(self, budget: Budget, *, wait_seconds: float) -> None:
        self._budget = budget
        self._part = Budget(budget.capacity_bytes // PART, wait_seconds=wait_seconds)

    @asynccontextmanager
    async def held(self, size_bytes: int) -> AsyncIterator[int]:
        """Hold memory within the block; yields how many bytes, which may be fewer than were asked for. Raises `BudgetExhausted`."""
        place = await self._part.acquire(size_bytes, owner=BACKGROUND)
        try:
            grant = await self._budget.acquire(place.size_bytes, owner=BACKGROUND)
            try:
                yield grant.size_bytes
            finally:
                grant.release()
        finally:
            place.release()
