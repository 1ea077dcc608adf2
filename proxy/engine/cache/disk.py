"""The directory of the cache, beside the event loop: its disk may be slow, hang, be full or fail, and no read may suffer for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from proxy.engine.cache.folder import CacheFolder
from proxy.engine.cache.keys import CacheKey
from proxy.engine.tasks import BackgroundTasks
from proxy.errors import NoThread
from proxy.lanes import Lanes

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
LANES = 2  # one may hang
READ_SECONDS = 0.25  # a distant store has answered by then
WRITE_SECONDS = 10.0
PENDING_BYTES = 8 * 1024 * 1024  # that wait to be written; what is beyond is not kept
LATE_TO_TURN_OFF = 3  # in a row: a busy machine may be late once
OFF_SECONDS = 30.0  # without the disk, after it has failed


class CacheDisk:
    """Reads within a deadline, writes behind, and does without the disk for a while when it fails."""

    def __init__(self, folder: CacheFolder, tasks: BackgroundTasks) -> None:
        self._folder = folder
        self._tasks = tasks
        self._lanes = Lanes(LANES, name="cache")
        self._pending: dict[CacheKey, bytes] = {}
        self._pending_bytes = 0
        self._spoilt: set[CacheKey] = set()  # that wait to be removed
        self._is_writing = False
        self._off_until = 0.0
        self._late = 0  # calls in a row that were not answered in time

    async def begin(self) -> None:
        """Make the directory. Raises `OSError`; one that does not answer is done without for a while."""
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await self._lanes.run(lambda _: self._folder.make())
        except TimeoutError:
            self._fail(f"it did not answer in {WRITE_SECONDS:g} s")

    async def read(self, wanted: Mapping[CacheKey, int]) -> dict[CacheKey, bytes]:
        """Return what there is of these keys, each of the size given. Nothing, if the disk does not answer."""
        return await self._run(lambda: self._folder.read(wanted), READ_SECONDS) or {}

    def write(self, key: CacheKey, sealed: bytes) -> None:
        """Keep an entry, soon."""
        if self._pending_bytes + len(sealed) > PENDING_BYTES or key in self._pending or self._is_off():
            return
        self._pending[key] = sealed
        self._pending_bytes += len(sealed)
        self._begin()

    def remove(self, key: CacheKey) -> None:
        """Remove what does not open, soon, and before anything is written in its place."""
        self._pending_bytes -= len(self._pending.pop(key, b""))
        self._spoilt.add(key)
        self._begin()

    def close(self) -> None:
        """Let the threads end. What waits to be written is lost."""
        self._lanes.close()

    def _begin(self) -> None:
        if not self._is_writing:
            self._is_writing = True
            self._tasks.start(self._write())

    async def _write(self) -> None:
        try:
            while self._pending or self._spoilt:
                spoilt, self._spoilt = self._spoilt, set()
                entries, self._pending, self._pending_bytes = list(self._pending.items()), {}, 0
                await self._run(partial(self._exchange, spoilt, entries), WRITE_SECONDS)
        finally:
            self._is_writing = False

    def _exchange(self, spoilt: Iterable[CacheKey], entries: Sequence[tuple[CacheKey, bytes]]) -> None:
        for key in spoilt:
            self._folder.remove(key)
        self._folder.write(entries)

    async def _run(self, call: Callable[[], Result], seconds: float) -> Result | None:
        if self._is_off():
            return None
        try:
            async with asyncio.timeout(seconds):
                result = await self._lanes.run(lambda _: call())
        except NoThread:
            return None
        except TimeoutError:
            self._late += 1
            if self._late >= LATE_TO_TURN_OFF:
                self._fail(f"it did not answer in {seconds:g} s")
        except OSError as error:
            self._fail(str(error))
        else:
            self._late = 0
            return result
        return None

    def _is_off(self) -> bool:
        return asyncio.get_running_loop().time() < self._off_until

    def _fail(self, reason: str) -> None:
        self._late = 0
        self._off_until = asyncio.get_running_loop().time() + OFF_SECONDS
        self._pending, self._pending_bytes, self._spoilt = {}, 0, set()
        logger.warning("the directory of the cache is not used for %g s: %s", OFF_SECONDS, reason)
