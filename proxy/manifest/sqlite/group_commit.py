"""Group commit: one writer thread, which puts all changes that are waiting into one transaction.

A durable commit costs an fsync; sharing it is what lets many small writes a second be durable. Each change has its own savepoint: one that
fails is undone alone. If the commit itself fails, all of the group fail. A change whose caller was cancelled before it began is skipped.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

from proxy.errors import ManifestUnavailable, ProxyError

Result = TypeVar("Result")
Step = Callable[[sqlite3.Connection], Result]
MAX_GROUP = 256


class _Job(NamedTuple):
    step: Step[Any]
    future: asyncio.Future[Any]


class GroupCommitter:
    """Runs steps in groups on a connection of its own."""

    def __init__(self, open_connection: Callable[[], sqlite3.Connection]) -> None:
        self._open_connection = open_connection
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="manifest-writer", daemon=True)
        self._thread.start()

    async def run(self, step: Step[Result]) -> Result:
        """Run one step; returns when it is on disk. Cancelled, it happens whole or not at all."""
        future: asyncio.Future[Result] = self._loop.create_future()
        self._jobs.put(_Job(step, future))
        return await future

    async def close(self) -> None:
        """Finish what is queued, then stop the thread."""
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        connection = self._open_connection()
        try:
            while (group := self._next_group()) is not None:
                outcomes = self._commit(connection, group)
                self._loop.call_soon_threadsafe(_deliver, outcomes)
        finally:
            connection.close()

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

    def _commit(self, connection: sqlite3.Connection, group: list[_Job]) -> list[tuple[asyncio.Future[Any], object]]:
        try:
            connection.execute("BEGIN IMMEDIATE")
            outcomes = [(job.future, _attempt(connection, job.step)) for job in group if not job.future.cancelled()]
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            failure = ManifestUnavailable(f"the manifest cannot be written: {error}")
            failure.__cause__ = error
            return [(job.future, failure) for job in group]
        return outcomes


def _attempt(connection: sqlite3.Connection, step: Step[object]) -> object:
    connection.execute("SAVEPOINT step")
    try:
        result = step(connection)
    except (ProxyError, ValueError, KeyError, TypeError) as error:
        connection.execute("ROLLBACK TO step")
        result = error
    connection.execute("RELEASE step")
    return result


def _deliver(outcomes: list[tuple[asyncio.Future[Any], object]]) -> None:
    for future, outcome in outcomes:
        if future.done():
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
