"""Limits on one store: how many requests at once, and how long each may take, its wait for a turn included."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from proxy.stores.deadline import DeadlineStore
from proxy.stores.protocol import ShardName, Store, StoreInfo


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
        self._gate = asyncio.Semaphore(concurrency)

    @property
    def info(self) -> StoreInfo:
        return self._inner.info

    async def put(self, name: ShardName, body: Sequence[bytes | bytearray | memoryview]) -> None:
        async with self._gate:
            await self._inner.put(name, body)

    async def get_range(self, name: ShardName, start: int, length: int) -> memoryview | bytes:
        async with self._gate:
            return await self._inner.get_range(name, start, length)

    async def get(self, name: ShardName) -> memoryview | bytes:
        async with self._gate:
            return await self._inner.get(name)

    async def list(self, prefix: str = "") -> AsyncIterator[tuple[ShardName, int]]:
        # A turn for each step: whoever consumes slowly does not keep others out meanwhile.
        entries = aiter(self._inner.list(prefix))
        while True:
            async with self._gate:
                entry = await anext(entries, None)
            if entry is None:
                return
            yield entry

    async def delete(self, name: ShardName) -> None:
        async with self._gate:
            await self._inner.delete(name)

    async def close(self) -> None:
        await self._inner.close()
