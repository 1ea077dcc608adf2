"""A store that misbehaves on demand: slow, failing, full, truncating, lying, keeping what it refuses, losing data or answers, late."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from msgspec.structs import replace

from proxy.errors import ShardMissing, StoreRejected, StoreUnavailable
from proxy.stores.protocol import ExaminableStore, ShardFacts, ShardName, Store, StoreInfo, reads_at_once


class FaultyStore:
    """Wraps a store. Set an attribute to break it, clear it to mend it."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.down = False
        self.rejects = False
        self._hanging: asyncio.Event | None = None
        self.slow_seconds = 0.0
        self.fails: Callable[[], bool] = lambda: False  # asked at each call
        self.refuses_deletes = False
        self.loses_puts = False
        self.loses_answers = False
        self.keeps_what_it_refuses = False
        self.full = False
        self.truncates = False
        self.answers_at_once = False  # what the inner store has in memory
        self.flips_bits = False
        self.swaps_with: ShardName | Callable[[ShardName], ShardName] | None = None
        self.lists_late = False  # what is put meanwhile is listed once this is cleared
        self.before: Callable[[str], None] | None = None
        self.calls: Counter[str] = Counter()
        self.ranges: list[tuple[ShardName, int, int]] = []  # asked for: name, start, length
        self.sent: set[ShardName] = set()  # whatever came of it: what it may hold
        self.deleted: set[ShardName] = set()  # and has said that it is gone
        self.hidden: set[ShardName] = set()  # from its listings, at first
        self._unlisted: set[ShardName] = set()

    @property
    def info(self) -> StoreInfo:
        return self.inner.info

    @property
    def hanging(self) -> bool:
        return self._hanging is not None

    @hanging.setter
    def hanging(self, hangs: bool) -> None:
        """Once it no longer hangs, the calls that do go on."""
        if self._hanging is not None and not hangs:
            self._hanging.set()
        self._hanging = asyncio.Event() if hangs else None

    async def put(self, name: ShardName, body: Sequence[bytes | bytearray | memoryview]) -> None:
        self.sent.add(name)
        await self._enter("put")
        if self.full:
            raise StoreUnavailable(self.info.name, "full on purpose")
        if self.lists_late:
            self._unlisted.add(name)
            self.hidden.add(name)
        if not self.loses_puts:
            await self.inner.put(name, body)
        if self.loses_answers:
            raise StoreUnavailable(self.info.name, "stored, and the answer lost on purpose")
        if self.keeps_what_it_refuses:
            raise StoreRejected(self.info.name, "stored, and refused on purpose")

    async def get_range(self, name: ShardName, start: int, length: int) -> bytes | memoryview:
        self.ranges.append((name, start, length))
        await self._enter("get_range")
        return self._spoilt(await self.inner.get_range(self._answered_for(name), start, length))

    def read_at_once(self, name: ShardName, start: int, length: int) -> bytes | memoryview | None:
        if not self.answers_at_once or self.hanging or self.slow_seconds or self.down or self.rejects:
            return None
        found = reads_at_once(self.inner)(self._answered_for(name), start, length)
        self.calls["read_at_once"] += found is not None
        return None if found is None else self._spoilt(found)

    async def get(self, name: ShardName) -> bytes | memoryview:
        await self._enter("get")
        return self._spoilt(await self.inner.get(self._answered_for(name)))

    async def list(self, prefix: str = "") -> AsyncIterator[tuple[ShardName, int]]:
        await self._enter("list")
        if not self.lists_late:
            self._unlisted.clear()
        async for entry in self.inner.list(prefix):
            if entry[0] not in self._unlisted:
                yield entry

    async def delete(self, name: ShardName) -> None:
        await self._enter("delete")
        if self.refuses_deletes:
            raise StoreRejected(self.info.name, "refuses to delete on purpose")
        await self.inner.delete(name)
        self.deleted.add(name)

    async def close(self) -> None:
        await self.inner.close()

    def _answered_for(self, name: ShardName) -> ShardName:
        if callable(self.swaps_with):
            return self.swaps_with(name)
        return self.swaps_with or name

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
        if self._hanging is not None:
            await self._hanging.wait()
        if self.down or self.fails():
            raise StoreUnavailable(self.info.name, "down on purpose")
        if self.rejects:
            raise StoreRejected(self.info.name, "rejects on purpose")


