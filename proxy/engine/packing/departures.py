"""When the next pack of a kind leaves, while others are in flight. Arithmetic only.

What comes while a pack is in flight gathers, and shares the puts of the next. That leaves when one has landed; or beside those in flight,
once it is worth its puts: when it has more objects than the scheme has shards, or fills a cell. A few may be in flight, so that a distant
store's round trip is hidden.

Who comes late stays late: eight writers made packs of seven and of one, since the one waits for the seven, leaves at the moment in which
they are answered, and misses their next pack. So a pack that leaves behind another waits for those who have just been answered, but no
longer than a millisecond.

From afar a pack takes long, and so does a wait for it. While so few bodies are under way that one pack of them all would not be worth its
puts, none waits for another: two writers who took turns would each take twice as long, and save nothing. Where more are under way, a pack
of few with nothing else in flight waits a part of its usual time for those who have just been answered. A pack that takes long although its
stores are in this machine is not from afar: the machine is busy, and packs of one object each would make it busier.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from proxy.codec.format import CELL_SIZE

MAX_IN_FLIGHT = 3  # packs of one kind
MAX_ALONE_IN_FLIGHT = 12  # where so few bodies come that they do not wait
PATIENCE = 2  # times as long as a pack takes: no longer does a body wait for those in flight, if there may be one more
WEIGHT = 0.2  # of the last pack in how long they take
FAR_SECONDS = 0.02  # a pack that takes longer is on its way to distant stores, unless these are known to be nearby
COMPANY = 0.1  # times as long as a pack takes: whoever has just been answered sends the next by then
GATHER_SECONDS = 0.001  # the same nearby, at most. Uvloop's timers count so
CROWD_MEMORY = 2  # times as long as a pack takes: whoever has just been answered may be about to send the next


@dataclass(slots=True)
class Pace:
    """How long packs of one policy take, and when many came. It is known for longer than any pack is in flight."""

    usual_seconds: float | None = None  # none has landed yet
    crowded_at: float = -math.inf


class Departures:
    """The packs of one kind that are in flight."""

    def __init__(self, worth_slots: int, pace: Pace, *, may_go_alone: bool = True, are_nearby: Callable[[], bool] = lambda: False) -> None:
        """A pack of more than `worth_slots` objects is worth its puts. Without `may_go_alone`, bodies wait however few they are.

        `are_nearby` tells whether the stores are known to be in this machine.
        """
        self._pace = pace
        self._are_nearby = are_nearby
        self._worth_slots = worth_slots
        self._may_go_alone = may_go_alone
        self.in_flight = 0
        self._bodies_in_flight = 0
        self._answered_at = -math.inf
        self._to_come = 0  # of those who were answered since a pack left, as many as have not come again

    @property
    def patience_seconds(self) -> float | None:
        """How long a body waits for those in flight at most; None if that is not known yet."""
        return None if self._pace.usual_seconds is None else PATIENCE * self._pace.usual_seconds

    @property
    def has_room(self) -> bool:
        """Whether one more may be in flight."""
        return self.in_flight < MAX_IN_FLIGHT

    def joined(self, waiting: int, now: float) -> None:
        """Take note that one more body waits, and how many do."""
        self._to_come = max(0, self._to_come - 1)
        if waiting + self._bodies_in_flight > self._worth_slots:
            self._pace.crowded_at = now

    def may_begin(self, waiting: int, waiting_bytes: int, now: float) -> bool:
        """Tell whether what has gathered is to leave now."""
        if not self.in_flight or (self.has_room and self._is_worth_it(waiting, waiting_bytes)):
            return True
        goes_alone = self._may_go_alone and self._far_seconds > 0 and not self._is_crowded(now)
        return goes_alone and self.in_flight < MAX_ALONE_IN_FLIGHT

    def company_seconds(self, waiting: int, waiting_bytes: int, now: float) -> float:
        """How long what is about to leave, and counts as in flight, waits for more."""
        leaves_now = self.in_flight > 1 or self._is_worth_it(waiting, waiting_bytes) or not self._is_crowded(now)
        return 0.0 if leaves_now else COMPANY * self._far_seconds

    def awaits_more(self, waiting_bytes: int, now: float) -> bool:
        """Tell whether what is about to leave waits for some who have just been answered nearby."""
        is_fresh = now - self._answered_at <= (self._pace.usual_seconds or 0.0)
        return self._to_come > 0 and is_fresh and not self._far_seconds and waiting_bytes < CELL_SIZE

    def left(self, bodies: int) -> None:
        """Take note of how many are in a pack that has begun. Who has not come by then is not waited for again."""
        self._bodies_in_flight += bodies
        self._to_come = 0

    def landed(self, bodies: int, seconds: float, now: float) -> None:
        """Take note that they have landed, and how long it took. They are answered now."""
        self._bodies_in_flight -= bodies
        self._to_come += bodies
        self._answered_at = now
        usual = seconds if self._pace.usual_seconds is None else self._pace.usual_seconds
        self._pace.usual_seconds = usual + WEIGHT * (seconds - usual)

    def _is_worth_it(self, waiting: int, waiting_bytes: int) -> bool:
        return waiting > self._worth_slots or waiting_bytes >= CELL_SIZE

    @property
    def _far_seconds(self) -> float:
        """How long a pack takes; 0 where the stores are near, or if it is not known."""
        usual = self._pace.usual_seconds or 0.0
        return usual if usual >= FAR_SECONDS and not self._are_nearby() else 0.0

    def _is_crowded(self, now: float) -> bool:
        return now - self._pace.crowded_at <= CROWD_MEMORY * (self._pace.usual_seconds or 0.0)
