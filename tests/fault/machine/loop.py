"""An event loop on simulated time, without threads: it runs until nothing is ready, and time stands still until it is moved."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from contextvars import Context, ContextVar, copy_context
from itertools import count
from threading import get_ident
from typing import Any

SUSPENDED: ContextVar[Callable[[], bool]] = ContextVar("SUSPENDED")  # whether the process of a context is, just now
DEAD: ContextVar[Callable[[], bool]] = ContextVar("DEAD")  # likewise
LATER_SECONDS = 1.0  # until a timer that a suspended process could not see is looked at again


def _never() -> bool:
    return False


class NumberedTask(asyncio.Task[Any]):
    """A task whose hash is its number, so that a set of tasks has the same order each time."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], *, loop: SimulatedLoop, **options: Any) -> None:
        self._number = next(loop.numbers)
        self.is_of_a_dead_process = (options.get("context") or copy_context()).get(DEAD, _never)
        super().__init__(coroutine, loop=loop, **options)

    def __hash__(self) -> int:
        return self._number


class SimulatedLoop(asyncio.SelectorEventLoop):
    """What would run in a thread runs at once, where it is called. `settle` takes the place of `run_forever`."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 1000.0
        self._clock_resolution = 1e-9
        self.numbers = count()
        self._thread = get_ident()
        self.set_task_factory(lambda loop, coroutine, **options: NumberedTask(coroutine, loop=self, **options))
        self.set_exception_handler(self._note)
        self.surprises: list[str] = []  # errors that nobody took: a task that died unnoticed

    def time(self) -> float:
        return self._now

    def settle(self) -> None:
        """Run whatever is ready, until everybody waits: for a turn, or for a time to come."""
        self.run_forever()

    def next_timer(self) -> float | None:
        """Return when somebody wakes up by himself."""
        if self._scheduled and not self._scheduled[0]._cancelled:
            return self._scheduled[0]._when  # the first of a heap: no need to look at a thousand others
        return min((handle._when for handle in self._scheduled if not handle._cancelled), default=None)

    def move_to(self, when: float) -> None:
        """Let time pass, and those run whose time has come."""
        self._now = max(self._now, when)
        self.settle()

    def call_at(self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None) -> asyncio.TimerHandle:
        """As asyncio's, but a timer of a process that is suspended waits until it goes on."""
        suspended = (context or copy_context()).get(SUSPENDED, _never)

        def fire() -> None:
            if not suspended():
                callback(*args)
                return
            timer._when, timer._scheduled = self._now + LATER_SECONDS, True
            heapq.heappush(self._scheduled, timer)

        timer = super().call_at(when, fire, context=context)
        return timer

    def run_in_executor(self, executor: Executor | None, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> asyncio.Handle:
        if get_ident() != self._thread:
            self.surprises.append(f"a thread is not simulated, and the order was not chance's: it calls {callback}")
        return super().call_soon_threadsafe(callback, *args, context=context)

    def _run_once(self) -> None:
        # asyncio would wait here for the next timer; `run_forever` ends instead.
        if not self._ready and ((timer := self.next_timer()) is None or timer > self._now):
            self._stopping = True
            return
        super()._run_once()

    def _note(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        task = context.get("task") or context.get("future")
        if isinstance(task, NumberedTask) and task.is_of_a_dead_process():
            return  # whoever would have asked what became of it is dead, too
        error = context.get("exception")
        self.surprises.append(f"{context['message']}: {type(error).__name__}: {error}" if error else context["message"])
