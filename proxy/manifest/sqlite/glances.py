"""Glances: questions answered on the event loop itself, where nothing has to be waited for.

The problem. A question takes 5 us. To hand it to a thread, and its answer back, takes ten times as long, and a request asks one at least.
But on the event loop a disk that is slow, or hangs, holds up everybody.

The idea. What was asked a moment ago is in memory: the kernel keeps the pages that were read last. So a question is asked in a thread for
the first time, and here when it comes again soon; or at once, if all of the database is in memory (`small_database`). Nothing is asked here
while there is a sign that the disk does not answer: the writer or a reader has been at something for long, or the last glance had to wait,
and took longer than memory does. Then all questions go to the threads again, each with its deadline, until that is over. (A busy machine
may take the processor from us for as long, or from a thread that has the interpreter. Neither is a wait for the disk.) A glance never waits
for a lock: the thread does that. And who asks in a loop lets others have a turn: after so many glances, one gives way first.

With the connection comes the log's head: it says whether anything was committed since something was asked.
"""

from __future__ import annotations

import asyncio
import resource
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from time import monotonic, monotonic_ns
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar

from proxy.errors import ManifestUnavailable
from proxy.manifest.sqlite.log_head import LogHead
from proxy.manifest.sqlite.readers import Readers
from proxy.manifest.sqlite.small_database import WARM_SECONDS, SmallDatabase

P = ParamSpec("P")
Result = TypeVar("Result")
Question = Callable[Concatenate[sqlite3.Connection, P], Result]
MAX_WARM = 20_000  # questions, some 80 bytes each
SLOW_SECONDS = 0.02  # a glance that takes longer has waited for something
HELD_UP_SECONDS = 0.25  # as long takes no wait for the interpreter or the processor, only a disk that hangs in some other way
DOUBT_SECONDS = 1.0  # for which nothing is asked here after that
_OF_THREAD: int | None = getattr(resource, "RUSAGE_THREAD", None)  # Linux
GLANCES_A_TURN = 64  # after which the event loop has a turn, in case they all come from one caller


class Waits(NamedTuple):
    """How often a thread has waited so far: for what a disk had to bring, and for anything. Others wait for the interpreter, too."""

    for_reading: int
    in_all: int

    def are_of_the_disk(self, later: Waits, seconds: float) -> bool:
        """Tell whether what took so long since has waited for the disk."""
        return later.for_reading != self.for_reading or (seconds > HELD_UP_SECONDS and later.in_all != self.in_all)


