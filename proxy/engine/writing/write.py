"""The write path: a body becomes sealed shards, then one visible version.

Invariants, in the order of the steps, with what a crash after each leaves:

1. Segment ids are leased in the manifest before any shard bears one. *Crash: ids that no store knows; the lease expires.*
2. Data is coded and sealed stripe by stripe as it arrives, and hashed beside it; a few segments of a body are in memory, within the budget.
   A segment's memory is taken as its bytes arrive (see `budget`). Between segments, a body holds only the memory of segments that are on
   their way to the stores.
3. Shards are put under new names; nothing is ever overwritten. *Crash: shards nobody refers to, found by the leased ids and deleted.*
4. The last segment leaves only when the whole body has passed every check, because its label carries the finished record.
   A body that fails a check is never wholly stored. *Crash or failure: as 3.*
5. Every segment has met the policy's promise before the commit begins.
6. One manifest transaction makes the version visible, queues what it replaces, and settles the leased ids. It runs to its end even if the
   client goes away. *Crash: it happened or it did not; the ids are settled exactly if it did.*
7. The answer follows the commit. Puts that were late by then are recorded as they arrive, or stay on record as missing.

If it is unknown whether the commit happened (the database went away in the middle), the ids are abandoned all the same. Ids that the commit
has settled are skipped, so nothing visible is ever queued for deletion.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from functools import partial
from traceback import clear_frames

from msgspec import msgpack

from proxy.codec.geometry import SegmentGeometry
from proxy.engine.writing.body import Body
from proxy.engine.writing.cut import Cut
from proxy.engine.writing.delivery import Delivery
from proxy.engine.writing.destination import Committed, Destination, Recorded
from proxy.engine.writing.filling import Filler
from proxy.engine.writing.plaintext import Plaintext
from proxy.engine.writing.segments import BodySegments
from proxy.manifest.records import ExtentId, Layout, Settlement

SEGMENTS_IN_FLIGHT = 2  # of one body, besides the one that fills: a distant store's round trip is hidden


class Writer:
    """Stores bodies and commits them."""

    def __init__(self, *, filler: Filler, delivery: Delivery) -> None:
        self._filler = filler
        self._delivery = delivery

    async def write(self, destination: Destination[Recorded, Committed], body: Body) -> Committed:
        """Store a body, and make it visible. On any failure, what was stored is queued for deletion."""
        segments, recorded = await self._store(destination, body)
        commit = partial(_commit, destination, recorded, segments.layouts(body.size_bytes))
        return await self._delivery.commit(segments.placed, commit)

    async def _store(self, destination: Destination[Recorded, Committed], body: Body) -> tuple[BodySegments, Recorded]:
        segments = BodySegments(
            destination.policy,
            destination.scheme,
            destination.cipher,
            keystream=destination.keystream(),
            customer_salt=destination.customer_salt,
        )
        try:
            recorded = await self._store_segments(destination, segments, body)
        except BaseException as error:
            # Whatever the body is read from may keep its error, as aiohttp does, and with it the segment that these frames filled.
            clear_frames(error.__traceback__)
            await self._delivery.give_up(segments)
            raise
        return segments, recorded

    async def _store_segments(self, destination: Destination[Recorded, Committed], segments: BodySegments, body: Body) -> Recorded:
        plaintext = Plaintext(body.chunks())
        cut = Cut(body, destination.policy.segment_size)
        uploads: deque[asyncio.Task[None]] = deque()
        recorded: Recorded | None = None
        try:
            while size := await cut.next_size():
                number, offset = cut.number, cut.offset
                geometry = SegmentGeometry(destination.scheme, size)
                sealer = await self._filler.fill(segments, geometry, plaintext, body, cut, owner=destination.bucket.tenant_id)
                if cut.ended:
                    recorded = destination.record(body.finish(), body.size_bytes)
                label = destination.label(number, offset, msgpack.encode(recorded) if recorded is not None else b"")
                upload = self._delivery.put(segments, sealer, label)
                del sealer  # the upload's now: kept here, it would lie in memory while the next one waits for the budget
                if cut.ended and not uploads:
                    await upload  # nothing goes on beside it
                    break
                uploads.append(asyncio.create_task(upload))
                while len(uploads) > SEGMENTS_IN_FLIGHT:
                    await uploads.popleft()
            while uploads:
                await uploads.popleft()
            if recorded is None:  # no segment was the last one: the body is empty
                await plaintext.end()
                recorded = destination.record(body.finish(), body.size_bytes)
            return recorded
        finally:
            for task in uploads:
                task.cancel()
            await asyncio.gather(*uploads, return_exceptions=True)
            await plaintext.close()


async def _commit(
    destination: Destination[Recorded, Committed], recorded: Recorded, layouts: tuple[Layout, ...], settlements: Sequence[Settlement]
) -> tuple[ExtentId | None, Committed]:
    """Make a body visible; return the extent that it has become, an empty one none."""
    committed = await destination.commit(recorded, layouts, settlements)
    return next((extent.id for extent in committed.extents), None), committed
