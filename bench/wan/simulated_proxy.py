"""The parts of the engine that decide what is asked of which store, and when, over six simulated lines.

Packs, quorums, hedged reads, windows and read-ahead are the engine's own. Nothing is coded, sealed or committed: that takes fixed times.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from random import Random

from bench.wan.line import Line, State
from bench.wan.operations import AT_ONCE, FILLED, PART_SIZE, Operation
from bench.wan.simulated_bucket import SimulatedBucket
from bench.wan.simulated_upload import Uploads, Zeros
from bench.wan.stores import STORES
from bench.workloads import KIB, MIB
from proxy.codec.geometry import Scheme
from proxy.codec.slots import compose
from proxy.engine.memory.budget import Budget
from proxy.engine.packing.departures import Departures, Pace
from proxy.engine.packing.pack import _Gate
from proxy.engine.placing.fleet import Fleet
from proxy.engine.placing.placement import MayFail, Policy, place
from proxy.engine.reading.fetch import ColumnFetch, Upstream
from proxy.engine.reading.keys_in_use import KeysInUse
from proxy.engine.reading.read_ahead import Fetched, ReadAhead
from proxy.engine.reading.spread import Booking, is_spread, spread
from proxy.engine.reading.windows import FAR_WINDOW_SIZE, FIRST_WINDOW_SIZE, SlotWindow, Window, plan_windows
from proxy.engine.tasks import BackgroundTasks
from proxy.engine.writing.quorum import ShardPutter
from proxy.errors import ProxyError
from proxy.manifest.records import Extent, ExtentId, Layout, Segment, SegmentId
from proxy.stores.limit import LimitedStore
from proxy.stores.observe import ObservedStore
from proxy.stores.protocol import StoreInfo, StoreName
from tests.leaping import LoopClock

SCHEME = Scheme(4, 2)
DATA = frozenset(range(SCHEME.k))
PACK_BELOW = 128 * KIB
FOOTER_SIZE = 1000
COMMIT_SECONDS = 0.004
OPEN_SECONDS = 0.003  # a window
REQUEST_SECONDS = 0.002  # what the proxy itself takes
SEAL_BYTES_PER_SECOND = 500e6  # all clients together, what receiving takes included
MEMORY = 168 * MIB  # of 192, an eighth is for what is being read from clients


class SimulatedProxy:
    """One process, with healthy lines at first."""

    def __init__(self, seed: int, *, megabytes_per_second: float) -> None:
        self.chance = Random(seed)
        self._lines = {
            name: Line(name, bytes_per_second=megabytes_per_second * 1e6, seed=seed * len(STORES) + number)
            for number, name in enumerate(STORES)
        }
        infos = tuple(
            StoreInfo(name=StoreName(name), provider=f"{name}-cloud", region=region, jurisdiction=jurisdiction)
            for name, (region, jurisdiction) in STORES.items()
        )
        self._fleet = Fleet({str(info.name): self._observed(info) for info in infos})
        self._policy = Policy(name="standard", scheme=SCHEME, stores=infos, may_fail=MayFail(providers=1))
        self._budget = Budget(MEMORY, wait_seconds=10)
        self._putter = ShardPutter(self._fleet, max_grace_seconds=2.0, tasks=BackgroundTasks(), budget=self._budget)
        self._upstream = Upstream(self._fleet, ThreadPoolExecutor(1), _NoReports(), KeysInUse())
        self._gate = _Gate(self, _Tasks(), Departures(SCHEME.n, Pace()), 0.0, lambda: None)  # type: ignore[arg-type]  # as much as it uses
        self._loop = asyncio.get_running_loop()
        self._uploads = Uploads(self._budget, SCHEME, self._put, step_seconds=MIB / 2 / SEAL_BYTES_PER_SECOND)
        self._sealed_until = 0.0
        self.filled = cache(self._filled)

    def _observed(self, info: StoreInfo) -> ObservedStore:
        bucket = SimulatedBucket(info, self._lines[info.name])
        return ObservedStore(LimitedStore(bucket, concurrency=64, put_seconds=60.0, get_seconds=30.0), LoopClock())

    @property
    def requests(self) -> int:
        return sum(line.requests for line in self._lines.values())

    def turn(self, states: Mapping[str, State]) -> None:
        """Set what lines are like; those that are not named are healthy."""
        for name, line in self._lines.items():
            line.state = states.get(name, "healthy")

    def widen(self, megabytes_per_second: float) -> None:
        """Set the bandwidth of every line, in each direction."""
        for line in self._lines.values():
            line.bytes_per_second = megabytes_per_second * 1e6

    async def answer(self, operation: Operation, number: int) -> None:
        """Do what one request takes."""
        await asyncio.sleep(REQUEST_SECONDS)
        if operation.method == "PUT" and operation.size_bytes < PACK_BELOW:
            await self._put_packed(operation.size_bytes)
        elif operation.method == "PUT":
            await self._seal(operation.size_bytes)
            await self._put(operation.size_bytes)
        elif operation.size_bytes >= PACK_BELOW:
            await self._stream((self.filled(operation.size_bytes, FILLED)[number % FILLED],))
        elif number % 2 or operation.size_bytes < 64 * KIB:
            await self._columns(self._object(operation, number), frozenset({number // 2 % SCHEME.k}), operation.size_bytes)
        else:  # it would have filled its pack badly, so it is a segment of its own
            await self._columns(self._object(operation, number), DATA, operation.size_bytes // SCHEME.k)

    def _object(self, operation: Operation, number: int) -> Extent:
        return self.filled(operation.size_bytes, FILLED)[number % FILLED]

    def _filled(self, size_bytes: int, count: int) -> Sequence[Extent]:
        """Return objects that were stored while all lines were healthy: the same ones each time."""
        return tuple(self._extent(number, size_bytes) for number in range(count))

    def _extent(self, number: int, size_bytes: int) -> Extent:
        segment_id = SegmentId(self.chance.randbytes(16))
        segment = Segment(id=segment_id, size=size_bytes, stores=place(self._policy, SCHEME, segment_id, frozenset(self._fleet.stores)))
        layout = Layout(size=size_bytes, k=SCHEME.k, m=SCHEME.m, tenant_key_id="t", wrapped_key=b"", segments=(segment,))
        return Extent(id=ExtentId(number + 1), layout=layout)

    async def upload(self, size_bytes: int) -> None:
        """Upload one large object in parts."""
        parts = deque(range(size_bytes // PART_SIZE))

        async def client() -> None:
            while parts:
                parts.popleft()
                await asyncio.sleep(REQUEST_SECONDS)
                await self._uploads.upload(Zeros(PART_SIZE))

        await asyncio.gather(*(client() for _ in range(AT_ONCE)))

    async def download(self, size_bytes: int, *, at_once: int) -> None:
        """Download one large object, as one stream or in ranges."""
        extents = deque(self.filled(PART_SIZE, size_bytes // PART_SIZE))
        if at_once == 1:
            await self._stream(extents)
            return

        async def client() -> None:
            while extents:
                extent = extents.popleft()
                await asyncio.sleep(REQUEST_SECONDS)
                await self._stream((extent,))

        await asyncio.gather(*(client() for _ in range(at_once)))

    # As `Reader`, `WindowFetch` and `SlotFetch` do

    async def _stream(self, extents: Sequence[Extent]) -> None:
        is_far = self._fleet.are_far(extents[0].layout.segments[0].stores)
        first_size = FAR_WINDOW_SIZE if is_far else FIRST_WINDOW_SIZE
        windows = plan_windows(extents, 0, sum(extent.layout.size for extent in extents), first_size=first_size)
        ahead = ReadAhead(windows, lambda window: asyncio.create_task(self._window(window)), self._budget, is_far=is_far)
        while fetched := await ahead.take():
            fetched[1].release()

    async def _window(self, window: Window | SlotWindow) -> Fetched:
        segment, size, wanted = window.segment, window.length // SCHEME.k, DATA
        if is_spread(self._fleet, segment, wanted, k=SCHEME.k, size_bytes=size):
            wanted = spread(self._fleet, segment, wanted)
        booking = Booking(self._fleet, segment, wanted)
        with booking.kept():
            held = await self._budget.acquire((2 if wanted == DATA else 3) * window.length, owner="t")
            await self._columns(window.extent, wanted, size, booking)
            await asyncio.sleep(OPEN_SECONDS)
        held.keep(window.length)
        return [memoryview(b"")], held

    async def _columns(self, extent: Extent, wanted: frozenset[int], size_bytes: int, booking: Booking | None = None) -> None:
        columns, segment = _Columns(), extent.layout.segments[0]
        fetch = ColumnFetch(extent, segment, columns, wanted=wanted, span=(0, size_bytes), upstream=self._upstream, booking=booking)
        await fetch.gather()

    # As `Writer`, `Packer` and `PackCarrier` do

    async def _seal(self, size_bytes: int) -> None:
        """Wait for the processor, which all share."""
        for _ in range(0, size_bytes, MIB):
            self._sealed_until = max(self._sealed_until, self._loop.time()) + MIB / SEAL_BYTES_PER_SECOND
            await asyncio.sleep(self._sealed_until - self._loop.time())

    async def _put_packed(self, size_bytes: int) -> None:
        body = _Body(size_bytes)
        self._gate.join(body)  # type: ignore[arg-type]  # as much as it uses
        await body.stored

    async def carry(self, bodies: Sequence[_Body]) -> None:
        """Put a pack, and those that would fill it badly each alone."""
        composition = compose([body.size_bytes for body in bodies], SCHEME.k)
        alone = [[bodies[place]] for place in composition.left_out]
        packed = [bodies[place] for column in composition.columns for place in column]
        await asyncio.gather(*(self._put_bodies(group) for group in (*alone, packed) if group))

    async def _put_bodies(self, bodies: Sequence[_Body]) -> None:
        await self._put(sum(body.size_bytes for body in bodies))
        for body in bodies:
            body.stored.set_result(None)

    async def _put(self, size_bytes: int) -> None:
        shards = [[bytes(size_bytes // SCHEME.k + FOOTER_SIZE)]] * SCHEME.n
        placed = await self._putter.put(self._policy, SCHEME, SegmentId(self.chance.randbytes(16)), shards)
        for task in placed.tail.values():
            task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        await asyncio.sleep(COMMIT_SECONDS)


class _Columns:
    """Takes what comes."""

    def __init__(self) -> None:
        self._taken: set[int] = set()

    @property
    def indexes(self) -> frozenset[int]:
        return frozenset(self._taken)

    def add(self, shard_index: int, sealed: bytes | memoryview) -> None:  # noqa: ARG002 -- the protocol's signature
        self._taken.add(shard_index)


class _NoReports:
    def found(self, extent_id: ExtentId, segment: Segment, shard_index: int, failure: ProxyError) -> None:
        """Nobody repairs here."""


class _Tasks:
    """Keeps tasks until they end."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, step: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(step)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Body:
    """An object on its way into a pack: what `_Gate` sees of it."""

    entry_bytes = 200

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def gather(self, revoke: Callable[[], None]) -> None:
        """There is memory for it."""

    def depart(self) -> None:
        """Nobody takes its memory any more."""

    def send_away(self, reason: object = None) -> None:
        """Never here."""
