"""The part of the cache that is in memory.

What was read once is kept apart from what was read again. Only the second is kept for long: a backup that reads everything once would
else drive out what clients ask for all the time.
"""

from __future__ import annotations

from collections import OrderedDict

from proxy.engine.cache.keys import CacheKey

ENTRY_BYTES = 300  # of an entry, beside its bytes: two objects, the key, and its place in a table
KEPT_SHARE = 0.8  # of the memory, at most, for what was read again


class SealedMemory:
    """Sealed bytes by key, up to `capacity_bytes`. Who was asked for longest ago goes first."""

    def __init__(self, capacity_bytes: int) -> None:
        self.held_bytes = 0
        self._capacity = capacity_bytes
        self._kept_capacity = int(capacity_bytes * KEPT_SHARE)
        self._kept_bytes = 0
        self._once: OrderedDict[CacheKey, bytes] = OrderedDict()
        self._kept: OrderedDict[CacheKey, bytes] = OrderedDict()

    def get(self, key: CacheKey) -> bytes | None:
        """Return what is under a key, and keep it longer for that."""
        sealed = self._kept.get(key)
        if sealed is not None:
            self._kept.move_to_end(key)
            return sealed
        sealed = self._once.pop(key, None)
        if sealed is not None:
            self._kept[key] = sealed
            self._kept_bytes += _size(sealed)
            self._demote()
        return sealed

    def put(self, key: CacheKey, sealed: bytes) -> None:
        """Take what was read. It is kept by reference: a view of a larger buffer would keep all of that."""
        if key in self._kept or key in self._once or _size(sealed) > self._capacity:
            return
        self._once[key] = sealed
        self.held_bytes += _size(sealed)
        while self.held_bytes > self._capacity:
            self._drop_one()

    def drop(self, key: CacheKey) -> None:
        """Forget a key, if it is there."""
        sealed = self._once.pop(key, None)
        if sealed is None:
            sealed = self._kept.pop(key, None)
            self._kept_bytes -= 0 if sealed is None else _size(sealed)
        self.held_bytes -= 0 if sealed is None else _size(sealed)

    def _demote(self) -> None:
        while self._kept_bytes > self._kept_capacity:
            key, sealed = self._kept.popitem(last=False)
            self._kept_bytes -= _size(sealed)
            self._once[key] = sealed

    def _drop_one(self) -> None:
        if self._once:
            _, sealed = self._once.popitem(last=False)
        else:
            _, sealed = self._kept.popitem(last=False)
            self._kept_bytes -= _size(sealed)
        self.held_bytes -= _size(sealed)


def _size(sealed: bytes) -> int:
    return len(sealed) + ENTRY_BYTES
