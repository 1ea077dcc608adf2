"""One pack on its way: objects become one sealed segment, whose shards lie in the stores before anything of it is visible.

The steps are those of a write (see `write`), and a crash after each leaves the same. A pack is committed or discarded as a whole; which of
its objects become visible by that commit is the manifest's to say. If none does, nobody refers to the segment, and it is discarded, too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import TypeAlias, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from proxy.codec.geometry import Scheme, SegmentGeometry
from proxy.codec.label import Label, encode_label
from proxy.codec.segment import SegmentKeys, SegmentSealer
from proxy.codec.slots import Arrangement, SlotContent
from proxy.engine.memory.grant import Grant
from proxy.engine.placing.placement import Policy
from proxy.engine.tasks import BackgroundTasks
from proxy.engine.writing.filling import segment_memory
from proxy.engine.writing.intents import IntentLedger
from proxy.engine.writing.quorum import Placed, ShardPutter
from proxy.engine.writing.segments import BodySegments
from proxy.engine.writing.stragglers import LatePuts, Stragglers
from proxy.errors import ProxyError
from proxy.keyring import TenantCipher
from proxy.manifest.records import ExtentId, GarbageSegment, Layout, Settlement

logger = logging.getLogger(__name__)
INLINE_SIZE = 256 * 1024  # sealed and coded in 0.3 ms; to wake a thread for less makes the pack wait for its turn, and costs as much
Committed = TypeVar("Committed")
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


Commit = Callable[[Sequence[Settlement]], Awaitable[tuple[ExtentId | None, Committed]]]


def pack_geometry(scheme: Scheme, arrangement: Arrangement) -> SegmentGeometry:
    """Return the geometry of a pack."""
    return SegmentGeometry(scheme, scheme.k * arrangement.column_size)


def pack_memory(geometry: SegmentGeometry) -> int:
    """Return the bytes that a pack takes beside its objects' own: its plaintext, sealed slots and all, and its shards."""
    return geometry.size + segment_memory(geometry)


class PackPutter:
    """Stores packs and commits them."""

    def __init__(
        self,
        *,
        ledger: IntentLedger,
        threads: Executor,
        putter: ShardPutter,
        stragglers: Stragglers,
        late: LatePuts,
        tasks: BackgroundTasks,
    ) -> None:
        self._ledger = ledger
        self._threads = threads
        self._putter = putter
        self._stragglers = stragglers
        self._late = late
        self._tasks = tasks

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

    async def commit(self, stored: StoredSegment, commit: Commit[Committed]) -> Committed:
        """Make what is stored visible, to the end even if the caller is cancelled. `commit` is given what it has to settle, and returns the
        extent that the segment has become; without one, nothing is settled, and what was stored is queued for deletion."""
        return await self._tasks.run(self._commit(stored.placed, commit))

    async def _store(self, kind: PackKind, geometry: SegmentGeometry, make: Make, label: Label, held: Grant) -> StoredSegment:
        segments = BodySegments(kind.policy, kind.scheme, kind.cipher)
        try:
            sealer = SegmentSealer(segments.begin(await self._ledger.take(), geometry, held))
            await self._seal(segments, sealer, make)
            placed = await self._put(kind, segments, sealer, label)
        except BaseException:
            unplaced = [GarbageSegment(id=segment_id) for segment_id in segments.give_up()]
            held.release()
            await self._tasks.run(self._abandon(unplaced))
            raise
        (layout,) = segments.layouts(geometry.size)
        return StoredSegment(layout, placed, {})

    async def _seal(self, segments: BodySegments, sealer: SegmentSealer, make: Make) -> None:
        def seal() -> None:
            segments.seal(sealer, [memoryview(make(sealer.keys))])

        if sealer.geometry.size <= INLINE_SIZE:
            seal()
        else:
            await asyncio.get_running_loop().run_in_executor(self._threads, seal)

    async def _put(self, kind: PackKind, segments: BodySegments, sealer: SegmentSealer, label: Label) -> Placed:
        segment = segments[0]
        shards = sealer.shards(label=encode_label(label), wrapped_shares=kind.cipher.share_data_key(segments.data_key, sealer.keys))
        segment.footer_size = len(shards[0][-1])
        placed = segment.placed = await self._putter.put(kind.policy, kind.scheme, segment.id, shards)
        share = segment_memory(sealer.geometry) // kind.scheme.n
        segment.held.keep(share * len(placed.tail))
        self._late.keep(placed.tail.values(), segment.held, share)
        return placed

    async def _commit(self, placed: Placed, commit: Commit[Committed]) -> Committed:
        try:
            extent_id, committed = await commit(self._ledger.settlements([placed.segment_id]))
        except BaseException:
            await self._discard(placed)
            raise
        if extent_id is None:
            await self._discard(placed)
        else:
            self._ledger.forget([placed.segment_id])
            self._stragglers.adopt(extent_id, [placed])
        return committed

    async def _discard(self, placed: Placed) -> None:
        await self._stragglers.disown([placed])
        await self._abandon([placed.garbage()])

    async def _abandon(self, garbage: Sequence[GarbageSegment]) -> None:
        try:
            await self._ledger.abandon(garbage)
        except ProxyError as error:  # the ledger tries again as long as this worker lives; after that the lease expires
            logger.warning("cannot queue a pack that failed for deletion now: %s", error)
