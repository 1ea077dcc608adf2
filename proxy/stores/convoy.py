"""One thread that writes the small shards of several directories, one after the other.

The problem. A pack of small objects becomes a file in each of six directories. Six threads are woken for that. At each of their system
calls they let go of the interpreter, and then have to get it back from one another and from the event loop: that takes several times as
long as the calls themselves.

The idea. All are written by one thread, one after the other, and the loop is woken once for all of them. A directory that hangs must hold
up nobody else, so each directory keeps its own threads. A call that has not begun after a moment goes there, and so do all that come in the
next while. It is one second at first, and twice as long each time that it was in vain.

The shards of one segment are one call (`make_all`), if all their stores are in the convoy and keep pace: what each would cost the event
loop by itself is more than the write. It is a first try. Whatever has failed, or hangs, is put again as it is always put, by its own
store's threads, behind its own deadline. So only what has succeeded counts.

This is for calls that do not wait for a disk, or only for a fraction of a millisecond: what takes longer is faster side by side. A
directory whose call takes long is left to its own threads for a while, too: the others would all seem as slow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import TypeAlias, TypeVar
from weakref import WeakKeyDictionary

from proxy.lanes import Cancelled, Lanes, LanesClosed, NotBegun
from proxy.stores.protocol import ShardName, Store

Result = TypeVar("Result")
PATIENCE_SECONDS = 0.1  # a pack takes 1 ms. On a busy machine its thread may wait 20 for a processor, but a disk that hangs takes longer
SLOW_SECONDS = 0.05  # for one call: so long a write waits for its last shard before it commits without it
REST_SECONDS = 1.0
MAX_REST_SECONDS = 60.0


Board: TypeAlias = "Callable[[ShardName, Sequence[bytes | bytearray | memoryview], int], Ride | None]"  # the last is the body's size


class Ride:
    """A put as one of several in a convoy. `rest`: its store's. `at_end`: called once, however it has ended."""

    __slots__ = ("at_end", "call", "convoy", "rest")

    def __init__(self, convoy: Convoy, rest: Rest, call: Callable[[Cancelled], None]) -> None:
        self.convoy = convoy
        self.rest = rest
        self.call = call
        self.at_end: Callable[[], None] = _nothing


class Convoy:
    """A lane for the short calls of several stores. Its thread ends when all of these have left."""

    def __init__(self, *, patience_seconds: float = PATIENCE_SECONDS, now: Callable[[], float] = monotonic) -> None:
        self._lanes = Lanes(1, name="store-convoy")
        self._patience_seconds = patience_seconds
        self._now = now
        self._members: set[object] = set()
        self._rest = Rest(now)
        self.ended = 0  # calls
        self._rests: WeakKeyDictionary[Lanes, Rest] = WeakKeyDictionary()  # of members, by their own lanes

    def join(self, member: object) -> None:
        """Take a member, who may be opened in a thread of its own."""
        self._members.add(member)

    def leave(self, member: object) -> None:
        self._members.discard(member)
        if not self._members:
            self._lanes.close()

    def rest_of(self, own: Lanes) -> Rest:
        """Return when a member with these lanes does not ride in the convoy."""
        return self._rests.get(own) or self._rests.setdefault(own, Rest(self._now))

    @property
    def rests(self) -> bool:
        """Whether nobody rides in it for now."""
        return self._rest.is_on

    async def make_all(self, rides: Sequence[Ride]) -> Sequence[float | None]:
        """Make short calls one after the other; return in how many seconds each was made. None: it failed, or was given up.

        They are given up when nothing has ended in the convoy for a moment. While it goes on, though slowly, they are not made twice.
        """
        began = self._now()
        made: list[float | None] = [None] * len(rides)

        def run(cancelled: Cancelled) -> None:
            for place, ride in enumerate(rides):
                if cancelled():
                    return
                with suppress(Exception):  # whoever tries again finds out, and tells
                    self._run_timed(ride.call, ride.rest, cancelled)
                    seconds = self._now() - began
                    made[place] = None if cancelled() else seconds  # a call that was given up may have made nothing, and raises nothing

        try:
            await self._lanes.run(run, timeout_seconds=self._patience_seconds, goes_on=Progress(self).goes_on)
        except TimeoutError:
            self._rest.begin()
        except (NotBegun, LanesClosed):
            pass
        else:
            self._rest.was_not_in_vain()
        return tuple(made)

    async def run(self, call: Callable[[Cancelled], Result], *, otherwise: Lanes) -> Result:
        """Run a short call as lanes do: in the one thread, or in a member's own if that is held up, or the member takes long."""
        rest = self.rest_of(otherwise)
        if self._rest.is_on or rest.is_on:
            return await otherwise.run(call)
        try:
            result = await self._lanes.run_together(partial(self._run_timed, call, rest), begin_within_seconds=self._patience_seconds)
        except NotBegun:
            self._rest.begin()
            return await otherwise.run(call)
        self._rest.was_not_in_vain()
        return result

    def _run_timed(self, call: Callable[[Cancelled], Result], rest: Rest, cancelled: Cancelled) -> Result:
        began = self._now()
        try:
            return call(cancelled)
        finally:
            self.ended += 1
            if self._now() - began > SLOW_SECONDS:
                rest.begin()
            else:
                rest.was_not_in_vain()


def boards(store: Store) -> Board:
    """Return what asks a store for a put as one of a convoy: its own `board`, if it has one. A decorator that adds nothing passes it on."""
    board: Board = getattr(store, "board", _stays_behind)
    return board


def _stays_behind(_name: ShardName, _body: Sequence[bytes | bytearray | memoryview], _size_bytes: int) -> None:
    return None


def _nothing() -> None:
    pass


class Progress:
    """Whether anything has ended in a convoy since somebody looked last."""

    def __init__(self, convoy: Convoy) -> None:
        self._convoy = convoy
        self._seen = convoy.ended

    def goes_on(self) -> bool:
        seen, self._seen = self._seen, self._convoy.ended
        return self._seen > seen


class Rest:
    """A while in which something is not tried: twice as long each time that it was tried in vain. Threads may share it."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._seconds = REST_SECONDS
        self._until = 0.0

    @property
    def is_on(self) -> bool:
        return self._until > 0 and self._now() < self._until  # most have never begun

    def begin(self) -> None:
        if not self.is_on:  # or another call has said so
            self._until = self._now() + self._seconds
            self._seconds = min(2 * self._seconds, MAX_REST_SECONDS)

    def was_not_in_vain(self) -> None:
        self._seconds = REST_SECONDS
