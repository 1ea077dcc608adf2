"""Fetching the same bytes of some columns of a segment: from the stores that hold them or, where one fails, lies or is late, of any others.

Only the data columns that are wanted are asked for: one store, for a small range. When one of them fails or is forged, any k columns are
gathered instead, to be decoded. When one is late, others are asked as well, or the same store is again: most often it was only one message
that was lost. Nothing leaves before it has been authenticated: a window by its cells, here; a slot of a pack by its own tag, in
`slot_fetch`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, Protocol

from proxy.codec.geometry import Scheme
from proxy.codec.segment import ColumnReader
from proxy.engine.cache.cache import SealedCache
from proxy.engine.cache.cells import CachedCells
from proxy.engine.flight import Flight
from proxy.engine.placing.fleet import Fleet
from proxy.engine.reading.keys_in_use import KeysInUse
from proxy.engine.reading.spread import Booking, is_spread, spread
from proxy.engine.reading.windows import AT_HAND_SIZE, Window, touched_cells
from proxy.errors import IntegrityError, NotEnoughShards, ProxyError, ShardTruncated, StoreError, StoreNotAsked
from proxy.keyring import TenantCipher
from proxy.manifest.records import Extent, ExtentId, Segment
from proxy.stores.observe import LARGE_SIZE, LATE_FACTOR, ObservedStore
from proxy.stores.protocol import ShardName

INLINE_SIZE = 2 * 1024 * 1024  # sealed bytes, a column of a window: 0.4 ms to open, and a thread would have to be woken for it
QUEUE_TURNS = 4  # times as long as they are waited for else
MIN_HEDGE_SECONDS = 0.05  # a disk that stalls for a moment, or a busy machine, is not worth another request


class Columns(Protocol):
    """What has been fetched, by shard index."""

    @property
    def indexes(self) -> frozenset[int]:
        """Those at hand, opened."""
        ...

    def add(self, shard_index: int, sealed: bytes | memoryview) -> None:
        """Open what one shard has. Raises an `IntegrityError`. May be called in a thread."""
        ...


class DamageReports(Protocol):
    """Whoever takes reports of damaged shards: see `DamageReporter`."""

    def found(self, extent_id: ExtentId, segment: Segment, shard_index: int, failure: ProxyError) -> None: ...


class Upstream(NamedTuple):
    """What every fetch works with."""

    fleet: Fleet
    threads: Executor
    reporter: DamageReports
    keys: KeysInUse
    cache: SealedCache | None = None


def is_readable(fleet: Fleet, segment: Segment, index: int) -> bool:
    """Tell whether a shard is worth asking for: nothing is known to be wrong with it or its store."""
    return index not in segment.missing and fleet.readable(segment.stores[index])


def are_healthy(fleet: Fleet, segment: Segment, indexes: Iterable[int]) -> bool:
    """Tell whether nothing is known against these shards and their stores, and no store of theirs is on trial."""
    return all(is_healthy(fleet, segment, index) for index in indexes)


def is_healthy(fleet: Fleet, segment: Segment, index: int) -> bool:
    """As `are_healthy`, of one shard. A store that keeps pace is ready, too."""
    store = None if index in segment.missing else fleet.stores.get(segment.stores[index])
    return store is not None and store.keeps_pace("get_range")


def read_at_once(fleet: Fleet, segment: Segment, index: int, start: int, length: int) -> bytes | memoryview | None:
    """Return these bytes of a shard if its store has them at hand. None: it must be asked, as any other."""
    store = None if index in segment.missing else fleet.stores.get(segment.stores[index])
    return None if store is None else store.read_at_once(ShardName(segment.shard_name(index)), start, length)


class ColumnFetch:
    """The requests for one range of bytes of a segment's shards, from the first to the last that is needed. Runs once."""

    def __init__(
        self,
        extent: Extent,
        segment: Segment,
        columns: Columns,
        *,
        wanted: frozenset[int],
        span: tuple[int, int],
        upstream: Upstream,
        booking: Booking | None = None,
    ) -> None:
        """`wanted` are the columns that suffice, beside any k; `span` is where the bytes are in every shard, and how many."""
        self._extent_id = extent.id
        self._segment = segment
        self._scheme = Scheme(extent.layout.k, extent.layout.m)
        self._fleet, self._threads, self._reporter, *_ = upstream
        self._reader = columns
        self._wanted = wanted
        self._offset, self._span = span
        self._booking = booking
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._reads: Flight[bytes | memoryview] = Flight()
        self._late: set[int] = set()
        self._not_again: set[int] = set()  # of the late ones: their stores were asked twice, or would be in vain
        self._asked: frozenset[int] = frozenset()  # at first
        self._has_looked = False
        self._untried: list[int] = []  # once it has
        self._unasked: list[int] = []  # their stores failed just now, and were not asked
        self._insisted = False
        self._patience_seconds = 0.0
        self._hedge_at = 0.0
        self._queued = 0  # how often others were not asked, since all were busy
        self._answers: dict[int, int] = {}  # how many reads each store had answered when it was found out who else can be asked
        self._silent: set[int] = set()  # of the late ones: at the last look they had answered none since then, and all others had
        self._reasons: list[str] = []

    async def gather(self) -> None:
        """Fetch the columns wanted, or any k, unless they are at hand. Raises `NotEnoughShards`."""
        if self._enough():
            return
        try:
            self._begin()
            while not self._enough():
                await self._step()
            self._note_overtaken()
        finally:
            await self._reads.cancel()

    def _begin(self) -> None:
        absent = self._wanted - self._reader.indexes
        healthy = [index for index in absent if is_readable(self._fleet, self._segment, index)]
        on_trial = sum(not self._store(index).keeps_pace("get_range") for index in healthy)
        self._hedge_at = self._loop.time() + MIN_HEDGE_SECONDS
        self._asked = frozenset(healthy)
        for index in healthy:
            self._read(index, insist=False)
        if len(healthy) - on_trial < len(absent):
            self._top_up(extra=on_trial)  # nobody waits to see whether a store is back

    def _look_around(self) -> None:
        """Find out who else can be asked, and when. Only now that somebody may have to be: most fetches from nearby end before."""
        stores = [(index, store) for index, store in enumerate(self._segment.stores) if index not in self._segment.missing]
        candidates = self._fleet.by_readiness(stores)
        self._has_looked = True
        self._patience_seconds = self._patience(candidates)
        self._hedge_at += self._patience_seconds - MIN_HEDGE_SECONDS
        self._untried = [index for index in candidates if index not in self._asked and index not in self._reader.indexes]
        self._answers = {index: self._store(index).answers for index in candidates}

    def _patience(self, candidates: Sequence[int]) -> float:
        """Return how long to wait before a store is asked again, or others are: until k others would be late.

        It is that of reads of about this size: large ones wait for one another, and more of them would make that worse.
        The late store's own time does not count: with a store that is always slow, the others would never be asked.
        """
        usual = sorted(self._store(index).late_after("get_range", size_bytes=self._span) for index in candidates)
        return max(usual[min(self._scheme.k, len(usual)) - 1], MIN_HEDGE_SECONDS) if usual else MIN_HEDGE_SECONDS

    def _enough(self) -> bool:
        have = self._reader.indexes
        return self._wanted <= have or len(have) >= self._scheme.k

    async def _step(self) -> None:
        if not self._reads.running and not self._insist():
            raise NotEnoughShards(
                needed=self._scheme.k, found=len(self._reader.indexes), segment=self._segment.id.hex(), reasons=tuple(self._reasons)
            )
        # A fixed time, whatever is answered meanwhile: put off by each answer, it would come late just when only the late are left.
        may_hedge = self._untried or not self._has_looked or not self._not_again.issuperset(self._reads.running.values())
        ended = await self._reads.ended(max(self._hedge_at - self._loop.time(), 0.0) if may_hedge else None)
        if not ended and not self._has_looked:
            self._look_around()
        elif not ended:
            self._hedge()
        for index, task in ended:
            await self._take(index, task)

    async def _take(self, index: int, task: asyncio.Task[bytes | memoryview]) -> None:
        """Take one answer. Of two of one store the first that opens counts."""
        failure = None if task.cancelled() else task.exception()  # raised here, it would hold this frame, which holds it
        if index in self._reader.indexes:
            return
        if isinstance(failure, StoreError) and index in self._reads.running.values():
            return
        if self._booking is not None:
            self._booking.ended(index)
        if failure is None:
            if index in self._asked and not self._store(index).keeps_pace("get_range"):
                self._look_whether_back(index)
            await self._open(index, task.result())
        elif isinstance(failure, StoreError):
            if isinstance(failure, StoreNotAsked):
                self._unasked.append(index)
            self._do_without(index, failure)
        else:
            raise failure

    def _hedge(self) -> None:
        """Those under way are late: ask others as well, or the same stores again.

        Where one column would do, k others cost k requests, and k times the bytes. So its store is asked again first, unless others have
        overtaken it since it last answered. A store is also asked again where no other is left that keeps pace.
        """
        late = set(self._reads.running.values())
        self._hedge_at = self._loop.time() + self._patience_seconds
        if self._must_queue(late) and not (late := self._hanging(late)):
            return
        self._late |= late
        again = {index for index in late - self._not_again if self._store(index).is_trusted("get_range")}
        self._not_again |= late - again
        if self._short > 0 and again == late:
            self._ask_again(again)
            return
        others = sum(is_healthy(self._fleet, self._segment, index) for index in self._untried)
        if others < len(late) and again:
            self._ask_again(sorted(again)[: len(late) - others])
            if not others:
                return
        self._top_up(extra=max(min(len(late), others), 1))

    def _must_queue(self, late: Iterable[int]) -> bool:
        """Tell whether whoever could be asked has large reads of others to answer: those late wait for their turn on the line, too, and one
        more read would make all of them longer. It is not so for ever, since a store may be slow.
        """
        if self._span < LARGE_SIZE or self._queued == QUEUE_TURNS:
            return False
        self._queued += 1
        others = [self._store(index).reads for index in self._untried if is_healthy(self._fleet, self._segment, index)]
        return all(others or [self._store(index).reads > 1 for index in late])

    def _hanging(self, late: set[int]) -> set[int]:
        """Return those of the late whose stores hang, or are slow, where others could be asked. Over a line that is only narrow one answer
        comes after the other: these have answered no read by now, and all that keep pace had by the last look. Not at once: of lines with
        as much to do, one is the last.
        """
        heard = {index for index, before in self._answers.items() if self._store(index).answers > before}
        prompt = {index for index in self._untried if is_healthy(self._fleet, self._segment, index)}
        others_answer = prompt <= heard and not heard.isdisjoint(self._untried)
        was_silent, self._silent = self._silent, late - heard if others_answer else set()
        return was_silent & self._silent

    def _ask_again(self, indexes: Iterable[int]) -> None:
        for index in indexes:
            self._not_again.add(index)
            self._read(index, insist=False)

    def _note_overtaken(self) -> None:
        # Only now, when others have answered: a store that the client did not wait for may not have been slow.
        waited_for = {index for task, index in self._reads.running.items() if not task.done()}
        for index in waited_for & self._late - self._reader.indexes:  # once, also if its store was asked twice
            self._store(index).overtaken("get_range", pace_seconds=self._patience_seconds, size_bytes=self._span)

    def _look_whether_back(self, index: int) -> None:
        """Take a store back that answers as soon as others do by now. They may all have become slower than when they overtook it.

        Half of what they took lately must show that: what they take at this moment may be chance.
        """
        others = [store for store in self._segment.stores if store != self._segment.stores[index]]
        usual = self._fleet.usual_seconds(others, "get_range", size_bytes=self._span)
        if usual and self._loop.time() - self._began <= LATE_FACTOR * usual[min(self._scheme.k, len(usual)) - 1]:
            self._store(index).kept_pace("get_range")

    async def _open(self, index: int, sealed: bytes | memoryview) -> None:
        try:
            if len(sealed) != self._span:
                raise ShardTruncated(self._segment.stores[index], f"answered {len(sealed)} bytes of a shard, not {self._span}")
            if len(sealed) <= INLINE_SIZE:
                self._reader.add(index, sealed)
            else:
                await self._loop.run_in_executor(self._threads, self._reader.add, index, sealed)
            self._reads.drop(index)  # if it was asked for twice
        except (IntegrityError, ShardTruncated) as error:
            self._do_without(index, error)

    def _do_without(self, index: int, error: ProxyError) -> None:
        self._reporter.found(self._extent_id, self._segment, index, error)
        self._reasons.append(str(error))
        self._top_up()

    def _top_up(self, *, extra: int = 0) -> None:
        """Start as many other shards as are needed to have k columns, and `extra` beside the late ones."""
        if not self._has_looked:
            self._look_around()
        for index in self._untried[: max(self._short, 0) + extra]:
            self._start(index)

    @property
    def _short(self) -> int:
        """How many more columns it would take to decode, if all under way came."""
        return self._scheme.k - len(self._reader.indexes.union(self._reads.running.values()))

    def _insist(self) -> bool:
        """Without them k shards are out of reach: ask, once, the stores that were not asked because they failed just now."""
        unasked, self._unasked = self._unasked, []
        if self._insisted:
            return False
        self._insisted = True
        for index in unasked:
            self._read(index, insist=True)
        return bool(unasked)

    def _start(self, index: int) -> None:
        self._untried.remove(index)
        self._read(index, insist=False)

    def _read(self, index: int, *, insist: bool) -> None:
        name = ShardName(self._segment.shard_name(index))
        self._reads.start(index, self._store(index).get_range(name, self._offset, self._span, insist=insist))

    def _store(self, index: int) -> ObservedStore:
        return self._fleet[self._segment.stores[index]]