class OddBucket(FaultyStore):
    """A bucket of a provider that does most things as the others do, and one otherwise. Counts are of calls, not of seconds."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.reads_late = 0  # asks, before a new object is there
        self.listings_late = 0  # listings, before a new object is in them
        self.deletes_late = 0  # calls of any kind, before a delete is done
        self.serves_old = 0  # reads, before an overwrite is seen
        self.lists_at_most: int | None = None
        self.lists_twice = False
        self.lists_for_ever = False
        self.lists_wrong_sizes = False
        self.ignores_ranges = False
        self.fails_ranges = False
        self.shifts_ranges = False
        self.shortens_ranges = False  # where they reach beyond the end
        self.cuts_ranges = False
        self.invents = False  # an answer for what was never put
        self.refuses_missing = False  # 403 for what is not there
        self.loses_deletes = False
        self.refuses_absent_deletes = False
        self.refuses_overwrites = False
        self.refuses_lists = False
        self.tears = False  # puts of one name at once
        self.refuses_rivals = False  # all but one of them
        self.largest: int | None = None
        self.ignores_conditions = False
        self.refuses_conditions = False
        self.clock_ahead_ms = 0
        self.keeps_versions = False
        self.claims_wrong_sizes = False
        self._reads: Counter[ShardName] = Counter()
        self._listings: Counter[ShardName] = Counter()
        self._doomed: dict[ShardName, int] = {}
        self._old: dict[ShardName, bytes] = {}
        self._sizes: dict[ShardName, int] = {}
        self._putting: dict[ShardName, bytes] = {}

    async def put(self, name: ShardName, body: Sequence[bytes | bytearray | memoryview]) -> None:
        data = b"".join(body)
        if self.largest is not None and len(data) > self.largest:
            raise StoreRejected(self.info.name, "EntityTooLarge on purpose")
        if name in self._sizes and self.refuses_overwrites:
            raise StoreRejected(self.info.name, "overwriting refused on purpose")
        if self.refuses_rivals:
            if name in self._putting:
                raise StoreUnavailable(self.info.name, "409 OperationAborted")
            self._putting[name] = data
            await asyncio.sleep(0)
            del self._putting[name]
        if self.tears:
            self._putting[name] = self._putting.get(name, data)[: len(data) // 2] + data[len(data) // 2 :]
            await asyncio.sleep(0)
            data = self._putting[name]
        if self.serves_old and name in self._sizes:
            self._old[name] = bytes(await self.inner.get(name))
        await super().put(name, [data])
        self._sizes[name] = len(data)

    async def get(self, name: ShardName) -> bytes | memoryview:
        if name in self._old and self._reads[name] < self.serves_old:
            self._reads[name] += 1
            return self._old[name]
        return await self._answer(name, super().get(name))

    async def get_range(self, name: ShardName, start: int, length: int) -> bytes | memoryview:
        if self.fails_ranges:
            await self._enter("get_range")
            raise StoreUnavailable(self.info.name, "200 for a range on purpose")
        if self.cuts_ranges:
            return (await self._answer(name, super().get_range(name, start, length)))[:-1]
        if self.ignores_ranges:
            return await self._answer(name, super().get(name))
        if self.shifts_ranges:
            return await self._answer(name, super().get_range(name, max(start - 1, 0), length))
        if self.shortens_ranges and name in self._sizes:
            length = min(length, max(self._sizes[name] - start, 0))
            return await self._answer(name, super().get_range(name, start, length)) if length else b""
        return await self._answer(name, super().get_range(name, start, length))

    async def _answer(self, name: ShardName, call: Awaitable[bytes | memoryview]) -> bytes | memoryview:
        if name in self._sizes and self._reads[name] < self.reads_late:
            self._reads[name] += 1
            await call
            raise ShardMissing(self.info.name, "late on purpose")
        try:
            return await call
        except ShardMissing:
            if self.invents:
                return b"invented"
            if self.refuses_missing:
                raise StoreRejected(self.info.name, "refused: 403 AccessDenied") from None
            raise

    async def list(self, prefix: str = "") -> AsyncIterator[tuple[ShardName, int]]:
        if self.refuses_lists:
            raise StoreRejected(self.info.name, "refused: 403 AccessDenied")
        shown = 0
        async for name, size in super().list(prefix):
            if self._listings[name] < self.listings_late:
                self._listings[name] += 1
                continue
            if shown == self.lists_at_most:
                return
            shown += 1
            yield name, size + 1 if self.lists_wrong_sizes else size
            if self.lists_twice:
                yield name, size
        while self.lists_for_ever:
            yield ShardName(f"{prefix}-again"), 1

    async def delete(self, name: ShardName) -> None:
        if self.refuses_absent_deletes and name not in self._sizes:
            raise StoreRejected(self.info.name, "refused: 404")
        if self.deletes_late:
            self._doomed.setdefault(name, self.deletes_late)
        elif not self.loses_deletes:
            await super().delete(name)

    async def facts(self, name: ShardName) -> ShardFacts:
        assert isinstance(self.inner, ExaminableStore)
        facts = await self.inner.facts(name)
        return replace(
            facts,
            modified_ms=(facts.modified_ms or 0) + self.clock_ahead_ms,
            version="3HL4kqtJlcpXroDTDmjVBH40Nrjfkd" if self.keeps_versions else facts.version,
            size_bytes=facts.size_bytes + 1 if self.claims_wrong_sizes else facts.size_bytes,
        )

    async def put_new(self, name: ShardName, body: bytes) -> bool:
        assert isinstance(self.inner, ExaminableStore)
        if self.refuses_conditions:
            raise StoreUnavailable(self.info.name, "501 NotImplemented")
        if self.ignores_conditions:
            await self.inner.put(name, [body])
            return True
        return await self.inner.put_new(name, body)

    async def _enter(self, verb: str) -> None:
        for name, calls in list(self._doomed.items()):
            if calls:
                self._doomed[name] = calls - 1
            else:
                del self._doomed[name]
                await self.inner.delete(name)
        await super()._enter(verb)
