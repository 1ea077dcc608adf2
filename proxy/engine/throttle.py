"""The throttle: background work makes no more than so many requests of stores a second, so that clients hardly notice it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

BURST_SECONDS = 0.1  # what was not used this long ago may be made up for; more would be felt as a burst


class Throttle:
    """Spreads requests evenly. All background work of a process shares one, and is served in the order it asks."""

    def __init__(
        self,
        requests_per_second: float,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._interval = 1 / requests_per_second
        self._now = now
        self._sleep = sleep
        self._next = now()

    async def take(self) -> None:
        """Wait until the next request may be made."""
        now = self._now()
        turn = max(self._next, now - BURST_SECONDS)
        self._next = turn + self._interval
        if turn > now:
            await self._sleep(turn - now)
