"""Packing: small bodies that arrive while earlier packs are on their way to the stores form the next one, and are committed together.

The problem. Each object that is stored alone costs a put for each shard, a commit, and all the work of a segment, however small it is. To
wait for others so as to share that would make a lone writer slow.

The idea. Nobody waits for company that may never come, but only for what is under way. A body that finds no pack of its kind in flight
leaves at once: after a few turns of the event loop, so that what the network has brought already goes along. Those that come meanwhile
gather. The next pack leaves when one has landed; or beside it, when that is better (see `departures`); or when the one before takes much
longer than packs do, as with a store that hangs.

Invariants, beside those of `write`:

1. A body joins a pack only when it is here whole and has passed every check, under memory of its own: a slow client holds nobody up, and
   what is refused was never near a pack.
2. A kind is of one owner, one policy, one scheme and one key: one tenant's pack never holds another's data.
3. What gathers can still be taken back: a client that goes away takes its body along, and another tenant that lacks its share of memory
   may have what was taken last (see `budget`). What has left is stored and committed to its end.
4. Each client hears what became of its own version. What fails for the whole pack, all of them hear.
5. A body that would make a pack mostly empty, or its table long, is stored as a segment of its own (see `codec.slots`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from traceback import clear_frames

from msgspec import Struct

from proxy.codec.format import MAX_PACK_SIZE, MAX_PACK_SLOTS, MAX_TABLE_SIZE
from proxy.codec.geometry import Scheme
from proxy.engine.memory.budget import Budget
from proxy.engine.memory.grant import REVOKED
from proxy.engine.packing.departures import GATHER_SECONDS, Departures, Pace
from proxy.engine.packing.pack_carrier import PackCarrier
from proxy.engine.packing.packable import Arrived, may_be_packed, read_at_once, read_whole
from proxy.engine.placing.placement import Policy
from proxy.engine.tasks import BackgroundTasks
from proxy.engine.writing.body import Body
from proxy.engine.writing.destination import VersionDestination
from proxy.errors import BudgetExhausted
from proxy.manifest.records import Version

TURNS = 3  # of the event loop, before a pack leaves. Without them, sixteen clients made packs of eight; with them, of 15


class Packer:
    """Stores and commits small bodies, several at once."""

    def __init__(
        self,
        *,
        carrier: PackCarrier,
        budget: Budget,
        tasks: BackgroundTasks,
        below_size: int,
        linger_seconds: float = 0.0,
        are_nearby: Callable[[Policy], bool] = lambda _: False,
    ) -> None:
        """`are_nearby` tells whether a policy's stores are known to be in this machine."""
        self._are_nearby = are_nearby
        self._carrier = carrier
        self._budget = budget
        self._tasks = tasks
        self._below_size = below_size
        self._linger_seconds = linger_seconds
        self._gates: dict[_Kind, _Gate] = {}
        self._paces: dict[str, Pace] = {}  # by policy

    def takes(self, destination: VersionDestination, body: Body) -> bool:
        """Tell whether a body is one for a pack."""
        return may_be_packed(destination, body, self._below_size)

    async def write(self, destination: VersionDestination, body: Body) -> Version:
        """Store a body, and make it visible. It may have happened all the same if the caller is cancelled."""
        try:
            arrived = read_at_once(destination, body, self._budget) or await read_whole(destination, body, self._budget)
        except BaseException as error:
            clear_frames(error.__traceback__)  # as in `Writer`: whoever keeps the error would keep the bytes
            raise
        gate = self._gate(destination)
        gate.join(arrived)
        try:
            return await arrived.outcome
        except BaseException:
            gate.leave(arrived)
            del arrived  # its outcome has the error, which has this frame: a cycle that holds the request
            raise

    def begin(self, destination: VersionDestination, body: Body) -> asyncio.Future[Version] | None:
        """As `write`, of a body that is here already; None if memory for it has to be waited for, or not all of it is here.

        Whoever cancels what this returns does not take the body along: it is stored all the same.
        """
        arrived = read_at_once(destination, body, self._budget)
        if arrived is None:
            return None
        self._gate(destination).join(arrived)
        return arrived.outcome

    def _gate(self, destination: VersionDestination) -> _Gate:
        kind = _Kind(destination.bucket.tenant_id, destination.policy.name, destination.scheme, destination.cipher.key_id)
        gate = self._gates.get(kind)
        if gate is None:
            deserted = partial(self._gates.pop, kind)
            departures = Departures(
                kind.scheme.n,
                self._paces.setdefault(kind.policy, Pace()),
                may_go_alone=not self._linger_seconds,  # who lets them linger wants them to share
                are_nearby=partial(self._are_nearby, destination.policy),
            )
            gate = self._gates[kind] = _Gate(self._carrier, self._tasks, departures, self._linger_seconds, deserted)
        return gate


