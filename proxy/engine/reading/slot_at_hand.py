"""A slot at hand: where one object of a pack lies and what opens it, worked out once for as many reads as come.

Most small objects that are read are read again soon. What is in the cache, or in the memory of the slot's own store, is returned at once:
no request is sent, nobody is waited for. Whatever is not, or does not open, is left to `slot_fetch`, which asks others and tells who lies.
"""

from __future__ import annotations

from proxy.codec.slots import Slot, SlotOpener
from proxy.engine.cache.keys import slot_key
from proxy.engine.reading.fetch import Upstream
from proxy.errors import IntegrityError
from proxy.keyring import TenantCipher
from proxy.manifest.records import Extent
from proxy.stores.protocol import ShardName


class SlotAtHand:
    """One slot, for as long as its extent is what it was."""

    __slots__ = ("_cache", "_name", "_opener", "_store", "key", "keys", "memory_bytes", "slot")

    def __init__(self, extent: Extent, offset: int, size: int, cipher: TenantCipher, upstream: Upstream) -> None:
        """Raises `ShardMismatch` if there is no such slot in the pack, `KeyUnavailable`."""
        segment = extent.layout.segments[0]
        self.keys = upstream.keys.of(extent.layout, segment, cipher)
        self.slot = slot = Slot(self.keys.geometry, offset, size)
        self.key = slot_key(segment.id, offset)
        self._cache = upstream.cache
        self._store = None if slot.column in segment.missing else upstream.fleet.stores.get(segment.stores[slot.column])
        self._name = ShardName(segment.shard_name(slot.column))
        self._opener = SlotOpener(slot, self.keys)
        self.memory_bytes = 2 * slot.length  # what it takes: the sealed and the opened slot

    def read(self) -> bytes | None:
        """Return the object, authenticated; None if it is not at hand, or does not open."""
        try:
            if self._cache is not None:
                sealed = self._cache.recall_now(self.key)
                return None if sealed is None else self.slot.open_sealed(self.keys, sealed)
            if self._store is None:
                return None
            run = self._store.read_at_once(self._name, self.slot.start, self.slot.length)
            return None if run is None else self._opener.open(run)
        except IntegrityError:
            return None
