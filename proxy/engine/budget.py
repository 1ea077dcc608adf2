"""The byte budget: all requests of a process share it, so memory is bounded however many there are.

Large requests are served first come, first served: none is starved by others that fit more easily. Small ones do not wait behind them: an
eighth of the budget is theirs alone, and while memory is there they go first. They hold it for moments, a large upload for as long as its
client takes.
"""

from __future__ import annotations

import asyncio
from collections import deque

from proxy.errors import BudgetExhausted

SMALL_SIZE = 2 * 1024 * 1024  # a small object, or what a read holds for its first bytes


class Budget:
    """`capacity_bytes` to be held at once; a request waits at most `wait_seconds` for its share."""

    def __init__(self, capacity_bytes: int, *, wait_seconds: float) -> None:
        self.capacity_bytes = capacity_bytes
        self._free = capacity_bytes
        self._kept_for_small = capacity_bytes // 8
        self._wait_seconds = wait_seconds
        self._small: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._large: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def held_bytes(self) -> int:
        return self.capacity_bytes - self._free

    async def acquire(self, size_bytes: int) -> int:
        """Take the bytes and return how many to release: at most what one may have, so that one huge request can run alone."""
        kept = 0 if size_bytes <= SMALL_SIZE else self._kept_for_small
        size_bytes = min(size_bytes, self.capacity_bytes - kept)
        waiting = self._large if kept else self._small
        if size_bytes <= self._free - kept and not waiting:
            self._free -= size_bytes
            return size_bytes
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.append((size_bytes, turn))
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
        self._wake(self._small, kept=0)
        self._wake(self._large, kept=self._kept_for_small)

    def _wake(self, waiting: deque[tuple[int, asyncio.Future[None]]], *, kept: int) -> None:
        while waiting and (waiting[0][1].done() or waiting[0][0] <= self._free - kept):
            size, turn = waiting.popleft()
            if not turn.done():
                self._free -= size
                turn.set_result(None)

    def _give_up(self, size_bytes: int, turn: asyncio.Future[None]) -> None:
        if turn.done() and not turn.cancelled():
            self.release(size_bytes)  # granted in the same instant
        else:
            turn.cancel()
            self.release(0)
