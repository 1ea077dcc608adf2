"""Quorum: put the shards of one segment, and return as soon as the policy's promise holds.

The problem. Six stores answer at six speeds, and one may not answer at all. Waiting for all makes the slowest the speed of every write;
returning at the first moment the promise holds would leave most writes one shard short for no reason, and a second manifest write to note
its arrival.

The idea. Put all shards at once. A failure is answered by a detour to another store, where there is one. How long a shard of this size
takes, the stores show by themselves: a put that takes twice as long as half of the others did is **late**.

* Once the shards that are stored survive every failure the policy names, the other puts get until they are late. Those still under way
  then become the **tail**: the caller commits without it and hands it to `Stragglers`, which record each arrival in the manifest. The store
  of a late put is told of it. After three in a row it is known to be late, and is not waited for: its shards arrive in the tail.
* While the promise does not hold, a put that is late, by its own store's measure, too, is not waited for alone: another store is sent the
  same shard, or two are if it is small, and the first to have it counts. Of small ones, the others end by themselves (see `spare`).
* A store that is always farther away than others is not late by its own measure. It is waited for if the promise needs it, and keeps its
  share of the shards. While a store is down, and the promise would need one that takes longer than it used to, shards are placed without
  that one, as far as the policy allows. If another put is late, and the promise comes to need a late store, its shard goes elsewhere, too.

A put that failed may have been stored all the same: the answer was lost, or the store keeps what it says it refuses. A store that was
sent a shard therefore counts among those that could read, whatever it answered, and it is searched when the segment is deleted. Only a
store that was not asked at all (`StoreNotAsked`) does not have the shard. No shard is sent twice to the same store, nor to one that has
failed in this attempt, so every attempt ends.

A store that failed just now is not asked for a while. Where the promise cannot be kept without it, it is asked all the same: it may be
back.

Rejected: to wait for a late store as long again as the write took so far: one that hangs is then felt in every write. To wait as long as
it takes usually: for one that is always slow that is always too long, and shards have many sizes.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from statistics import median_low
from typing import TypeAlias

from proxy.codec.format import shard_name
from proxy.codec.geometry import Scheme
from proxy.codec.segment import Shards
from proxy.engine.flight import Flight
from proxy.engine.memory.budget import Budget
from proxy.engine.placing.fleet import FAR_SECONDS, Fleet
from proxy.engine.placing.placement import Policy, detour, place, shortfalls, survives
from proxy.engine.tasks import BackgroundTasks
from proxy.engine.writing.spare import SparePuts
from proxy.errors import NotEnoughShards, StoreError, StoreNotAsked
from proxy.manifest.records import GarbageSegment, Segment, SegmentId
from proxy.stores.observe import ObservedStore
from proxy.stores.protocol import ShardName
from proxy.stores.together import put_together

LATE_FACTOR = 2.0  # of what half of the shards took at most
FAR_FACTOR = 1.1  # of the time until the promise held: so little more is not felt
SMALL_SHARD_SIZE = 256 * 1024  # on the way for less time than the round trip takes
MIN_PATIENCE_SECONDS = 0.05  # a disk that stalls for a moment is not worth a second manifest write
NEAR_DOUBT_SECONDS = 0.5  # nor, where stores are disks nearby, a second copy
TIMER_SECONDS = 0.001  # uvloop's timers count so, and round: to wait for less would be over at once, again and again
Naming: TypeAlias = Callable[[bytes, int], str]  # from segment id and shard index to the upstream name


@dataclass(slots=True)
class Placed:
    """The outcome for one segment: the store of each shard, and the puts that have not ended yet.

    `strays`: another store than a shard's own may hold it too. `spare` are puts of shards that are stored elsewhere, and may still go on.
    """

    segment_id: SegmentId
    stores: dict[int, str]
    missing: set[int]
    tail: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    strays: bool = False
    spare: Sequence[asyncio.Task[None]] = ()

    def settle(self) -> None:
        """Count what has ended by now: after this `tail` is what still runs, and `missing` what is not stored."""
        for index in [index for index, put in self.tail.items() if put.done()]:
            put = self.tail.pop(index)
            if not put.cancelled() and put.exception() is None:
                self.missing.discard(index)

    def record(self, size: int, *, footer_size: int = 0) -> Segment:
        """Return what the manifest is to remember of the segment, as it is by now."""
        self.settle()
        missing = tuple(sorted(self.missing))
        return Segment(id=self.segment_id, size=size, footer_size=footer_size, stores=self._in_order(), missing=missing, strays=self.strays)

    def garbage(self) -> GarbageSegment:
        """Return where shards may lie if the segment comes to nothing."""
        return GarbageSegment(id=self.segment_id, stores=self._in_order(), strays=self.strays)

    def _in_order(self) -> tuple[str, ...]:
        return tuple(map(self.stores.__getitem__, range(len(self.stores))))


class ShardPutter:
    """Puts segments to the fleet under a policy."""

    def __init__(self, fleet: Fleet, *, max_grace_seconds: float, tasks: BackgroundTasks, budget: Budget) -> None:
        self._fleet = fleet
        self._max_grace_seconds = max_grace_seconds
        self._spares = SparePuts(tasks, budget)

    async def put(
        self,
        policy: Policy,
        scheme: Scheme,
        segment_id: SegmentId,
        shards: Shards,
        *,
        naming: Naming = shard_name,
    ) -> Placed:
        """Put all shards. They are taken, and `shards` is empty then: the memory of each is free once it is stored.

        Returns when the policy's promise holds; raises `NotEnoughShards` when it no longer can.
        """
        policy = self.staying(policy)
        plan, insist = self._plan(policy, scheme, segment_id)
        names = [ShardName(naming(segment_id, index)) for index in range(scheme.n)]
        begun = asyncio.get_running_loop().time()
        sent = await put_together([self._fleet[store] for store in plan], names, shards)
        if sent and None not in sent.values() and survives(policy, scheme, plan):
            shards.clear()
            return Placed(segment_id, dict(enumerate(plan)), set())
        puts = _SegmentPuts(self._fleet, self._spares, policy, scheme, segment_id, shards, dict(enumerate(plan)), names, insist=insist)
        shards.clear()
        puts.begin(begun, sent)
        try:
            await puts.until_promise_holds()
            await puts.grace(self._max_grace_seconds)
        except BaseException:
            await puts.cancel()
            raise
        return puts.placed()

    def staying(self, policy: Policy) -> Policy:
        """Return the policy that shards are placed by: without the stores that are being left."""
        return self._fleet.staying(policy)

    def _plan(self, policy: Policy, scheme: Scheme, segment_id: SegmentId) -> tuple[tuple[str, ...], bool]:
        """Return the store of each shard, and whether stores must be asked that failed just now."""
        try:
            plan = place(policy, scheme, segment_id, self._fleet.writable(policy))
        except NotEnoughShards:
            return place(policy, scheme, segment_id, self._fleet.configured(policy)), True
        return self._without_slowed(policy, scheme, segment_id, plan), False

    def _without_slowed(self, policy: Policy, scheme: Scheme, segment_id: SegmentId, plan: tuple[str, ...]) -> tuple[str, ...]:
        """While a store is down, return a plan that need not wait for those that have slowed, where the promise would and it is possible.

        Those that are late because they are far away get what is theirs, and a write takes as long as it takes them. Else all shards would
        lie with the few that are near.
        """
        if self._fleet.any_down(policy):
            prompt = self._fleet.prompt(policy)
            if not survives(policy, scheme, [store for store in plan if store in prompt]):
                with suppress(NotEnoughShards):
                    return place(policy, scheme, segment_id, prompt)
        return plan


@dataclass(slots=True)
class _Put:
    """One shard on its way to one store. `doubted` once others were asked in its stead."""

    index: int
    store: str
    begun: float
    doubted: bool = False


class _SegmentPuts:
    """The puts of one segment. With `insist`, stores are asked that failed just now."""

    def __init__(
        self,
        fleet: Fleet,
        spares: SparePuts,
        policy: Policy,
        scheme: Scheme,
        segment_id: SegmentId,
        shards: Shards,
        plan: Mapping[int, str],
        names: Sequence[ShardName],
        *,
        insist: bool,
    ) -> None:
        self._fleet = fleet
        self._spares = spares
        self._policy = policy
        self._scheme = scheme
        self._segment_id = segment_id
        self._shards = dict(enumerate(shards))  # those not stored yet
        self._plan = dict(plan)
        self._names = names
        self._sent: dict[int, set[str]] = {index: set() for index in plan}  # which stores were sent each shard, so may hold it
        self._sent_together: dict[int, str] = {}  # to which store, at first
        self._stored: dict[int, str] = {}
        self._failed: set[int] = set()
        self._failing: set[str] = set()
        self._unasked: set[str] = set()  # those of the failing that were not asked
        self._insisted = insist
        self._reasons: list[str] = []
        self._shard_bytes = sum(map(len, shards[0]))
        self._loop = asyncio.get_running_loop()
        self._seconds: list[float] = []  # that each shard took which is stored
        self._flight: Flight[None] = Flight()
        self._puts: dict[int, _Put] = {}  # those under way, by their number in the flight, the older first
        self._numbers = count()
        self._spare: list[asyncio.Task[None]] = []
        self._doubted_at = math.inf  # when a put first was

    def begin(self, begun: float, sent: Mapping[int, float | None]) -> None:
        """Put the shards that are not stored. Those `sent` were put together, beginning then: in how many seconds, or None if in vain."""
        self._sent_together = {index: self._plan[index] for index in sent}
        for index, store in self._plan.items():
            seconds = sent.get(index)
            if seconds is None:
                self._start(index, store, begun, insist=self._insisted)
            else:
                self._sent[index].add(store)
                self._note_stored(_Put(index, store, begun), seconds)

    async def until_promise_holds(self) -> None:
        while not survives(self._policy, self._scheme, tuple(self._stored.values())):
            self._send_elsewhere()
            if not self._puts and not self._double_up() and not self._insist():
                held = tuple(self._stored.values())
                reasons = (*shortfalls(self._policy, self._scheme, held), *self._reasons)
                raise NotEnoughShards(needed=self._scheme.n, found=len(held), segment=self._segment_id.hex(), reasons=reasons)
            if not await self._step(self._until_doubt()):
                self._doubt()

    async def grace(self, max_seconds: float) -> None:
        """Wait for the others until they are late; not for those known to be, unless they are usually there by now."""
        promised_at = self._loop.time()
        until = promised_at + max_seconds
        while self._puts and (left := min(until, self._latest(promised_at)) - self._loop.time()) > TIMER_SECONDS:
            await self._step(left)
        for put in self._puts.values():
            self._tell_if_late(put)

    async def cancel(self) -> None:
        await self._flight.cancel()

    def placed(self) -> Placed:
        """Return what has become of the shards. Of two puts of one shard the older goes on."""
        tail: dict[int, asyncio.Task[None]] = {}
        for task, number in self._flight.running.items():
            put = self._puts.get(number)
            if put is None:
                continue  # the shard is stored elsewhere
            if put.index in tail:
                self._do_without(number)
            else:
                tail[put.index], self._plan[put.index] = task, put.store
        missing = set(self._plan) - set(self._stored)
        strays = any(stores - {self._plan[index]} for index, stores in self._sent.items())
        return Placed(self._segment_id, self._plan, missing, tail, strays, self._spare)

    async def _step(self, timeout_seconds: float | None) -> bool:
        """Wait for puts to end; return whether any did."""
        ended = await self._flight.ended(timeout_seconds)
        for number, task in ended:
            put = self._puts.pop(number, None)
            if put is None:
                continue  # the shard is stored elsewhere
            failure = task.exception()
            if failure is None:
                self._note_stored(put, self._loop.time() - put.begun)
            elif isinstance(failure, StoreError):
                self._note_failed(put, failure)
            else:
                raise failure
        return bool(ended)

    def _note_stored(self, put: _Put, seconds: float) -> None:
        self._stored[put.index] = self._plan[put.index] = put.store
        self._seconds.append(seconds)
        del self._shards[put.index]
        self._look_whether_back(put.store, seconds)
        for number, other in list(self._puts.items()):
            if other.index == put.index:
                self._tell_if_late(other)
                self._do_without(number)

    def _look_whether_back(self, name: str, seconds: float) -> None:
        """Wait again for a store that takes no longer than others do by now. They may all have become slower than when they overtook it.

        Half of what they took lately must show that: what they take at this moment may be chance.
        """
        store = self._fleet[name]
        if not store.keeps_pace("put"):
            usual = self._fleet.usual_seconds({*self._plan.values()} - {name}, "put", size_bytes=self._shard_bytes)
            if usual and seconds <= max(LATE_FACTOR * median_low(usual), MIN_PATIENCE_SECONDS):
                store.kept_pace("put")

    def _do_without(self, number: int) -> None:
        """Wait no longer for a put whose shard is stored elsewhere."""
        del self._puts[number]
        if self._shard_bytes > SMALL_SHARD_SIZE:
            self._flight.drop(number)
            return
        for put in self._flight.calls(number):
            self._spare.append(put)
            self._spares.keep(put, self._shard_bytes)

    def _note_failed(self, put: _Put, failure: StoreError) -> None:
        self._reasons.append(str(failure))
        self._failing.add(put.store)
        if isinstance(failure, StoreNotAsked):
            if self._sent_together.get(put.index) != put.store:  # or it was asked before, and may have the shard from then
                self._sent[put.index].discard(put.store)
            self._unasked.add(put.store)
        if all(other.index != put.index for other in self._puts.values()):
            self._failed.add(put.index)
            self._take_detour(put.index, self._ready().difference(*self._sent.values()))

    def _patience(self) -> float | None:
        """Return how long a put may take before it is late; None while too few have shown it."""
        if len(self._seconds) < min(-(-self._scheme.n // 2), self._scheme.k):
            return None
        return max(LATE_FACTOR * median_low(self._seconds), MIN_PATIENCE_SECONDS)

    def _until_doubt(self) -> float | None:
        """Return in how many seconds the next put is to be doubted; None if that cannot be told, or none is left."""
        if self._patience() is None:
            return None
        doubts = [self._doubt_at(put) for put in self._puts.values() if not put.doubted]
        return max(min(doubts) - self._loop.time(), 0.0) if doubts and min(doubts) < math.inf else None

    def _doubt_at(self, put: _Put) -> float:
        patience = self._patience()
        if patience is None:
            return math.inf
        store = self._fleet[put.store]
        usual = store.latency_median("put", size_bytes=self._shard_bytes)
        is_far = usual >= FAR_SECONDS and not store.is_nearby
        return put.begun + max(patience, LATE_FACTOR * usual, 0.0 if is_far else NEAR_DOUBT_SECONDS)

    def _latest(self, promised_at: float) -> float:
        """Return when the last put that is worth waiting for is late. One that was begun because others were late is not."""
        patience = self._patience()
        if patience is None:
            return 0.0
        times = [
            put.begun + (patience if self._keeps_pace(put) else self._far_patience(put, promised_at))
            for put in self._puts.values()
            if put.begun < self._doubted_at
        ]
        return max(times, default=0.0)

    def _far_patience(self, put: _Put, promised_at: float) -> float:
        """Return how long a put to a store known to be late is waited for at most.

        Where the promise had to wait for stores as far away as this one, its shard comes a moment later. To commit without it would cost
        each write a second commit.
        """
        store, seconds = self._fleet[put.store], FAR_FACTOR * (promised_at - put.begun)
        is_usual = not store.has_slowed("put") and store.latency_median("put", size_bytes=self._shard_bytes) <= seconds
        return seconds if is_usual else 0.0

    def _doubt(self) -> None:
        """The promise does not hold, and puts are late: no longer rely on them.

        Nor on those of stores known to be late, by whatever measure: the promise has come to need them, or others in their stead.
        """
        now = self._loop.time() + TIMER_SECONDS
        doubted = [put for put in self._puts.values() if not put.doubted and now >= self._doubt_at(put)]
        if doubted:
            self._doubted_at = min(self._doubted_at, now - TIMER_SECONDS)
            doubted += [put for put in self._puts.values() if put not in doubted and not put.doubted and not self._keeps_pace(put)]
        for put in doubted:
            put.doubted = True

    def _send_elsewhere(self) -> None:
        """Once a put is doubted, send elsewhere the shards that failed, and those of which every put is doubted: all that the limits allow,
        which may be more when others are stored. Small ones go to two stores at once, where two have answered: either may be hit as well.

        Where there is no better one, a store that keeps pace gets one even if another put to it is late just now: most often it was only
        that put that was hit.
        """
        doubted = {put.index for put in self._puts.values() if put.doubted}
        if not doubted:
            return
        trusted = {put.index for put in self._puts.values() if not put.doubted}
        prompt = {store for store in self._ready() if self._may_double(self._fleet[store])}
        lacking = (*self._failed, *(doubted - trusted))
        for index in lacking:
            _ = self._take_detour(index, self._at_rest(prompt, index)) or self._take_detour(index, prompt - self._sent[index])
        for index in lacking if self._shard_bytes <= SMALL_SHARD_SIZE else ():
            self._take_detour(index, self._at_rest(prompt, index))

    def _at_rest(self, stores: Collection[str], index: int) -> Collection[str]:
        """Return those that were not sent this shard, and to which no other is on its way: they have answered just now."""
        return set(stores) - {put.store for put in self._puts.values()} - self._sent[index]

    def _keeps_pace(self, put: _Put) -> bool:
        return self._fleet[put.store].keeps_pace("put")

    def _may_double(self, store: ObservedStore) -> bool:
        """Whether a shard may be sent here as well. Where large ones wait for bandwidth, copies would make it shorter still."""
        return store.keeps_pace("put") and (self._shard_bytes <= SMALL_SHARD_SIZE or not store.puts)

    def _tell_if_late(self, put: _Put) -> None:
        patience = self._patience()
        waited = self._loop.time() - put.begun
        if patience is not None and waited >= patience - TIMER_SECONDS:
            self._fleet[put.store].overtaken("put", pace_seconds=patience, waited_seconds=waited, size_bytes=self._shard_bytes)

    def _ready(self) -> frozenset[str]:
        return self._fleet.writable(self._policy) - self._failing

    def _double_up(self) -> bool:
        """The promise does not hold and nothing is under way: put what failed beside other shards, as far as the limits allow."""
        started = [self._take_detour(index, self._ready()) for index in tuple(self._failed)]
        return any(started)

    def _insist(self) -> bool:
        """Nothing else is left to try: ask, once, the stores that were left out because they failed just now."""
        if self._insisted:
            return False
        self._insisted = True
        usable = self._fleet.configured(self._policy) - (self._failing - self._unasked)
        started = [self._take_detour(index, usable, insist=True) for index in tuple(self._failed)]
        return any(started)

    def _take_detour(self, index: int, usable: Collection[str], *, insist: bool = False) -> bool:
        elsewhere = [store for other, store in self._plan.items() if other not in self._failed and other != index]
        elsewhere += [put.store for put in self._puts.values() if put.index != index and put.store != self._plan[put.index]]
        store = detour(self._policy, self._scheme, index, held=elsewhere, sent=self._sent, usable=usable)
        if store is None:
            return False
        if index in self._failed:
            self._failed.discard(index)
            self._plan[index] = store
        self._start(index, store, self._loop.time(), insist=insist)
        return True

    def _start(self, index: int, store: str, begun: float, *, insist: bool) -> None:
        self._sent[index].add(store)
        number = next(self._numbers)
        self._puts[number] = _Put(index, store, begun)
        self._flight.start(number, self._fleet[store].put(self._names[index], self._shards[index], insist=insist))
