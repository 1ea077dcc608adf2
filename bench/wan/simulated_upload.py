"""Uploads in simulated time: the engine's own filler and budget, threads that only take time, and fast clients."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import cast

from bench.workloads import KIB, MIB
from proxy.codec.geometry import Scheme, SegmentGeometry
from proxy.codec.segment import SegmentKeys
from proxy.engine.memory.budget import Budget
from proxy.engine.memory.grant import Grant
from proxy.engine.writing.body import Body, Digests
from proxy.engine.writing.cut import Cut
from proxy.engine.writing.filling import CodingThreads, Filler, Threads
from proxy.engine.writing.intents import IntentLedger
from proxy.engine.writing.plaintext import Plaintext
from proxy.engine.writing.segments import BodySegments
from proxy.engine.writing.write import SEGMENTS_IN_FLIGHT
from proxy.manifest.records import SegmentId

SEGMENT_SIZE = 16 * MIB
PIECE = memoryview(bytes(512 * KIB))


class SimulatedThreads(Threads):
    """Takes so long for each step, one after the other, and does nothing."""

    def __init__(self, step_seconds: float) -> None:
        self._step_seconds = step_seconds
        self._busy_until = 0.0

    def begin(self, call: Callable[[], None]) -> asyncio.Future[None]:  # noqa: ARG002 - the protocol's
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        self._busy_until = max(self._busy_until, loop.time()) + self._step_seconds
        loop.call_at(self._busy_until, ended.set_result, None)
        return ended


class Zeros(Body):
    """A body of zeros. Its client may be silent for a while before the last piece."""

    def __init__(self, size_bytes: int, *, silent_seconds: float = 0.0) -> None:
        self._size_bytes = size_bytes
        self._silent_seconds = silent_seconds

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def memory_to_fill(self, size_bytes: int) -> int:  # noqa: ARG002 - the protocol's
        return 0

    async def chunks(self) -> AsyncIterator[memoryview]:
        for start in range(0, self._size_bytes, len(PIECE)):
            await asyncio.sleep(self._silent_seconds if start + len(PIECE) >= self._size_bytes else 0)
            yield PIECE[: self._size_bytes - start]

    def digest(self, data: bytes | memoryview) -> None:
        """Threads do nothing here."""

    def finish(self) -> Digests:
        raise NotImplementedError


class Uploads:
    """Fills segments and stores them, as `Writer` does. `step_seconds` is what sealing a mebibyte takes, and hashing it."""

    def __init__(self, budget: Budget, scheme: Scheme, store: Callable[[int], Awaitable[None]], *, step_seconds: float) -> None:
        threads = SimulatedThreads(step_seconds)
        self._filler = Filler(ledger=cast(IntentLedger, _Ledger()), budget=budget, threads=CodingThreads(threads, threads))
        self._scheme = scheme
        self._store = store
        self.filled_at: list[float] = []

    async def upload(self, body: Body) -> None:
        """Return when all is stored."""
        segments, plaintext, cut = _Segments(), Plaintext(body.chunks()), Cut(body, SEGMENT_SIZE)
        stored: deque[asyncio.Task[None]] = deque()
        while size := await cut.next_size():
            geometry = SegmentGeometry(self._scheme, size)
            await self._filler.fill(cast(BodySegments, segments), geometry, plaintext, body, cut, owner="t")
            self.filled_at.append(asyncio.get_running_loop().time())
            stored.append(asyncio.create_task(self._stored(segments.held[-1], size)))
            while len(stored) > SEGMENTS_IN_FLIGHT:
                await stored.popleft()
        await asyncio.gather(*stored)

    async def _stored(self, held: Grant, size_bytes: int) -> None:
        await self._store(size_bytes)
        held.release()


class _Ledger:
    async def take(self) -> SegmentId:
        return SegmentId(bytes(16))


class _Segments:
    """One body's segments, as far as they are filled."""

    def __init__(self) -> None:
        self.held: list[Grant] = []

    def begin(self, segment_id: SegmentId, geometry: SegmentGeometry, held: Grant) -> SegmentKeys:
        self.held.append(held)
        return SegmentKeys(geometry, segment_id=segment_id, data_key=bytes(32), tenant_key_id="0" * 32)

    def seal(self) -> None:
        """Never here: threads do nothing."""
