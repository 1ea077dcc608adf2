"""The read path: from a version's extents to authenticated plaintext, whatever up to m stores do.

A range is cut into windows of whole stripes (`windows`), each of which is fetched (`fetch`) while the one before it is being sent.

The source of a copy is read in the memory of the segment it is copied into: in runs as long as that segment. Nothing of the next run is on
its way, and nothing of the last one kept, while the copy waits for the memory of its next segment.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import aclosing

from proxy.engine.budget import Budget, Grant
from proxy.engine.fetch import WindowFetch
from proxy.engine.fleet import Fleet
from proxy.engine.windows import SOURCE_WINDOW_SIZE, Window, plan_windows, touched_extents
from proxy.keyring import TenantCipher
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Extent, Version


class Reader:
    """Streams versions out of the fleet."""

    def __init__(self, *, manifest: Manifest, fleet: Fleet, budget: Budget, threads: Executor) -> None:
        self._manifest = manifest
        self._fleet = fleet
        self._budget = budget
        self._threads = threads

    async def open(self, version: Version, cipher: TenantCipher, start: int, length: int) -> AsyncIterator[memoryview]:
        """Return the plaintext bytes start .. start+length-1, as they are fetched. `ExtentMissing` if the version is gone.

        The iterator raises `NotEnoughShards` or `KeyUnavailable`, perhaps in the middle.
        """
        extents, start = await self._load(version, start, length)
        return self._read(plan_windows(extents, start, length), cipher, charged=True)

    async def open_source(
        self, version: Version, cipher: TenantCipher, start: int, length: int, *, run_size: int
    ) -> AsyncGenerator[memoryview]:
        """As `open`, for a copy into segments of `run_size`, whose writer has memory for the source as well: see `source_memory`."""
        extents, start = await self._load(version, start, length)
        return self._read_runs(extents, cipher, start, length, run_size)

    async def _load(self, version: Version, start: int, length: int) -> tuple[Sequence[Extent], int]:
        # All extents that will be read, at once: were the version deleted meanwhile, its shards stay a while, but not its extents.
        refs, start = touched_extents(version.extents, start, length)
        return await self._manifest.load_extents([ref.id for ref in refs]), start

    async def _read_runs(
        self, extents: Sequence[Extent], cipher: TenantCipher, start: int, length: int, run_size: int
    ) -> AsyncGenerator[memoryview]:
        for low in range(start, start + length, run_size):
            run = min(run_size, start + length - low)
            windows = plan_windows(extents, low, run, first_size=SOURCE_WINDOW_SIZE, size=SOURCE_WINDOW_SIZE)
            async with aclosing(self._read(windows, cipher, charged=False)) as pieces:
                async for piece in pieces:
                    yield piece

    async def _read(self, windows: Iterator[Window], cipher: TenantCipher, *, charged: bool) -> AsyncGenerator[memoryview]:
        window = next(windows, None)
        ahead = None if window is None else asyncio.create_task(self._fetch(window, cipher, charged=charged))
        try:
            while ahead is not None:
                pieces, held = await ahead
                try:
                    window = next(windows, None)
                    ahead = None if window is None else asyncio.create_task(self._fetch(window, cipher, charged=charged))
                    pieces.reverse()
                    while pieces:  # what has been passed on is not kept beside the rest
                        yield pieces.pop()
                finally:
                    held.release()
        finally:
            if ahead is not None:
                await self._drop(ahead)
            ahead = None  # its error holds this frame

    async def _drop(self, ahead: asyncio.Task[tuple[list[memoryview], Grant]]) -> None:
        ahead.cancel()
        outcome = (await asyncio.gather(ahead, return_exceptions=True))[0]
        if isinstance(outcome, tuple):
            outcome[1].release()

    async def _fetch(self, window: Window, cipher: TenantCipher, *, charged: bool) -> tuple[list[memoryview], Grant]:
        """Return a window's plaintext and the memory granted for it."""
        fetch = WindowFetch(window, cipher, self._fleet, self._threads)
        held = await self._budget.acquire(fetch.memory_bytes if charged else 0)
        try:
            return await fetch.run(), held
        except BaseException:
            held.release()
            raise
