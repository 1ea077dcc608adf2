"""Readers: questions to the database, asked in threads with connections of their own, each with a deadline.

A disk that hangs must hold up neither the event loop nor whoever waits. While every thread is at a question that is past its deadline,
further ones fail at once: they would only queue behind those.

Once the database fails a question, the readers are in trouble until another is answered, or for some seconds: if nobody asks any more,
because that was told, nobody would find out that all is well again.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Concatenate, ParamSpec, TypeVar

from proxy.errors import ManifestUnavailable, NoThread
from proxy.lanes import Lanes, LanesClosed

P = ParamSpec("P")
Result = TypeVar("Result")
Question = Callable[Concatenate[sqlite3.Connection, P], Result]
FAILED_SECONDS = 10.0  # a few looks of whatever watches the server's health
_NO_FAILURE = ("", -FAILED_SECONDS)
CLOSE_SECONDS = 5.0  # what is asked takes milliseconds; longer means that the disk hangs


class Readers:
    """`count` threads that answer questions. One is fastest for short ones: two threads fight over the interpreter's lock."""

    def __init__(self, open_connection: Callable[[], sqlite3.Connection], *, count: int, name: str, timeout_seconds: float) -> None:
        self._open_connection = open_connection
        self._timeout_seconds = timeout_seconds
        self._local = threading.local()
        self._lanes = Lanes(count, name=name, at_end=self._drop_connection)
        self._count = count
        self._failed = _NO_FAILURE
        self._begun: dict[int, float] = {}  # by thread, when it took up the question that it has not answered yet

    @property
    def trouble(self) -> str:
        """Why questions are not answered: a thread has been at one for longer than the deadline, or the database failed the last one."""
        if self._overdue():
            return "the manifest does not answer"
        failure, failed_at = self._failed
        return failure if monotonic() - failed_at < FAILED_SECONDS else ""

    async def ask(self, question: Question[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """Return the answer, or raise what the question raised, or `ManifestUnavailable`."""
        if self._overdue() == self._count:
            raise ManifestUnavailable("the manifest does not answer")
        try:
            return await self._lanes.run(lambda _: self._answer(question, *args, **kwargs), timeout_seconds=self._timeout_seconds)
        except TimeoutError:
            raise ManifestUnavailable(f"the manifest has not answered within {self._timeout_seconds:g} s") from None
        except LanesClosed:
            raise ManifestUnavailable("the manifest is closed") from None
        except NoThread as error:
            raise ManifestUnavailable(f"the manifest cannot be asked: {error}") from None

    async def close(self) -> None:
        await self._lanes.close_and_wait(CLOSE_SECONDS)

    def take_longer_than(self, seconds: float) -> bool:
        """Tell whether a question that is not answered yet was taken up longer ago."""
        return bool(self._begun) and self._taken_up_before(seconds) > 0

    def _overdue(self) -> int:
        return self._taken_up_before(self._timeout_seconds)

    def _taken_up_before(self, seconds: float) -> int:
        if not self._begun:
            return 0
        latest = monotonic() - seconds
        return sum(begun <= latest for begun in tuple(self._begun.values()))

    def _answer(self, question: Question[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        thread = threading.get_ident()
        self._begun[thread] = monotonic()
        try:
            answer = question(self._connection(), *args, **kwargs)
        except sqlite3.Error as error:
            self._drop_connection()  # the next question opens another, in case this one is what is broken
            failure = f"the manifest cannot be read: {error}"
            self._failed = failure, monotonic()
            raise ManifestUnavailable(failure) from error
        else:
            self._failed = _NO_FAILURE
            return answer
        finally:
            del self._begun[thread]

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._open_connection()
        return connection

    def _drop_connection(self) -> None:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        self._local.connection = None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()
