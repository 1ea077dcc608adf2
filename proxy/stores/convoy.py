"""One thread that writes the small shards of several directories, one after the other.

The problem. A pack of small objects becomes a file in each of six directories. Six threads are woken for that. At each of their system
calls they let go of the interpreter, and then have to get it back from one another and from the event loop: that takes several times as
long as the calls themselves.

The idea. All are written by one thread, one after the other, and the loop is woken once for all of them. A directory that hangs must hold
up nobody else, so each directory keeps its own threads. A call that has not begun after a moment goes there, and so do all that come in the
next while. It is one second at first, and twice as long each time that it was in vain.

This is for calls that only copy bytes to the page cache. What waits for a disk is faster side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TypeVar

from proxy.lanes import Cancelled, Lanes, NotBegun

Result = TypeVar("Result")
PATIENCE_SECONDS = (
    0.1  # a pack takes a millisecond, but on a busy machine its thread may get no processor for 20: a disk that hangs takes longer
)
REST_SECONDS = 1.0
MAX_REST_SECONDS = 60.0


class Convoy:
    """A lane for the short calls of several stores. Its thread ends when all of these have left."""

    def __init__(self, *, patience_seconds: float = PATIENCE_SECONDS, now: Callable[[], float] = monotonic) -> None:
        self._lanes = Lanes(1, name="store-convoy")
        self._patience_seconds = patience_seconds
        self._now = now
        self._members: set[object] = set()
        self._rest_seconds = REST_SECONDS
        self._rests_until = 0.0

    def join(self, member: object) -> None:
        """Take a member, who may be opened in a thread of its own."""
        self._members.add(member)

    def leave(self, member: object) -> None:
        self._members.discard(member)
        if not self._members:
            self._lanes.close()

    async def run(self, call: Callable[[Cancelled], Result], *, otherwise: Lanes) -> Result:
        """Run a short call as lanes do: in the one thread, or in a member's own if that is held up."""
        if self._now() < self._rests_until:
            return await otherwise.run(call)
        try:
            result = await self._lanes.run_together(call, begin_within_seconds=self._patience_seconds)
        except NotBegun:
            self._rest()
            return await otherwise.run(call)
        self._rest_seconds = REST_SECONDS
        return result

    def _rest(self) -> None:
        now = self._now()
        if now >= self._rests_until:  # or another call has said so
            self._rests_until = now + self._rest_seconds
            self._rest_seconds = min(2 * self._rest_seconds, MAX_REST_SECONDS)
