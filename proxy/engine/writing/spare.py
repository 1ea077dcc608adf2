"""Spare puts: those of small shards that are stored elsewhere by now. They are let end: one that is broken off costs its connection.

With HTTP/1.1 a request that is given up takes its connection along. The next put to that store then waits for a handshake, of a round trip
or more, and is late itself: it is sent elsewhere as well, and broken off in its turn. Most of what is late ends a moment later.
"""

from __future__ import annotations

import asyncio
from functools import partial

from proxy.engine.memory.background import BACKGROUND
from proxy.engine.memory.budget import Budget
from proxy.engine.memory.grant import Grant
from proxy.engine.tasks import BackgroundTasks

SPARE_SECONDS = 1.0  # a store that has not answered by then may never: it is not worth a connection that hangs
SPARE_BYTES = 4 * 1024 * 1024  # of a process; hardly ever a tenth


class SparePuts:
    """Lets puts end that nobody waits for: for a second, if there is memory for them, and of too many the oldest are broken off."""

    def __init__(self, tasks: BackgroundTasks, budget: Budget) -> None:
        self._tasks = tasks
        self._budget = budget
        self._puts: dict[asyncio.Task[None], int] = {}

    def keep(self, put: asyncio.Task[None], size_bytes: int) -> None:
        """Own a put of so many bytes until it ends. Its write gives back the memory of all its shards before that."""
        grant = self._budget.take_at_once(size_bytes, owner=BACKGROUND)
        if grant is None:
            put.cancel()
        else:
            self._let_end(put, grant, size_bytes)
        self._tasks.start(_until_ended(put))

    def _let_end(self, put: asyncio.Task[None], grant: Grant, size_bytes: int) -> None:
        self._puts[put] = size_bytes
        timer = asyncio.get_running_loop().call_later(SPARE_SECONDS, put.cancel)
        put.add_done_callback(partial(self._ended, timer, grant))
        while sum(self._puts.values()) > SPARE_BYTES:
            oldest = next(iter(self._puts))
            del self._puts[oldest]
            oldest.cancel()

    def _ended(self, timer: asyncio.TimerHandle, grant: Grant, put: asyncio.Task[None]) -> None:
        timer.cancel()
        grant.release()
        self._puts.pop(put, None)


async def _until_ended(put: asyncio.Task[None]) -> None:
    """Wait for a put, whatever becomes of it."""
    try:
        await asyncio.gather(put, return_exceptions=True)
    finally:
        put.cancel()
