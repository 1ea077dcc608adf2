"""Filling a segment: its bytes are coded, sealed and hashed as they arrive, and its memory is taken as they arrive (see `budget`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from proxy.codec.geometry import SegmentGeometry
from proxy.codec.segment import SegmentSealer
from proxy.engine.memory.budget import Budget
from proxy.engine.memory.grant import IDLE_SECONDS, Grant
from proxy.engine.memory.turns import Turns
from proxy.engine.writing.body import Body, HereAlready
from proxy.engine.writing.cut import Cut
from proxy.engine.writing.intents import IntentLedger
from proxy.engine.writing.plaintext import Plaintext
from proxy.engine.writing.segments import BodySegments

STRIDE_SIZE = 1024 * 1024  # bytes handed to a worker thread at a time: 60 us of hand-over against 1.3 ms of hashing
TURNLESS_SIZE = 4 * 1024 * 1024  # a segment up to here waits for no turn
INLINE_SIZE = 64 * 1024  # below this, coding and hashing cost less than handing them to a thread
FOOTER_ALLOWANCE = 4096  # for the budget: a key of 1 KiB and metadata of 2 KiB fit into a footer's label
# Of many large bodies on one busy line each is silent now and then: at one second, 54 of 64 uploads at once were refused.
SILENT_SECONDS = 10.0
ADMITTED_SIZE = 64 * 1024  # memory is asked for in such steps at first, later twice as much each time, up to a stride


Seal = Callable[[Sequence[memoryview]], None]


class Threads(Protocol):
    """A few threads: `Lanes`."""

    def begin(self, call: Callable[[], None]) -> asyncio.Future[None]:
        """Have a call made. What is returned is done when the call has ended, and has its error."""
        ...


@dataclass(frozen=True, slots=True)
class CodingThreads:
    """Threads that code, seal and hash.

    Bodies that come whole are coded in `whole`, one after the other in each thread: of eight that arrive together the first is stored while
    the others wait, and none is held up by all others. It has as many threads as there are cores for this process, since more of
    them only take the interpreter from one another. What arrives bit by bit is coded in `strides`, and hashed beside that.
    """

    whole: Threads
    strides: Threads


def segment_memory(geometry: SegmentGeometry) -> int:
    """Return the bytes that a segment takes from its first byte until its shards are stored."""
    return geometry.scheme.n * (FOOTER_ALLOWANCE + geometry.cells_size)


class Filler:
    """Fills segments from bodies."""

    def __init__(self, *, ledger: IntentLedger, budget: Budget, threads: CodingThreads) -> None:
        self._ledger = ledger
        self._budget = budget
        self._threads = threads
        self._turns = Turns()

    async def fill(
        self, segments: BodySegments, geometry: SegmentGeometry, plaintext: Plaintext, body: Body, cut: Cut, *, owner: str
    ) -> SegmentSealer:
        """Begin the body's next segment and fill it. Its memory is charged to `owner`, and is the segment's from then on."""
        memory = segment_memory(geometry)
        reading = body.memory_to_fill(geometry.size)
        held = self._budget.claim(memory + reading, owner=owner)
        filling = _Filling(held, memory, geometry.size)
        try:
            if reading:  # the body reads it by itself, and nobody need wait for a client: it is not to be revoked
                await held.grow(held.claim_bytes)
                sealer = await self._fill(segments, geometry, plaintext, body, filling)
                held.keep(memory)
                await cut.took(geometry.size)
                return sealer
            if not _gathers(body):
                await plaintext.ready()  # a client that sends nothing takes no memory from those that do
            async with held.filling(idle_seconds=IDLE_SECONDS if held.is_small else SILENT_SECONDS):
                sealer = await self._fill(segments, geometry, plaintext, body, filling)
                await cut.took(geometry.size)
                if cut.ended:
                    await plaintext.end()
                return sealer
        except BaseException:
            held.release()
            raise

    async def _fill(
        self, segments: BodySegments, geometry: SegmentGeometry, plaintext: Plaintext, body: Body, filling: _Filling
    ) -> SegmentSealer:
        await filling.begin()
        segment_id = await self._ledger.take()
        sealer = SegmentSealer(segments.begin(segment_id, geometry, filling.held))
        if geometry.size <= INLINE_SIZE:
            pieces = await plaintext.take(geometry.size, filling.admit)
            segments.seal(sealer, pieces)
            _digest(body, pieces)
        else:
            await self._fill_in_threads(partial(segments.seal, sealer), sealer.geometry, plaintext, body, filling)
        return sealer

    async def _fill_in_threads(self, seal: Seal, geometry: SegmentGeometry, plaintext: Plaintext, body: Body, filling: _Filling) -> None:
        size, stripe_size = geometry.size, geometry.scheme.stripe_size
        stride = max(STRIDE_SIZE // stripe_size, 1) * stripe_size
        work: Sequence[asyncio.Future[None]] = ()
        try:
            for offset in range(0, size, stride):
                pieces = await plaintext.take(min(stride, size - offset), filling.admit)
                with filling.held.at_work():
                    await _done(work)
                    has_turn = size > TURNLESS_SIZE and await self._turns.take(filling.held.number)
                work = self._in_threads(seal, body, pieces, together=size <= stride, has_turn=has_turn)
            with filling.held.at_work():
                await _done(work)
        finally:
            await _ended(work)
            work = ()  # its error holds this frame, and with it the segment

    def _in_threads(
        self, seal: Seal, body: Body, pieces: Sequence[memoryview], *, together: bool, has_turn: bool
    ) -> Sequence[asyncio.Future[None]]:
        """Seal and hash in two threads at a time, or `together` in one: of a body of 1 MiB, a second thread made each PUT 5 % dearer.

        A turn ends with the work, also where no thread could be had for some of it.
        """
        work = list[asyncio.Future[None]]()
        try:
            if together:
                work.append(self._threads.whole.begin(partial(_seal_and_digest, seal, body, pieces)))
            else:
                work.append(self._threads.strides.begin(partial(seal, pieces)))
                work.append(self._threads.strides.begin(partial(_digest, body, pieces)))
        finally:
            if has_turn:
                self._turns.end_with(work)
        return work


def _gathers(body: Body) -> bool:
    """Tell whether first bytes are here, and will come with those behind them."""
    return isinstance(body, HereAlready) and body.gather()


def _seal_and_digest(seal: Seal, body: Body, pieces: Sequence[memoryview]) -> None:
    seal(pieces)
    _digest(body, pieces)


def _digest(body: Body, pieces: Sequence[memoryview]) -> None:
    for piece in pieces:
        body.digest(piece)


async def _done(work: Sequence[asyncio.Future[None]]) -> None:
    """Wait for threads; raise what failed in them."""
    await _ended(work)
    for future in work:
        future.result()


async def _ended(work: Sequence[asyncio.Future[None]]) -> None:
    """Wait for threads, however often the caller is cancelled: they cannot be stopped, and what they work on stays in memory until then."""
    cancelled = False
    for future in work:
        while not future.done():
            ended = asyncio.get_running_loop().create_future()
            future.add_done_callback(partial(_tell, ended))
            try:
                await ended  # and not what is not to be cancelled
            except asyncio.CancelledError:
                cancelled = True
    if cancelled:
        raise asyncio.CancelledError


def _tell(ended: asyncio.Future[None], _: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)


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
