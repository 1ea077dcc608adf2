"""A deadline on every call of a store: what has not answered by then is unavailable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import TypeVar

from proxy.errors import StoreUnavailable
from proxy.stores.convoy import boards
from proxy.stores.protocol import ShardName, Store, reads_at_once

Result = TypeVar("Result")


class DeadlineStore:
    """A store that answers within `put_seconds`, or `get_seconds` for all other verbs; a listing, for each entry."""

    def __init__(self, inner: Store, *, put_seconds: float, get_seconds: float) -> None:
        self._inner = inner
        self.info = inner.info
        self.read_at_once = reads_at_once(inner)
        self.board = boards(inner)  # a convoy has far less patience
        self._put_seconds = put_seconds
        self._get_seconds = get_seconds

    async def put(self, name: ShardName, body: Sequence[bytes | bytearray | memoryview]) -> None:
        await self._bounded(self._inner.put(name, body), self._put_seconds)

    async def get_range(self, name: ShardName, start: int, length: int) -> memoryview | bytes:
        return await self._bounded(self._inner.get_range(name, start, length), self._get_seconds)

    async def get(self, name: ShardName) -> memoryview | bytes:
        return await self._bounded(self._inner.get(name), self._get_seconds)

    async def list(self, prefix: str = "") -> AsyncIterator[tuple[ShardName, int]]:
        entries = aiter(self._inner.list(prefix))
        while True:
            try:
                entry = await self._bounded(anext(entries), self._get_seconds)
            except StopAsyncIteration:
                return
            yield entry

    async def delete(self, name: ShardName) -> None:
        await self._bounded(self._inner.delete(name), self._get_seconds)

    async def close(self) -> None:
        await self._inner.close()

    async def _bounded(self, call: Awaitable[Result], seconds: float) -> Result:
        deadline = _Deadline(seconds)
        try:
            return await call
        except asyncio.CancelledError:
            if deadline.was_it():
                raise StoreUnavailable(self.info.name, f"no answer in {seconds:g} s") from None
            raise
        finally:
            deadline.timer.cancel()
            del deadline  # or task, error, this frame and deadline hold each other, and with them a shard, until a collection of cycles


class _Deadline:
    """`asyncio.timeout` in 3.5 us instead of 10: it cancels the task that made it, and tells whether a cancellation was its own."""

    __slots__ = ("_cancelling", "_passed", "_task", "timer")

    def __init__(self, seconds: float) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a store is called in a task")
        self._task = task
        self._cancelling = task.cancelling()
        self._passed = False
        self.timer = asyncio.get_running_loop().call_later(seconds, self._pass)

    def was_it(self) -> bool:
        """Tell whether nobody else has cancelled the task, and take our own cancellation back."""
        return self._passed and self._task.uncancel() <= self._cancelling

    def _pass(self) -> None:
        self._passed = True
        self._task.cancel()
