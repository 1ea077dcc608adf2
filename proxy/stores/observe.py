"""What is known of a store: how fast it answers, and whether it should be asked at all.

A breaker opens after three failures in a row, or one refusal: calls then fail at once instead of each waiting out its deadline. One call
every few seconds is let through to see whether the store is back. Putting, reading, deleting and listing have a breaker each: a full disk
can be read, and a bucket whose retention forbids deletions takes new shards.

A caller that cannot do without a store insists: the store is then asked although its breaker is open, for it may be back. If it leaves such
a call without an answer for a second, it is not asked again before it has answered, or the call's deadline has passed.

A store that others overtake three times in a row is **late**: it is slow, or hangs, and nobody knows which. It is left out like one that
failed, but a caller that cannot do without it may still ask it. A read that is overtaken is broken off; a put goes on, and tells more.
While a late store answers its puts it is sent more of them, though nobody waits for it; once it has been silent for a second it is left
out. It keeps pace again when it has answered within the time that it was waited for, or a read within what is usual with others by now.
Any answer would not do: on a busy machine, where all are slow for a moment, a slow store answers as soon as they.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Literal, TypeVar

from msgspec import Struct

from proxy.clock import Clock
from proxy.errors import FilesExhausted, ShardMissing, StoreError, StoreNotAsked, StoreRejected, StoreUnavailable
from proxy.notice import Notice
from proxy.stores.breaker import FAILURES_TO_OPEN, Breaker
from proxy.stores.convoy import Ride, boards
from proxy.stores.latency import Latency
from proxy.stores.protocol import ShardName, Store, reads_at_once

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
Verb = Literal["put", "get_range", "get", "list", "delete"]
Recorder = Callable[[str, Verb, str, float], None]
PROBE_SECONDS = 2.0
SILENT_SECONDS = 1.0  # a store that is only slow has answered one of the puts that it was sent meanwhile
SLOWED_FACTOR = 1.5  # of what half of the calls took before it
LATE_FACTOR = 2.5  # of what half of the calls take: the first one of a new connection takes twice as long
HANGING_SECONDS = 5.0  # a call given up after this, and far beyond what the store is used to, counts as failed: nobody waited to the end
HANGING_FACTOR = 4
DEFAULT_P95_SECONDS = 0.5  # until a store has shown how fast it is
_LATE, _FAILING = 1, 2  # how bad: who is late may begin to fail
LARGE_SIZE = 256 * 1024  # from here on a call takes as long as its bytes do, and those before it on the line; not as the way is far
_WORK: dict[Verb, str] = {"put": "put", "get_range": "get", "get": "get", "list": "list", "delete": "delete"}


class Condition(Struct, frozen=True, kw_only=True):
    """What is known of a store right now. A breaker is "closed", "late" (others are asked first) or "open" (calls fail at once)."""

    breakers: dict[str, str]  # by kind of work: put, get, list, delete
    p95_ms: dict[str, float]  # by verb, of the calls there were; of large ones, with "_large" behind the verb
    last_error: str = ""
    last_error_seconds: float | None = None  # ago


class ObservedStore:
    """A store with a memory. `record` is told of every call: store, verb, "ok" or the error's class, seconds."""

    def __init__(self, inner: Store, clock: Clock, *, record: Recorder | None = None, probe_seconds: float = PROBE_SECONDS) -> None:
        self._inner = inner
        self.info = inner.info
        self._read_at_once = reads_at_once(inner)
        self._board = boards(inner)
        self._clock = clock
        self._record = record
        self._latencies: dict[str, Latency] = {}
        breakers = {work: Breaker(probe_seconds, silent_seconds=SILENT_SECONDS if work == "put" else 0.0) for work in _WORK.values()}
        self._breakers: dict[Verb, Breaker] = {verb: breakers[work] for verb, work in _WORK.items()}
        self._notices = {work: Notice() for work in breakers}
        self._last_error: tuple[str, float] | None = None  # and when that was
        self._is_missed = False
        self.is_nearby = False  # it has had something in this machine's memory
        self.puts = 0  # under way
        self.reads = 0  # booked (see `spread`)
        self.answers = 0  # to reads, so far

    def missed(self) -> None:
        """Note that its absence has been logged: until it answers, its failures are not."""
        self._is_missed = True

    def ready_for(self, verb: Verb) -> bool:
        """Whether to send it new work of this kind: the breaker is closed, or a probe is due, or it answers, if late."""
        breaker = self._breakers[verb]
        if not breaker.avoided:
            return True
        now = self._clock.monotonic()
        return now >= breaker.until or breaker.is_slow(now)

    def keeps_pace(self, verb: Verb) -> bool:
        """Whether to wait for it as for the others: it neither fails nor is late."""
        return not self._breakers[verb].avoided

    def is_down(self, verb: Verb) -> bool:
        """Whether it fails, or leaves what it is asked without any answer; it may be asked now and then whether it still does."""
        breaker = self._breakers[verb]
        return breaker.avoided and breaker.refuses(self._clock.monotonic())

    def has_slowed(self, verb: Verb) -> bool:
        """Whether it is late by its own measure: others overtook it, and it took longer than before, three times in a row.

        A store that is far away is overtaken, too, but has not slowed.
        """
        return self._breakers[verb].has_slowed

    def is_on_trial(self, verb: Verb) -> bool:
        """Whether it is to be asked only to see whether it keeps pace again."""
        breaker = self._breakers[verb]
        return breaker.avoided and self._clock.monotonic() >= breaker.until

    def latency_p95(self, verb: Verb, *, size_bytes: int = 0) -> float:
        """Return the 95th percentile of the last calls of about this size, in seconds."""
        latency = self._latencies.get(_timed_as(verb, size_bytes))
        return DEFAULT_P95_SECONDS if latency is None else latency.p95

    def latency_median(self, verb: Verb, *, size_bytes: int = 0, unknown: float = DEFAULT_P95_SECONDS) -> float:
        """Return what half of the last calls of about this size took at most, in seconds; `unknown` if there were none."""
        latency = self._latencies.get(_timed_as(verb, size_bytes))
        return unknown if latency is None else latency.median

    def late_after(self, verb: Verb, *, size_bytes: int = 0) -> float:
        """Return in how many seconds a call of about this size is late: so many times what half of the last took, or what nine in ten did.

        Not nineteen in twenty: where one call in twenty-five loses a packet, that is what those take, by turns, and what others do.
        """
        latency = self._latencies.get(_timed_as(verb, size_bytes))
        return LATE_FACTOR * DEFAULT_P95_SECONDS if latency is None else max(latency.p90, LATE_FACTOR * latency.median)

    def is_trusted(self, verb: Verb) -> bool:
        """Whether it keeps pace, and others have not overtaken it since it last answered."""
        return self._breakers[verb].is_trusted

    @property
    def condition(self) -> Condition:
        text, at = self._last_error or ("", None)
        return Condition(
            breakers={work: self._breakers[verb].state for verb, work in _WORK.items()},
            p95_ms={timed: round(latency.p95 * 1000, 2) for timed, latency in self._latencies.items()},
            last_error=text,
            last_error_seconds=None if at is None else round(self._clock.monotonic() - at, 1),
        )

    def overtaken(self, verb: Verb, *, pace_seconds: float = math.inf, waited_seconds: float = 0.0, size_bytes: int = 0) -> None:
        """Take note that a call is not waited for any more, because others have answered: three in a row, and the store is late.

        It is late until it has answered a call of about this size within `pace_seconds`, or of another size in the time that it was used
        to before. If `waited_seconds` are more than it usually takes, it has slowed.
        """
        breaker, is_large, now = self._breakers[verb], size_bytes >= LARGE_SIZE, self._clock.monotonic()
        used_to = self.late_after(verb, size_bytes=0 if is_large else LARGE_SIZE)
        breaker.overtake(now, pace_seconds, is_large=is_large, otherwise_seconds=used_to)
        breaker.compare(waited_seconds, SLOWED_FACTOR * self.latency_median(verb, size_bytes=size_bytes))
        if breaker.avoided and not breaker.open and (more := self._notices[_WORK[verb]].meets(_LATE, now)) is not None:
            text = "store %s answers late, if at all: where others will do, nobody waits for it to %s%s"
            logger.warning(text, self.info.name, _WORK[verb], more)

    def kept_pace(self, verb: Verb) -> None:
        """Take note that it answered no later than others do by now: it is not late any more, even if it was by an earlier pace."""
        breaker = self._breakers[verb]
        avoided = breaker.avoided
        breaker.catch_up()
        if avoided and not breaker.avoided:
            self._used_again(verb)

    async def put(self, name: ShardName, body: Sequence[bytes | bytearray | memoryview], *, insist: bool = False) -> None:
        self._admit("put", insist=insist)
        self.puts += 1
        try:
            await self._watched("put", self._inner.put(name, body), sum(map(len, body)))
        finally:
            self.puts -= 1

    def board(self, name: ShardName, body: Sequence[bytes | bytearray | memoryview], size_bytes: int) -> Ride | None:
        """Begin a put as one of a convoy, whose end `alight` is told; None if the store is not of the kind, or does not keep pace."""
        if self._breakers["put"].avoided:
            return None
        ride = self._board(name, body, size_bytes)
        if ride is not None:
            self.puts += 1
        return ride

    def alight(self, ride: Ride, size_bytes: int, seconds: float | None) -> None:
        """Take note of how long a put took; None if it has not succeeded: it is made again, and says nothing of the store before that."""
        self.puts -= 1
        ride.at_end()
        if seconds is not None:
            self._answered_in(seconds, "put", "ok", size_bytes)

    async def get_range(self, name: ShardName, start: int, length: int, *, insist: bool = False) -> memoryview | bytes:
        self._admit("get_range", insist=insist)
        if (found := self.read_at_once(name, start, length)) is not None:
            return found
        found = await self._watched("get_range", self._inner.get_range(name, start, length), length)
        self.answers += 1
        return found

    def read_at_once(self, name: ShardName, start: int, length: int) -> memoryview | bytes | None:
        """As `get_range`, if the store is used and has the range in memory; else None, and nothing is held against it."""
        if self._breakers["get_range"].avoided:
            return None
        found = self._read_at_once(name, start, length)
        if found is not None:
            self.answers += 1
            self._had_at_once()
        return found

    async def get(self, name: ShardName) -> memoryview | bytes:
        self._admit("get")
        return await self._watched("get", self._inner.get(name))

    async def list(self, prefix: str = "") -> AsyncIterator[tuple[ShardName, int]]:
        # Neither a latency nor a success before the end: how long it takes depends on what is there, and on who consumes it.
        self._admit("list")
        started = self._clock.monotonic()
        try:
            async for entry in self._inner.list(prefix):
                yield entry
        except StoreError as error:
            self._failed("list", error, started)
            raise
        self._answered("list", "ok", started)

    async def delete(self, name: ShardName) -> None:
        self._admit("delete")
        await self._watched("delete", self._inner.delete(name))

    async def close(self) -> None:
        await self._inner.close()

    def _admit(self, verb: Verb, *, insist: bool = False) -> None:
        breaker = self._breakers[verb]
        if not breaker.avoided:
            return
        now = self._clock.monotonic()
        if not breaker.probe(now) and breaker.refuses(now) and not (insist and breaker.may_insist(now)):
            reason = "it failed several times in a row just now" if breaker.open else "it has not answered for a while"
            raise StoreNotAsked(self.info.name, f"not asked: {reason}")

    async def _watched(self, verb: Verb, call: Awaitable[Result], size_bytes: int = 0) -> Result:
        started = self._clock.monotonic()
        try:
            result = await call
        except ShardMissing as error:
            self._answered(verb, type(error).__name__, started, size_bytes)
            raise
        except StoreError as error:
            self._failed(verb, error, started)
            raise
        except asyncio.CancelledError:
            self._given_up(verb, started, size_bytes)
            raise
        self._answered(verb, "ok", started, size_bytes)
        return result

    def _had_at_once(self) -> None:
        """Count what came from memory. It tells nothing about how fast the store is, but where it is."""
        self.is_nearby = True
        self._breakers["get_range"].close(0.0, is_large=False)
        if self._record is not None:
            self._record(self.info.name, "get_range", "ok", 0.0)

    def _answered(self, verb: Verb, outcome: str, started: float, size_bytes: int = 0) -> None:
        self._answered_in(self._clock.monotonic() - started, verb, outcome, size_bytes)

    def _answered_in(self, elapsed: float, verb: Verb, outcome: str, size_bytes: int) -> None:
        breaker = self._breakers[verb]
        avoided = breaker.avoided
        breaker.close(elapsed, is_large=size_bytes >= LARGE_SIZE or verb == "get")
        self._is_missed = False
        if avoided and not breaker.avoided:
            self._used_again(verb)
        self._took(_timed_as(verb, size_bytes), elapsed)
        if self._record is not None:
            self._record(self.info.name, verb, outcome, elapsed)

    def _failed(self, verb: Verb, error: StoreError, started: float) -> None:
        now = self._clock.monotonic()
        breaker = self._breakers[verb]
        self._last_error = (error.reason, now)
        if not isinstance(error, FilesExhausted):
            breaker.fail(FAILURES_TO_OPEN if isinstance(error, StoreRejected) else 1, now)
        if breaker.open:
            self._tell_of(verb, error, now)
        if self._record is not None:
            self._record(self.info.name, verb, type(error).__name__, now - started)

    def _tell_of(self, verb: Verb, error: StoreError, now: float) -> None:
        """Log it once, with the reason: who fails from now on is not logged. That a store is missed was said when it was opened."""
        notice = self._notices[_WORK[verb]]
        if self._is_missed:
            notice.was_said(_FAILING)
        elif (more := notice.meets(_FAILING, now)) is not None:
            logger.warning("%s; it is not used to %s for now%s", error, _WORK[verb], more)

    def _used_again(self, verb: Verb) -> None:
        if self._notices[_WORK[verb]].ends():
            logger.info("store %s is used again to %s", self.info.name, _WORK[verb])

    def _given_up(self, verb: Verb, started: float, size_bytes: int) -> None:
        self._breakers[verb].forget_insistence()
        elapsed = self._clock.monotonic() - started
        usual = self.latency_p95(verb, size_bytes=size_bytes)
        if elapsed > max(HANGING_SECONDS, HANGING_FACTOR * usual):
            self._failed(verb, StoreUnavailable(self.info.name, "given up"), started)
        elif elapsed > usual:
            self._took(_timed_as(verb, size_bytes), elapsed)  # at least: who is always given up would else seem as fast as it once was

    def _took(self, timed_as: str, seconds: float) -> None:
        latency = self._latencies.get(timed_as)
        if latency is None:
            self._latencies[timed_as] = Latency(seconds)
        else:
            latency.add(seconds)


def _timed_as(verb: Verb, size_bytes: int) -> str:
    return verb if size_bytes < LARGE_SIZE else f"{verb}_large"
