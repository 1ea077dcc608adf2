"""A trial: one store under a prefix of its own, with a deadline on every call, and nothing left behind.

What a store was sent it may have, whatever it answered. So a name is noted before its put; at the end all that was noted is deleted, then
all that is listed under the prefix; what is listed after that, or refuses to go, is told.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from proxy.clock import Clock
from proxy.errors import ShardMissing, StoreError, StoreUnavailable
from proxy.stores.conformance.findings import Defect, Timing
from proxy.stores.deadline import DeadlineStore
from proxy.stores.protocol import ExaminableStore, ShardFacts, ShardName, Store

Item = TypeVar("Item")
Result = TypeVar("Result")
FOLDER = "check/"  # no shard, epoch, journal or checkpoint is called so: all below it may be deleted by hand
AT_ONCE = 16  # calls under way together, where many are made; and failures after which cleaning gives up
FIRST_PAUSE_SECONDS = 0.1
CLEANING_ROUNDS = 3  # a store that lists late, or fails now and then, gets so many chances to give back what is in it


class Trial:
    """What the probes work with. `patience_seconds`: how long something that is late may take to appear, or to go."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        put_seconds: float,
        get_seconds: float,
        patience_seconds: float,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.prefix = f"{FOLDER}{secrets.token_hex(8)}/"
        self.clock = clock
        self.timings: list[Timing] = []
        self._bare = store
        self._store = DeadlineStore(store, put_seconds=put_seconds, get_seconds=get_seconds)
        self._get_seconds = get_seconds
        self.patience_seconds = patience_seconds
        self._sleep = sleep
        self._names: set[ShardName] = set()

    def name(self, text: str) -> ShardName:
        return ShardName(self.prefix + text)

    async def put(self, name: ShardName, body: bytes | Sequence[bytes]) -> None:
        self._names.add(name)
        await self._store.put(name, [body] if isinstance(body, bytes) else body)

    async def get(self, name: ShardName) -> bytes:
        return bytes(await self._store.get(name))

    async def get_range(self, name: ShardName, start: int, length: int) -> bytes:
        return bytes(await self._store.get_range(name, start, length))

    async def delete(self, name: ShardName) -> None:
        await self._store.delete(name)

    async def entries(self, prefix: str, *, at_most: int) -> list[tuple[ShardName, int]]:
        """List what begins with the prefix. A listing that goes on beyond `at_most` entries is a defect of its own."""
        found: list[tuple[ShardName, int]] = []
        async for entry in self._store.list(prefix):
            found.append(entry)
            if len(found) > at_most:
                raise Defect(f"a listing went on after {at_most:,} entries, though so many objects were never put")
        return found

    async def listed(self, name: ShardName) -> int | None:
        """Return the size under which a name is listed, or None if it is not."""
        return dict(await self.entries(str(name), at_most=1000)).get(name)

    async def readable(self, name: ShardName) -> bool:
        try:
            await self.get(name)
        except ShardMissing:
            return False
        return True

    async def facts(self, name: ShardName) -> ShardFacts | None:
        """Return what the store says of a shard, or None if stores of this kind say nothing."""
        return await self._bounded(self._bare.facts(name)) if isinstance(self._bare, ExaminableStore) else None

    async def put_new(self, name: ShardName, body: bytes) -> bool | None:
        """Put a shard only if there is none of this name; None if stores of this kind cannot be asked."""
        self._names.add(name)
        return await self._bounded(self._bare.put_new(name, body)) if isinstance(self._bare, ExaminableStore) else None

    async def until(self, reached: Callable[[], Awaitable[bool]]) -> float | None:
        """Ask again and again; return after how many seconds it was so, 0 for at once, or None if patience ended first."""
        if await reached():
            return 0.0
        started, pause = self.clock.monotonic(), FIRST_PAUSE_SECONDS
        while not await reached():
            waited = self.clock.monotonic() - started
            if waited >= self.patience_seconds:
                return None
            await self._sleep(min(pause, self.patience_seconds - waited))
            pause *= 2
        return self.clock.monotonic() - started

    async def timed(self, call: Awaitable[object]) -> float:
        """Return how many seconds a call took."""
        started = self.clock.monotonic()
        await call
        return self.clock.monotonic() - started

    async def each(self, items: Iterable[Item], call: Callable[[Item], Awaitable[Result]]) -> list[Result]:
        """Call for each item, some at once. The first failure ends all."""
        waiting = iter(items)
        results: list[Result] = []

        async def work() -> None:
            results.extend([await call(item) for item in waiting])

        tasks = [asyncio.create_task(work()) for _ in range(AT_ONCE)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return results

    async def clean(self) -> tuple[ShardName, ...]:
        """Remove all that was put; return the names that may still be there. A store that removes nothing is not asked for long."""
        for round_number in range(CLEANING_ROUNDS):
            kept = await self._remove(self._names)
            there = await self._found()
            gave_up = len(kept) == len(self._names) > 0
            self._names = kept | (there or set())
            if gave_up or (not self._names and there is not None):
                break
            await self._sleep(FIRST_PAUSE_SECONDS * 2**round_number)
        return tuple(sorted(self._names))

    async def _remove(self, names: Iterable[ShardName]) -> set[ShardName]:
        """Delete; return what could not be. After so many failures the others are not tried."""
        kept: set[ShardName] = set()

        async def remove(name: ShardName) -> None:
            try:
                if len(kept) < AT_ONCE:
                    await self.delete(name)
                    return
            except StoreError:
                pass  # what could not be removed is told by name, whatever the reason
            kept.add(name)

        await self.each(list(names), remove)
        return kept

    async def _found(self) -> set[ShardName] | None:
        """Return what is listed under the prefix, or None if the store does not say."""
        try:
            return {name for name, _ in await self.entries(self.prefix, at_most=100_000) if name.startswith(self.prefix)}
        except (StoreError, Defect):
            return None

    async def _bounded(self, call: Awaitable[Result]) -> Result:
        try:
            async with asyncio.timeout(self._get_seconds):
                return await call
        except TimeoutError:
            raise StoreUnavailable(self._bare.info.name, f"no answer in {self._get_seconds:g} s") from None


def random_bytes(size_bytes: int) -> bytes:
    """Return bytes that no two objects share, so that an answer with another's is noticed."""
    return os.urandom(size_bytes)
