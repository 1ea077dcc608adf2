"""Stragglers: puts still under way when their version was committed. Each has an owner here until it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from proxy.engine.quorum import Placed
from proxy.errors import ProxyError
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import ExtentId

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class BackgroundTasks:
    """Tasks that outlive the request which began them; stopped and awaited together."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, coroutine: Coroutine[object, object, object]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def run(self, coroutine: Coroutine[object, object, Result]) -> Result:
        """Run to the end even if the caller is cancelled while it waits, and return the result."""
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def drain(self, timeout_seconds: float) -> None:
        """Wait for all, then cancel what is left."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=timeout_seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


class Stragglers:
    """Follows tails to their end and records what arrived."""

    def __init__(self, manifest: Manifest, tasks: BackgroundTasks) -> None:
        self._manifest = manifest
        self._tasks = tasks

    def adopt(self, extent_id: ExtentId, segments: Sequence[Placed], release: Callable[[Placed], None]) -> None:
        """Follow the tails of a committed extent; `release` is called for each segment when its buffers are free."""
        for placed in segments:
            if placed.tail:
                self._tasks.start(self._follow(extent_id, placed, release))

    async def disown(self, segments: Sequence[Placed], release: Callable[[Placed], None]) -> None:
        """Cancel the tails of a write that failed."""
        for placed in segments:
            for task in placed.tail.values():
                task.cancel()
            await asyncio.gather(*placed.tail.values(), return_exceptions=True)
            if placed.tail:
                release(placed)

    async def _follow(self, extent_id: ExtentId, placed: Placed, release: Callable[[Placed], None]) -> None:
        try:
            for index, task in placed.tail.items():
                await self._record(extent_id, placed, index, task)
        finally:
            for task in placed.tail.values():
                task.cancel()
            release(placed)

    async def _record(self, extent_id: ExtentId, placed: Placed, index: int, task: asyncio.Task[None]) -> None:
        try:
            await task
            await self._manifest.record_shard(extent_id, placed.segment_id, index)
        except ProxyError as error:  # it stays on record as missing, for repair
            logger.warning("shard %d of segment %s did not arrive: %s", index, placed.segment_id.hex(), error)
