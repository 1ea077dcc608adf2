"""Lanes: a few threads for the blocking calls of one thing, whose results come back to the event loop in batches.

An executor wakes the loop once a call (60 us); here whatever has finished by the time the loop looks is delivered together. The threads
belong to one store, or to the manifest, so a disk that hangs holds up nobody else. A call cancelled before it began is skipped.

Short calls that are made together can also be taken together: one lane makes them one after the other, and wakes the loop once. A lane
that wakes the loop after each has to get the interpreter back from it each time.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Generic, ParamSpec, TypeVar, cast

from proxy.errors import NoThread

P = ParamSpec("P")
Result = TypeVar("Result")
Cancelled = Callable[[], bool]
MAX_CANCELLED = 256  # calls given up that may lie in the queue, before these are looked for; those who wait are bounded by the callers


class LanesClosed(NoThread):
    """The lanes were closed before the call had begun."""

    def __init__(self) -> None:
        super().__init__("this process ends")


class NotBegun(NoThread):
    """The call was taken back before it had begun, or there was no thread for it."""

    def __init__(self) -> None:
        super().__init__("no thread was free in time, or the system has none more for this process")


class Lanes:
    """`count` threads, started as calls come, for one event loop at a time."""

    def __init__(self, count: int, *, name: str, at_end: Callable[[], None] = lambda: None) -> None:
        """`at_end` is called in each thread as the last thing it does, to close what it has opened."""
        self._count = count
        self._name = name
        self._at_end = at_end
        self._jobs: SimpleQueue[_Batch | None] = SimpleQueue()
        self._finished: deque[_Batch] = deque()
        self._gathered: list[_Job[object]] = []  # of this turn of the loop, to be taken together
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads: list[threading.Thread] = []
        self._wake_pending = False
        self._closed = False

    async def run(
        self,
        call: Callable[[Cancelled], Result],
        *,
        timeout_seconds: float | None = None,
        goes_on: Callable[[], bool] | None = None,
    ) -> Result:
        """Run a blocking call in a lane; it is handed a function that tells whether its caller has been cancelled meanwhile.

        A call that is cancelled before a lane takes it never runs; after that it runs to its end, and what it returns is dropped. After
        `timeout_seconds` the same happens, with a `TimeoutError`, unless it `goes_on`: then it has as long again.
        """
        job = self._job(call)
        self._put(_Batch([cast("_Job[object]", job)]))
        return await job.outcome(timeout_seconds, goes_on)

    def run_together(self, call: Callable[[Cancelled], Result], *, begin_within_seconds: float) -> Awaitable[Result]:
        """As `run`, for a short call: one lane takes it and all others of this turn of the loop, one after the other.

        If it has not begun after so long, since one before it hangs, it never will: `NotBegun`.
        """
        job = self._job(call)
        if not self._gathered:
            job.loop.call_soon(self._put_gathered, begin_within_seconds)
        self._gathered.append(cast("_Job[object]", job))
        return job.outcome(None)

    def begin(self, call: Callable[[], None]) -> asyncio.Future[None]:
        """Have a blocking call made that nobody has to wait for. The future is done when it has ended, or will not be made.

        Nobody has to look at its error.
        """
        job = self._job(lambda _: call())
        job.future.add_done_callback(_is_heard)
        self._put(_Batch([cast("_Job[object]", job)]))
        return job.future

    def close(self) -> None:
        """Let the threads end after what they are doing; they are not waited for, one may hang. Calls not begun fail."""
        self._closed = True
        with suppress(Empty):  # a lane may take the last one up while we look
            while True:
                batch = self._jobs.get_nowait()
                if batch is not None:
                    batch.fail()
        _Batch(self._gathered).fail()
        self._gathered = []
        for _ in self._threads:
            self._jobs.put(None)
        self._threads = []

    async def close_and_wait(self, timeout_seconds: float) -> None:
        """Close, and wait for the threads to end, but no longer than this: one may hang."""
        threads = self._threads
        self.close()
        if threads:
            await asyncio.to_thread(_join, threads, timeout_seconds)

    def _job(self, call: Callable[[Cancelled], Result]) -> _Job[Result]:
        if self._closed:
            raise LanesClosed
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop = loop
            self._wake_pending = False  # a wake-up of the loop before may have been lost with it
            self._gathered = []
        return _Job(call, loop)

    def _put_gathered(self, begin_within_seconds: float) -> None:
        batch, self._gathered = _Batch(self._gathered), []
        if batch.jobs and self._loop is not None:  # they were not closed meanwhile
            batch.timer = self._loop.call_later(begin_within_seconds, batch.lose_patience)
            self._put(batch)

    def _put(self, batch: _Batch) -> None:
        if self._jobs.qsize() > MAX_CANCELLED:
            self._drop_cancelled()
        self._jobs.put(batch)
        if len(self._threads) < self._count and not self._jobs.empty():
            self._start_thread(batch)

    def _drop_cancelled(self) -> None:
        waiting = []
        with suppress(Empty):
            while True:
                waiting.append(self._jobs.get_nowait())
        for batch in waiting:
            if batch is None or not batch.is_done:
                self._jobs.put(batch)

    def _start_thread(self, batch: _Batch) -> None:
        """Start one more. Where the system has none for now, the others do the work, or it fails; the next call tries again."""
        thread = threading.Thread(target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            if not self._threads:
                batch.take_back()
        else:
            self._threads.append(thread)

    def _work(self) -> None:
        try:
            while (batch := self._jobs.get()) is not None:
                if batch.run():
                    self._finished.append(batch)
                    self._wake()
                del batch  # or a lane that waits for its next one keeps the last one's shard in memory
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


class Pool(ThreadPoolExecutor):
    """An executor that says by an error of ours that it has no thread for a call, or has been closed. Such a call is never made."""

    def submit(self, call: Callable[P, Result], /, *args: P.args, **kwargs: P.kwargs) -> Future[Result]:
        try:
            return super().submit(call, *args, **kwargs)
        except RuntimeError as error:
            raise NoThread(str(error)) from None

    def _adjust_thread_count(self) -> None:
        """As the executor's own, which `submit` calls, under its lock, when the call is in the queue already: there it would stay."""
        try:
            super()._adjust_thread_count()
        except RuntimeError:
            if not self._threads:  # or they do the work
                self._work_queue.get_nowait()
                raise


