"""What lies between a proxy and its stores: requests and answers travel on their own, also when nobody waits for them any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from proxy.errors import ShardMissing
from proxy.stores.protocol import ShardName, Store, StoreInfo
from tests.fault.machine.turns import Life, Turns

Result = TypeVar("Result")
LATEST_SECONDS = 40.0  # a request that nobody waits for has come by then, or never comes: far less than the delay of collection


class MemoryStore:
    """What a provider keeps: whole objects by name, for all processes alike. `watch` is told of every put, with what was put."""

    def __init__(self, info: StoreInfo) -> None:
        self.info = info
        self.objects: dict[ShardName, bytes] = {}
        self.watch: Callable[[ShardName, bytes], None] = lambda name, data: None

    async def put(self, name: ShardName, body: Sequence[bytes | bytearray | memoryview]) -> None:
        self.objects[name] = b"".join(body)
        self.watch(name, self.objects[name])

    async def get_range(self, name: ShardName, start: int, length: int) -> bytes:
        data = (await self.get(name))[start : start + length]
        if len(data) < length:
            raise ShardMissing(self.info.name, f"{name} ends before byte {start + length}")
        return data

    async def get(self, name: ShardName) -> bytes:
        if name not in self.objects:
            raise ShardMissing(self.info.name, name)
        return self.objects[name]

    async def list(self, prefix: str = "") -> AsyncIterator[tuple[ShardName, int]]:
        for name in sorted(self.objects):
            if name.startswith(prefix):
                yield name, len(self.objects[name])

    async def delete(self, name: ShardName) -> None:
        self.objects.pop(name, None)

    async def close(self) -> None:
        pass


@dataclass(slots=True)
class _Message:
    """A request on its way. `given_up` since when nobody waits for its answer."""

    given_up: float | None = None


class Wire:
    """A store as one process sees it: each request arrives in a turn of its own, and so does its answer."""

    def __init__(self, store: Store, life: Life, turns: Turns, chance: Random, *, deletes: Callable[[str, ShardName], None]) -> None:
        """`deletes` is told of each delete that arrives while its process lives."""
        self._deletes = deletes
        self._store = store
        self._life = life
        self._turns = turns
        self._chance = chance

    @property
    def info(self) -> StoreInfo:
        return self._store.info

    async def put(self, name: ShardName, body: Sequence[bytes | bytearray | memoryview]) -> None:
        sent = b"".join(body)  # the caller may reuse its buffers as soon as it no longer waits
        await self._carry(f"put {name}", lambda: self._store.put(name, [sent]))

    async def get_range(self, name: ShardName, start: int, length: int) -> memoryview | bytes:
        return await self._carry(f"get {name}", lambda: self._store.get_range(name, start, length))

    async def get(self, name: ShardName) -> memoryview | bytes:
        return await self._carry(f"get {name}", lambda: self._store.get(name))

    async def list(self, prefix: str = "") -> AsyncIterator[tuple[ShardName, int]]:
        async def listing() -> list[tuple[ShardName, int]]:
            return [entry async for entry in self._store.list(prefix)]

        for entry in await self._carry(f"list {prefix}", listing):
            yield entry

    async def delete(self, name: ShardName) -> None:
        def arrive() -> Coroutine[object, object, None]:
            if not self._life.dead:
                self._deletes(str(self.info.name), name)
            return self._store.delete(name)

        await self._carry(f"delete {name}", arrive)

    async def close(self) -> None:
        """Nothing is kept open."""

    async def _carry(self, what: str, call: Callable[[], Coroutine[object, object, Result]]) -> Result:
        if self._life.dead:
            await self._turns.never()
        message = _Message()
        travel = asyncio.ensure_future(self._travel(message, f"{self.info.name} {what}", call))
        travel.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # whoever gave up does not ask for it
        try:
            await asyncio.wait({travel})  # unlike `await travel`, it does not take the request back when the caller gives up
        except asyncio.CancelledError:
            message.given_up = self._turns.loop.time()
            raise
        if self._life.dead:
            await self._turns.never()
        return travel.result()

    async def _travel(self, message: _Message, what: str, call: Callable[[], Coroutine[object, object, Result]]) -> Result:
        def is_stray() -> bool:
            return message.given_up is not None or self._life.dead

        await self._turns.take_on_the_wire(self._life, what, is_stray)
        if is_stray() and self._is_lost(message):
            await self._turns.never()
        try:
            return await call()
        finally:
            if not self._turns.over and not is_stray():
                await self._turns.take_on_the_wire(self._life, f"{what}: answer", is_stray)

    def _is_lost(self, message: _Message) -> bool:
        """Tell whether a request that nobody waits for gets lost on its way, as some do, and all that would come very late."""
        since = min(when for when in (message.given_up, self._life.died) if when is not None)
        return self._turns.loop.time() - since > LATEST_SECONDS or self._chance.random() < 0.5
