"""The byte budget: all requests of a process share it, so memory is bounded however many there are.

The problem. Large requests hold their memory as long as their client takes, small ones for moments. In one queue the small wait behind the
large for nothing; in two, whichever goes first can starve the other. A client that sends slowly must not hold memory for what it has not
sent. But if memory is given as bytes arrive, each of many writers may hold a part and wait for more, and none goes on. And what one tenant
takes, others miss.

The idea, in four rules.

1. Large requests are served in the order they came: none is starved by others that fit more easily. An eighth of the budget is never
   theirs, so small ones always run. Small ones may use all that is free, and pass the large ones that wait, for a second; once the first
   of these has waited longer, the small ones together are kept to their eighth until it is served.
2. A large write says at first how much it may need, its *claim*, and its grant grows as its bytes arrive. More is granted only while all
   who fill their grants can still get the rest, one after the other (`claims`; Dijkstra called it the banker's algorithm). So there is
   always one who can go on, and then finish, and give all back. Those who hold a part go before those who hold nothing: they are the ones
   who give back. Nobody begins before there is memory for all that those need who fill fast: with many who each hold a part, one at a time
   could finish, and the lines to distant stores would be idle. Small ones have no part of their claim, but all of it or nothing.
3. A request that waits for its client, and not for memory, holds up nobody: after a while its claim no longer counts. When others wait and
   memory is short, such grants are revoked, the idlest first. The request fails, and its client may try again. How long a while is, the
   caller says: one second for what is small, more for the body of a large write (`filling`). A client that waits for our threads
   does not idle (`at_work`), nor does one that has just got what it had to wait for.
4. Among requests that hold nothing yet, that of the tenant that holds least comes first. If one tenant holds more than its equal share
   while another that holds less than its own has waited for a second, the youngest grants of the first are revoked. A tenant alone may use
   everything.

Rejected: the whole claim at the first byte (seven clients that send a byte now and then starve a worker); no claims, and a victim when
nobody can go on (with 64 uploads at once, nearly all would fail, though they only had to wait); a fixed quota for each tenant (memory that
lies idle).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import count
from typing import NamedTuple

from proxy.engine.memory.claims import Claim, can_all_finish
from proxy.engine.memory.grant import Grant
from proxy.errors import BudgetExhausted

SMALL_SIZE = 3 * 1024 * 1024  # a small object, or what a read takes for its first bytes, decoded if they must be
PATIENCE_SECONDS = 1.0  # many times what a small request holds its memory for
PRESS_SECONDS = 0.1
SOON_SECONDS = 2.0  # a segment of 16 MiB from a client that sends 8 MB/s; slower ones have nobody wait for what they may need
BLOCKED_SECONDS = 0.1  # after which a client that takes an answer is slow, and its memory may be others'
STALL_SECONDS = 0.25  # a look that comes this late was held up here: nobody's bytes were read meanwhile


class _Waiting(NamedTuple):
    grant: Grant
    more_bytes: int
    turn: asyncio.Future[None]
    since: float


class Budget:
    """`capacity_bytes` to be held at once; a request waits at most `wait_seconds` for its share.

    Small requests may pass a large one for `patience_seconds`. A request that has waited as long may get what other tenants hold beyond
    their share. Idle memory it gets at once: this is checked every `press_seconds`.
    """

    def __init__(
        self,
        capacity_bytes: int,
        *,
        wait_seconds: float,
        patience_seconds: float = PATIENCE_SECONDS,
        press_seconds: float = PRESS_SECONDS,
    ) -> None:
        self.capacity_bytes = capacity_bytes
        self._free = capacity_bytes
        self._kept_for_small = max(capacity_bytes // 8, min(SMALL_SIZE, capacity_bytes // 2))  # one of them fits into the smallest budget
        self._held_by_small = 0
        self._held_by_owner: Counter[str] = Counter()
        self._wait_seconds = wait_seconds
        self._patience_seconds = patience_seconds
        self._press_seconds = press_seconds
        self._numbers = count()
        self._filling: dict[Grant, None] = {}
        self._claimed = 0  # by those
        self._waiting: dict[Grant, _Waiting] = {}  # in the order they came
        self._timer: asyncio.TimerHandle | None = None
        self._stalled_until = 0.0

    @property
    def held_bytes(self) -> int:
        return self.capacity_bytes - self._free

    def keeps_waiting(self, *, others_than: str) -> bool:
        """Tell whether somebody else than this owner waits for memory."""
        return any(one.grant.owner != others_than for one in self._waiting.values())

    def can_spare(self, size_bytes: int) -> bool:
        """Tell whether so much more would leave half of it free: who takes that much makes nobody wait."""
        return not self._waiting and self.held_bytes + size_bytes <= self.capacity_bytes // 2

    @property
    def largest_bytes(self) -> int:
        """The most that one request is granted."""
        return self.capacity_bytes - self._kept_for_small

    def claim(self, size_bytes: int, *, owner: str) -> Grant:
        """Return a grant of nothing yet, which may grow to as many bytes, or as many as one request may have."""
        most = self.largest_bytes
        is_small = min(size_bytes, most) <= SMALL_SIZE
        claim_bytes = min(size_bytes, self._kept_for_small if is_small else most)
        return Grant(self, claim_bytes, owner=owner, is_small=is_small, number=next(self._numbers))

    def has_room(self, size_bytes: int) -> bool:
        """Tell whether somebody small would be served at once, for what has given its memory back before anybody else has a turn."""
        return size_bytes <= self._free and size_bytes <= SMALL_SIZE and not self._waiting

    async def acquire(self, size_bytes: int, *, owner: str) -> Grant:
        """Hold the bytes, or as many as one request may have, so that a huge one can run alone. Raises `BudgetExhausted`."""
        grant = self.claim(size_bytes, owner=owner)
        if not self._waiting and self._fits(grant, grant.claim_bytes):  # as `grow` would find, a step sooner: most reads come this way
            self._take(grant, grant.claim_bytes)
        else:
            await self.grow(grant, grant.claim_bytes)
        return grant

    def claim_at_once(self, size_bytes: int, *, owner: str) -> Grant | None:
        """Return a grant of all that it may grow to; None if that has to be waited for."""
        if self._waiting or size_bytes > min(self._free, self._kept_for_small, SMALL_SIZE):
            grant = self.claim(size_bytes, owner=owner)
            return grant if grant.grow_at_once() else None
        grant = Grant(self, size_bytes, owner=owner, is_small=True, number=next(self._numbers))  # as above, by a shorter way
        self._take(grant, size_bytes)
        return grant

    def take_at_once(self, size_bytes: int, *, owner: str) -> Grant | None:
        """Hold bytes if they are free, and nobody waits; for what can wait for nobody, and does without."""
        grant = Grant(self, size_bytes, owner=owner, is_small=False, number=next(self._numbers))
        if self._waiting or not self._fits(grant, size_bytes):
            return None
        self._take(grant, size_bytes)
        return grant

    def join(self, grants: Sequence[Grant]) -> Grant:
        """Return one grant of what several of one owner hold, which hold nothing from then on. None of them is being filled."""
        joined = Grant(self, 0, owner=grants[0].owner, is_small=grants[0].is_small, number=grants[0].number)
        for grant in grants:
            joined.size_bytes += grant.size_bytes  # its owner holds as much as before
            self._held_by_small += grant.size_bytes * (joined.is_small - grant.is_small)
            grant.size_bytes = 0
        joined.claim_bytes = joined.size_bytes
        return joined

    async def grow(self, grant: Grant, more_bytes: int) -> None:
        """Add to a grant. Called by the grant."""
        if more_bytes > 0 and not self.grow_at_once(grant, more_bytes):
            await self._wait(grant, more_bytes)
        grant.touch()

    def grow_at_once(self, grant: Grant, more_bytes: int) -> bool:
        """Add to a grant if nobody has to be waited for. Called by the grant."""
        if self._passes_others(grant) or not self._may_have(grant, more_bytes):
            return False
        self._take(grant, more_bytes)
        return True

    def begin(self, grant: Grant) -> None:
        """Count a grant among those that are being filled. Called by the grant."""
        self._filling[grant] = None
        self._claimed += grant.claim_bytes
        grant.touch()
        grant.begun_at = grant.grown_at

    def end(self, grant: Grant) -> None:
        """Count it no longer."""
        del self._filling[grant]
        self._claimed -= grant.claim_bytes
        if self._waiting:
            self._serve()

    def take_back(self, grant: Grant, size_bytes: int) -> None:
        """Free bytes of a grant, and serve those who can run now. Called by the grant."""
        self._take(grant, -size_bytes)
        self._serve()

    async def _wait(self, grant: Grant, more_bytes: int) -> None:
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting[grant] = _Waiting(grant, more_bytes, turn, loop.time())
        self._serve()
        self._timer = self._timer or loop.call_later(self._press_seconds, self._press)
        try:
            async with asyncio.timeout(self._wait_seconds):
                await turn
        except TimeoutError:
            self._give_up(grant, more_bytes)
            raise BudgetExhausted(f"no {more_bytes} bytes of memory came free in {self._wait_seconds} s") from None
        except asyncio.CancelledError:
            self._give_up(grant, more_bytes)
            raise

    def _give_up(self, grant: Grant, more_bytes: int) -> None:
        if self._waiting.pop(grant, None) is None:  # granted in the same instant
            grant.release(more_bytes)
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._serve_one():
            pass

    def _serve_one(self) -> bool:
        for waiting in self._next_in_line():
            if not waiting.turn.done() and self._may_have(waiting.grant, waiting.more_bytes):  # done: cancelled, and about to leave
                del self._waiting[waiting.grant]
                waiting.grant.touch()
                if not waiting.grant.size_bytes:
                    waiting.grant.begun_at = waiting.grant.grown_at
                self._take(waiting.grant, waiting.more_bytes)
                waiting.turn.set_result(None)
                return True
        return False

    def _next_in_line(self) -> list[_Waiting]:
        """Return whoever may be served now, the small first. Of those that hold a part the eldest and the one that misses least; of those
        that hold nothing the first of the tenant that holds least, if nobody holds a part or that tenant has its share left."""
        small = [one for one in self._waiting.values() if one.grant.is_small]
        growing = [one for one in self._waiting.values() if one.grant.size_bytes]
        large = [one for one in self._waiting.values() if not one.grant.is_small and not one.grant.size_bytes]
        line = [self._first_of(small)] if small else []
        if growing:
            line.append(min(growing, key=lambda one: one.grant.number))
            line.append(min(growing, key=lambda one: one.grant.missing_bytes))
        if large:
            first = self._first_of(large)
            if not growing or self._held_by_owner[first.grant.owner] + first.more_bytes <= self._share():
                line.append(first)
        return line

    def _first_of(self, waiting: Iterable[_Waiting]) -> _Waiting:
        return min(waiting, key=lambda one: self._held_by_owner[one.grant.owner])

    def _share(self) -> int:
        """Return what each of the tenants that hold or want something may have without regard to others."""
        return self.capacity_bytes // len({*self._held_by_owner, *(one.grant.owner for one in self._waiting.values())})

    def _passes_others(self, grant: Grant) -> bool:
        """Return whether it would go before others that wait. Who holds a part already may."""
        return bool(self._waiting) and not grant.size_bytes and any(one.grant.is_small == grant.is_small for one in self._waiting.values())

    def _may_have(self, grant: Grant, more_bytes: int) -> bool:
        if not self._fits(grant, more_bytes):
            return False
        return grant not in self._filling or (self._is_safe(grant, more_bytes) and (bool(grant.size_bytes) or self._may_begin(grant)))

    def _fits(self, grant: Grant, more_bytes: int) -> bool:
        left_to_small = max(self._kept_for_small - self._held_by_small, 0)
        if not grant.is_small:
            return more_bytes <= self._free - left_to_small
        return more_bytes <= (min(self._free, left_to_small) if self._is_overdue() else self._free)

    def _may_begin(self, grant: Grant) -> bool:
        """Return whether there is memory for all that this one and those whose bytes flow may need; or its tenant has its share left."""
        if grant.is_small:
            return True
        now = asyncio.get_running_loop().time()
        promised = sum(one.missing_bytes for one in self._filling if self._flows(one, now))
        if not promised or self._fits(grant, promised + grant.claim_bytes):
            return True
        share = self._share()
        return share < self.capacity_bytes and self._held_by_owner[grant.owner] + grant.claim_bytes <= share

    def _flows(self, grant: Grant, now: float) -> bool:
        """Return whether a large grant will soon have grown to its claim: its client waits for us, or sends fast."""
        if grant.is_small or not grant.size_bytes or self._idles(grant, now):
            return False
        if grant.is_at_work or grant in self._waiting:
            return True
        return grant.missing_bytes * (now - grant.begun_at) <= grant.size_bytes * SOON_SECONDS

    def _is_overdue(self) -> bool:
        """Return whether the first of the large requests has been passed for long enough."""
        if not self._waiting:
            return False
        first = next((one for one in self._waiting.values() if not one.grant.is_small), None)
        return first is not None and asyncio.get_running_loop().time() - first.since >= self._patience_seconds

    def _is_safe(self, grant: Grant, more_bytes: int) -> bool:
        """Return whether all who fill their grants can finish when this one has as many bytes more. Its last bytes harm nobody."""
        missing = grant.missing_bytes - more_bytes
        if not missing or self._claimed <= self.largest_bytes:
            return True
        others = (one.as_claim() for one in self._counting() if one is not grant)
        return can_all_finish([*others, Claim(grant.size_bytes + more_bytes, missing)], self.largest_bytes)

    def _counting(self) -> list[Grant]:
        """Return those whose claims count: the large that hold something and do not idle."""
        now = asyncio.get_running_loop().time()
        return [grant for grant in self._filling if grant.size_bytes and not grant.is_small and not self._idles(grant, now)]

    def _idles(self, grant: Grant, now: float) -> bool:
        """Return whether its client has sent nothing for too long, though we would have read it."""
        return not grant.is_at_work and grant not in self._waiting and now - max(grant.grown_at, self._stalled_until) >= grant.idle_seconds

    def _press(self) -> None:
        """Revoke what those who wait may have."""
        loop = asyncio.get_running_loop()
        due = loop.time() if self._timer is None else self._timer.when()
        if loop.time() - due >= STALL_SECONDS:
            self._stalled_until = loop.time()
        self._timer = None
        self._serve()
        if not self._waiting:
            return
        wanted = sum(one.grant.missing_bytes for one in self._waiting.values())
        wanted -= sum(grant.size_bytes for grant in self._filling if grant.is_revoked)  # on its way back
        for victim in self._victims(self._next_in_line()[-1], loop.time()):
            if wanted > 0:
                wanted -= victim.size_bytes
                victim.revoke()
        self._timer = loop.call_later(self._press_seconds, self._press)

    def _victims(self, first: _Waiting, now: float) -> list[Grant]:
        """Return whose memory another may have, in the order to take it."""
        filling = [grant for grant in self._filling if grant.size_bytes and not grant.is_revoked and grant is not first.grant]
        idling = (grant for grant in filling if self._idles(grant, now) and not self._is_due(grant, first.grant))
        idle = sorted(idling, key=lambda grant: grant.grown_at)
        if idle or now - first.since < self._patience_seconds:
            return idle
        youngest_first = sorted(filling, key=lambda grant: grant.number, reverse=True)
        if not can_all_finish((one.as_claim() for one in self._counting()), self.largest_bytes):
            stuck = [grant for grant in youngest_first if grant in self._waiting]
            return sorted(stuck, key=lambda grant: -self._held_by_owner[grant.owner])[:1]  # whose tenant holds most
        return self._beyond_share(first.grant.owner, youngest_first)

    def _is_due(self, grant: Grant, wanting: Grant) -> bool:
        """Return whether a grant is within its tenant's share, while the tenant that wants its memory has a share in other grants already.

        Where one tenant has hundreds of writes, those of others idle for want of everything else: the network, the processor.
        """
        share = self._share()
        is_within = self._held_by_owner[grant.owner] <= share
        return is_within and grant.owner != wanting.owner and self._held_by_owner[wanting.owner] - wanting.size_bytes >= share

    def _beyond_share(self, owner: str, grants: Iterable[Grant]) -> list[Grant]:
        """Return which grants others must give up to have no more than their share, if this owner has less."""
        share = self._share()
        if self._held_by_owner[owner] >= share:
            return []
        left = self._held_by_owner.copy()
        for grant in self._filling:
            left[grant.owner] -= grant.size_bytes if grant.is_revoked else 0
        chosen: list[Grant] = []
        for grant in grants:
            if left[grant.owner] > share:
                left[grant.owner] -= grant.size_bytes
                chosen.append(grant)
        return chosen

    def _take(self, grant: Grant, more_bytes: int) -> None:
        """Move bytes to a grant, or back if they are negative."""
        grant.size_bytes += more_bytes
        self._free -= more_bytes
        self._held_by_small += more_bytes if grant.is_small else 0
        held = self._held_by_owner.get(grant.owner, 0) + more_bytes
        if held:
            self._held_by_owner[grant.owner] = held
        else:
            self._held_by_owner.pop(grant.owner, None)