def _is_heard(future: asyncio.Future[None]) -> None:
    """Take note of an error. One that nobody took note of is logged by the event loop."""
    if not future.cancelled():
        future.exception()


async def in_time(future: asyncio.Future[Result], seconds: float, goes_on: Callable[[], bool] | None = None) -> Result:
    """Await a future of the caller's own, and cancel it after so long. `TimeoutError`. It takes 2 us, and `asyncio.timeout` 10.

    If it `goes_on` by then, it has as long again.
    """
    limit = _Limit(future, seconds, goes_on)
    try:
        return await future
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():  # it was the caller who was cancelled
            raise
        raise TimeoutError from None
    finally:
        limit.timer.cancel()
        del future, limit  # an error holds this frame, and the future the error


class _Limit:
    """Cancels a future after so long, unless it goes on."""

    __slots__ = ("_future", "_goes_on", "_seconds", "timer")

    def __init__(self, future: asyncio.Future[Result], seconds: float, goes_on: Callable[[], bool] | None) -> None:
        self._future = future
        self._seconds = seconds
        self._goes_on = goes_on
        self.timer = future.get_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        if self._goes_on is not None and self._goes_on():
            self.timer = self._future.get_loop().call_later(self._seconds, self._look)
        else:
            self._future.cancel()


class _Job(Generic[Result]):
    __slots__ = ("_calls", "_ended", "error", "future", "loop", "result")

    def __init__(self, call: Callable[[Cancelled], Result], loop: asyncio.AbstractEventLoop) -> None:
        self._calls = [call]  # empty, once somebody has it
        self._ended = False
        self.loop = loop
        self.future: asyncio.Future[Result] = loop.create_future()
        self.result: Result
        self.error: BaseException | None = None

    async def outcome(self, timeout_seconds: float | None, goes_on: Callable[[], bool] | None = None) -> Result:
        try:
            return await (self.future if timeout_seconds is None else in_time(self.future, timeout_seconds, goes_on))
        except (asyncio.CancelledError, TimeoutError):
            self._take()  # with what it would have written: behind a directory that hangs it may wait for ever
            raise

    def fail(self) -> None:
        if not self.future.done():
            self.future.set_exception(LanesClosed())

    def take_back(self) -> None:
        if self._take() is not None and not self.future.done():
            self.future.set_exception(NotBegun())

    def run(self) -> bool:
        """Make the call, if nobody has it and somebody waits for it; tell whether it was made."""
        call = self._take()
        if call is None or self.future.cancelled():
            return False
        try:
            self.result = call(self.is_cancelled)
        except BaseException as error:  # it is raised where the call is awaited
            self.error = error
        self._ended = True
        return True

    def is_cancelled(self) -> bool:
        return self.future.cancelled()

    def deliver(self) -> None:
        if not self._ended or self.loop.is_closed():
            return
        future, error, self.error = self.future, self.error, None
        if future.done():
            return
        if error is None:
            future.set_result(self.result)
        else:
            self._leave(future)
            future.set_exception(error)

    def _leave(self, future: asyncio.Future[Result]) -> None:
        """Let go of a future that is to have an error.

        The error holds the frames of the call, and they this job: with the future it would be a cycle, and all that the frames hold would
        lie in memory until cycles are looked for.
        """
        self.future = future.get_loop().create_future()
        self.future.cancel()

    def _take(self) -> Callable[[Cancelled], Result] | None:
        """Return the call to whoever asks first: a lane, or whoever takes it back."""
        try:
            return self._calls.pop()
        except IndexError:
            return None


class _Batch:
    """Jobs that one lane takes together, one after the other."""

    __slots__ = ("jobs", "timer")

    def __init__(self, jobs: Sequence[_Job[object]]) -> None:
        self.jobs = jobs
        self.timer: asyncio.TimerHandle | None = None

    @property
    def is_done(self) -> bool:
        return all(job.future.done() for job in self.jobs)

    def run(self) -> bool:
        """Make the calls; tell whether any was made."""
        made = [job.run() for job in self.jobs]
        return any(made)

    def deliver(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        for job in self.jobs:
            job.deliver()

    def lose_patience(self) -> None:
        """Take back what has not begun, and deliver what has ended: a call between them hangs, or takes long."""
        self.take_back()
        for job in self.jobs:
            job.deliver()

    def take_back(self) -> None:
        for job in self.jobs:
            job.take_back()

    def fail(self) -> None:
        for job in self.jobs:
            job.fail()


def _join(threads: Sequence[threading.Thread], timeout_seconds: float) -> None:
    deadline = monotonic() + timeout_seconds
    for thread in threads:
        thread.join(max(0.0, deadline - monotonic()))
