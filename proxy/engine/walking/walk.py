"""The walk: all extents, one after the other by id, shown to whoever has to look at each of them.

The problem. Scrubbing, the audit of placement and the count of what there is each have to see every extent. An index for each purpose would
make every commit write more, and a query over all extents would hold one reader for hours.

The idea. Ids only grow, so "behind this id, a few more" is a position that stays true whatever is written meanwhile. A walk shows batch
after batch to its **observers**, and keeps its position together with what each observer has found so far, in one step of the manifest. A
process that dies loses the last batches; whoever goes on, in whatever process, shows them again to observers that have not seen them. So
what an observer does to others must be such that it may be done twice: a report of damage may.

A pass ends at the id that was the newest when it began. What is written later comes in the next pass.

One process walks at a time: the job's lease sees to that. Ranges for several would be quicker only where the manifest is the limit, and it
is one file on one machine; what a walk waits for are stores, and those its observers ask side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec
from msgspec.structs import replace

from proxy.clock import Clock
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Extent, ExtentId, Record

BATCH = 100  # extents in memory: one of 5 GiB has 320 segments, and is some 30 KiB


class Observer(Protocol):
    """Looks at every extent of a pass. It may be dropped at any time: then another goes on from what was kept."""

    @property
    def name(self) -> str: ...  # what it keeps is found by it

    def begin(self, kept: bytes | None) -> None: ...  # a pass, or the rest of one: what `keep` returned when the position was kept

    async def see(self, extents: Sequence[Extent]) -> None: ...

    def keep(self) -> bytes: ...

    async def finish(self) -> None: ...  # the pass is over. May be called twice for one pass, with the same findings


class Positions(Protocol):
    """Where the positions of walks are kept: the manifest, or memory for a walk that nobody goes on with."""

    async def load_state(self, name: str) -> bytes | None: ...
    async def save_state(self, name: str, value: bytes | None) -> None: ...


class PositionsInMemory:
    """Of a walk that ends with its process."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}

    async def load_state(self, name: str) -> bytes | None:
        return self._values.get(name)

    async def save_state(self, name: str, value: bytes | None) -> None:
        if value is None:
            self._values.pop(name, None)
        else:
            self._values[name] = value


class Position(Record, frozen=True, kw_only=True, omit_defaults=True):
    """How far a pass is, and what its observers have kept."""

    begun_ms: int
    newest: ExtentId  # where it ends
    first: ExtentId = ExtentId(0)
    after: ExtentId = ExtentId(0)
    seen: int = 0
    kept: Mapping[str, bytes] = {}

    @property
    def remaining(self) -> int:
        """About how many extents are still to be seen: as dense as those that were."""
        if not self.seen:
            return self.newest - self.after
        return round((self.newest - self.after) * self.seen / (self.after - self.first + 1))


class Advance(NamedTuple):
    """What one advance did. `position` is that after it."""

    seen: int
    finished: bool
    position: Position


_positions = msgspec.msgpack.Decoder(Position)


async def load_position(positions: Positions, name: str) -> Position | None:
    """Return where a walk stands; None between two passes."""
    kept = await positions.load_state(name)
    return None if kept is None else _positions.decode(kept)


class Walk:
    """Shows all extents to observers, pass after pass. `name` is that of its position."""

    def __init__(
        self,
        manifest: Manifest,
        positions: Positions,
        clock: Clock,
        observers: Sequence[Observer],
        *,
        name: str,
        batch: int = BATCH,
        again: Callable[[Position], Position | None] = lambda _: None,
    ) -> None:
        """`again` is asked at the end of a pass, and may say where it goes on: for what could not be seen."""
        self._manifest = manifest
        self._positions = positions
        self._clock = clock
        self._observers = observers
        self._name = name
        self._batch = batch
        self._again = again

    async def advance(self, *, seconds: float) -> Advance:
        """Go on for so long, or to the end of the pass, and keep the position. The next call after an end begins a new pass."""
        position = await self._go_on()
        until, before, finished = self._clock.monotonic() + seconds, position.seen, False
        while not finished:
            position, finished = await self._show(position)
            if self._clock.monotonic() >= until:
                break
        seen = position.seen - before
        if finished and (rest := self._again(position)) is not None:
            await self._keep(rest)
            return Advance(seen, finished=False, position=rest)
        if finished:
            for observer in self._observers:
                await observer.finish()
            await self._keep(None)
        else:
            await self._keep(replace(position, kept={observer.name: observer.keep() for observer in self._observers}))
        return Advance(seen, finished, position)

    async def _keep(self, position: Position | None) -> None:
        await self._positions.save_state(self._name, None if position is None else msgspec.msgpack.encode(position))

    async def _go_on(self) -> Position:
        position = await load_position(self._positions, self._name)
        if position is None:
            position = Position(begun_ms=self._clock.now_ms(), newest=await self._manifest.newest_extent())
        for observer in self._observers:
            observer.begin(position.kept.get(observer.name))
        return position

    async def _show(self, position: Position) -> tuple[Position, bool]:
        extents = await self._manifest.walk_extents(after=position.after, limit=self._batch)
        extents = tuple(extent for extent in extents if extent.id <= position.newest)
        if not extents:
            return position, True
        for observer in self._observers:
            await observer.see(extents)
        after = extents[-1].id
        position = replace(position, first=position.first or extents[0].id, after=after, seen=position.seen + len(extents))
        return position, after >= position.newest
