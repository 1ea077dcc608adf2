"""What stands for threads: steps of the manifest and blocking calls run where they are called, each in its turn."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar
from unittest.mock import patch

from proxy.errors import ManifestUnavailable
from proxy.lanes import Cancelled
from proxy.manifest.sqlite.group_commit import GroupCommitter, Step, _Job, _returned, _set_results
from tests.fault.machine.turns import Life, Turns

Result = TypeVar("Result")


class SimulatedCommitter(GroupCommitter):
    """The manifest's writer without its thread: whoever gets a turn commits all that wait with it, and each answer waits for a turn."""

    def __init__(self, life: Life, turns: Turns, open_connection: Callable[[], sqlite3.Connection], **options: Any) -> None:
        with patch("threading.Thread.start"):
            super().__init__(open_connection, **options)
        self._life = life
        self._turns = turns
        self._queued: list[_Job] = []

    @property
    def trouble(self) -> str:
        return self._failure

    async def run(self, step: Step[Result]) -> Result:
        job = _Job(step, asyncio.get_running_loop().create_future())
        self._queued.append(job)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._commit_in_turn(job)
                outcome = await job.future
        except TimeoutError:
            raise ManifestUnavailable("the manifest has not answered in time") from None
        finally:
            job.future.cancel()  # of no consequence once it has been committed
        returned: Result = _returned(outcome)
        return returned

    async def close(self) -> None:
        self._close_connection()
        self._turn.close()

    async def _commit_in_turn(self, job: _Job) -> None:
        await self._turns.take(self._life, "commit")
        if not job.future.done():
            group, self._queued = self._queued, []
            _set_results(group, self._outcomes(group))
        await self._turns.take(self._life, "committed")


class SimulatedLanes:
    """Lanes without threads."""

    def __init__(self, life: Life, turns: Turns, *, at_end: Callable[[], None] = lambda: None) -> None:
        self._life = life
        self._turns = turns
        self._at_end = at_end

    async def run(self, call: Callable[[Cancelled], Result], *, timeout_seconds: float | None = None) -> Result:
        async with asyncio.timeout(timeout_seconds):
            await self._turns.take(self._life, "read")
        return call(lambda: False)

    def begin(self, call: Callable[[], Result]) -> asyncio.Future[Result]:
        """What is begun is over at once: only the processor is busy with it, and nobody could tell."""
        return asyncio.get_running_loop().run_in_executor(None, call)

    def close(self) -> None:
        self._at_end()

    async def close_and_wait(self, timeout_seconds: float) -> None:
        self.close()
