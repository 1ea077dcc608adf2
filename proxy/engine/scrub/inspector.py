"""The inspector: looks at one shard, at its last bytes or at all of it, and says what is wrong with it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from itertools import groupby

from proxy.codec.format import SEALED_CELL_SIZE, TAG_SIZE
from proxy.codec.geometry import Scheme, SegmentGeometry
from proxy.codec.proof import prove_shard, smallest_shard_size
from proxy.codec.segment import SegmentKeys
from proxy.engine.ciphers import cipher_of
from proxy.engine.memory.background import BackgroundMemory
from proxy.engine.placing.fleet import Fleet
from proxy.engine.throttle import Throttle
from proxy.errors import IntegrityError, ShardMissing, ShardOversized, StoreError
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
        (look,) = await self.open_together([shard])
        if isinstance(look, StoreError):
            raise look
        return look

    async def open_together(self, shards: Sequence[Shard]) -> tuple[Look | StoreError, ...]:
        """Read shards of one segment at once, and open all that can be opened. Raises `KeyUnavailable`, `BudgetExhausted`.

        What a store fails with comes in place of its shard's look. This is for small shards: most of what one costs is to wait for a turn,
        for memory and for a thread, and the loop that does this serves clients, too.
        """
        layout = shards[0].extent.layout
        cipher = await cipher_of(self._manifest, self._keyring, layout)
        room = sum(room_for(shard) for shard in shards)
        async with self._memory.held(room):
            await self._ask(room, requests=len(shards))
            read = await asyncio.gather(*(self._read(shard) for shard in shards))
            return await asyncio.get_running_loop().run_in_executor(self._threads, _open_all, cipher, shards, read)

    async def still_expected(self, shards: Iterable[Shard]) -> frozenset[ShardName]:
        """Return the names of those that the manifest expects where they were: others may have been moved or deleted while one looked.

        An extent has up to thousands of segments, and is read once for all its shards.
        """
        expected: set[ShardName] = set()
        for extent_id, of_extent in groupby(sorted(shards, key=_extent_id), key=_extent_id):
            found = await self._manifest.walk_extents(after=ExtentId(extent_id - 1), limit=1)
            segments = {segment.id: segment for extent in found if extent.id == extent_id for segment in extent.layout.segments}
            expected |= {shard.name for shard in of_extent if _is_expected(shard, segments.get(shard.segment.id))}
        return frozenset(expected)

    async def _has(self, shard: Shard, start: int, length: int) -> bool:
        await self._ask(length)
        try:
            await self._fleet[shard.store].get_range(shard.name, start, length)
        except ShardMissing:
            return False
        return True

    async def _read(self, shard: Shard) -> bytes | memoryview | StoreError:
        try:
            return await self._fleet[shard.store].get(shard.name)
        except StoreError as error:
            return error

    async def _ask(self, size_bytes: int, *, requests: int = 1) -> None:
        await self._throttle.take(size_bytes, requests=requests)
        self.requests += requests


def room_for(shard: Shard) -> int:
    """Return the memory that it takes to open a shard."""
    return shard.geometry.cells_size + SEALED_CELL_SIZE + LABEL_ROOM


def _extent_id(shard: Shard) -> ExtentId:
    return shard.extent.id


def _is_expected(shard: Shard, segment: Segment | None) -> bool:
    if segment is None or shard.index in segment.missing:
        return False
    return (segment.stores[shard.index], segment.shard_name(shard.index)) == (shard.store, shard.name)


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


def _open_all(
    cipher: TenantCipher, shards: Sequence[Shard], read: Sequence[bytes | memoryview | StoreError]
) -> tuple[Look | StoreError, ...]:
    """Raises `KeyUnavailable`. All of it takes a thread: the keys of a segment alone are some 50 us."""
    layout, geometry = shards[0].extent.layout, shards[0].geometry
    data_key, segment_id = cipher.unwrap(layout.wrapped_key), shards[0].segment.id
    keys = SegmentKeys(geometry, segment_id=segment_id, data_key=data_key, tenant_key_id=layout.tenant_key_id)
    return tuple(
        _open(keys, cipher, shard, whole) if not isinstance(whole, StoreError) else _not_read(whole)
        for shard, whole in zip(shards, read, strict=True)
    )


def _not_read(error: StoreError) -> Look | StoreError:
    if isinstance(error, ShardOversized):
        return Look(kind="forged", detail=error.reason)
    return Look(kind="missing", detail="its store does not have it") if isinstance(error, ShardMissing) else error


def _open(keys: SegmentKeys, cipher: TenantCipher, shard: Shard, whole: bytes | memoryview) -> Look:
    try:
        footer = prove_shard(keys, whole, name=shard.name, shard_index=shard.index)
        cipher.open_share(footer)
    except IntegrityError as error:
        kind: DamageKind = "truncated" if len(whole) < smallest_shard_size(shard.geometry) else "forged"
        return Look(kind=kind, detail=str(error), size_bytes=len(whole))
    return Look(size_bytes=len(whole), sealed_label=footer.sealed_label)
