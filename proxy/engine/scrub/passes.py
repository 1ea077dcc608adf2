"""A pass of comparisons: slice after slice, until all segments were compared.

What is kept, after each slice, is the number of the next and what was found. The scratch database of a slice belongs to the process that
works on it. Whoever goes on after a restart, or finds that another process has worked meanwhile, begins the slice anew. Nothing that a
slice does to the manifest is done twice by that: a report of damage may be made again.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass

import msgspec
from msgspec.structs import replace

from proxy.clock import Clock
from proxy.engine.scrub.compared import Compared
from proxy.engine.scrub.comparison import Comparison
from proxy.engine.scrub.findings import Report
from proxy.engine.scrub.inspector import Inspector
from proxy.engine.scrub.slices import Slice, slice_count
from proxy.engine.throttle import Throttle
from proxy.engine.walking.tally import load_tally
from proxy.engine.walking.walk import Positions
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Record
from proxy.manifest.sqlite.listings import Listings
from proxy.stores.protocol import Store


class PassPosition(Record, frozen=True, kw_only=True, omit_defaults=True):
    """How far a pass is. `id` tells it from any other, whatever the clock does; `worker` is drawn by whoever works on the slice."""

    id: int
    begun_ms: int
    count: int  # of slices
    number: int = 0  # of the slice to be compared
    only: tuple[str, ...] = ()  # the stores to be compared; all, if none is named
    worker: bytes = b""
    compared: Compared = msgspec.field(default_factory=Compared)

    @property
    def finished(self) -> bool:
        return self.number == self.count


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What comparisons are made with."""

    manifest: Manifest
    clock: Clock
    stores: Mapping[str, Store]
    inspector: Inspector
    throttle: Throttle
    threads: Executor
    scratch: Callable[[], Listings]
    report: Report
    rest: float = 0.0  # after each unit, so many times as long as it took: where clients are served, they come first


AfterSlice = Callable[[Comparison, PassPosition], Awaitable[None]]
_positions = msgspec.msgpack.Decoder(PassPosition)


class ComparisonPass:
    """Goes on with a pass, or begins one. `name` is that of its position."""

    def __init__(
        self, tools: Tools, positions: Positions, *, name: str, everything: bool = False, after_slice: AfterSlice | None = None
    ) -> None:
        self._tools = tools
        self._positions = positions
        self._name = name
        self._everything = everything
        self._after_slice = after_slice
        self._slice: _Running | None = None

    async def position(self) -> PassPosition | None:
        """Return where the pass stands; None between two."""
        kept = await self._positions.load_state(self._name)
        return None if kept is None else _positions.decode(kept)

    @property
    def is_running(self) -> bool:
        """Whether a slice is under way in this process."""
        return self._slice is not None

    @property
    def compared(self) -> Compared:
        """What was found by the slice under way and those before."""
        return Compared() if self._slice is None else self._slice.compared

    async def advance(self, *, seconds: float, only: tuple[str, ...] = ()) -> PassPosition:
        """Go on for so long, or to the end of a slice. A pass that is finished stays so until it is `forget`-ed."""
        position = await self.position() or await self._first(only)
        if position.finished:
            return position
        running = await self._running(position)
        try:
            ended = await self._work(running, seconds)
            if ended and self._after_slice is not None:
                await self._after_slice(running.comparison, replace(running.position, compared=running.compared))
        except BaseException:
            await self.close()
            raise
        if not ended:
            return running.position
        await self.close()
        return await self._keep(replace(running.position, number=position.number + 1, compared=running.compared))

    async def _first(self, only: tuple[str, ...]) -> PassPosition:
        tally = await load_tally(self._tools.manifest)
        extents = tally.extents if tally else await self._tools.manifest.newest_extent()
        return PassPosition(id=secrets.randbits(62), begun_ms=self._tools.clock.now_ms(), count=slice_count(extents), only=only)

    async def forget(self) -> None:
        """The pass is over, and what it has found is where it belongs."""
        await self._positions.save_state(self._name, None)

    async def close(self) -> None:
        """Drop the slice under way."""
        running, self._slice = self._slice, None
        if running is not None:
            await running.comparison.close()

    async def _running(self, position: PassPosition) -> _Running:
        if self._slice is not None and self._slice.position.worker == position.worker:
            return self._slice
        await self.close()
        position = await self._keep(replace(position, worker=secrets.token_bytes(8)))
        tools, compared = self._tools, position.compared.copy()
        comparison = Comparison(
            tools.manifest,
            {name: store for name, store in tools.stores.items() if not position.only or name in position.only},
            tools.inspector,
            tools.throttle,
            tools.threads,
            tools.scratch(),
            tools.report,
            compared,
        )
        part = Slice(position.number, position.count)
        units = comparison.run(part, everything=self._everything and position.number == 0)
        self._slice = _Running(position, comparison, compared, units)
        return self._slice

    async def _work(self, running: _Running, seconds: float) -> bool:
        """Work for so long; tell whether the slice has ended."""
        clock = self._tools.clock
        started = clock.monotonic()
        until = started + seconds
        async for _ in running.units:
            if self._tools.rest:
                await asyncio.sleep(self._tools.rest * (clock.monotonic() - started))
            started = clock.monotonic()
            if started >= until:
                return False
        return True

    async def _keep(self, position: PassPosition) -> PassPosition:
        await self._positions.save_state(self._name, msgspec.msgpack.encode(position))
        return position


@dataclass(slots=True)
class _Running:
    """The slice that this process works on."""

    position: PassPosition
    comparison: Comparison
    compared: Compared
    units: AsyncIterator[None]
