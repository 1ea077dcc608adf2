"""Turns: whose bytes are coded next while several large bodies arrive side by side.

The problem. Parts of a large object that arrive together share the processor evenly, so their segments are complete at about the same time.
The lines to distant stores have nothing to send until then, and again when all are stored. A fifth of an upload went by like that.

The idea. The segment that was begun first is served first, two at a time, whenever there are bytes of it to code. The budget gives memory
in the same order, and a turn is asked for only with memory in hand: so nobody has a turn who waits for another. It is taken for bytes that
are here, so a slow client keeps nobody waiting. Who has no turn is not read, and its client waits; but not for long: after a second, bytes
are coded without one. Small segments need none: they would wait long for little.

Rejected: the segment first that misses least. Where small bodies never cease, a large one would starve.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from heapq import heappop, heappush
from itertools import count

AT_ONCE = 2  # segments: each is sealed in one thread, and hashed in another
LOOP_TURNS = 3  # of the event loop, that whoever has just had a turn needs to ask for the next one
LONGEST_SECONDS = 1.0  # of a wait: far less than a client may be silent


class Turns:
    """Turns of segments, by their numbers: the lower was begun first."""

    def __init__(self) -> None:
        self._free = AT_ONCE
        self._waiting: list[tuple[int, int, asyncio.Future[bool]]] = []  # by number, then in the order they came
        self._arrivals = count()

    async def take(self, number: int) -> bool:
        """Wait for a turn. False: the wait was too long, and bytes are to be coded without one."""
        if self._free and (not self._waiting or number < self._waiting[0][0]):
            self._free -= 1
            return True
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[bool] = loop.create_future()
        heappush(self._waiting, (number, next(self._arrivals), turn))
        timer = loop.call_later(LONGEST_SECONDS, _give_up, turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.result():
                self._leave()  # it came at the same instant
            raise
        finally:
            timer.cancel()

    def end_with(self, work: Sequence[asyncio.Future[None]]) -> None:
        """Give a turn back once all of this is done, whatever came of it; at once if it is nothing."""
        left = len(work)
        if not left:
            self._leave()

        def ended(_: asyncio.Future[None]) -> None:
            nonlocal left
            left -= 1
            if not left:
                self._leave()

        for one in work:
            one.add_done_callback(ended)

    def _leave(self) -> None:
        self._free += 1
        self._hand_on(LOOP_TURNS)

    def _hand_on(self, loop_turns: int) -> None:
        if loop_turns:
            asyncio.get_running_loop().call_soon(self._hand_on, loop_turns - 1)
            return
        while self._free and self._waiting:
            *_, turn = heappop(self._waiting)
            if not turn.done():
                self._free -= 1
                turn.set_result(True)


def _give_up(turn: asyncio.Future[bool]) -> None:
    if not turn.done():
        turn.set_result(False)