class _Kind(Struct, frozen=True):
    """What bodies must have in common to share a pack."""

    owner: str
    policy: str
    scheme: Scheme
    key_id: str


class _Gate:
    """Where bodies of one kind gather until they leave. It is deserted when nobody waits and nothing is in flight."""

    def __init__(
        self,
        carrier: PackCarrier,
        tasks: BackgroundTasks,
        departures: Departures,
        linger_seconds: float,
        when_deserted: Callable[[], object],
    ) -> None:
        self._carrier = carrier
        self._tasks = tasks
        self._departures = departures
        self._linger_seconds = linger_seconds
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Arrived] = deque()
        self._waiting_bytes = 0
        self._is_boarding = False  # a pack is about to leave, and takes along what has come by then
        self._complete: asyncio.Future[None] | None = None  # what a pack waits for until those have come who were just answered
        self._patience: asyncio.TimerHandle | None = None
        self._when_deserted = when_deserted

    def join(self, body: Arrived) -> None:
        """Let a body wait for the next pack, which may leave now."""
        self._waiting.append(body)
        self._waiting_bytes += body.size_bytes
        body.gather(partial(self._revoke, body))
        self._departures.joined(len(self._waiting), self._loop.time())
        if self._complete is not None and not self._awaits_more():
            _end(self._complete)
        self._depart()

    def leave(self, body: Arrived, reason: BudgetExhausted | None = None) -> None:
        """Take a body back, if it is still here: nobody waits for it any more, or there is a reason."""
        if body in self._waiting:
            self._waiting.remove(body)
            self._waiting_bytes -= body.size_bytes
            body.send_away(reason)

    def _revoke(self, body: Arrived) -> None:
        self.leave(body, BudgetExhausted(REVOKED))

    def _depart(self) -> None:
        departures = self._departures
        if self._is_boarding or not self._waiting:
            return
        if departures.may_begin(len(self._waiting), self._waiting_bytes, self._loop.time()):
            self._start()
        elif self._patience is None and (seconds := departures.patience_seconds) is not None:
            self._patience = self._loop.call_later(seconds, self._lose_patience)

    def _start(self) -> None:
        self._is_boarding = True
        self._departures.in_flight += 1
        self._tasks.start(self._carry())

    def _lose_patience(self) -> None:
        self._patience = None
        if self._waiting and self._departures.has_room and not self._is_boarding:
            self._start()

    async def _carry(self) -> None:
        try:
            if bodies := await self._board():
                await self._carry_now(bodies)
        except asyncio.CancelledError:  # the process ends
            self._send_away()
            raise
        finally:
            self._departures.in_flight -= 1
            self._depart()
            if not self._departures.in_flight:
                self._when_deserted()

    async def _board(self) -> list[Arrived]:
        """Return what has come when the next pack leaves. What it has no room for may begin another."""
        try:
            for _ in range(TURNS):
                await asyncio.sleep(0)
            company_seconds = self._departures.company_seconds(len(self._waiting), self._waiting_bytes, self._loop.time())
            if seconds := self._linger_seconds or company_seconds:
                await asyncio.sleep(seconds)
            elif self._awaits_more():
                await self._gather()
        finally:
            self._is_boarding = False
        bodies = self._take()
        self._departures.left(len(bodies))
        self._depart()
        return bodies

    def _awaits_more(self) -> bool:
        return self._departures.awaits_more(self._waiting_bytes, self._loop.time())

    async def _gather(self) -> None:
        """Wait a moment for those who have just been answered, and no longer than until they are here."""
        complete = self._complete = self._loop.create_future()
        timer = self._loop.call_later(GATHER_SECONDS, _end, complete)
        try:
            await complete
        finally:
            timer.cancel()
            self._complete = None

    async def _carry_now(self, bodies: Sequence[Arrived]) -> None:
        begun, count = self._loop.time(), len(bodies)
        try:
            await self._carrier.carry(bodies)
        finally:
            ended = self._loop.time()
            self._departures.landed(count, ended - begun, ended)

    def _take(self) -> list[Arrived]:
        """Return the bodies of the next pack, in the order they came."""
        taken: list[Arrived] = []
        size = table = 0
        while self._waiting and len(taken) < MAX_PACK_SLOTS:
            body = self._waiting[0]
            size += body.size_bytes
            table += body.entry_bytes
            if taken and (size > MAX_PACK_SIZE or table > MAX_TABLE_SIZE):
                break
            taken.append(self._waiting.popleft())
            self._waiting_bytes -= body.size_bytes
            body.depart()
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        return taken

    def _send_away(self) -> None:
        for body in self._waiting:
            body.send_away()
        self._waiting.clear()
        self._waiting_bytes = 0


def _end(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)
