"""The throttle: background work makes no more than so many requests of stores a second, and moves no more than so many bytes, so that
clients hardly notice it.

All workers of a process use one pace. Each has a share of its own, and of those that wait the one goes next that has had least, counted in
the time that its requests and bytes took. So one that asks a hundred times at once does not keep another waiting for a hundred turns.
While clients wait for memory, nobody goes, but not for long: a repair that never went on would be the greater harm.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

BURST_SECONDS = 0.1  # what was not used this long ago may be made up for; more would be felt as a burst
YIELD_SECONDS = 0.05  # how soon it is looked again whether clients still wait
LONGEST_YIELD_SECONDS = 2.0  # after which one goes all the same


class Timer(Protocol):
    """Calls back after some seconds."""

    def __call__(self, seconds: float, callback: Callable[[], None], /) -> object: ...


def _call_later(seconds: float, callback: Callable[[], None]) -> object:
    return asyncio.get_running_loop().call_later(seconds, callback)


def _nobody_waits() -> bool:
    return False


class Throttle:
    """One worker's share of a pace. The first makes the pace; `share` gives the others theirs."""

    def __init__(
        self,
        requests_per_second: float,
        bytes_per_second: float = math.inf,
        *,
        clients_wait: Callable[[], bool] = _nobody_waits,
        now: Callable[[], float] = time.monotonic,
        later: Timer = _call_later,
    ) -> None:
        self._pace = _Pace(1 / requests_per_second, 1 / bytes_per_second, clients_wait, now, later)
        self._share = _Share()

    def share(self) -> Throttle:
        """Return a share of the same pace for another worker."""
        other = object.__new__(Throttle)
        other._pace, other._share = self._pace, _Share()
        return other

    async def take(self, size_bytes: int = 0, *, requests: int = 1) -> None:
        """Wait until the next request, or several at once, may be made; `size_bytes` is what they move together."""
        await self._pace.wait_for_turn(self._share, _Turn(requests, size_bytes))


class _Turn(NamedTuple):
    """What is done in one turn."""

    requests: int
    size_bytes: int


class _Share:
    """The requests of one worker that wait, and the seconds of the pace that it has had."""

    __slots__ = ("used", "waiting")

    def __init__(self) -> None:
        self.used = 0.0
        self.waiting: deque[tuple[asyncio.Future[None], _Turn]] = deque()


class _Pace:
    """When the next request may be made, and whose it is."""

    def __init__(
        self,
        seconds_a_request: float,
        seconds_a_byte: float,
        clients_wait: Callable[[], bool],
        now: Callable[[], float],
        later: Timer,
    ) -> None:
        self._seconds_a_request = seconds_a_request
        self._seconds_a_byte = seconds_a_byte
        self._clients_wait = clients_wait
        self._now = now
        self._later = later
        self._next_request = self._next_byte = now()
        self._waiting: list[_Share] = []
        self._timed = False
        self._yields_since: float | None = None
        self._had_least = 0.0  # of whoever went last: one that comes after a pause has no claim on what it did not use

    async def wait_for_turn(self, share: _Share, turn: _Turn) -> None:
        comes: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        share.waiting.append((comes, turn))
        if share not in self._waiting:
            share.used = max(share.used, self._had_least)
            self._waiting.append(share)
        self._serve()
        await comes

    def _serve(self) -> None:
        while not self._timed and (share := self._first()) is not None:
            seconds = self._seconds_to_wait()
            if seconds > 0:
                self._timed = True
                self._later(seconds, self._wake)
                return
            comes, turn = share.waiting.popleft()
            self._charge(share, turn)
            comes.set_result(None)

    def _wake(self) -> None:
        self._timed = False
        self._serve()

    def _first(self) -> _Share | None:
        for share in self._waiting:
            while share.waiting and share.waiting[0][0].done():  # whoever waited was cancelled
                share.waiting.popleft()
        self._waiting = [share for share in self._waiting if share.waiting]
        return min(self._waiting, key=lambda share: share.used, default=None)

    def _seconds_to_wait(self) -> float:
        now = self._now()
        if self._clients_wait():
            self._yields_since = now if self._yields_since is None else self._yields_since
            if now - self._yields_since < LONGEST_YIELD_SECONDS:
                return YIELD_SECONDS
        self._yields_since = None
        return max(self._next_request, self._next_byte) - now

    def _charge(self, share: _Share, turn: _Turn) -> None:
        earliest = self._now() - BURST_SECONDS
        of_requests, of_bytes = turn.requests * self._seconds_a_request, turn.size_bytes * self._seconds_a_byte
        self._next_request = max(self._next_request, earliest) + of_requests
        self._next_byte = max(self._next_byte, earliest) + of_bytes
        self._had_least = share.used
        share.used += max(of_requests, of_bytes)
