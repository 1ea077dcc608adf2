"""Lanes: a few threads for the blocking calls of one thing, whose results come back to the event loop in batches.

An executor wakes the loop once a call (60 us); here whatever has finished by the time the loop looks is delivered together. The threads
belong to one store, or to the manifest, so a disk that hangs holds up nobody else. A call cancelled before it began is skipped.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Generic, TypeVar, cast

Result = TypeVar("Result")
Cancelled = Callable[[], bool]
MAX_CANCELLED = 256  # calls given up that may lie in the queue, before these are looked for; those who wait are bounded by the callers


class LanesClosed(Exception):
    """The lanes were closed before the call had begun."""


class NotBegun(Exception):
    """The call was taken back before it had begun."""


class Lanes:
    """`count` threads, started as calls come, for one event loop at a time."""

    def __init__(self, count: int, *, name: str, at_end: Callable[[], None] = lambda: None) -> None:
        """`at_end` is called in each thread as the last thing it does, to close what it has opened."""
        self._count = count
        self._name = name
        self._at_end = at_end
        self._jobs: SimpleQueue[_Job[object] | None] = SimpleQueue()
        self._finished: deque[_Job[object]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads: list[threading.Thread] = []
        self._wake_pending = False
        self._closed = False

    async def run(
        self, call: Callable[[Cancelled], Result], *, timeout_seconds: float | None = None, begin_within_seconds: float | None = None
    ) -> Result:
        """Run a blocking call in a lane; it is handed a function that tells whether its caller has been cancelled meanwhile.

        Cancelled before a lane took it up, the call never runs; after, it runs to its end and what it returns is dropped. So it is after
        `timeout_seconds`, with a `TimeoutError`. If no lane has taken it up after `begin_within_seconds`, none will: `NotBegun`.
        """
        if self._closed:
            raise LanesClosed
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop = loop
            self._wake_pending = False  # a wake-up of the loop before may have been lost with it
        future: asyncio.Future[Result] = loop.create_future()
        job = _Job(call, future)
        if self._jobs.qsize() > MAX_CANCELLED:
            self._drop_cancelled()
        self._jobs.put(cast("_Job[object]", job))
        if len(self._threads) < self._count and not self._jobs.empty():
            self._start_thread()
        timer = None if begin_within_seconds is None else loop.call_later(begin_within_seconds, job.take_back)
        try:
            return await (future if timeout_seconds is None else in_time(future, timeout_seconds))
        except (asyncio.CancelledError, TimeoutError):
            job.take()  # with what it would have written: behind a directory that hangs it may wait for ever
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def close(self) -> None:
        """Let the threads end after what they are doing; they are not waited for, one may hang. Calls not begun fail."""
        self._closed = True
        with suppress(Empty):  # a lane may take the last one up while we look
            while True:
                job = self._jobs.get_nowait()
                if job is not None and not job.future.done():
                    job.future.set_exception(LanesClosed())
        for _ in self._threads:
            self._jobs.put(None)
        self._threads = []

    async def close_and_wait(self, timeout_seconds: float) -> None:
        """Close, and wait for the threads to end, but no longer than this: one may hang."""
        threads = self._threads
        self.close()
        if threads:
            await asyncio.to_thread(_join, threads, timeout_seconds)

    def _drop_cancelled(self) -> None:
        waiting = []
        with suppress(Empty):
            while True:
                waiting.append(self._jobs.get_nowait())
        for job in waiting:
            if job is None or not job.future.done():
                self._jobs.put(job)

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        try:
            while (job := self._jobs.get()) is not None:
                if (call := job.take()) is not None and not job.future.cancelled():
                    job.run(call)
                    self._finished.append(job)
                    self._wake()
                del job, call  # or a lane that waits for its next job keeps the last one's shard in memory
        finally:
            self._at_end()

    def _wake(self) -> None:
        if self._wake_pending or self._loop is None:
            return
        self._wake_pending = True
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._wake_pending = False  # before the first pop: what is appended after the last one finds it False and wakes again
        while self._finished:
            self._finished.popleft().deliver()


async def in_time(future: asyncio.Future[Result], seconds: float) -> Result:
    """Await a future of the caller's own, and cancel it after so long. `TimeoutError`. It takes 2 us, and `asyncio.timeout` 10."""
    timer = future.get_loop().call_later(seconds, future.cancel)
    try:
        return await future
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():  # it was the caller who was cancelled
            raise
        raise TimeoutError from None
    finally:
        timer.cancel()


class _Job(Generic[Result]):
    __slots__ = ("_calls", "error", "future", "result")

    def __init__(self, call: Callable[[Cancelled], Result], future: asyncio.Future[Result]) -> None:
        self._calls = [call]  # empty, once somebody has it
        self.future = future
        self.result: Result
        self.error: BaseException | None = None

    def take(self) -> Callable[[Cancelled], Result] | None:
        """Return the call to whoever asks first: a lane, or whoever takes it back."""
        try:
            return self._calls.pop()
        except IndexError:
            return None

    def take_back(self) -> None:
        if self.take() is not None and not self.future.done():
            self.future.set_exception(NotBegun())

    def run(self, call: Callable[[Cancelled], Result]) -> None:
        try:
            self.result = call(self.future.cancelled)
        except BaseException as error:  # it is raised where the call is awaited
            self.error = error

    def deliver(self) -> None:
        if self.future.done() or self.future.get_loop().is_closed():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


def _join(threads: Sequence[threading.Thread], timeout_seconds: float) -> None:
    deadline = monotonic() + timeout_seconds
    for thread in threads:
        thread.join(max(0.0, deadline - monotonic()))
