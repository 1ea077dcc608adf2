"""A bucket behind a line of the bench, as a store of the engine: no sockets, no threads, and nothing is kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Literal

from bench.wan.line import PACKET, Line
from proxy.errors import StoreUnavailable
from proxy.stores.protocol import ShardName, StoreInfo

HEAD_SIZE = 300  # of a request, or of an answer without a body
LOOK_SECONDS = 1.0  # how soon a request that hangs notices that the line no longer does


class SimulatedBucket:
    """Answers every read with zeros. As with HTTP/1.1, a request that is given up costs its connection, and a new one a round trip more."""

    def __init__(self, info: StoreInfo, line: Line) -> None:
        self.info = info
        self._line = line
        self._idle = 0  # connections

    async def put(self, name: ShardName, body: Sequence[bytes | bytearray | memoryview]) -> None:  # noqa: ARG002 -- the protocol's signature
        await self._exchange(sum(map(len, body)), HEAD_SIZE)

    async def get_range(self, name: ShardName, start: int, length: int) -> bytes:  # noqa: ARG002 -- the protocol's signature
        await self._exchange(HEAD_SIZE, length)
        return bytes(length)

    async def get(self, name: ShardName) -> bytes:
        raise NotImplementedError

    async def list(self, prefix: str = "") -> AsyncIterator[tuple[ShardName, int]]:  # noqa: ARG002 -- the protocol's signature
        raise NotImplementedError
        yield

    async def delete(self, name: ShardName) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        """Nothing is open."""

    async def _exchange(self, up_bytes: int, down_bytes: int) -> None:
        handshake_seconds = 0.0 if self._idle else 2 * self._line.delay()
        self._idle = max(self._idle - 1, 0)
        self._line.requests += 1
        await self._travel("up", up_bytes, self._line.delay() + handshake_seconds)
        await self._travel("down", down_bytes, self._line.delay())
        self._idle += 1

    async def _travel(self, direction: Literal["up", "down"], size_bytes: int, delay_seconds: float) -> None:
        """Wait for the line, packet by packet and in turns with others, and then for the way."""
        now = asyncio.get_running_loop().time
        for start in range(0, size_bytes, PACKET):
            await self._reach()
            await asyncio.sleep(self._line.book(direction, min(PACKET, size_bytes - start), now()) - now())
        await asyncio.sleep(delay_seconds)
        await self._reach()

    async def _reach(self) -> None:
        """Go on if the line lets anything through. Raises `StoreUnavailable` if the connection is reset."""
        while self._line.state == "hanging":
            await asyncio.sleep(LOOK_SECONDS)
            if self._line.state != "hanging":
                raise StoreUnavailable(self.info.name, "reset")
        if self._line.state == "dead":
            self._idle = 0
            await asyncio.sleep(2 * self._line.delay())
            raise StoreUnavailable(self.info.name, "reset")
