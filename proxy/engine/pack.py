"""Packing: small bodies that arrive while earlier packs are on their way to the stores form the next one, and are committed together.

The problem. Each object that is stored alone costs a put for each shard, a commit, and all the work of a segment, however small it is. To
wait for others so as to share that would make a lone writer slow.

The idea. Nobody waits for company that may never come, but only for what is under way. A body that finds no pack of its kind in flight
leaves at once. Those that come meanwhile gather. The next pack leaves when one has landed; or beside it, once it is worth its puts: when it
has more objects than the scheme has shards, or fills a cell; or when the one before takes much longer than packs do, as with a store that
hangs. A few may be in flight, so that a distant store's round trip is hidden.

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
from collections.abc import Callable
from functools import partial
from traceback import clear_frames
from typing import NamedTuple

from proxy.codec.format import CELL_SIZE, MAX_PACK_SIZE, MAX_PACK_SLOTS, MAX_TABLE_SIZE
from proxy.codec.geometry import Scheme
from proxy.engine.body import Body
from proxy.engine.budget import REVOKED, Budget
from proxy.engine.destination import VersionDestination
from proxy.engine.pack_carrier import PackCarrier
from proxy.engine.packable import Arrived, may_be_packed, read_whole
from proxy.engine.tasks import BackgroundTasks
from proxy.errors import BudgetExhausted
from proxy.manifest.records import Version

MAX_IN_FLIGHT = 3  # packs of one kind
PATIENCE = 2  # times as long as a pack takes: no longer does a body wait for those in flight, if there may be one more
WEIGHT = 0.2  # of the last pack in how long they take


class Packer:
    """Stores and commits small bodies, several at once."""

    def __init__(
        self, *, carrier: PackCarrier, budget: Budget, tasks: BackgroundTasks, below_size: int, linger_seconds: float = 0.0
    ) -> None:
        self._carrier = carrier
        self._budget = budget
        self._tasks = tasks
        self._below_size = below_size
        self._linger_seconds = linger_seconds
        self._gates: dict[_Kind, _Gate] = {}

    def takes(self, destination: VersionDestination, body: Body) -> bool:
        """Tell whether a body is one for a pack."""
        return may_be_packed(destination, body, self._below_size)

    async def write(self, destination: VersionDestination, body: Body) -> Version:
        """Store a body, and make it visible. It may have happened all the same if the caller is cancelled."""
        try:
            arrived = await read_whole(destination, body, self._budget)
        except BaseException as error:
            clear_frames(error.__traceback__)  # as in `Writer`: whoever keeps the error would keep the bytes
            raise
        gate = self._gate(destination)
        gate.join(arrived)
        try:
            version = await arrived.outcome
        except BaseException:
            gate.leave(arrived)
            del arrived  # its outcome has the error, which has this frame: a cycle that holds the request
            raise
        return await destination.manifest.confirm_version(version, arrived.draft)

    def _gate(self, destination: VersionDestination) -> _Gate:
        kind = _Kind(destination.bucket.tenant_id, destination.policy.name, destination.scheme, destination.cipher.key_id)
        gate = self._gates.get(kind)
        if gate is None:
            deserted = partial(self._gates.pop, kind)
            gate = self._gates[kind] = _Gate(self._carrier, self._tasks, kind.scheme.n, self._linger_seconds, deserted)
        return gate


class _Kind(NamedTuple):
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
        worth_slots: int,
        linger_seconds: float,
        when_deserted: Callable[[], object],
    ) -> None:
        self._carrier = carrier
        self._tasks = tasks
        self._worth_slots = worth_slots
        self._linger_seconds = linger_seconds
        self._waiting: deque[Arrived] = deque()
        self._waiting_bytes = 0
        self._in_flight = 0
        self._usual_seconds: float | None = None  # none has landed yet
        self._patience: asyncio.TimerHandle | None = None
        self._when_deserted = when_deserted

    def join(self, body: Arrived) -> None:
        """Let a body wait for the next pack, which may leave now."""
        self._waiting.append(body)
        self._waiting_bytes += body.size_bytes
        body.gather(partial(self._revoke, body))
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
        if self._waiting and (not self._in_flight or (self._in_flight < MAX_IN_FLIGHT and self._is_worth_it())):
            self._start()
        elif self._waiting and self._patience is None and self._usual_seconds is not None:
            self._patience = asyncio.get_running_loop().call_later(PATIENCE * self._usual_seconds, self._lose_patience)

    def _start(self) -> None:
        self._in_flight += 1
        self._tasks.start(self._carry())

    def _lose_patience(self) -> None:
        self._patience = None
        if self._waiting and self._in_flight < MAX_IN_FLIGHT:
            self._start()

    def _is_worth_it(self) -> bool:
        return len(self._waiting) > self._worth_slots or self._waiting_bytes >= CELL_SIZE

    async def _carry(self) -> None:
        try:
            if self._linger_seconds:
                await asyncio.sleep(self._linger_seconds)
            if bodies := self._take():
                begun = asyncio.get_running_loop().time()
                await self._carrier.carry(bodies)
                self._note(asyncio.get_running_loop().time() - begun)
        except asyncio.CancelledError:  # the process ends
            self._send_away()
            raise
        finally:
            self._in_flight -= 1
            self._depart()
            if not self._in_flight:
                self._when_deserted()

    def _note(self, seconds: float) -> None:
        usual = seconds if self._usual_seconds is None else self._usual_seconds
        self._usual_seconds = usual + WEIGHT * (seconds - usual)

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
