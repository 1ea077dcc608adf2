"""The byte budget: all requests of a process share it, so memory is bounded however many there are.

The problem. Large requests hold their memory as long as their client takes, small ones for moments. In one queue the small wait behind the
large for nothing; in two, whichever goes first can starve the other.

The idea. Large requests are served in the order they came: none is starved by others that fit more easily. An eighth of the budget is
never theirs, so small ones always run. Small ones may use all that is free, and pass the large ones that wait, for a second; once the
first of these has waited longer, the small ones together are kept to their eighth until it is served.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

from proxy.errors import BudgetExhausted

SMALL_SIZE = 3 * 1024 * 1024  # a small object, or what a read takes for its first bytes, decoded if they must be
PATIENCE_SECONDS = 1.0  # many times what a small request holds its memory for


class Grant:
    """Bytes that are held until they are given back, in parts or at once. It may be less than was asked for."""

    __slots__ = ("_budget", "is_small", "size_bytes")

    def __init__(self, budget: Budget, size_bytes: int, *, is_small: bool) -> None:
        self._budget = budget
        self.size_bytes = size_bytes
        self.is_small = is_small

    def release(self, size_bytes: int | None = None) -> None:
        """Give back as many bytes, or all that are left. What was given back already is not given back again."""
        released = self.size_bytes if size_bytes is None else min(size_bytes, self.size_bytes)
        self.size_bytes -= released
        self._budget.take_back(released, is_small=self.is_small)

    def keep(self, size_bytes: int) -> None:
        """Give back what is beyond as many bytes."""
        self.release(max(self.size_bytes - size_bytes, 0))


class _Waiting(NamedTuple):
    grant: Grant
    turn: asyncio.Future[None]
    since: float


class Budget:
    """`capacity_bytes` to be held at once; a request waits at most `wait_seconds` for its share.

    A large request is passed by small ones for `patience_seconds`.
    """

    def __init__(self, capacity_bytes: int, *, wait_seconds: float, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self.capacity_bytes = capacity_bytes
        self._free = capacity_bytes
        self._kept_for_small = max(capacity_bytes // 8, min(SMALL_SIZE, capacity_bytes // 2))  # one of them fits into the smallest budget
        self._held_by_small = 0
        self._wait_seconds = wait_seconds
        self._patience_seconds = patience_seconds
        self._small: deque[_Waiting] = deque()
        self._large: deque[_Waiting] = deque()

    @property
    def held_bytes(self) -> int:
        return self.capacity_bytes - self._free

    @property
    def largest_bytes(self) -> int:
        """The most that one request is granted."""
        return self.capacity_bytes - self._kept_for_small

    async def acquire(self, size_bytes: int) -> Grant:
        """Hold the bytes, or as many as one request may have, so that a huge one can run alone. Raises `BudgetExhausted`."""
        most = self.largest_bytes
        is_small = min(size_bytes, most) <= SMALL_SIZE
        grant = Grant(self, min(size_bytes, self._kept_for_small if is_small else most), is_small=is_small)
        waiting = self._small if is_small else self._large
        if not grant.size_bytes or (not waiting and self._fits(grant)):
            self._take(grant)
        else:
            await self._wait(grant, waiting)
        return grant

    def take_back(self, size_bytes: int, *, is_small: bool) -> None:
        """Free bytes of a grant, which is who calls this, and serve whoever can run now."""
        self._free += size_bytes
        self._held_by_small -= size_bytes if is_small else 0
        self._serve()

    async def _wait(self, grant: Grant, waiting: deque[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        waiting.append(_Waiting(grant, turn, loop.time()))
        try:
            async with asyncio.timeout(self._wait_seconds):
                await turn
        except TimeoutError:
            self._give_up(grant, turn)
            raise BudgetExhausted(f"no {grant.size_bytes} bytes of memory came free in {self._wait_seconds} s") from None
        except asyncio.CancelledError:
            self._give_up(grant, turn)
            raise

    def _give_up(self, grant: Grant, turn: asyncio.Future[None]) -> None:
        if turn.done() and not turn.cancelled():
            self.take_back(grant.size_bytes, is_small=grant.is_small)  # granted in the same instant
        else:
            turn.cancel()
            self._serve()

    def _serve(self) -> None:
        while self._serve_first(self._small) or self._serve_first(self._large):
            pass

    def _serve_first(self, waiting: deque[_Waiting]) -> bool:
        while waiting and waiting[0].turn.done():
            waiting.popleft()
        if not waiting or not self._fits(waiting[0].grant):
            return False
        first = waiting.popleft()
        self._take(first.grant)
        first.turn.set_result(None)
        return True

    def _fits(self, grant: Grant) -> bool:
        left_to_small = max(self._kept_for_small - self._held_by_small, 0)
        if not grant.is_small:
            return grant.size_bytes <= self._free - left_to_small
        return grant.size_bytes <= (min(self._free, left_to_small) if self._is_overdue() else self._free)

    def _is_overdue(self) -> bool:
        """Return whether the first of the large requests has been passed for long enough."""
        first = next((waiting for waiting in self._large if not waiting.turn.done()), None)
        return first is not None and asyncio.get_running_loop().time() - first.since >= self._patience_seconds

    def _take(self, grant: Grant) -> None:
        self._free -= grant.size_bytes
        self._held_by_small += grant.size_bytes if grant.is_small else 0
