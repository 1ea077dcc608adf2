"""Limits on one store: how many requests at once, and how long each may take, its wait for a turn included."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence

from proxy.stores.convoy import Ride, boards
from proxy.stores.deadline import DeadlineStore
from proxy.stores.protocol import ShardName, Store, reads_at_once


class LimitedStore(DeadlineStore):
    """A store of bounded concurrency behind a deadline.

    The deadline lies outside the limit: behind a store that hangs, those who wait for a turn fail with those who have one,
    not one full deadline after another.
    """

    def __init__(self, inner: Store, *, concurrency: int, put_seconds: float, get_seconds: float) -> None:
        super().__init__(GatedStore(inner, concurrency=concurrency), put_seconds=put_seconds, get_seconds=get_seconds)


class GatedStore:
    """At most `concurrency` requests at once; the others wait in order, and may be cancelled while they do."""

    def __init__(self, inner: Store, *, concurrency: int) -> None:
        self._inner = inner
        self.info = inner.info
        self.read_at_once = reads_at_once(inner)
        self._gate = _Gate(concurrency)
        self._board = boards(inner)

    async def put(self, name: ShardName, body: Sequence[bytes | bytearray | memoryview]) -> None:
        if not self._gate.enter_at_once():
            await self._gate.enter()
        try:
            await self._inner.put(name, body)
        finally:
            self._gate.leave()

    def board(self, name: ShardName, body: Sequence[bytes | bytearray | memoryview], size_bytes: int) -> Ride | None:
        if not self._gate.enter_at_once():
            return None
        ride = self._board(name, body, size_bytes)
        if ride is None:
            self._gate.leave()
        else:
            ride.at_end = self._gate.leave
        return ride

    async def get_range(self, name: ShardName, start: int, length: int) -> memoryview | bytes:
        await self._gate.enter()
        try:
            return await self._inner.get_range(name, start, length)
        finally:
            self._gate.leave()

    async def get(self, name: ShardName) -> memoryview | bytes:
        await self._gate.enter()
        try:
            return await self._inner.get(name)
        finally:
            self._gate.leave()

    async def list(self, prefix: str = "") -> AsyncIterator[tuple[ShardName, int]]:
        # A turn for each step: whoever consumes slowly does not keep others out meanwhile.
        entries = aiter(self._inner.list(prefix))
        while True:
            await self._gate.enter()
            try:
                entry = await anext(entries, None)
            finally:
                self._gate.leave()
            if entry is None:
                return
            yield entry

    async def delete(self, name: ShardName) -> None:
        await self._gate.enter()
        try:
            await self._inner.delete(name)
        finally:
            self._gate.leave()

    async def close(self) -> None:
        await self._inner.close()


class _Gate:
    """A semaphore that costs 0.3 us a turn while nobody waits; asyncio's takes 2."""

    __slots__ = ("_free", "_waiting")

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting: deque[asyncio.Future[None]] = deque()

    def enter_at_once(self) -> bool:
        """Enter if nobody has to be waited for, and tell whether that is so."""
        if not self._free or self._waiting:
            return False
        self._free -= 1
        return True

    async def enter(self) -> None:
        if self.enter_at_once():
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()  # it was let in at the same instant
            raise

    def leave(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)  # the place goes on to it
                return
        self._free += 1
