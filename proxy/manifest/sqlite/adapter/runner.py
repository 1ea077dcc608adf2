"""Running steps on the database: reads in threads, changes by the one writer, each with a deadline."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from proxy.clock import Clock
from proxy.errors import ManifestUnavailable
from proxy.manifest.begun import Begun
from proxy.manifest.sqlite import epoch
from proxy.manifest.sqlite.batches import prepare
from proxy.manifest.sqlite.callers import KeptCallers
from proxy.manifest.sqlite.database import BUSY_SHARE, connect, identity
from proxy.manifest.sqlite.glances import Glances
from proxy.manifest.sqlite.group_commit import GroupCommitter, Joint, Steps
from proxy.manifest.sqlite.log_head import LogHead
from proxy.manifest.sqlite.log_room import make_room
from proxy.manifest.sqlite.log_sync import IS_TOLD, LogSync
from proxy.manifest.sqlite.readers import Readers
from proxy.manifest.sqlite.schema import probe_writing
from proxy.manifest.sqlite.small_database import SmallDatabase
from proxy.manifest.sqlite.turn import Turn

P = ParamSpec("P")
Item = TypeVar("Item")
Result = TypeVar("Result")
DOUBT_SECONDS = 0.25  # a group or a question that takes longer waits for the disk, or for another process
Step = Callable[Concatenate[sqlite3.Connection, P], Result]


class StepRunner:
    """Base of the adapter's verbs, which are grouped by what they are about."""

    def __init__(self, path: Path, clock: Clock, *, timeout_seconds: float) -> None:
        self._clock = clock
        self._changed_ms = 0
        self._path = path
        self._identity = identity(path)
        self._busy_seconds = timeout_seconds * BUSY_SHARE
        self._points = Readers(self._connect_for_little, count=1, name="manifest-read", timeout_seconds=timeout_seconds)
        self._listings = Readers(self._connect, count=2, name="manifest-list", timeout_seconds=timeout_seconds)
        self._syncs = Readers(self._connect, count=1, name="manifest-sync", timeout_seconds=timeout_seconds)
        self._log = LogSync(path)
        self._committer = GroupCommitter(
            self._connect_writer,
            timeout_seconds=timeout_seconds,
            turn=Turn(path),
            probe=probe_writing,
            check=self._check_writable,
            make_room=partial(make_room, database=path, check=self._check_still_there),
            settle=self._log.settle,
        )
        self._glances = Glances(
            self._points,
            self._connect_for_little,
            is_in_doubt=self._is_in_doubt,
            find_log=lambda: LogHead.find(path),
            small=SmallDatabase(path),
        )
        self._callers = KeptCallers(self._glances.may_have_written, self._glances.may_read_more)
        # For a read that takes microseconds, and that comes again soon. What it returns may not be on the disk yet: nobody may act on it
        # but by a change of the manifest.
        self._glance = self._glances.ask

    @property
    def trouble(self) -> str:
        return self._committer.trouble or self._points.trouble or self._listings.trouble or self._syncs.trouble

    async def close(self) -> None:
        await self._committer.close()
        self._glances.close()
        await self._points.close()
        await self._listings.close()
        await self._syncs.close()
        self._log.close()

    def _connect(self) -> sqlite3.Connection:
        """Connect to the file that was opened first.

        One that was put in its place knows of other objects. It must not even be looked at: SQLite would take the log that still lies
        beside it for that file's own, write it in there, and remove it.
        """
        self._check_still_there()
        connection = connect(self._path, busy_seconds=self._busy_seconds)
        try:
            self._check_still_there()
        except ManifestUnavailable:
            connection.close()
            raise
        return connection

    def _connect_for_little(self) -> sqlite3.Connection:
        """Connect for questions and changes that need a few pages each, and read these without mapping the file.

        SQLite maps it anew after each commit of another connection, and each page is then faulted in again: a question behind a commit took
        121 us that way, and takes 44. Who reads many pages at a time has them mapped, sixteen at each fault.
        """
        connection = self._connect()
        connection.execute("PRAGMA mmap_size = 0")
        return connection

    def _connect_writer(self) -> sqlite3.Connection:
        """Connect for commits, which the log is synced behind."""
        connection = self._connect_for_little()
        try:
            prepare(connection)
            if IS_TOLD:
                self._log.open(connection)
                connection.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _is_in_doubt(self) -> bool:
        return self._committer.takes_longer_than(DOUBT_SECONDS) or self._points.take_longer_than(DOUBT_SECONDS)

    def _check_still_there(self) -> None:
        """A file that was moved away or replaced can still be written to, and what is written is lost."""
        try:
            found = identity(self._path)
        except OSError as error:
            raise ManifestUnavailable(f"{self._path} cannot be found: {error.strerror}; put it back, or see docs/RUNBOOK.md") from error
        if found != self._identity:
            raise ManifestUnavailable(f"{self._path} is another file than this server has opened: put that back, or restart the server")

    def _check_writable(self) -> None:
        self._log.refuse_spoiled()
        self._check_still_there()

    async def _write(self, step: Step[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """Make a change that a copy of the manifest would miss."""
        try:
            return await self._note(step, *args, **kwargs)
        finally:  # past its deadline it may have happened all the same
            self._changed()

    async def _write_together(self, steps: Steps[Item, Result], item: Item) -> Result:
        """As `_write`, in one step with its like that come right before and behind it."""
        try:
            return await self._committer.run(Joint(steps, item))
        finally:
            self._changed()

    def _begin_together(self, steps: Steps[Item, Result], item: Item) -> Begun[Result]:
        """As `_write_together`, for whoever is called back."""
        begun = self._committer.begin(Joint(steps, item))
        begun.ended.add_done_callback(self._changed)
        return begun

    def _changed(self, _: object = None) -> None:
        self._changed_ms = self._clock.now_ms()

    async def _note(self, step: Step[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """Make a change that a copy of the manifest can do without: it finds out by itself, or the change matters only now."""

        def unless_fenced(connection: sqlite3.Connection) -> Result:
            epoch.refuse_fenced(connection)
            return step(connection, *args, **kwargs)

        return await self._committer.run(unless_fenced)

    async def _read(self, step: Step[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """Run a read that takes microseconds. What it returns is on the disk."""
        answer = await self._points.ask(step, *args, **kwargs)
        await self._settle()
        return answer

    async def _list(self, step: Step[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """Run a read that may take milliseconds, beside the quick ones. What it returns is on the disk."""
        answer = await self._listings.ask(step, *args, **kwargs)
        await self._settle()
        return answer

    async def _list_early(self, step: Step[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """As `_list`, for what clients are shown: as with a glance, it may not be on the disk yet. On a disk that hangs they are served."""
        return await self._listings.ask(step, *args, **kwargs)

    async def _settle(self) -> None:
        """Wait until all that has been read is on the disk: see `log_sync`."""
        if not self._log.is_settled():
            await self._syncs.ask(self._log.settle_for_readers)


def each_unless_fenced(steps: Steps[Item, Result]) -> Steps[Item, Result]:
    """Return the steps that carry out many changes in one, or none of them in a copy of the manifest that is not to be written."""

    def run(connection: sqlite3.Connection, items: Sequence[Item]) -> Sequence[Result | Exception]:
        epoch.refuse_fenced(connection)
        return steps(connection, items)

    return run
