"""A store that misbehaves on demand: slow, failing, full, truncating, lying, keeping what it refuses, losing data or answers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence

from proxy.errors import StoreRejected, StoreUnavailable
from proxy.stores.protocol import ShardName, Store, StoreInfo


class FaultyStore:
    """Wraps a store. Set an attribute to break it, clear it to mend it."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.down = False
        self.rejects = False
        self.hanging = False
        self.slow_seconds = 0.0
        self.loses_puts = False
        self.loses_answers = False
        self.keeps_what_it_refuses = False
        self.full = False
        self.truncates = False
        self.flips_bits = False
        self.swaps_with: ShardName | None = None
        self.before: Callable[[str], None] | None = None
        self.calls: Counter[str] = Counter()
        self.sent: set[ShardName] = set()  # whatever came of it: what it may hold

    @property
    def info(self) -> StoreInfo:
        return self.inner.info

    async def put(self, name: ShardName, body: Sequence[bytes | bytearray | memoryview]) -> None:
        self.sent.add(name)
        await self._enter("put")
        if self.full:
            raise StoreUnavailable(self.info.name, "full on purpose")
        if not self.loses_puts:
            await self.inner.put(name, body)
        if self.loses_answers:
            raise StoreUnavailable(self.info.name, "stored, and the answer lost on purpose")
        if self.keeps_what_it_refuses:
            raise StoreRejected(self.info.name, "stored, and refused on purpose")

    async def get_range(self, name: ShardName, start: int, length: int) -> bytes | memoryview:
        await self._enter("get_range")
        return self._spoilt(await self.inner.get_range(self.swaps_with or name, start, length))

    async def get(self, name: ShardName) -> bytes | memoryview:
        await self._enter("get")
        return self._spoilt(await self.inner.get(self.swaps_with or name))

    async def list(self, prefix: str = "") -> AsyncIterator[tuple[ShardName, int]]:
        await self._enter("list")
        async for entry in self.inner.list(prefix):
            yield entry

    async def delete(self, name: ShardName) -> None:
        await self._enter("delete")
        await self.inner.delete(name)

    async def close(self) -> None:
        await self.inner.close()

    def _spoilt(self, answer: bytes | memoryview) -> bytes | memoryview:
        data = bytearray(answer)
        if self.flips_bits and data:
            data[len(data) // 2] ^= 1
        return bytes(data[:-1]) if self.truncates else bytes(data)

    async def _enter(self, verb: str) -> None:
        self.calls[verb] += 1
        if self.before is not None:
            self.before(verb)
        if self.slow_seconds:
            await asyncio.sleep(self.slow_seconds)
        if self.hanging:
            await asyncio.Event().wait()
        if self.down:
            raise StoreUnavailable(self.info.name, "down on purpose")
        if self.rejects:
            raise StoreRejected(self.info.name, "rejects on purpose")
