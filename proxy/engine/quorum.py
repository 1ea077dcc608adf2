"""Quorum: put the shards of one segment, and return as soon as the policy's promise holds.

The problem. Six stores answer at six speeds, and one may not answer at all. Waiting for all makes the slowest the speed of every write;
returning at the first moment the promise holds would leave most writes one shard short for no reason, and a second manifest write to note
its arrival.

The idea. Put all shards at once. A failure is answered by a detour to another store, where there is one. Once the shards that
are stored survive every failure the policy names, the other puts get as much time again as has passed, and a little more. Those still under
way then become the **tail**: the caller commits without it and hands it to `Stragglers`, which record each arrival in the manifest.

A put that failed may have been stored all the same: the answer was lost, or the store keeps what it says it refuses. A store that was
sent a shard therefore counts among those that could read, whatever it answered, and it is searched when the segment is deleted. Only a
store that was not asked at all (`StoreNotAsked`) does not have the shard. No shard is sent twice to the same store, nor to one that has
failed in this attempt, so every attempt ends.

A store that failed just now is not asked for a while. Where the promise cannot be kept without it, it is asked all the same: it may be
back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from proxy.codec.format import shard_name
from proxy.codec.geometry import Scheme
from proxy.engine.fleet import Fleet
from proxy.engine.flight import Flight
from proxy.engine.placement import Policy, detour, place, shortfalls, survives
from proxy.errors import NotEnoughShards, StoreError, StoreNotAsked
from proxy.manifest.records import GarbageSegment, SegmentId
from proxy.stores.protocol import ShardName

MIN_GRACE_SECONDS = 0.05
Naming: TypeAlias = Callable[[bytes, int], str]  # from segment id and shard index to the upstream name


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

    async def put(
        self, policy: Policy, scheme: Scheme, segment_id: SegmentId, shards: Sequence[Sequence[bytes]], *, naming: Naming = shard_name
    ) -> Placed:
        """Put all shards. Returns when the policy's promise holds; raises `NotEnoughShards` when it no longer can."""
        policy = self.staying(policy)
        plan, insist = self._plan(policy, scheme, segment_id)
        puts = _SegmentPuts(self._fleet, policy, scheme, segment_id, shards, dict(enumerate(plan)), naming, insist=insist)
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
            return place(policy, scheme, segment_id, self._fleet.writable(policy)), False
        except NotEnoughShards:
            return place(policy, scheme, segment_id, self._fleet.configured(policy)), True


class _SegmentPuts:
    """The puts of one segment. With `insist`, stores are asked that failed just now."""

    def __init__(
        self,
        fleet: Fleet,
        policy: Policy,
        scheme: Scheme,
        segment_id: SegmentId,
        shards: Sequence[Sequence[bytes]],
        plan: Mapping[int, str],
        naming: Naming,
        *,
        insist: bool,
    ) -> None:
        self._fleet = fleet
        self._policy = policy
        self._scheme = scheme
        self._segment_id = segment_id
        self._shards = shards
        self._plan = dict(plan)
        self._naming = naming
        self._sent: dict[int, set[str]] = {index: set() for index in plan}  # which stores were sent each shard, so may hold it
        self._stored: dict[int, str] = {}
        self._failed: set[int] = set()
        self._failing: set[str] = set()
        self._unasked: set[str] = set()  # those of the failing that were not asked
        self._insisted = insist
        self._reasons: list[str] = []
        self._started = asyncio.get_running_loop().time()
        self._puts: Flight[None] = Flight()
        for index in self._plan:
            self._start(index, insist=insist)

    async def until_promise_holds(self) -> None:
        while not survives(self._policy, self._scheme, tuple(self._stored.values())):
            if not self._puts.running and not self._double_up() and not self._insist():
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
                self._take_detour(index, self._ready().difference(*self._sent.values()))
            else:
                raise failure

    def _note(self, index: int, failure: StoreError) -> None:
        store = self._plan[index]
        self._reasons.append(str(failure))
        self._failed.add(index)
        self._failing.add(store)
        if isinstance(failure, StoreNotAsked):
            self._sent[index].discard(store)
            self._unasked.add(store)

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
        elsewhere = [store for other, store in self._plan.items() if other not in self._failed]
        store = detour(self._policy, self._scheme, index, held=elsewhere, sent=self._sent, usable=usable)
        if store is None:
            return False
        self._failed.discard(index)
        self._plan[index] = store
        self._start(index, insist=insist)
        return True

    def _start(self, index: int, *, insist: bool) -> None:
        store = self._plan[index]
        self._sent[index].add(store)
        name = ShardName(self._naming(self._segment_id, index))
        self._puts.start(index, self._fleet[store].put(name, self._shards[index], insist=insist))
