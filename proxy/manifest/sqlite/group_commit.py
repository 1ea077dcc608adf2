"""Group commit: one writer thread, which puts all changes that are waiting into one transaction.

A durable commit costs an fsync; sharing it is what lets many small writes a second be durable. Each change has its own savepoint: one that
fails, whatever it raises, is undone alone. A change whose caller was cancelled before it began is skipped.

Nobody waits for ever. What fails outside a change, such as the commit itself, fails the group, and the connection is closed, which undoes
what was begun on it: the next group opens another. When the thread has ended, what is queued fails, and so does what comes later.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

from proxy.errors import ManifestUnavailable

Result = TypeVar("Result")
Step = Callable[[sqlite3.Connection], Result]
MAX_GROUP = 256
CLOSE_SECONDS = 30.0  # some groups, each of which may wait for another process's as long as the connection's timeout


class _Job(NamedTuple):
    step: Step[Any]
    future: asyncio.Future[Any]


class GroupCommitter:
    """Runs steps in groups on a connection of its own."""

    def __init__(self, open_connection: Callable[[], sqlite3.Connection], *, check: Callable[[], None] = lambda: None) -> None:
        """`check` is called before each group, which fails if it raises."""
        self._open_connection = open_connection
        self._check = check
        self._connection: sqlite3.Connection | None = None
        self._broken = False
        self._ended = False
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="manifest-writer", daemon=True)
        self._thread.start()

    @property
    def healthy(self) -> bool:
        """Whether the writer lives, and can open the database as far as it has tried."""
        return self._thread.is_alive() and not self._broken

    async def run(self, step: Step[Result]) -> Result:
        """Run one step; returns when it is on disk. Cancelled, it happens whole or not at all.

        Raises what the step raised, or `ManifestUnavailable`.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        self._jobs.put(_Job(step, future))
        if self._ended:
            self._refuse_queued()  # this may have been queued after the thread looked for the last time
        outcome: Result | Exception = await future
        if isinstance(outcome, Exception):  # raised here: a future would not take every exception
            raise outcome
        return outcome

    async def close(self) -> None:
        """Finish what is queued, then stop the thread. A disk that hangs does not hold us up."""
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join, CLOSE_SECONDS)

    def _run(self) -> None:
        try:
            while (group := self._next_group()) is not None:
                self._loop.call_soon_threadsafe(_deliver, group, self._outcomes(group))
        finally:
            self._ended = True
            self._close_connection()
            self._refuse_queued()

    def _next_group(self) -> list[_Job] | None:
        job = self._jobs.get()
        if job is None:
            return None
        group = [job]
        while len(group) < MAX_GROUP:
            try:
                job = self._jobs.get_nowait()
            except Empty:
                break
            if job is None:
                self._jobs.put(None)
                break
            group.append(job)
        return group

    def _outcomes(self, group: Sequence[_Job]) -> list[object]:
        """Return for each job what its step returned or raised."""
        try:
            self._check()
            return _commit(self._opened(), group)
        except BaseException as error:  # a thread that ended here would leave its callers waiting
            self._close_connection()
            return [_unavailable(error) for _ in group]

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._broken = True
            self._connection = self._open_connection()
            self._broken = False
        return self._connection

    def _close_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _refuse_queued(self) -> None:
        with suppress(Empty):
            while True:
                job = self._jobs.get_nowait()
                if job is not None:
                    self._loop.call_soon_threadsafe(_deliver, [job], [ManifestUnavailable("the manifest is closed")])


def _commit(connection: sqlite3.Connection, group: Sequence[_Job]) -> list[object]:
    connection.execute("BEGIN IMMEDIATE")
    outcomes = [None if job.future.cancelled() else _attempt(connection, job.step) for job in group]
    connection.execute("COMMIT")
    return outcomes


def _attempt(connection: sqlite3.Connection, step: Step[object]) -> object:
    """Return what a step returned, or what it raised: then it has changed nothing."""
    connection.execute("SAVEPOINT step")
    try:
        result = step(connection)
    except Exception as error:
        if not connection.in_transaction:  # SQLite ended it, as on a full disk: https://www.sqlite.org/lang_transaction.html
            raise
        connection.execute("ROLLBACK TO step")
        result = _unavailable(error) if isinstance(error, sqlite3.Error) else error
    connection.execute("RELEASE step")
    return result


def _unavailable(error: BaseException) -> ManifestUnavailable:
    failure = ManifestUnavailable(f"the manifest cannot be written: {error}")
    failure.__cause__ = error
    return failure


def _deliver(group: Sequence[_Job], outcomes: Sequence[object]) -> None:
    for job, outcome in zip(group, outcomes, strict=True):
        if not job.future.done():
            job.future.set_result(outcome)
