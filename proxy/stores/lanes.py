"""Lanes: a few threads for one store's blocking calls, whose results come back to the event loop in batches.

An executor wakes the loop once a call (60 us); here whatever has finished by the time the loop looks is delivered together. The threads are
the store's own, so a directory that hangs holds up nobody else, and a call cancelled before it began is skipped.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

Result = TypeVar("Result")


class _Job(NamedTuple):
    call: Callable[[], Any]
    future: asyncio.Future[Any]


class Lanes:
    """`count` threads, started at the first call."""

    def __init__(self, count: int, *, name: str) -> None:
        self._count = count
        self._name = name
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._finished: deque[tuple[asyncio.Future[Any], object, bool]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads: list[threading.Thread] = []
        self._wake_pending = False

    async def run(self, call: Callable[[], Result]) -> Result:
        """Run a blocking call in a lane. Cancelled, the call may still run to its end; its result is dropped."""
        if self._loop is None:
            self._start()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._jobs.put(_Job(call, future))
        return await future

    def close(self) -> None:
        """Let the threads end after what they are doing; they are not waited for, one may hang."""
        for _ in self._threads:
            self._jobs.put(None)
        self._threads = []

    def _start(self) -> None:
        self._loop = asyncio.get_running_loop()
        for number in range(self._count):
            thread = threading.Thread(target=self._work, name=f"{self._name}-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if job.future.cancelled():
                continue
            try:
                self._report(job.future, job.call(), failed=False)
            except Exception as error:
                self._report(job.future, error, failed=True)

    def _report(self, future: asyncio.Future[Any], outcome: object, *, failed: bool) -> None:
        self._finished.append((future, outcome, failed))
        if not self._wake_pending and self._loop is not None and not self._loop.is_closed():
            self._wake_pending = True
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._wake_pending = False  # before the first pop: what is appended after the last one finds it False and wakes again
        while self._finished:
            future, outcome, failed = self._finished.popleft()
            if future.done():
                continue
            if failed and isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
