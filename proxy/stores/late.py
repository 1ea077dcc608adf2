"""A store whose opening takes long, behind a mount or a credential service that hangs: it fails every call until it is open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from proxy.errors import StoreNotAsked, StoreRejected
from proxy.stores.convoy import Ride, boards
from proxy.stores.protocol import ShardName, Store, StoreInfo, reads_at_once


class LateStore:
    """Stands for the store that `opening` will return. If that raises, the store is refused for good."""

    def __init__(self, info: StoreInfo, opening: asyncio.Future[Store]) -> None:
        self.info = info
        self._opening = opening

    async def put(self, name: ShardName, body: Sequence[bytes | bytearray | memoryview]) -> None:
        await self._opened().put(name, body)

    async def get_range(self, name: ShardName, start: int, length: int) -> memoryview | bytes:
        return await self._opened().get_range(name, start, length)

    def read_at_once(self, name: ShardName, start: int, length: int) -> memoryview | bytes | None:
        return reads_at_once(self._opening.result())(name, start, length) if self._is_open else None

    def board(self, name: ShardName, body: Sequence[bytes | bytearray | memoryview], size_bytes: int) -> Ride | None:
        return boards(self._opening.result())(name, body, size_bytes) if self._is_open else None

    async def get(self, name: ShardName) -> memoryview | bytes:
        return await self._opened().get(name)

    async def list(self, prefix: str = "") -> AsyncIterator[tuple[ShardName, int]]:
        async for entry in self._opened().list(prefix):
            yield entry

    async def delete(self, name: ShardName) -> None:
        await self._opened().delete(name)

    async def close(self) -> None:
        if self._is_open:
            await self._opening.result().close()
        self._opening.cancel()

    @property
    def _is_open(self) -> bool:
        return self._opening.done() and not self._opening.cancelled() and self._opening.exception() is None

    def _opened(self) -> Store:
        if not self._opening.done() or self._opening.cancelled():
            raise StoreNotAsked(self.info.name, "not open yet: what it lies on does not answer")
        try:
            return self._opening.result()
        except Exception as error:  # a library's, too: the others are read and written without this store
            raise StoreRejected(self.info.name, str(error)) from error
