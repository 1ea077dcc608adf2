"""Coroutines that begin at once, and take a task only if they have to wait.

The problem: most small requests are answered without waiting for anything. Yet to make a task for each, and to let the event loop come
round to it, takes 10 us.

The idea: a coroutine runs to the place where it waits first, as if it were in a task that stands by. If it ends before that, the task
stands by for the next one. If not, the task goes on with it from there. So whatever asks for its task, as timeouts do, is told the right
one. From Python 3.12 on asyncio does so itself (`eager_start`), with a new task each time.

https://docs.python.org/3/library/asyncio-extending.html
"""

from __future__ import annotations

import asyncio
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Coroutine, Generator
from types import coroutine

WaitsFor = asyncio.Future[object] | None
Begun = Coroutine[WaitsFor, None, None]


class AtOnce:
    """Begins coroutines of one event loop."""

    def __init__(self) -> None:
        self._stand_by: _StandBy | None = None

    def begin(self, begun: Begun) -> asyncio.Task[None] | None:
        """Run a coroutine as far as it goes. Return the task that goes on with it, or None if it has ended; what it raises, is raised."""
        stand_by = self._stand_by
        if stand_by is None:
            self._stand_by = _StandBy()
        if stand_by is None or not stand_by.is_ready or asyncio.current_task() is not None:  # nothing can run in two tasks
            return asyncio.get_running_loop().create_task(begun)
        if stand_by.ends(begun):
            return None
        self._stand_by = None
        return stand_by.task

    def close(self) -> None:
        """Let nothing stand by any more."""
        if self._stand_by is not None:
            self._stand_by.task.cancel()
            self._stand_by = None


class _StandBy:
    """A task without anything to do yet."""

    def __init__(self) -> None:
        self.is_ready = False  # who cancels a task before it has begun would cancel nothing else
        self._loop = asyncio.get_running_loop()
        self._begun: Begun | None = None
        self._waits_for: WaitsFor = None
        self._has_begun: asyncio.Future[None] = self._loop.create_future()
        self.task = self._loop.create_task(self._go_on())

    def ends(self, begun: Begun) -> bool:
        """Run a coroutine as far as it goes; tell whether that was its end. Otherwise the task goes on with it."""
        _enter_task(self._loop, self.task)
        try:
            self._waits_for = begun.send(None)
        except StopIteration:
            return True
        finally:
            _leave_task(self._loop, self.task)
        self._begun = begun
        self._has_begun.set_result(None)
        return False

    async def _go_on(self) -> None:
        self.is_ready = True
        cancelled: asyncio.CancelledError | None = None
        try:
            await self._has_begun
        except asyncio.CancelledError as error:
            cancelled = error
        begun, self._begun = self._begun, None
        try:
            if begun is not None:
                await _rest_of(begun, self._waits_for, cancelled)
            elif cancelled is not None:
                raise cancelled
        finally:
            del cancelled  # or it and this frame hold each other


@coroutine
def _rest_of(begun: Begun, waits_for: WaitsFor, raised: BaseException | None) -> Generator[WaitsFor, None, None]:
    """Go on with a coroutine that waits for something already, as `await` would have. `raised`: what came meanwhile instead of that."""
    if raised is not None and waits_for is not None:
        waits_for.cancel()
    while True:
        try:
            if raised is None:
                yield waits_for
        except BaseException as error:  # a cancellation, too: it is raised where the coroutine waits
            raised = error
        try:
            waits_for = begun.send(None) if raised is None else begun.throw(raised)
        except StopIteration:
            return
        finally:
            raised = None
