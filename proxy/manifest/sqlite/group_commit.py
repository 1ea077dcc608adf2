"""Group commit: one writer thread, which puts all changes that are waiting into one transaction.

A durable commit costs an fsync; sharing it is what lets many small writes a second be durable. Each change has its own savepoint: one that
fails, whatever it raises, is undone alone. A change whose caller was cancelled before it began is skipped.

Changes of one kind that come one after the other may be made as one (see `Joint`), which shares what they all look up and count. If that
fails, nothing of it has happened, and each is made alone.

Clients that delete one object after the other fall into two halves: one half is committed while the other comes. To commit eight costs
little more than four. So before a group of this kind is begun, the writer waits a moment if fewer have come than were under way together
when the last one was done, until as many have. Where they have, as with a client alone, nobody waits.

Nobody waits for ever. What fails outside a change, such as the commit itself, fails the group, and the connection is closed, which undoes
what was begun on it: the next group opens another. When the thread has ended, what is queued fails, and so does what comes later. Every
change has a deadline. One that had not begun by then never happens; of one under way it is not known whether it did. While a group is past
the deadline, further changes fail at once: they would only queue behind it.

A group that the database fails (full, damaged, locked, gone) makes the committer unhealthy, until something is written. The committer
looks by itself, too, every few seconds: with an empty transaction, or, while it is unhealthy, with one that writes.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import compress, groupby
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, Generic, NamedTuple, TypeVar

from proxy.errors import ManifestUnavailable, ProxyError
from proxy.lanes import in_time
from proxy.manifest.begun import Begun
from proxy.manifest.sqlite.turn import Turn

Item = TypeVar("Item")
Result = TypeVar("Result")
Step = Callable[[sqlite3.Connection], Result]
MAX_GROUP = 256  # from then on nothing joins a group
GATHER_SECONDS = 0.001  # eight clients hear their answers and send the next requests, and a busy event loop takes these
CLOSE_SECONDS = 30.0  # some groups, each of which may wait for another process's as long as the connection's timeout
PROBE_SECONDS = 2.0
BUSY_GROUPS = 64  # a writer that has committed as many will commit more
_DATABASE_FAILS = frozenset({
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL,
})  # fmt: skip


Steps = Callable[[sqlite3.Connection, Sequence[Item]], Sequence[Result | Exception]]


@dataclass(frozen=True, slots=True)
class Joint(Generic[Item, Result]):
    """A step that can be made together with its like: `steps` makes that of each item, and returns for each what it returned or why it was
    refused. An item that is refused has changed nothing; what `steps` raises is of none of them alone."""

    steps: Steps[Item, Result]
    item: Item

    def __call__(self, connection: sqlite3.Connection) -> Result:
        (outcome,) = self.steps(connection, [self.item])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


class _Job(NamedTuple):
    step: Step[Any]
    future: asyncio.Future[Any]


class GroupCommitter:
    """Runs steps in groups on a connection of its own."""

    def __init__(
        self,
        open_connection: Callable[[], sqlite3.Connection],
        *,
        timeout_seconds: float,
        turn: Turn,
        probe: Step[object],
        probe_seconds: float = PROBE_SECONDS,
        check: Callable[[], None] = lambda: None,
        make_room: Step[bool] = lambda _: True,
        settle: Callable[[], None] = lambda: None,
    ) -> None:
        """`check` is called before each group and after it: the group fails if it raises. `probe` writes something, if that is possible.
        A writer that is busy calls `make_room` behind each group until it returns True. `settle` returns when what was committed is on
        disk, if commits do not wait for that themselves; others may write meanwhile. What it raises fails the group.
        """
        self._open_connection = open_connection
        self._timeout_seconds = timeout_seconds
        self._turn = turn
        self._probe = probe
        self._probe_seconds = probe_seconds
        self._check = check
        self._make_room = make_room
        self._settle = settle
        self._groups = 0
        self._has_room = False
        self._connection: sqlite3.Connection | None = None
        self._failure = ""  # why the last group could not be written
        self._probe_at = monotonic() + probe_seconds
        self._begun: float | None = None  # when the group under way was begun
        self._ended = False
        self._alike = 0  # changes under way that are made together with their like
        self._alike_lately = 0  # as many were under way when the last group was done
        self._begun_now: list[_Job] = []  # in this turn of the event loop
        self._jobs: SimpleQueue[Sequence[_Job] | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="manifest-writer", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> str:
        """Why nothing can be written: the database failed the last group, one takes longer than the deadline, or the writer has ended."""
        if not self._thread.is_alive():
            return "the manifest's writer has ended"
        return "the manifest does not answer" if self._overdue() else self._failure

    async def run(self, step: Step[Result]) -> Result:
        """Run one step; returns when it is on disk. Cancelled, it happens whole or not at all.

        Raises what the step raised, or `ManifestUnavailable`. If that is because of the deadline, it may have happened all the same.
        """
        future = self._begin(step)
        try:
            returned: Result = _returned(await in_time(future, self._timeout_seconds))
        except TimeoutError:
            raise self._late() from None
        finally:
            self._alike -= isinstance(step, Joint)
        return returned

    def begin(self, step: Step[Result]) -> Begun[Result]:
        """As `run`, for whoever is called back when it has ended."""
        future = self._begin(step)
        timer = self._loop.call_later(self._timeout_seconds, future.cancel)

        def end(_: asyncio.Future[Any]) -> None:
            self._alike -= isinstance(step, Joint)
            timer.cancel()

        def result() -> Result:
            if future.cancelled():  # by the timer, or by whoever waits for it
                raise self._late()
            returned: Result = _returned(future.result())
            return returned

        future.add_done_callback(end)
        return Begun(future, result)

    def _begin(self, step: Step[Any]) -> asyncio.Future[Any]:
        if self._overdue():
            raise ManifestUnavailable("the manifest does not answer")
        future: asyncio.Future[Any] = self._loop.create_future()
        self._alike += isinstance(step, Joint)
        self._begun_now.append(_Job(step, future))
        if len(self._begun_now) == 1:
            self._loop.call_soon(self._queue)
        return future

    def _late(self) -> ManifestUnavailable:
        return ManifestUnavailable(f"the manifest has not answered within {self._timeout_seconds:g} s")

    async def close(self) -> None:
        """Finish what is queued, then stop the thread. A disk that hangs does not hold us up."""
        self._queue()
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join, CLOSE_SECONDS)

    def _queue(self) -> None:
        """Queue what came in one turn of the event loop, so that it is committed together: at the first the thread would be off at once."""
        begun, self._begun_now = self._begun_now, []
        for start in range(0, len(begun), MAX_GROUP):
            self._jobs.put(begun[start : start + MAX_GROUP])
        if self._ended:
            self._refuse_queued()  # this may have been queued after the thread looked for the last time

    def takes_longer_than(self, seconds: float) -> bool:
        """Tell whether the group under way was begun longer ago."""
        begun = self._begun
        return begun is not None and monotonic() - begun >= seconds

    def _overdue(self) -> bool:
        return self.takes_longer_than(self._timeout_seconds)

    def _run(self) -> None:
        try:
            while (group := self._next_group()) is not None:
                if group:
                    self._answer(group)
                    self._groups += 1
                    if self._groups >= BUSY_GROUPS and not self._has_room:
                        self._has_room = self._prepare()
                if monotonic() >= self._probe_at:
                    self._outcomes([], self._probe if self._failure else None)
                    self._probe_at = monotonic() + self._probe_seconds
                del group  # while the thread waits for the next one, it keeps nothing of this
        finally:
            self._ended = True
            self._close_connection()
            self._turn.close()
            self._refuse_queued()

    def _answer(self, group: Sequence[_Job]) -> None:
        outcomes = self._outcomes(group)
        self._alike_lately = self._alike
        for outcome in outcomes:
            if isinstance(outcome, ProxyError):
                _let_go(outcome)
        self._deliver(group, outcomes)

    def _next_group(self) -> list[_Job] | None:
        """Return what is waiting: None at the end, and nothing when it is time for a probe."""
        try:
            jobs = self._jobs.get(timeout=max(0.0, self._probe_at - monotonic()))
        except Empty:
            return []
        if jobs is None:
            return None
        group = list(jobs)
        self._add_waiting(group)
        self._gather(group)
        return group

    def _gather(self, group: list[_Job]) -> None:
        """Wait a moment for those who were answered a moment ago, and no longer than until they are here."""
        until, wanted = monotonic() + GATHER_SECONDS, min(self._alike_lately, MAX_GROUP)
        while len(group) < wanted and all(isinstance(job.step, Joint) for job in group):
            try:
                jobs = self._jobs.get(timeout=max(0.0, until - monotonic()))
            except Empty:
                self._add_waiting(group)  # who came while this thread waited for the interpreter, with the time over
                return
            if jobs is None:
                self._jobs.put(None)
                return
            group += jobs
            self._add_waiting(group)

    def _add_waiting(self, group: list[_Job]) -> None:
        while len(group) < MAX_GROUP and not self._jobs.empty():  # nobody else takes any
            jobs = self._jobs.get_nowait()
            if jobs is None:
                self._jobs.put(None)
                break
            group += jobs

    def _outcomes(self, group: Sequence[_Job], probe: Step[object] | None = None) -> list[object]:
        """Return for each job what its step returned or raised."""
        self._begun = monotonic()
        try:
            return self._commit(group, probe)
        except BaseException as error:  # a thread that ended here would leave its callers waiting
            self._failure = str(_unavailable(error))
            self._close_connection()
            return [_unavailable(error) for _ in group]
        finally:
            self._begun = None

    def _commit(self, group: Sequence[_Job], probe: Step[object] | None) -> list[object]:
        connection = self._opened()
        changes = connection.total_changes
        with self._turn.taken():
            connection.execute("BEGIN IMMEDIATE")
            self._check()
            if probe is not None:
                probe(connection)
            outcomes = [outcome for kind, jobs in groupby(group, _kind) for outcome in _attempt_all(connection, kind, list(jobs))]
            connection.execute("COMMIT")
        has_written = connection.total_changes > changes
        if group or has_written:  # a step that changed nothing may have found what another process has not synced yet
            self._settle()
        self._check()  # before anybody is told
        if has_written:  # a group whose steps changed nothing proves nothing
            self._failure = ""
        return outcomes

    def _prepare(self) -> bool:
        """Make some room, and return whether that is all. What goes wrong here with the database, the next group finds, too, and tells."""
        self._begun = monotonic()
        try:
            with self._turn.taken():
                return self._make_room(self._opened())
        except Exception:
            return True
        finally:
            self._begun = None

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._open_connection()
        return self._connection

    def _close_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _refuse_queued(self) -> None:
        with suppress(Empty):
            while True:
                jobs = self._jobs.get_nowait() or ()
                self._deliver(jobs, [ManifestUnavailable("the manifest is closed")] * len(jobs))

    def _deliver(self, group: Sequence[_Job], outcomes: Sequence[object]) -> None:
        with suppress(RuntimeError):  # the loop is closed, as after a disk that hung: nobody waits any more
            self._loop.call_soon_threadsafe(_set_results, group, outcomes)


def _let_go(error: ProxyError) -> None:
    """Forget the frames that an error and its causes have come through: they hold it, and it would be a cycle. It says all itself."""
    behind: BaseException | None = error
    while behind is not None:
        behind.__traceback__ = None
        behind = behind.__cause__ or behind.__context__


def _returned(box: list[Result | Exception]) -> Result:
    """Return what is in the box, or raise it. It is taken out: the frames that it is raised through hold the future, which has the box."""
    outcome = box.pop()
    if isinstance(outcome, Exception):  # raised here: a future would not take every exception
        try:
            raise outcome
        finally:
            del outcome  # it holds this frame
    return outcome


def _kind(job: _Job) -> Steps[Any, Any] | None:
    """Return what makes a change together with others; None if nothing does."""
    return job.step.steps if isinstance(job.step, Joint) else None


def _attempt_all(connection: sqlite3.Connection, kind: Steps[Any, Any] | None, jobs: Sequence[_Job]) -> Sequence[object]:
    """Return the outcome of each of some jobs of one kind."""
    begun = [not job.future.cancelled() for job in jobs]
    if kind is not None and sum(begun) > 1:
        items = [job.step.item for job in compress(jobs, begun) if isinstance(job.step, Joint)]
        outcomes = _attempt(connection, lambda connection: kind(connection, items))
        if not isinstance(outcomes, Exception):
            made = iter(outcomes)
            return [next(made) if is_begun else None for is_begun in begun]
    return [None if job.future.cancelled() else _attempt(connection, job.step) for job in jobs]


def _attempt(connection: sqlite3.Connection, step: Step[Result]) -> Result | Exception:
    """Return what a step returned, or what it raised: then it has changed nothing."""
    connection.execute("SAVEPOINT step")
    result: Result | Exception
    try:
        result = step(connection)
    except Exception as error:
        # SQLite may have ended the transaction, as on a full disk: https://www.sqlite.org/lang_transaction.html
        if not connection.in_transaction or _database_fails(error):
            raise
        connection.execute("ROLLBACK TO step")
        result = _unavailable(error) if isinstance(error, sqlite3.Error) else error
    connection.execute("RELEASE step")
    return result


def _database_fails(error: Exception) -> bool:
    """Tell whether it is the database that fails, and with it whatever else is written, rather than this step."""
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _DATABASE_FAILS


def _unavailable(error: BaseException) -> ManifestUnavailable:
    failure = ManifestUnavailable(f"the manifest cannot be written: {error}")
    failure.__cause__ = error
    return failure


def _set_results(group: Sequence[_Job], outcomes: Sequence[object]) -> None:
    for job, outcome in zip(group, outcomes, strict=True):
        if not job.future.done():
            job.future.set_result([outcome])
