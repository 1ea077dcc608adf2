"""Read-ahead: the windows of one answer that are being fetched, or wait to be sent.

The problem. A store nearby answers before its bytes are needed, if one window is fetched while another is being sent. From a store far away
each window takes a round trip, and a client that waits for one after the other gets a fraction of what the stores could send. Windows that
are larger, or fetched long before, take memory that others may need.

The idea. Windows from afar are fetched several at a time. There are more of them each time the client has to wait, and none beyond the next
unless half of the budget stays free: memory that others do not miss. While the client waits for one that is late, those behind it come
in, and the lines would have nothing to send: in the place of each another is begun.

What lies in this machine's memory is not fetched at all. It is taken in short runs, without tasks and threads. A run that is not there is
fetched, and the next one looked for again: perhaps only its file was not open yet. After two in a row that are not there, the rest of the
answer is fetched ahead, as any other.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator

from proxy.engine.memory.budget import Budget
from proxy.engine.memory.grant import Grant
from proxy.engine.reading.windows import AT_HAND_SIZE, READ_AHEAD_SIZE, SlotWindow, Window

AHEAD_FROM_AFAR = 4  # windows at first, beside the one that the client waits for: twenty columns, so that no store of six has none
MOST_MISSED = 2  # in a row: the rest is not expected to be at hand
MOST_AHEAD = 12  # three segments: then most stores have something to send

Fetched = tuple[list[memoryview], Grant]
Fetch = Callable[[Window | SlotWindow], asyncio.Task[Fetched]]
AtHand = Callable[[Window | SlotWindow], Fetched | None]


class ReadAhead:
    """One answer's windows, in order. `is_far`: their stores are. `at_hand` returns a window that need not be fetched."""

    def __init__(
        self, windows: Iterator[Window | SlotWindow], fetch: Fetch, budget: Budget, *, is_far: bool, at_hand: AtHand | None = None
    ) -> None:
        self._windows = windows
        self._fetch = fetch
        self._at_hand = at_hand
        self._missed = 0  # in a row
        self._budget = budget
        self._is_far = is_far
        self._depth = AHEAD_FROM_AFAR
        self._has_begun_to_flow = False  # the first window is always waited for
        self._next = next(windows, None)
        self._ready: Fetched | None = None  # it was at hand, and is not asked for yet
        self._begun: deque[tuple[asyncio.Task[Fetched], int]] = deque()

    async def take(self) -> Fetched | None:
        """Return the next window's plaintext and the memory granted for it, which is the caller's from now on; None at the end."""
        if self._is_far:
            await asyncio.sleep(0)  # what was begun before takes its memory now: then it is known how much is left
            self._fill(self._depth + 1)
        elif not self._begun:
            if (found := await self._look()) is not None:
                return found
            self._begin()
        if not self._begun:
            return None
        ahead, length = self._begun[0]
        if self._is_far and self._has_begun_to_flow and not ahead.done():
            self._depth = min(self._depth + 1, MOST_AHEAD)
        self._has_begun_to_flow = True
        if self._is_far:
            await self._keep_lines_busy(ahead)
        try:
            fetched = await ahead
        finally:
            del ahead  # its error holds this frame
        self._begun.popleft()
        if not self._is_far and length >= READ_AHEAD_SIZE and not self._begun:
            try:
                self._ready = self._found()
            except BaseException:
                fetched[1].release()
                raise
            if self._ready is None:
                self._begin()
        return fetched

    async def drop(self) -> None:
        """Break off what is being fetched, and give back the memory of what has been, even if nobody waits for that to the end."""
        ready, self._ready = self._ready, None
        if ready is not None:
            ready[1].release()
        begun = [ahead for ahead, _ in self._begun]
        self._begun.clear()
        for ahead in begun:
            if ahead.done():
                _give_back(ahead)  # at once: since Python 3.12 nothing waits for what has ended, nor for what it calls then
            else:
                ahead.add_done_callback(_give_back)
                ahead.cancel()
        await asyncio.gather(*begun, return_exceptions=True)

    async def _look(self) -> Fetched | None:
        """Return what is at hand of the next window, if anything is."""
        ready, self._ready = self._ready, None
        if ready is not None:
            return ready
        if self._has_begun_to_flow and self._missed < MOST_MISSED:
            await asyncio.sleep(0)  # the last one was opened on the event loop: now others have a turn
        self._has_begun_to_flow = True
        return self._found()

    def _found(self) -> Fetched | None:
        """Take the beginning of the next window, or all of it, if it is at hand. If not, what is fetched next is no longer than that."""
        if self._at_hand is None or self._next is None or self._missed == MOST_MISSED:
            return None
        window, rest = self._next.split(AT_HAND_SIZE)
        fetched = self._at_hand(window)
        if fetched is not None:
            self._missed, self._next = 0, rest or next(self._windows, None)
            return fetched
        self._missed += 1
        return None

    async def _keep_lines_busy(self, awaited: asyncio.Task[Fetched]) -> None:
        """Until a window has come, begin another in the place of each that has come before it."""
        while not awaited.done():
            _, under_way = await asyncio.wait(self._under_way(), return_when=asyncio.FIRST_COMPLETED)
            if not awaited.done():
                come = len(self._begun) - len(under_way)
                self._fill(min(self._depth + come, MOST_AHEAD) + 1)

    def _under_way(self) -> list[asyncio.Task[Fetched]]:
        return [ahead for ahead, _ in self._begun if not ahead.done()]

    def _fill(self, count: int) -> None:
        """Have so many windows begun: one in any case, more while there is memory to spare."""
        wanted_bytes = 0
        while self._next is not None and len(self._begun) < count:
            wanted_bytes += 2 * self._next.length  # sealed and opened
            if self._begun and not self._budget.can_spare(wanted_bytes):
                return
            self._begin()

    def _begin(self) -> None:
        if self._next is None:
            return
        window, rest = self._next, None
        if 0 < self._missed < MOST_MISSED:
            window, rest = window.split(AT_HAND_SIZE)  # what comes after may be at hand
        self._begun.append((self._fetch(window), window.length))
        self._next = rest or next(self._windows, None)


def _give_back(ended: asyncio.Task[Fetched]) -> None:
    """Release the memory of a window that nobody takes any more."""
    if not ended.cancelled() and ended.exception() is None:
        ended.result()[1].release()
