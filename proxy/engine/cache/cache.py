"""The cache: what stores were read for is not fetched again, which saves its round trip and what the provider charges for it.

It holds what stores hold, sealed, and nothing that was not authenticated when it came. It is opened, and so authenticated, at every use:
memory and disk are trusted no more than a store. What does not open is dropped and counts as a miss. No entry is ever stale, so nothing
has to be told to the cache when objects change: those of a deleted object go when the room is needed, and nobody finds them any more.

An entry is what a read wanted, a cell or a slot, wherever it came from: what had to be decoded from others is sealed again, to the same
bytes. So it serves as well while the store it stands for is down.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from proxy.engine.cache.disk import CacheDisk
from proxy.engine.cache.keys import CacheKey
from proxy.engine.cache.memory import SealedMemory

Outcome = Literal["memory", "directory", "miss", "spoilt"]


class RecordCache(NamedTuple):
    """Who is told of each look, with the bytes found, and of the memory that is held after each change."""

    look: Callable[[Outcome, int], None] = lambda *_: None
    held: Callable[[int], None] = lambda _: None


NOT_RECORDED = RecordCache()


class SealedCache:
    """Sealed cells and slots by key."""

    def __init__(self, memory: SealedMemory, disk: CacheDisk | None, record: RecordCache) -> None:
        self._memory = memory
        self._disk = disk
        self._record, self._record_held = record

    async def recall(self, wanted: Mapping[CacheKey, int]) -> dict[CacheKey, bytes]:
        """Return what there is of these keys, each of the size given. Whoever cannot open one says so with `spoilt`."""
        found: dict[CacheKey, bytes] = {}
        for key in wanted:
            if (sealed := self.recall_now(key)) is not None:
                found[key] = sealed
        if self._disk is not None and len(found) < len(wanted):
            for key, sealed in (await self._disk.read({key: size for key, size in wanted.items() if key not in found})).items():
                found[key] = sealed
                self._memory.put(key, sealed)
                self._record("directory", len(sealed))
        for _ in range(len(wanted) - len(found)):
            self._record("miss", 0)
        return found

    def recall_now(self, key: CacheKey) -> bytes | None:
        """Return what is in memory under a key. None: `recall` looks in the directory as well, and counts the miss."""
        sealed = self._memory.get(key)
        if sealed is not None:
            self._record("memory", len(sealed))
        return sealed

    def keep(self, key: CacheKey, sealed: bytes | memoryview) -> None:
        """Take what a store has answered, or what was sealed again. It has been authenticated."""
        entry = bytes(sealed)
        self._memory.put(key, entry)
        self._record_held(self._memory.held_bytes)
        if self._disk is not None:
            self._disk.write(key, entry)

    def spoilt(self, key: CacheKey) -> None:
        """Drop an entry that does not open."""
        self._record("spoilt", 0)
        self._memory.drop(key)
        self._record_held(self._memory.held_bytes)
        if self._disk is not None:
            self._disk.remove(key)
