"""How a server is stopped: a signal asks it to finish, breaks off a start, and the second one ends the process at once.

A worker takes as many signals as come for the first: systemd, for one, signals every process of a unit, and the supervisor, signalled as
well, passes its own on. To end workers at once, tell the supervisor, which kills them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

logger = logging.getLogger(__name__)


class Stop:
    """What SIGINT and SIGTERM ask of one task, of a process alone or of a supervisor's `worker`."""

    def __init__(self, task: asyncio.Task[object], *, worker: bool) -> None:
        self._worker = worker
        self._asked = asyncio.Event()
        self._starting: asyncio.Task[object] | None = task

    @property
    def asked(self) -> bool:
        return self._asked.is_set()

    def started(self) -> None:
        """Cancel no more: from now on, who is asked to stop waits for it, and finishes."""
        self._starting = None

    async def wait(self) -> None:
        await self._asked.wait()

    def heed(self, number: int) -> None:
        """Take a signal."""
        if self.asked and self._worker:
            return
        if self.asked:
            os._exit(128 + number)  # nothing is lost: whatever was acknowledged is on disk
        self._asked.set()
        if self._starting is not None:
            self._starting.cancel()
        elif not self._worker:
            logger.info("stopping, once the requests in flight have their answers; another signal ends it at once")


@contextmanager
def stopped_by_signals(*, worker: bool) -> Iterator[Stop]:
    """Give signals to the current task's `Stop`. A start that was broken off ends here, silently."""
    task = asyncio.current_task()
    assert task is not None
    stop = Stop(task, worker=worker)
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, partial(stop.heed, number))
    try:
        yield stop
    except asyncio.CancelledError:
        if not stop.asked or task.uncancel():
            raise
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
