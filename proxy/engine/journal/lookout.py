"""The lookout: does somebody else write the journal that this manifest writes?

The problem. Two servers may use two copies of one manifest and the same stores: a backup was restored beside the live one, or a machine was
cloned. The epoch notices that when it moves, which is a minute late. Until then both acknowledge.

The idea. Both write the same numbers. So whoever has put a journal segment, and before anything is acknowledged for it, lists the names of
its number in one store. What bears another segment id is another's, or an attempt of our own that was given up. Names prove nothing, so
then the fence reads what is there (`proxy.engine.journal.fence`), and it decides.

Of two that meet, at most one goes on. Each puts first and lists then, in a store that has said that it has the shard: whoever lists last
finds the other. Whoever finds a journal that does not follow its own stops. If both list last, both stop: neither can know whether the
other has seen it and stopped, too.

What it does not tell. Two that part at one number may both store it. If the other's segment does not reach beyond what this manifest has
noted, it looks like an attempt of its own. The next number tells them apart, for its segments follow different ones. So one segment of each
may be acknowledged before one of them stops.

Lies. The number chooses the store, so each number asks another, and both servers ask the same. One that hides names hides them until the
next number. One that makes names up costs the fence's look, and stops nobody; then it is asked last for a while, as is one that does not
answer. If no store lists, nobody knows, and nothing is acknowledged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from proxy.clock import Clock
from proxy.codec.format import JOURNAL_PREFIX, copy_prefix, parse_copy_name
from proxy.engine.epoch import Fence
from proxy.errors import JournalUnavailable, StoreError
from proxy.manifest.journal import StoredSegment
from proxy.stores.protocol import Store

LOOK_SECONDS = 2.0  # for one store; then another is asked
AVOID_SECONDS = 600.0  # a store that did not answer, or told of a segment that was none of another's
NAMES = 1000  # of one number are listed: more are made up


class Lookout:
    """Looks behind each journal segment for one of another's."""

    def __init__(self, stores: Mapping[str, Store], fence: Fence, clock: Clock) -> None:
        self._stores = stores
        self._fence = fence
        self._clock = clock
        self._avoided: dict[str, float] = {}  # until when

    async def reason(self, identity: str, stored: StoredSegment) -> str:
        """Return why the manifest must not be written any more, or "". Raises `JournalUnavailable` if no store tells."""
        for name in self._in_turn(stored):
            ids = await self._ids(self._stores[name], identity, stored.number)
            if ids is None:
                self._avoid(name)
                continue
            if not ids - {segment.id for segment in stored.layout.segments}:
                return ""
            reason = await self._fence.reason()
            if not reason:
                self._avoid(name)
            return reason
        raise JournalUnavailable(f"no store lists journal segment {stored.number}, so nobody knows whether another manifest writes it, too")

    def _in_turn(self, stored: StoredSegment) -> list[str]:
        """Return the stores that have the segment, in the order in which they are asked."""
        has = {
            store
            for segment in stored.layout.segments
            for index, store in enumerate(segment.stores)
            if index not in segment.missing and store in self._stores
        }
        names = sorted({store for segment in stored.layout.segments for store in segment.stores})
        first = stored.number % len(names)
        now = self._clock.monotonic()
        turn = [name for name in (*names[first:], *names[:first]) if name in has]
        return sorted(turn, key=lambda name: self._avoided.get(name, now) > now)

    def _avoid(self, name: str) -> None:
        self._avoided[name] = self._clock.monotonic() + AVOID_SECONDS

    async def _ids(self, store: Store, identity: str, number: int) -> set[bytes] | None:
        """Return the ids of the segments of this number that a store lists; None if it does not answer, or without end."""
        ids: set[bytes] = set()
        count = 0
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                async for name, _ in store.list(copy_prefix(JOURNAL_PREFIX, identity, number)):
                    count += 1
                    if count > NAMES:
                        return None
                    copy = parse_copy_name(name)
                    if copy is not None and (copy.prefix, copy.identity, copy.number) == (JOURNAL_PREFIX, identity, number):
                        ids.add(copy.segment_id)
        except (StoreError, TimeoutError):
            return None
        return ids
