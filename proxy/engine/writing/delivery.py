"""Delivery: the sealed segments of a body, or a pack, are put to the stores, and then settled by a commit or given up.

Bodies and packs go the same way here, in the order that `write` explains, with what a crash after each step leaves.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from proxy.codec.label import Label, encode_label
from proxy.codec.segment import SegmentSealer
from proxy.engine.tasks import BackgroundTasks
from proxy.engine.writing.filling import segment_memory
from proxy.engine.writing.intents import IntentLedger
from proxy.engine.writing.quorum import Placed, ShardPutter
from proxy.engine.writing.segments import BodySegments
from proxy.engine.writing.stragglers import LatePuts, Stragglers
from proxy.errors import ProxyError
from proxy.manifest.records import ExtentId, GarbageSegment, Settlement

logger = logging.getLogger(__name__)

Outcome = TypeVar("Outcome")
Commit = Callable[[Sequence[Settlement]], Awaitable[tuple[ExtentId | None, Outcome]]]


class Delivery:
    """Puts and settles segments."""

    def __init__(
        self, *, ledger: IntentLedger, putter: ShardPutter, stragglers: Stragglers, late: LatePuts, tasks: BackgroundTasks
    ) -> None:
        self._ledger = ledger
        self._putter = putter
        self._stragglers = stragglers
        self._late = late
        self._tasks = tasks

    async def put(self, segments: BodySegments, sealer: SegmentSealer, label: Label) -> None:
        """Put the segment that the label is of, until the policy's promise holds. Its memory is given back as its puts end.

        Raises `NotEnoughShards`.
        """
        segment, scheme = segments[label.segment], segments.scheme
        wrapped_shares = segments.cipher.share_data_key(segments.data_key, sealer.keys)
        shards = sealer.shards(label=encode_label(label), wrapped_shares=wrapped_shares)
        memory = segment_memory(sealer.geometry)
        segment.footer_size = len(shards[0][-1])
        del sealer  # it has the cells, too
        placed = segment.placed = await self._putter.put(segments.policy, scheme, segment.id, shards)
        share = min(memory, segment.held.size_bytes) // scheme.n
        segment.held.keep(share * len(placed.tail))
        self._late.keep(placed.tail.values(), segment.held, share)

    async def commit(self, placed: Sequence[Placed], commit: Commit[Outcome]) -> Outcome:
        """Make what was put visible, to the end even if the caller is cancelled.

        `commit` is given what it has to settle, and returns the extent that the segments have become, and whatever it wants to. If there is
        no such extent, it has settled nothing: what was put is queued for deletion, as it is on any failure.
        """
        return await self._tasks.run(self._commit(placed, commit))

    async def give_up(self, segments: BodySegments) -> None:
        """Queue for deletion whatever may be stored of a body that failed, and give back the memory of what was not put."""
        unplaced = [GarbageSegment(id=segment_id) for segment_id in segments.give_up()]
        await self._tasks.run(self._discard(segments.placed, unplaced))

    async def _commit(self, placed: Sequence[Placed], commit: Commit[Outcome]) -> Outcome:
        segment_ids = [segment.segment_id for segment in placed]
        try:
            extent_id, outcome = await commit(self._ledger.settlements(segment_ids))
        except BaseException:
            await self._discard(placed)
            raise
        if extent_id is None:
            await self._discard(placed)
        else:
            self._ledger.forget(segment_ids)
            self._stragglers.adopt(extent_id, placed)
        return outcome

    async def _discard(self, placed: Sequence[Placed], unplaced: Sequence[GarbageSegment] = ()) -> None:
        await self._stragglers.disown(placed)
        garbage = [*(segment.garbage() for segment in placed), *unplaced]
        try:
            await self._ledger.abandon(garbage)
        except ProxyError as error:  # the ledger tries again as long as this worker lives; after that the lease expires
            logger.warning("cannot queue %d segments of a failed write for deletion now: %s", len(garbage), error)
