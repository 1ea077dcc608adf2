"""The write path: a body becomes sealed shards, then one visible version.

Invariants, in the order of the steps, with what a crash after each leaves:

1. Segment ids are leased in the manifest before any shard bears one. *Crash: ids that no store knows; the lease expires.*
2. Data is coded and sealed stripe by stripe as it arrives, and hashed beside it; a few segments of a body are in memory, within the budget.
   A segment's memory is taken as its bytes arrive (see `budget`). Between segments a body holds none but that of segments on their way to
   the stores, which come to an end.
3. Shards are put under new names; nothing is ever overwritten. *Crash: shards nobody refers to, found by the leased ids and deleted.*
4. The last segment leaves only when the whole body has passed every check, because its label carries the finished record.
   A body that fails a check is never wholly stored. *Crash or failure: as 3.*
5. Every segment has met the policy's promise before the commit begins.
6. One manifest transaction makes the version visible, queues what it replaces, and settles the leased ids. It runs to its end even if the
   client goes away. *Crash: it happened or it did not; the ids are settled exactly if it did.*
7. The answer follows the commit. Puts that were late by then are recorded as they arrive, or stay on record as missing.

When it is unknown whether the commit happened (the database went away in the middle), the ids are abandoned all the same: settling skips
those the commit has settled, so nothing visible is ever queued for deletion.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from traceback import clear_frames
from typing import TypeVar

from proxy.codec.geometry import Scheme, SegmentGeometry, segment_sizes
from proxy.codec.label import Label, encode_label
from proxy.codec.segment import SegmentKeys, SegmentSealer
from proxy.engine.body import Body, Digests
from proxy.engine.budget import Budget, Grant
from proxy.engine.intents import IntentLedger
from proxy.engine.placement import Policy
from proxy.engine.plaintext import Plaintext
from proxy.engine.quorum import Placed, ShardPutter
from proxy.engine.stragglers import LatePuts, Stragglers
from proxy.engine.tasks import BackgroundTasks
from proxy.errors import ProxyError
from proxy.keyring import TenantCipher
from proxy.manifest.records import ExtentRef, GarbageSegment, Layout, Segment, SegmentId, Settlement

logger = logging.getLogger(__name__)

STRIDE_SIZE = 1024 * 1024  # bytes handed to a worker thread at a time: 60 us of hand-over against 1.3 ms of hashing
INLINE_SIZE = 64 * 1024  # below this, coding and hashing cost less than handing them to a thread
SEGMENTS_IN_FLIGHT = 2  # of one body, besides the one that fills: a distant store's round trip is hidden
FOOTER_ALLOWANCE = 4096  # for the budget: a key of 1 KiB and metadata of 2 KiB fit into a footer's label

ADMITTED_SIZE = 64 * 1024  # memory is asked for in such steps at first, later twice as much each time, up to a stride

Committed = TypeVar("Committed")


def segment_memory(geometry: SegmentGeometry) -> int:
    """Return the bytes that a segment takes from its first byte until its shards are stored."""
    return geometry.scheme.n * (FOOTER_ALLOWANCE + geometry.cells_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteJob:
    """What is to be written, besides its bytes. `record` turns the digests into the record that the last label carries."""

    policy: Policy
    scheme: Scheme
    cipher: TenantCipher
    bucket: str
    key: str
    version_id: str = ""
    upload_id: str = ""
    part_number: int = 0
    record: Callable[[Digests], bytes]

    def label(self, number: int, offset: int, record: bytes) -> bytes:
        return encode_label(
            Label(
                bucket=self.bucket,
                key=self.key,
                version_id=self.version_id,
                upload_id=self.upload_id,
                part_number=self.part_number,
                segment=number,
                offset=offset,
                record=record,
            )
        )


@dataclass(slots=True)
class Stored:
    """A body whose shards are in the stores, and nowhere visible yet."""

    digests: Digests
    layouts: tuple[Layout, ...]
    placed: list[Placed] = field(default_factory=list)

    @property
    def segment_ids(self) -> list[SegmentId]:
        return [placed.segment_id for placed in self.placed]


class Writer:
    """Stores bodies and commits them."""

    def __init__(
        self,
        *,
        ledger: IntentLedger,
        putter: ShardPutter,
        stragglers: Stragglers,
        budget: Budget,
        tasks: BackgroundTasks,
        threads: Executor,
    ) -> None:
        self._ledger = ledger
        self._putter = putter
        self._stragglers = stragglers
        self._budget = budget
        self._tasks = tasks
        self._threads = threads
        self._late = LatePuts(budget)

    async def store(self, job: WriteJob, body: Body) -> Stored:
        """Put the whole body into the stores. On any failure, what was stored is queued for deletion."""
        writing = _BodyWrite(job)
        try:
            digests = await self._store(writing, body)
        except BaseException as error:
            # Whatever the body is read from may keep its error, as aiohttp does, and with it the segment that these frames filled.
            clear_frames(error.__traceback__)
            await self._tasks.run(self._discard(writing.placed, writing.give_up()))
            raise
        return Stored(digests, writing.layouts(body.size_bytes), writing.placed)

    async def commit(
        self,
        stored: Stored,
        step: Callable[[tuple[Settlement, ...]], Awaitable[Committed]],
        extents_of: Callable[[Committed], Sequence[ExtentRef]],
    ) -> Committed:
        """Run the manifest step that makes a stored body visible, to its end."""
        return await self._tasks.run(self._commit(stored, step, extents_of))

    async def _commit(
        self,
        stored: Stored,
        step: Callable[[tuple[Settlement, ...]], Awaitable[Committed]],
        extents_of: Callable[[Committed], Sequence[ExtentRef]],
    ) -> Committed:
        try:
            committed = await step(self._ledger.settlements(stored.segment_ids))
        except BaseException:
            await self._discard(stored.placed, [])
            raise
        self._ledger.forget(stored.segment_ids)
        for extent in extents_of(committed)[:1]:
            self._stragglers.adopt(extent.id, stored.placed)
        return committed

    async def _store(self, writing: _BodyWrite, body: Body) -> Digests:
        plaintext = Plaintext(body.chunks())
        sizes = list(segment_sizes(body.size_bytes, writing.job.policy.segment_size))
        uploads: deque[asyncio.Task[None]] = deque()
        digests: Digests | None = None
        try:
            for number, size in enumerate(sizes):
                sealer = await self._fill(writing, number, size, plaintext, body, is_last=number == len(sizes) - 1)
                if number == len(sizes) - 1:
                    digests = body.finish()
                record = writing.job.record(digests) if digests else b""
                uploads.append(asyncio.create_task(self._upload(writing, number, sealer, record)))
                del sealer  # the upload's now: kept here, it would lie in memory while the next one waits for the budget
                while len(uploads) > SEGMENTS_IN_FLIGHT:
                    await uploads.popleft()
            while uploads:
                await uploads.popleft()
            if digests is None:  # no segment was the last one: the body is empty
                await plaintext.end()
                digests = body.finish()
            return digests
        finally:
            for task in uploads:
                task.cancel()
            await asyncio.gather(*uploads, return_exceptions=True)
            await plaintext.close()

    async def _fill(self, writing: _BodyWrite, number: int, size: int, plaintext: Plaintext, body: Body, *, is_last: bool) -> SegmentSealer:
        """Code, seal and hash one segment as its bytes arrive."""
        geometry = SegmentGeometry(writing.job.scheme, size)
        memory = segment_memory(geometry)
        reading = body.memory_to_fill(size)
        held = self._budget.claim(memory + reading, owner=writing.job.cipher.key_id)
        filling = _Filling(held, memory, size)
        try:
            if reading:  # nobody need wait for what the body reads itself, so it is not to be revoked
                await held.grow(held.claim_bytes)
                sealer = await self._fill_segment(writing, number, geometry, plaintext, body, filling)
                held.keep(memory)
                return sealer
            await plaintext.ready()  # a client that sends nothing takes no memory from those that do
            async with held.filling():
                sealer = await self._fill_segment(writing, number, geometry, plaintext, body, filling)
                if is_last:
                    await plaintext.end()
                return sealer
        except BaseException:
            held.release()
            raise

    async def _fill_segment(
        self, writing: _BodyWrite, number: int, geometry: SegmentGeometry, plaintext: Plaintext, body: Body, filling: _Filling
    ) -> SegmentSealer:
        await filling.begin()
        segment_id = await self._ledger.take()
        writing.begin(number, segment_id, geometry.size, filling.held)
        sealer = SegmentSealer(writing.keys(geometry, segment_id))
        if geometry.size <= INLINE_SIZE:
            data = await plaintext.take(geometry.size, filling.admit)
            sealer.add(data)
            body.digest(data)
        else:
            await self._fill_in_threads(sealer, plaintext, body, filling)
        return sealer

    async def _fill_in_threads(self, sealer: SegmentSealer, plaintext: Plaintext, body: Body, filling: _Filling) -> None:
        size, stripe_size = sealer.geometry.size, sealer.geometry.scheme.stripe_size
        stride = max(STRIDE_SIZE // stripe_size, 1) * stripe_size
        work: tuple[asyncio.Future[None], ...] = ()
        try:
            for offset in range(0, size, stride):
                data = await plaintext.take(min(stride, size - offset), filling.admit)
                await _done(work)
                work = self._in_threads(sealer, body, data)
            await _done(work)
        finally:
            await _ended(work)
            work = ()  # its error holds this frame, and with it the segment

    def _in_threads(self, sealer: SegmentSealer, body: Body, data: bytes) -> tuple[asyncio.Future[None], ...]:
        loop = asyncio.get_running_loop()
        sealing = loop.run_in_executor(self._threads, sealer.add, data)
        hashing = loop.run_in_executor(self._threads, body.digest, data)
        return sealing, hashing

    async def _upload(self, writing: _BodyWrite, number: int, sealer: SegmentSealer, record: bytes) -> None:
        job, opened = writing.job, writing.segments[number]
        label = job.label(number, number * job.policy.segment_size, record)
        shards = sealer.shards(label=label, wrapped_shares=job.cipher.share_data_key(writing.data_key, sealer.keys))
        placed = await self._putter.put(job.policy, job.scheme, opened.id, shards)
        writing.place(number, placed)
        held = opened.held
        share = held.size_bytes // job.scheme.n
        held.keep(share * len(placed.tail))
        self._late.keep(placed.tail.values(), held, share)

    async def _discard(self, placed: Sequence[Placed], unplaced: Sequence[SegmentId]) -> None:
        await self._stragglers.disown(placed)
        garbage = [segment.garbage() for segment in placed] + [GarbageSegment(id=segment_id) for segment_id in unplaced]
        try:
            await self._ledger.abandon(garbage)
        except ProxyError as error:  # the ledger tries again as long as this worker lives; after that the lease expires
            logger.warning("cannot queue %d segments of a failed write for deletion now: %s", len(garbage), error)


async def _done(work: Sequence[asyncio.Future[None]]) -> None:
    """Wait for threads; raise what failed in them."""
    await _ended(work)
    for future in work:
        future.result()


async def _ended(work: Sequence[asyncio.Future[None]]) -> None:
    """Wait for threads, however often the caller is cancelled: they cannot be stopped, and what they work on stays in memory until then."""
    cancelled = False
    while running := [future for future in work if not future.done()]:
        try:
            await asyncio.wait(running)
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError


class _Filling:
    """A segment's memory, taken as its plaintext arrives."""

    def __init__(self, held: Grant, memory: int, size: int) -> None:
        self.held = held
        self._memory = memory
        self._size = size
        self._arrived = 0
        self._admitted = 0

    async def begin(self) -> None:
        """Take the memory of the first bytes."""
        await self._ask(ADMITTED_SIZE)

    async def admit(self, size_bytes: int) -> None:
        """Have memory for as many more bytes of plaintext."""
        self._arrived += size_bytes
        if self._arrived > self._admitted:
            await self._ask(max(self._arrived, min(2 * self._admitted, self._admitted + STRIDE_SIZE)))
        else:
            self.held.touch()

    async def _ask(self, admitted: int) -> None:
        self._admitted = min(admitted, self._size)
        await self.held.grow(-(-self._memory * self._admitted // self._size))


@dataclass(slots=True)
class _Opened:
    id: SegmentId
    size: int
    held: Grant
    placed: Placed | None = None


class _BodyWrite:
    """One body on its way: its data key and its segments."""

    def __init__(self, job: WriteJob) -> None:
        self.job = job
        self.data_key, self.wrapped_key = job.cipher.new_data_key()
        self.segments: list[_Opened] = []

    @property
    def placed(self) -> list[Placed]:
        return [segment.placed for segment in self.segments if segment.placed is not None]

    def give_up(self) -> list[SegmentId]:
        """Return the segments that are not placed, and give their memory back. That of the others is their late puts'."""
        unplaced = [segment for segment in self.segments if segment.placed is None]
        for segment in unplaced:
            segment.held.release()
        return [segment.id for segment in unplaced]

    def keys(self, geometry: SegmentGeometry, segment_id: SegmentId) -> SegmentKeys:
        return SegmentKeys(geometry, segment_id=segment_id, data_key=self.data_key, tenant_key_id=self.job.cipher.key_id)

    def begin(self, number: int, segment_id: SegmentId, size: int, held: Grant) -> None:
        if number != len(self.segments):
            raise ValueError(f"segment {number} begun after {len(self.segments)}")
        self.segments.append(_Opened(segment_id, size, held))

    def place(self, number: int, placed: Placed) -> None:
        self.segments[number].placed = placed

    def layouts(self, size: int) -> tuple[Layout, ...]:
        if not self.segments:
            return ()
        segments = tuple(_segment_record(segment) for segment in self.segments)
        scheme = self.job.scheme
        return (
            Layout(
                size=size, k=scheme.k, m=scheme.m, tenant_key_id=self.job.cipher.key_id, wrapped_key=self.wrapped_key, segments=segments
            ),
        )


def _segment_record(opened: _Opened) -> Segment:
    if opened.placed is None:
        raise ValueError(f"segment {opened.id.hex()} is not placed")
    opened.placed.settle()
    stores = tuple(opened.placed.stores[index] for index in range(len(opened.placed.stores)))
    missing = tuple(sorted(opened.placed.missing))
    return Segment(id=opened.id, size=opened.size, stores=stores, missing=missing, strays=opened.placed.strays)
