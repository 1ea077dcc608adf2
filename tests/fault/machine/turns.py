"""Turns: whoever does something that others can see waits here until it is his turn."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import NoReturn

from tests.fault.machine.loop import SimulatedLoop

MOMENTS = (-3.0, 1.6)  # powers of ten of a second, by which time moves while somebody could go on: up to 40 s
LOG_LINES = 2_000


@dataclass(eq=False)
class Life:
    """A process as far as turns are concerned: dead, it never gets another."""

    name: str
    died: float | None = None  # when
    suspended: bool = False  # for now

    @property
    def dead(self) -> bool:
        return self.died is not None


@dataclass(eq=False)
class _Turn:
    """Somebody who waits. `what` is for people."""

    life: Life
    what: str
    go: asyncio.Future[None]
    on_the_wire: bool = False  # a message: it travels on when its process has died
    is_stray: Callable[[], bool] = lambda: False  # whether nobody waits for it any more


class Turns:
    """Those who wait, and the one scheduler."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self.loop = loop
        self.taken = 0
        self.log: deque[str] = deque(maxlen=LOG_LINES)
        self.over = False  # the example is at its end: everybody is sent home
        self._waiting: list[_Turn] = []
        self._graves: list[asyncio.Future[NoReturn]] = []  # or tasks that wait for ever would be collected as garbage
        self._lost: list[_Turn] = []  # likewise

    async def take(self, life: Life, what: str) -> None:
        """Wait for a turn of this process. One that is dead waits for ever, whatever it was about to do."""
        if not life.dead:
            await self._wait(_Turn(life, what, self.loop.create_future()))
        if life.dead:
            await self.never()

    async def take_on_the_wire(self, life: Life, what: str, is_stray: Callable[[], bool]) -> None:
        """Wait for a message's turn, whether its process lives or not."""
        await self._wait(_Turn(life, what, self.loop.create_future(), on_the_wire=True, is_stray=is_stray))

    async def never(self) -> NoReturn:
        """Wait for ever."""
        if self.over:
            raise asyncio.CancelledError
        self._graves.append(self.loop.create_future())
        await self._graves[-1]
        raise AssertionError("unreachable")

    @property
    def idle(self) -> bool:
        """Whether nobody waits for a turn: nothing is on the wire."""
        return not self._waiting

    def run(self, chance: Random, steps: int, *, haste: float) -> None:
        """Give as many turns to whomever chance names. `haste` is how often time moves instead, so that answers come late."""
        for _ in range(steps):
            self.loop.settle()
            ready = [turn for turn in self._waiting if turn.on_the_wire or not turn.life.suspended]
            if ready and chance.random() >= haste:
                self._give(chance.choice(ready))
            elif ready:
                self.loop.move_to(self.loop.time() + 10 ** chance.uniform(*MOMENTS))
            elif (timer := self.loop.next_timer()) is not None:
                self.loop.move_to(timer)
            self.loop.settle()

    def run_until(self, done: Callable[[], bool], chance: Random, *, steps: int) -> bool:
        """Give turns, all before time moves, until it is done; return whether it was."""
        for _ in range(steps):
            self.loop.settle()
            if done():
                return True
            self.run(chance, 1, haste=0.0)
        return done()

    def bury(self, life: Life) -> None:
        """A process dies. What it had sent stays on the wire."""
        life.died = self.loop.time()
        self._lose(lambda turn: turn.life is life and not turn.on_the_wire)

    def lose_strays(self) -> None:
        """Lose what is on the wire, and nobody waits for."""
        self._lose(lambda turn: turn.is_stray())

    def send_home(self, life_tasks: Callable[[], set[asyncio.Task[object]]]) -> None:
        """End the example: whatever still runs is cancelled, and nothing that it does on its way out is seen by anybody."""
        self.over = True
        for _ in range(20):
            for task in life_tasks():
                task.cancel()
            self.loop.settle()

    async def _wait(self, turn: _Turn) -> None:
        if self.over:
            raise asyncio.CancelledError
        self._waiting.append(turn)
        try:
            await turn.go
        except asyncio.CancelledError:
            if turn in self._waiting:
                self._waiting.remove(turn)
            raise

    def _lose(self, lost: Callable[[_Turn], bool]) -> None:
        self._lost += [turn for turn in self._waiting if lost(turn)]
        self._waiting = [turn for turn in self._waiting if turn not in self._lost]

    def _give(self, turn: _Turn) -> None:
        self._waiting.remove(turn)
        self.taken += 1
        self.log.append(f"{self.loop.time():.3f} {turn.life.name}: {turn.what}")
        turn.go.set_result(None)
