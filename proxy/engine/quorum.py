"""Quorum: put the shards of one segment, and return as soon as the policy's promise holds.

The problem. Six stores answer at six speeds, and one may not answer at all. Waiting for all makes the slowest the speed of every write;
returning at the first moment the promise holds would leave most writes one shard short for no reason, and a second manifest write to note
its arrival.

The idea. Put all shards at once. A failure is answered by a detour to another store, where there is one. Once the shards that
are stored survive every failure the policy names, the rest are given as much time again as has passed, and a little. What is still under
way then becomes the **tail**: the caller commits without it and hands it to `Stragglers`, which record each arrival in the manifest.

A put that failed may have been stored all the same: the answer was lost, not the shard. So such a store counts among those that could read,
and is searched when the segment is deleted. And no shard is sent twice to the same store, nor to one that has failed in this attempt, so
that every attempt ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from proxy.codec.format import shard_name
from proxy.codec.geometry import Scheme
from proxy.engine.fleet import Fleet
from proxy.engine.flight import Flight
from proxy.engine.placement import Policy, detour, place, shortfalls, survives
from proxy.errors import NotEnoughShards, StoreError, StoreNotAsked, StoreRejected
from proxy.manifest.records import GarbageSegment, SegmentId
from proxy.stores.protocol import ShardName

MIN_GRACE_SECONDS = 0.05


@dataclass(slots=True)
class Placed:
    """The outcome for one segment: the store of each shard, and the puts that have not ended yet.

    `strays`: another store than a shard's own may hold it too.
    """

    segment_id: SegmentId
    stores: dict[int, str]
    missing: set[int]
    tail: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    strays: bool = False

    def settle(self) -> None:
        """Count what has ended by now: after this `tail` is what still runs, and `missing` what is not stored."""
        for index in [index for index, put in self.tail.items() if put.done()]:
            put = self.tail.pop(index)
            if not put.cancelled() and put.exception() is None:
                self.missing.discard(index)

    def garbage(self) -> GarbageSegment:
        """Return where shards may lie if the segment comes to nothing: with strays, anywhere (every store is searched)."""
        planned = tuple(self.stores[index] for index in range(len(self.stores)))
        return GarbageSegment(id=self.segment_id, stores=() if self.strays else planned)


class ShardPutter:
    """Puts segments to the fleet under a policy."""

    def __init__(self, fleet: Fleet, *, max_grace_seconds: float) -> None:
        self._fleet = fleet
        self._max_grace_seconds = max_grace_seconds

    async def put(self, policy: Policy, scheme: Scheme, segment_id: SegmentId, shards: Sequence[Sequence[bytes]]) -> Placed:
        """Put all shards. Returns when the policy's promise holds; raises `NotEnoughShards` when it no longer can."""
        usable = self._fleet.writable(str(info.name) for info in policy.stores)
        plan = place(policy, scheme, segment_id, usable)
        attempt = _Attempt(self._fleet, policy, scheme, segment_id, shards, dict(enumerate(plan)))
        try:
            await attempt.until_promise_holds()
            await attempt.grace(self._max_grace_seconds)
        except BaseException:
            await attempt.cancel()
            raise
        return attempt.placed()


class _Attempt:
    """The puts of one segment."""

    def __init__(
        self,
        fleet: Fleet,
        policy: Policy,
        scheme: Scheme,
        segment_id: SegmentId,
        shards: Sequence[Sequence[bytes]],
        plan: Mapping[int, str],
    ) -> None:
        self._fleet = fleet
        self._policy = policy
        self._scheme = scheme
        self._segment_id = segment_id
        self._shards = shards
        self._plan = dict(plan)
        self._sent: dict[int, set[str]] = {index: set() for index in plan}  # which stores may hold each shard, once they are asked
        self._stored: dict[int, str] = {}
        self._failed: set[int] = set()
        self._failing: set[str] = set()
        self._reasons: list[str] = []
        self._started = asyncio.get_running_loop().time()
        self._puts: Flight[None] = Flight()
        for index in self._plan:
            self._start(index)

    async def until_promise_holds(self) -> None:
        while not survives(self._policy, self._scheme, tuple(self._stored.values())):
            if not self._puts.running and not self._double_up():
                held = tuple(self._stored.values())
                reasons = (*shortfalls(self._policy, self._scheme, held), *self._reasons)
                raise NotEnoughShards(needed=self._scheme.n, found=len(held), segment=self._segment_id.hex(), reasons=reasons)
            await self._step(None)

    async def grace(self, max_seconds: float) -> None:
        """Give the others as long again as it took so far."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        until = now + min(max(now - self._started, MIN_GRACE_SECONDS), max_seconds)
        while self._puts.running and (left := until - loop.time()) > 0:
            await self._step(left)

    async def cancel(self) -> None:
        await self._puts.cancel()

    def placed(self) -> Placed:
        tail = {index: task for task, index in self._puts.running.items()}
        missing = set(self._plan) - set(self._stored)
        strays = any(stores - {self._plan[index]} for index, stores in self._sent.items())
        return Placed(self._segment_id, self._plan, missing, tail, strays)

    async def _step(self, timeout_seconds: float | None) -> None:
        for index, put in await self._puts.ended(timeout_seconds):
            failure = put.exception()
            if failure is None:
                self._stored[index] = self._plan[index]
            elif isinstance(failure, StoreError):
                self._note(index, failure)
                self._take_detour(index, avoid={store for stores in self._sent.values() for store in stores})
            else:
                raise failure

    def _note(self, index: int, failure: StoreError) -> None:
        store = self._plan[index]
        self._reasons.append(str(failure))
        self._failed.add(index)
        self._failing.add(store)
        if isinstance(failure, StoreNotAsked | StoreRejected):
            self._sent[index].discard(store)  # it does not have it: of other failures that is not known

    def _double_up(self) -> bool:
        """The promise does not hold and nothing is under way: put what failed beside other shards, as far as the limits allow."""
        started = [self._take_detour(index, avoid=()) for index in tuple(self._failed)]
        return any(started)

    def _take_detour(self, index: int, *, avoid: Collection[str]) -> bool:
        usable = self._fleet.writable(str(info.name) for info in self._policy.stores) - self._failing.union(avoid)
        elsewhere = [store for other, store in self._plan.items() if other not in self._failed]
        store = detour(self._policy, self._scheme, index, held=elsewhere, sent=self._sent, usable=usable)
        if store is None:
            return False
        self._failed.discard(index)
        self._plan[index] = store
        self._start(index)
        return True

    def _start(self, index: int) -> None:
        store = self._plan[index]
        self._sent[index].add(store)
        self._puts.start(index, self._fleet[store].put(ShardName(shard_name(self._segment_id, index)), self._shards[index]))