class WindowFetch:
    """The fetch of one window. Runs once."""

    def __init__(self, window: Window, cipher: TenantCipher, upstream: Upstream) -> None:
        keys = upstream.keys.of(window.extent.layout, window.segment, cipher)
        first, last = keys.geometry.stripes_of(window.start, window.length)
        self._window = window
        self._upstream = upstream
        self._span = keys.geometry.cells_span(first, last)
        self._wanted, self._cells_size = touched_cells(keys.geometry, window.start, window.length)
        self._asked = self._wanted
        self._booking: Booking | None = None
        if is_spread(upstream.fleet, window.segment, self._wanted, k=window.extent.layout.k, size_bytes=self._span[1]):
            self._asked = spread(upstream.fleet, window.segment, self._wanted)
            self._booking = Booking(upstream.fleet, window.segment, self._asked)
        self._reader = ColumnReader(keys, first=first, last=last)
        self._cached: CachedCells | None = None
        if upstream.cache is not None:
            self._cached = CachedCells(upstream.cache, self._reader, keys, wanted=self._wanted, first=first, last=last)

    def booked(self) -> AbstractContextManager[None]:
        """The time in which its columns count for their stores, until they have ended. To be entered at once."""
        return nullcontext() if self._booking is None else self._booking.kept()

    @property
    def memory_bytes(self) -> int:
        """The memory of the sealed and the opened cells of the columns asked for. If they are to be decoded, it is that of k columns and
        of the decoded stripes. A store that fails later is not counted in advance."""
        if self._asked == self._wanted and are_healthy(self._upstream.fleet, self._window.segment, self._wanted):
            return 2 * len(self._wanted) * self._cells_size
        return 3 * self._window.extent.layout.k * self._cells_size

    def at_hand(self) -> list[memoryview] | None:
        """Return the plaintext if the stores have all of it at hand. None: `run` will tell."""
        if self._cached is not None or len(self._wanted) * self._cells_size > AT_HAND_SIZE:
            return None
        found: list[tuple[int, bytes | memoryview]] = []
        for column in self._wanted:
            sealed = read_at_once(self._upstream.fleet, self._window.segment, column, *self._span)
            if sealed is None:
                return None
            found.append((column, sealed))
        self._lay_out()
        try:
            for column, sealed in found:
                self._reader.add(column, sealed)
        except IntegrityError:
            return None
        return self._plaintext()

    async def run(self) -> list[memoryview]:
        """Return the window's plaintext in pieces. Raises `NotEnoughShards`."""
        self._lay_out()
        columns = ColumnFetch(
            self._window.extent,
            self._window.segment,
            self._cached or self._reader,
            wanted=self._asked,
            span=self._span,
            upstream=self._upstream,
            booking=self._booking,
        )
        if self._cached is None:
            await columns.gather()
        else:
            await self._cached.recall()
            await columns.gather()
            await self._cached.keep(self._upstream.threads)
        return self._plaintext()

    def _lay_out(self) -> None:
        """Only now: windows that wait for memory have none."""
        if len(self._wanted) == self._window.extent.layout.k:
            self._reader.lay_out()

    def _plaintext(self) -> list[memoryview]:
        return self._reader.plaintext(self._window.start, self._window.length)
