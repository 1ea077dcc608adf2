"""One pack on its way: objects become one sealed segment, whose shards lie in the stores before anything of it is visible.

The steps are those of a write (see `write`), and a crash after each leaves the same. A pack is committed or discarded as a whole; which of
its objects become visible by that commit is the manifest's to say. If none does, nobody refers to the segment, and it is discarded, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from proxy.codec.geometry import Scheme, SegmentGeometry
from proxy.codec.label import Label
from proxy.codec.segment import SegmentKeys, SegmentSealer
from proxy.codec.slots import Arrangement, SlotContent
from proxy.engine.memory.grant import Grant
from proxy.engine.placing.placement import Policy
from proxy.engine.writing.delivery import Commit, Delivery, Outcome
from proxy.engine.writing.filling import segment_memory
from proxy.engine.writing.intents import IntentLedger
from proxy.engine.writing.quorum import Placed
from proxy.engine.writing.segments import BodySegments
from proxy.keyring import TenantCipher
from proxy.manifest.records import Layout

INLINE_SIZE = 256 * 1024  # sealed and coded in 0.3 ms; to wake a thread for less makes the pack wait for its turn, and costs as much
Make: TypeAlias = Callable[[SegmentKeys], bytes | bytearray | memoryview]  # the plaintext of a segment, once its keys are known


class PackKind(Struct, frozen=True, kw_only=True):
    """What a pack is coded, sealed and placed by. Only objects that have all of it in common may share one."""

    policy: Policy
    scheme: Scheme
    cipher: TenantCipher


class StoredSegment(Struct, frozen=True):
    """What lies in the stores, and is nowhere visible yet. `offsets`: of a pack, by the place of an object in what was given."""

    layout: Layout
    placed: Placed
    offsets: Mapping[int, int]


def pack_geometry(scheme: Scheme, arrangement: Arrangement) -> SegmentGeometry:
    """Return the geometry of a pack."""
    return SegmentGeometry(scheme, scheme.k * arrangement.column_size)


def pack_memory(geometry: SegmentGeometry) -> int:
    """Return the bytes that a pack takes beside its objects' own: its plaintext, sealed slots and all, and its shards."""
    return geometry.size + segment_memory(geometry)


class PackPutter:
    """Stores packs and commits them."""

    def __init__(self, *, ledger: IntentLedger, threads: Executor, delivery: Delivery) -> None:
        self._ledger = ledger
        self._threads = threads
        self._delivery = delivery

    async def store(
        self, kind: PackKind, contents: Sequence[SlotContent], arrangement: Arrangement, held: Grant, *, stored_anew: int = 0
    ) -> StoredSegment:
        """Seal a pack and put its shards, until the policy's promise holds. `held` is its memory, which it gives back as its puts end.

        Whoever gets what is stored commits it, in the next breath. On any failure it is queued for deletion. Raises `NotEnoughShards`.
        """
        table = Label(bucket="", key="", segment=0, offset=0, table_offset=arrangement.table_offset, table_size=len(arrangement.table))
        label = replace(table, stored_anew=stored_anew)
        geometry = pack_geometry(kind.scheme, arrangement)
        stored = await self._store(kind, geometry, lambda keys: arrangement.plaintext(keys, contents), label, held)
        content_size = sum(len(contents[body].plaintext) for body in arrangement.offsets)
        layout = replace(stored.layout, slots=len(arrangement.offsets), content_size=content_size)
        return replace(stored, layout=layout, offsets=arrangement.offsets)

    async def store_alone(self, kind: PackKind, content: SlotContent, held: Grant, *, stored_anew: int = 0) -> StoredSegment:
        """As `store`, of an object that is to be a segment of its own."""
        first = Label(bucket=content.bucket, key=content.key, version_id=content.version_id, segment=0, offset=0, record=content.record)
        label = replace(first, stored_anew=stored_anew)
        geometry = SegmentGeometry(kind.scheme, len(content.plaintext))
        return await self._store(kind, geometry, lambda _: content.plaintext, label, held)

    async def commit(self, stored: StoredSegment, commit: Commit[Outcome]) -> Outcome:
        """Make what is stored visible: see `Delivery`."""
        return await self._delivery.commit([stored.placed], commit)

    async def _store(self, kind: PackKind, geometry: SegmentGeometry, make: Make, label: Label, held: Grant) -> StoredSegment:
        segments = BodySegments(kind.policy, kind.scheme, kind.cipher)
        try:
            sealer = SegmentSealer(segments.begin(await self._ledger.take(), geometry, held))
            await self._seal(segments, sealer, make)
            await self._delivery.put(segments, sealer, label)
        except BaseException:
            held.release()
            await self._delivery.give_up(segments)
            raise
        (layout,) = segments.layouts(geometry.size)
        (placed,) = segments.placed
        return StoredSegment(layout, placed, {})

    async def _seal(self, segments: BodySegments, sealer: SegmentSealer, make: Make) -> None:
        def seal() -> None:
            segments.seal(sealer, [memoryview(make(sealer.keys))])

        if sealer.geometry.size <= INLINE_SIZE:
            seal()
        else:
            await asyncio.get_running_loop().run_in_executor(self._threads, seal)