class Glances:
    """Asks here what was asked lately, and the readers everything else. `is_in_doubt` tells whether the disk may not answer."""

    def __init__(
        self,
        readers: Readers,
        open_connection: Callable[[], sqlite3.Connection],
        *,
        is_in_doubt: Callable[[], bool],
        find_log: Callable[[], LogHead | None] = lambda: None,
        small: SmallDatabase | None = None,
        now: Callable[[], float] = monotonic,
        waits: Callable[[], Waits] | None = None,
    ) -> None:
        self._readers = readers
        self._open_connection = open_connection
        self._is_in_doubt = is_in_doubt
        self._find_log = find_log
        self._small = small
        self._now = now
        self._waits = waits or _waits_of_thread
        self._connection: sqlite3.Connection | None = None
        self._log: LogHead | None = None
        self._head: bytes | None = None  # of the log, as it was found in this turn of the event loop
        self._is_opening = False
        self._not_before = 0.0
        self._turn_at = 0.0
        self._glances_left = GLANCES_A_TURN
        self._warm: set[int] = set()
        self._warm_before: set[int] = set()

    async def ask(self, question: Question[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """Return the answer, or raise what the question raised, or `ManifestUnavailable`.

        The positional arguments can be hashed, and say what is read; those by name say what is made of it.
        """
        self._glances_left -= 1
        if not self._glances_left:
            self._glances_left = GLANCES_A_TURN
            await asyncio.sleep(0)
        asked = hash((question, args))
        if (answered := self._answered_here(asked, question, *args, **kwargs)) is not None:
            return answered[0]
        answer = await self._readers.ask(self._answered, question, *args, **kwargs)
        self._warm.add(asked)
        if self._connection is None and not self._is_opening and self._now() >= self._not_before:
            await self._open()
        return answer

    def ask_at_once(self, question: Question[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result | None:
        """As `ask`, if nothing has to be waited for; else None, so this is for questions that are never answered by None.

        Who asks so is called by the event loop for each question, and so gives way to others behind each.
        """
        answered = self._answered_here(hash((question, args)), question, *args, **kwargs)
        return None if answered is None else answered[0]

    def log_head(self) -> bytes | None:
        """Return what stands for all that has been committed so far; None if nobody can tell now. This waits for nothing.

        It is read once in a turn of the event loop. Whatever is answered in that turn had come before it began, so it may be answered as of
        any moment since. To read lets go of the interpreter, which other threads take then: eight requests need not all wait for it.
        So nobody may ask where a request is just being read: uvloop reads from sockets behind what was ready, in the same turn, and what
        was answered elsewhere meanwhile may be newer than this. Both doors answer in the next one.
        """
        if self._head is None and self._log is not None and (head := self._log.read()) is not None:
            self._head = head
            asyncio.get_running_loop().call_soon(self._forget_head)
        return self._head

    def may_have_written(self, page: int, since: bytes, head: bytes) -> bool:
        """Tell whether a page of the database may have been written between two heads of the log: see `LogHead`."""
        return self._log is None or self._log.may_have_written(page, since, head)

    def may_read_more(self, connection: sqlite3.Connection) -> bool:
        """Tell whether a question may read more than it was asked for. Not here, where the disk might have to bring it."""
        return connection is not self._connection or (self._small is not None and self._small.is_in_memory(self._now()))

    def _forget_head(self) -> None:
        self._head = None

    def close(self) -> None:
        connection, self._connection, self._log, self._head = self._connection, None, None, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _answered_here(self, asked: int, question: Question[P, Result], *args: P.args, **kwargs: P.kwargs) -> tuple[Result] | None:
        began = self._now()
        if not self._is_warm(asked, began) or self._connection is None or began < self._not_before or self._is_in_doubt():
            return None
        waits = self._waits()
        try:
            return (question(self._connection, *args, **kwargs),)
        except sqlite3.Error:  # locked, or worse: the thread will wait, or find out and tell
            self.close()
            return None
        finally:
            if (ended := self._now()) - began > SLOW_SECONDS and waits.are_of_the_disk(self._waits(), ended - began):
                self._not_before = ended + DOUBT_SECONDS

    def _answered(self, connection: sqlite3.Connection, question: Question[P, Result], /, *args: P.args, **kwargs: P.kwargs) -> Result:
        """Answer in a thread, and read on in a small database on the way."""
        answer = question(connection, *args, **kwargs)
        if self._small is not None:
            self._small.read_on()
        return answer

    def _is_warm(self, asked: int, now: float) -> bool:
        if self._small is not None and self._small.is_in_memory(now):
            return True
        if now >= self._turn_at or len(self._warm) >= MAX_WARM:
            self._warm_before, self._warm = self._warm, set()
            self._turn_at = now + WARM_SECONDS
        if asked in self._warm:
            return True
        if asked not in self._warm_before:
            return False
        self._warm.add(asked)
        return True

    async def _open(self) -> None:
        """Open a connection, or try again later. Whoever has an answer already loses nothing by that, and the readers keep theirs."""
        self._is_opening = True
        try:
            self._connection, self._log = await self._readers.ask(lambda _: self._opened())
        except ManifestUnavailable:  # the disk does not answer just now
            self._connection = self._log = None
        finally:
            self._is_opening = False
        if self._connection is None:
            self._not_before = self._now() + DOUBT_SECONDS

    def _opened(self) -> tuple[sqlite3.Connection | None, LogHead | None]:
        """Open a connection, if that works: there may be no file left to open. This reads the disk."""
        try:
            opened = self._open_connection()
        except (sqlite3.Error, ManifestUnavailable):
            return None, None
        opened.execute("PRAGMA busy_timeout = 0")
        return opened, self._find_log()


def _waits_of_thread() -> Waits:
    """Return how often this thread has waited so far. This takes 0.5 us. Where nobody counts, it may have."""
    if _OF_THREAD is None:
        return Waits(monotonic_ns(), 0)
    used = resource.getrusage(_OF_THREAD)
    return Waits(used.ru_majflt + used.ru_inblock, used.ru_nvcsw)
