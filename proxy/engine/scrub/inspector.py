"""The inspector: looks at one shard, at its last bytes or at all of it, and says what is wrong with it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field

from proxy.codec.footer import Footer
from proxy.codec.format import SEALED_CELL_SIZE, TAG_SIZE
from proxy.codec.geometry import Scheme, SegmentGeometry
from proxy.codec.proof import prove_shard, smallest_shard_size
from proxy.codec.segment import SegmentKeys
from proxy.engine.background import BackgroundMemory
from proxy.engine.ciphers import cipher_of
from proxy.engine.fleet import Fleet
from proxy.engine.throttle import Throttle
from proxy.errors import IntegrityError, ShardMissing
from proxy.keyring import Keyring, TenantCipher
from proxy.manifest.damage import DamageKind
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Extent, ExtentId, Layout, Segment
from proxy.stores.protocol import ShardName

LABEL_ROOM = 16 * 1024  # of memory for a footer: a version with 8 KiB of headers has as long a label


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard as the manifest has it."""

    extent: Extent
    segment: Segment
    index: int

    @property
    def store(self) -> str:
        return self.segment.stores[self.index]

    @property
    def name(self) -> ShardName:
        return ShardName(self.segment.shard_name(self.index))

    @property
    def geometry(self) -> SegmentGeometry:
        return geometry_of(self.extent.layout, self.segment)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a look at a shard has shown: nothing wrong, if there is no kind."""

    kind: DamageKind | None = None
    detail: str = ""
    size_bytes: int = 0  # read
    sealed_label: bytes = field(default=b"", repr=False)  # of a shard that was opened whole


def geometry_of(layout: Layout, segment: Segment) -> SegmentGeometry:
    return SegmentGeometry(Scheme(layout.k, layout.m), segment.size)


class Inspector:
    """Reads shards for scrubs, within the throttle and the memory of background work. Failures of a store are the caller's to tell."""

    def __init__(
        self, manifest: Manifest, keyring: Keyring, fleet: Fleet, throttle: Throttle, memory: BackgroundMemory, threads: Executor
    ) -> None:
        self._manifest = manifest
        self._keyring = keyring
        self._fleet = fleet
        self._throttle = throttle
        self._memory = memory
        self._threads = threads
        self.requests = 0  # of stores, so far

    async def probe(self, shard: Shard, *, size_bytes: int | None) -> Look:
        """Look whether a shard is there to its end, by reading that. `size_bytes` is its size, if that is known. Raises `StoreError`."""
        size = size_bytes or smallest_shard_size(shard.geometry)
        if await self._has(shard, size - TAG_SIZE, TAG_SIZE):
            return Look()
        if await self._has(shard, 0, 1):
            return Look(kind="truncated", detail=f"it ends before byte {size}")
        return Look(kind="missing", detail="its store does not have it")

    async def open(self, shard: Shard) -> Look:
        """Read a whole shard, and open all that can be opened. Raises `StoreError`, `KeyUnavailable`, `BudgetExhausted`."""
        keys, cipher = await self._keys(shard)
        room = shard.geometry.cells_size + SEALED_CELL_SIZE + LABEL_ROOM
        async with self._memory.held(room):
            await self._ask(room)
            try:
                whole = await self._fleet[shard.store].get(shard.name)
            except ShardMissing:
                return Look(kind="missing", detail="its store does not have it")
            try:
                footer = await asyncio.get_running_loop().run_in_executor(self._threads, _prove, keys, cipher, shard, whole)
            except IntegrityError as error:
                kind: DamageKind = "truncated" if len(whole) < smallest_shard_size(shard.geometry) else "forged"
                return Look(kind=kind, detail=str(error), size_bytes=len(whole))
            return Look(size_bytes=len(whole), sealed_label=footer.sealed_label)

    async def is_current(self, shard: Shard) -> bool:
        """Tell whether the manifest still expects the very same shard: it may have been moved or deleted while one looked."""
        found = await self._manifest.walk_extents(after=ExtentId(shard.extent.id - 1), limit=1)
        return any(
            segment.id == shard.segment.id
            and shard.index not in segment.missing
            and (segment.stores[shard.index], segment.shard_name(shard.index)) == (shard.store, shard.name)
            for extent in found
            if extent.id == shard.extent.id
            for segment in extent.layout.segments
        )

    async def _has(self, shard: Shard, start: int, length: int) -> bool:
        await self._ask(length)
        try:
            await self._fleet[shard.store].get_range(shard.name, start, length)
        except ShardMissing:
            return False
        return True

    async def _ask(self, size_bytes: int) -> None:
        await self._throttle.take(size_bytes)
        self.requests += 1

    async def _keys(self, shard: Shard) -> tuple[SegmentKeys, TenantCipher]:
        layout = shard.extent.layout
        cipher = await cipher_of(self._manifest, self._keyring, layout)
        keys = SegmentKeys(
            shard.geometry, segment_id=shard.segment.id, data_key=cipher.unwrap(layout.wrapped_key), tenant_key_id=layout.tenant_key_id
        )
        return keys, cipher


def odd_labels(looks: Mapping[int, Look]) -> dict[int, Look]:
    """Return the shards, by index, whose label is not the one that most of the segment's have."""
    labels = [look.sealed_label for look in looks.values() if look.sealed_label]
    if not labels:
        return {}
    usual = max(labels, key=labels.count)
    return {
        index: Look(kind="forged", detail="its label is not that of the other shards", size_bytes=look.size_bytes)
        for index, look in looks.items()
        if look.sealed_label and labels.count(look.sealed_label) < labels.count(usual)
    }


def _prove(keys: SegmentKeys, cipher: TenantCipher, shard: Shard, whole: bytes | memoryview) -> Footer:
    footer = prove_shard(keys, whole, name=shard.name, shard_index=shard.index)
    cipher.open_share(footer)
    return footer
