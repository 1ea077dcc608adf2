"""The gate where small bodies gather: no timer of its own makes a writer wait, and no pack that hangs. Time is simulated."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

import pytest

from proxy.engine.packing.departures import FAR_SECONDS, MAX_IN_FLIGHT, PATIENCE, Departures, Pace
from proxy.engine.packing.pack import _Gate
from proxy.engine.packing.pack_carrier import PackCarrier
from proxy.engine.packing.packable import Arrived
from proxy.engine.tasks import BackgroundTasks

WORTH = 6  # 4+2
NEAR = FAR_SECONDS / 4
SMALL = 4096

pytestmark = pytest.mark.leaping


class Arriving:
    """A body, as far as a gate knows one."""

    size_bytes = SMALL
    entry_bytes = 100

    def __init__(self) -> None:
        self.stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def gather(self, _: Callable[[], None]) -> None:
        """Nobody takes it back."""

    def depart(self) -> None:
        """It is taken along."""


class Harbour:
    """A gate, and packs that take `seconds` each, but for those that hang."""

    def __init__(self, *, linger_seconds: float = 0.0) -> None:
        self.packs: list[int] = []
        self.under_way = self.most_under_way = 0
        self.hangs: Callable[[int], Awaitable[object]] | None = None  # by the number of the pack
        departures = Departures(WORTH, Pace(), may_go_alone=not linger_seconds)
        self._gate = _Gate(cast(PackCarrier, self), BackgroundTasks(), departures, linger_seconds, lambda: None)

    async def carry(self, bodies: Sequence[Arriving]) -> None:
        self.packs.append(len(bodies))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await (asyncio.sleep(NEAR) if self.hangs is None else self.hangs(len(self.packs)))
        self.under_way -= 1
        for body in bodies:
            body.stored.set_result(None)

    async def put(self) -> float:
        """Put a body; return how long it took."""
        began, body = asyncio.get_running_loop().time(), Arriving()
        self._gate.join(cast(Arrived, body))
        await body.stored
        return asyncio.get_running_loop().time() - began


@pytest.mark.parametrize("pause_seconds", [0.0, NEAR / 3, 10.0])
async def test_a_lone_writer_waits_for_nothing_but_the_stores(pause_seconds: float) -> None:
    harbour = Harbour()
    for _ in range(20):
        assert await harbour.put() == pytest.approx(NEAR)
        await asyncio.sleep(pause_seconds)
    assert harbour.packs == [1] * 20


async def test_those_who_come_at_once_wait_for_nothing_but_the_stores_either() -> None:
    harbour = Harbour()
    for _ in range(5):
        assert await asyncio.gather(*(harbour.put() for _ in range(16))) == pytest.approx([NEAR] * 16)
    assert harbour.packs == [16] * 5


async def test_who_comes_while_a_pack_is_on_its_way_leaves_when_that_has_landed() -> None:
    harbour = Harbour()
    await harbour.put()
    first = asyncio.ensure_future(harbour.put())
    await asyncio.sleep(NEAR / 4)
    assert await asyncio.gather(harbour.put(), harbour.put()) == pytest.approx([NEAR * 3 / 4 + NEAR] * 2, abs=0.0011)
    await first
    assert harbour.packs == [1, 1, 2]


async def test_a_pack_that_hangs_is_waited_for_no_longer_than_a_few_usual_ones() -> None:
    harbour = Harbour()
    for _ in range(3):
        await harbour.put()
    landed = asyncio.Event()
    harbour.hangs = lambda number: landed.wait() if number == 4 else asyncio.sleep(NEAR)
    hanging = asyncio.ensure_future(harbour.put())
    await asyncio.sleep(NEAR / 2)
    for _ in range(5):
        assert await harbour.put() <= (PATIENCE + 1) * NEAR + 0.0011
    assert not hanging.done()
    landed.set()
    await hanging


async def test_several_packs_are_on_their_way_together_and_no_more_than_a_few() -> None:
    harbour = Harbour()
    putting = []
    for _ in range(2 * MAX_IN_FLIGHT):
        putting += [asyncio.ensure_future(harbour.put()) for _ in range(WORTH + 1)]
        await asyncio.sleep(NEAR / 10)
    await asyncio.gather(*putting)
    assert harbour.most_under_way == MAX_IN_FLIGHT
    assert sum(harbour.packs) == len(putting)


async def test_who_is_to_linger_waits_so_long_and_no_longer() -> None:
    harbour = Harbour(linger_seconds=0.2)
    assert await asyncio.gather(harbour.put(), _later(harbour, 0.1)) == pytest.approx([0.2 + NEAR, 0.1 + NEAR])
    assert harbour.packs == [2]


async def _later(harbour: Harbour, seconds: float) -> float:
    await asyncio.sleep(seconds)
    return await harbour.put()
