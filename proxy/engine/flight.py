"""Calls under way together: each is a task, and they are taken in the order in which they end.

`asyncio.wait` does the same, but adds its callback to every task again at every call. For the six shards of a small object, that took a
tenth of the whole write.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import Generic, TypeVar

Result = TypeVar("Result")


class Flight(Generic[Result]):
    """Tasks by the number each was started with."""

    def __init__(self) -> None:
        self.running: dict[asyncio.Task[Result], int] = {}
        self._loop = asyncio.get_running_loop()
        self._ended: deque[asyncio.Task[Result]] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def start(self, number: int, call: Coroutine[object, object, Result]) -> None:
        task = self._loop.create_task(call)
        self.running[task] = number
        task.add_done_callback(self._end)

    async def ended(self, timeout_seconds: float | None = None) -> list[tuple[int, asyncio.Task[Result]]]:
        """Wait for the next to end, and return all that have: nothing if the time is up before."""
        if not self._ended:
            await self._wait(timeout_seconds)
        ended = [(self.running.pop(task), task) for task in self._ended]
        self._ended.clear()
        return ended

    def drop(self, number: int) -> None:
        """Cancel a call that nobody wants the end of, and do not wait for it."""
        for task in self.calls(number):
            task.cancel()
            task.add_done_callback(_take_note)

    def calls(self, number: int) -> list[asyncio.Task[Result]]:
        """Return the calls that were started with this number, and have not been taken."""
        return [task for task, other in self.running.items() if other == number]

    async def cancel(self) -> None:
        """Cancel what still runs, and wait until it has ended."""
        for task in self.running:
            task.cancel()
        await asyncio.gather(*self.running, return_exceptions=True)

    async def _wait(self, timeout_seconds: float | None) -> None:
        self._waiter = self._loop.create_future()
        timer = None if timeout_seconds is None else self._loop.call_later(timeout_seconds, self._wake)
        try:
            await self._waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def _end(self, task: asyncio.Task[Result]) -> None:
        self._ended.append(task)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _take_note(task: asyncio.Task[Result]) -> None:
    if not task.cancelled():
        task.exception()  # or asyncio would complain of an error that nobody took
