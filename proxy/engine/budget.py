"""The byte budget: all requests of a process share it, so memory is bounded however many there are.

First come, first served: a small request waits behind a large one rather than starving it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from proxy.errors import BudgetExhausted


class Budget:
    """`capacity_bytes` to be held at once; a request waits at most `wait_seconds` for its share."""

    def __init__(self, capacity_bytes: int, *, wait_seconds: float) -> None:
        self.capacity_bytes = capacity_bytes
        self._free = capacity_bytes
        self._wait_seconds = wait_seconds
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def held_bytes(self) -> int:
        return self.capacity_bytes - self._free

    @asynccontextmanager
    async def hold(self, size_bytes: int) -> AsyncIterator[None]:
        """Hold the bytes for the length of the context. Raises `BudgetExhausted` after the wait."""
        granted = await self.acquire(size_bytes)
        try:
            yield
        finally:
            self.release(granted)

    async def acquire(self, size_bytes: int) -> int:
        """Take the bytes and return how many to release: at most the whole budget, so that one huge request can run alone."""
        size_bytes = min(size_bytes, self.capacity_bytes)
        if size_bytes <= self._free and not self._waiting:
            self._free -= size_bytes
            return size_bytes
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size_bytes, turn))
        try:
            async with asyncio.timeout(self._wait_seconds):
                await turn
        except TimeoutError:
            self._give_up(size_bytes, turn)
            raise BudgetExhausted(f"no {size_bytes} bytes of memory came free in {self._wait_seconds} s") from None
        except asyncio.CancelledError:
            self._give_up(size_bytes, turn)
            raise
        return size_bytes

    def release(self, size_bytes: int) -> None:
        """Give bytes back and wake whoever can run now."""
        self._free += size_bytes
        while self._waiting and (self._waiting[0][1].done() or self._waiting[0][0] <= self._free):
            size, turn = self._waiting.popleft()
            if not turn.done():
                self._free -= size
                turn.set_result(None)

    def _give_up(self, size_bytes: int, turn: asyncio.Future[None]) -> None:
        if turn.done() and not turn.cancelled():
            self.release(size_bytes)  # granted in the same instant
        else:
            turn.cancel()
            self.release(0)
