"""Background tasks: each has an owner here until it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class BackgroundTasks:
    """Tasks that outlive the request which began them; stopped and awaited together."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, coroutine: Coroutine[object, object, Result]) -> asyncio.Task[Result]:
        """Begin a task. Whoever waits for it shields it, unless the task is to end with them."""
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def run(self, coroutine: Coroutine[object, object, Result]) -> Result:
        """Run to the end even if the caller is cancelled while it waits, and return the result."""
        return await asyncio.shield(self.start(coroutine))

    async def drain(self, timeout_seconds: float) -> None:
        """Wait for all, then cancel what is left."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=timeout_seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
