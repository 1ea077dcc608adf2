"""When packs leave: few writers far away from the stores do not wait for one another, many share. Time is simulated."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from proxy.engine.packing.departures import (
    COMPANY,
    FAR_SECONDS,
    GATHER_SECONDS,
    MAX_ALONE_IN_FLIGHT,
    MAX_IN_FLIGHT,
    Departures,
    Pace,
)
from tests.leaping import leap

KIB = 1024
WORTH = 6  # 4+2
FAR = 2 * FAR_SECONDS
NEAR = FAR_SECONDS / 4
THINKS_SECONDS = FAR_SECONDS / 10
WRITES = 30


@dataclass
class Harbour:
    """What gathers, and the packs in flight. Each takes as long as the other."""

    departures: Departures
    pack_seconds: float
    packs: list[int] = field(default_factory=list)
    waiting: list[tuple[int, asyncio.Future[None]]] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    is_boarding: bool = False

    async def put(self, size: int) -> None:
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append((size, stored))
        self.departures.joined(len(self.waiting), asyncio.get_running_loop().time())
        self._depart()
        await stored

    def _depart(self) -> None:
        now = asyncio.get_running_loop().time()
        if self.waiting and not self.is_boarding and self.departures.may_begin(len(self.waiting), self._bytes, now):
            self.is_boarding = True
            self.departures.in_flight += 1
            task = asyncio.get_running_loop().create_task(self._carry())
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    @property
    def _bytes(self) -> int:
        return sum(size for size, _ in self.waiting)

    async def _gather(self) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + GATHER_SECONDS
        while loop.time() < until and self.departures.awaits_more(self._bytes, loop.time()):
            await asyncio.sleep(GATHER_SECONDS / 20)

    async def _carry(self) -> None:
        await asyncio.sleep(self.departures.company_seconds(len(self.waiting), self._bytes, asyncio.get_running_loop().time()))
        await self._gather()
        self.is_boarding = False
        taken, self.waiting = self.waiting, []
        if taken:
            self.packs.append(len(taken))
            self.departures.left(len(taken))
            await asyncio.sleep(self.pack_seconds)
            self.departures.landed(len(taken), self.pack_seconds, asyncio.get_running_loop().time())
        self.departures.in_flight -= 1
        for _, stored in taken:
            stored.set_result(None)
        self._depart()


def _written(
    writers: int,
    size: int,
    *,
    pack_seconds: float,
    may_go_alone: bool = True,
    are_nearby: bool = False,
    thinks_seconds: float = THINKS_SECONDS,
) -> tuple[list[float], list[int]]:
    """Let writers put one object after the other; return the seconds of each of the later puts, and how many were in each pack."""
    seconds: list[float] = []

    async def write(harbour: Harbour, number: int) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(number * thinks_seconds / writers)
        for _ in range(WRITES):
            began = loop.time()
            await harbour.put(size)
            seconds.append(loop.time() - began)
            await asyncio.sleep(thinks_seconds * (1 + number / writers))

    async def run() -> list[int]:
        harbour = Harbour(Departures(WORTH, Pace(), may_go_alone=may_go_alone, are_nearby=lambda: are_nearby), pack_seconds)
        await asyncio.gather(*(write(harbour, number) for number in range(writers)))
        return harbour.packs

    packs = leap(run())
    return seconds[2 * writers :], packs


@pytest.mark.parametrize("size", [4 * KIB, 64 * KIB])
@pytest.mark.parametrize("writers", range(1, WORTH + 1))
def test_from_afar_a_few_writers_wait_for_nobody(writers: int, size: int) -> None:
    seconds, _ = _written(writers, size, pack_seconds=FAR)
    assert max(seconds) == pytest.approx(FAR)


def test_on_a_busy_machine_whose_stores_are_nearby_a_few_writers_share_packs() -> None:
    _, alone = _written(WORTH, 4 * KIB, pack_seconds=FAR)
    _, shared = _written(WORTH, 4 * KIB, pack_seconds=FAR, are_nearby=True)
    assert sum(alone) == sum(shared) == WORTH * WRITES
    assert 2 * len(shared) <= len(alone)


@pytest.mark.parametrize("writers", [16, 32])
def test_from_afar_many_writers_share_packs(writers: int) -> None:
    _, packs = _written(writers, 4 * KIB, pack_seconds=FAR)
    assert sum(packs) == writers * WRITES
    assert sum(packs) >= 4 * len(packs)


@pytest.mark.parametrize("writers", [WORTH + 2, 12, 16])
def test_from_afar_those_who_have_just_been_answered_share_the_next_pack_with_those_who_waited(writers: int) -> None:
    seconds, packs = _written(writers, 4 * KIB, pack_seconds=FAR)
    half = packs[: len(packs) // 2]  # in the end, few are left
    assert sum(half) >= 0.8 * writers * len(half)
    assert sum(seconds) / len(seconds) <= (1 + 2 * COMPANY) * FAR


@pytest.mark.parametrize(
    ("in_flight", "waiting", "size", "pack_seconds"),
    [(1, WORTH + 1, 4 * KIB, FAR), (1, 1, 64 * KIB, FAR), (2, 1, 4 * KIB, FAR), (1, 1, 4 * KIB, NEAR)],
    ids=["it is worth its puts", "it fills a cell", "others are in flight", "the stores are near"],
)
def test_a_pack_that_gains_little_by_company_waits_for_none(in_flight: int, waiting: int, size: int, pack_seconds: float) -> None:
    departures = Departures(WORTH, Pace())
    departures.landed(0, pack_seconds, now=0.0)
    departures.joined(WORTH + 1, now=0.0)
    departures.in_flight = in_flight
    assert departures.company_seconds(waiting, waiting * size, now=0.0) == 0.0


def test_a_lone_writer_waits_for_no_company_once_the_crowd_is_gone() -> None:
    departures = Departures(WORTH, Pace())
    departures.landed(0, FAR, now=0.0)
    departures.joined(WORTH + 1, now=0.0)
    departures.in_flight = 1
    assert departures.company_seconds(1, 4 * KIB, now=FAR) == pytest.approx(COMPANY * FAR)
    assert departures.company_seconds(1, 4 * KIB, now=2.1 * FAR) == 0.0


@pytest.mark.parametrize(("writers", "size"), [(WORTH + 1, 4 * KIB), (16, 4 * KIB), (16, 64 * KIB)])
def test_many_writers_from_afar_gather_as_they_do_nearby(writers: int, size: int) -> None:
    _, with_it = _written(writers, size, pack_seconds=FAR)
    _, without = _written(writers, size, pack_seconds=FAR, may_go_alone=False)
    half = len(without) // 2  # in the end, few are left
    assert with_it[:half] == without[:half]


def test_nearby_a_few_writers_share_packs() -> None:
    _, packs = _written(4, 4 * KIB, pack_seconds=NEAR)
    assert len(packs) <= 0.6 * sum(packs)


@pytest.mark.parametrize("writers", [2, WORTH, WORTH + 2, 16])
def test_nearby_those_who_have_just_been_answered_share_the_next_pack_with_those_who_waited(writers: int) -> None:
    """The first of them leaves alone, and would again and again."""
    seconds, packs = _written(writers, 4 * KIB, pack_seconds=NEAR, thinks_seconds=GATHER_SECONDS / 4)
    assert set(packs[4:-4]) == {writers}  # at first they find together, and in the end some have left
    assert sum(seconds) / len(seconds) <= NEAR + GATHER_SECONDS


@pytest.mark.parametrize(
    ("pack_seconds", "came_again", "waiting_bytes", "now"),
    [(FAR, 0, 4 * KIB, 0.0), (NEAR, 7, 4 * KIB, 0.0), (NEAR, 0, 64 * KIB, 0.0), (NEAR, 0, 4 * KIB, 1.1 * NEAR)],
    ids=["the stores are far away", "all are here", "it fills a cell", "they were answered long ago"],
)
def test_nobody_waits_where_none_is_about_to_come(pack_seconds: float, came_again: int, waiting_bytes: int, now: float) -> None:
    departures = Departures(WORTH, Pace())
    departures.landed(7, pack_seconds, now=0.0)
    for waiting in range(came_again):
        departures.joined(waiting + 2, now=0.0)
    assert not departures.awaits_more(waiting_bytes, now)


def test_who_has_not_come_by_the_next_pack_is_not_waited_for_again() -> None:
    departures = Departures(WORTH, Pace())
    departures.landed(7, NEAR, now=0.0)
    assert departures.awaits_more(4 * KIB, now=0.0)
    departures.left(1)
    assert not departures.awaits_more(4 * KIB, now=0.0)


def test_where_bodies_linger_a_few_writers_from_afar_share_packs_too() -> None:
    _, packs = _written(4, 4 * KIB, pack_seconds=FAR, may_go_alone=False)
    assert len(packs) <= 0.6 * sum(packs)


def test_behind_stores_that_hang_those_who_wait_for_nobody_are_not_without_number() -> None:
    departures = Departures(WORTH, Pace())
    departures.landed(0, FAR, now=0.0)
    begun = 0
    while departures.may_begin(1, 4 * KIB, now=0.0):
        departures.in_flight += 1
        begun += 1
    assert begun == MAX_ALONE_IN_FLIGHT


def test_full_packs_are_in_flight_together_up_to_a_few() -> None:
    departures = Departures(WORTH, Pace())
    begun = 0
    while departures.may_begin(WORTH + 1, 4 * KIB, now=0.0):
        departures.in_flight += 1
        begun += 1
    assert begun == MAX_IN_FLIGHT


def test_what_is_known_of_distant_stores_is_known_when_all_have_landed_and_others_come() -> None:
    pace = Pace()
    Departures(WORTH, pace).landed(0, FAR, now=0.0)
    later = Departures(WORTH, pace)
    later.in_flight = 1
    assert later.may_begin(1, 4 * KIB, now=0.0)
    later.joined(WORTH + 1, now=0.0)
    again = Departures(WORTH, pace)
    again.in_flight = 1
    assert not again.may_begin(1, 4 * KIB, now=FAR)
