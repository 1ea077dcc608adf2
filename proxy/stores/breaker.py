"""A breaker: whether one kind of work is to be asked of a store, by how it has answered lately.

It opens after three failures in a row, or one refusal. A store that others overtake three times in a row is late: others are asked first.
"""

from __future__ import annotations

import math

FAILURES_TO_OPEN = 3
INSIST_SECONDS = 1.0
SILENT_FACTOR = 10  # a store that is only slow has answered by then, unless calls are so large that others take long, too


class Breaker:
    """Failures in a row of one kind of work.

    Calls are put off by `probe_seconds`. `silent_seconds`: how long a late store may answer nothing at all; 0: for ever.
    """

    __slots__ = (
        "_failures",
        "_insisted_at",
        "_overtaken",
        "_pace_seconds",
        "_paces",
        "_probe_seconds",
        "_silent_seconds",
        "_silent_since",
        "_slowed",
        "_usual_seconds",
        "avoided",
        "until",
    )

    def __init__(self, probe_seconds: float, *, silent_seconds: float) -> None:
        self._probe_seconds = probe_seconds
        self._silent_seconds = silent_seconds
        self._failures = 0
        self._overtaken = 0
        self._pace_seconds = math.inf  # within which others answered when they last overtook it
        self._paces = [math.inf, math.inf]  # within which it keeps pace: small calls, and large ones
        self._slowed = 0  # how many of those overtaken took longer than it used to
        self._usual_seconds = math.inf  # that it used to take at most, before the first of them
        self._silent_since: float | None = None  # since when others overtake it and it has answered nothing
        self._insisted_at: float | None = None  # since when somebody who insists has no answer
        self.until = 0.0  # when a probe is due
        self.avoided = False  # whether others are to be asked first

    @property
    def open(self) -> bool:
        """Whether calls are refused."""
        return self._failures >= FAILURES_TO_OPEN

    @property
    def state(self) -> str:
        return "open" if self.open else "late" if self.avoided else "closed"

    @property
    def has_slowed(self) -> bool:
        return self._slowed >= FAILURES_TO_OPEN

    @property
    def is_trusted(self) -> bool:
        return not self.avoided and not self._overtaken

    def is_slow(self, now: float) -> bool:
        """Whether the store is late, but not silent, as far as is known."""
        if self.open or not self._silent_seconds:
            return False
        return self._silent_since is None or now - self._silent_since < max(self._silent_seconds, SILENT_FACTOR * self._pace_seconds)

    def refuses(self, now: float) -> bool:
        """Whether calls fail at once if no probe is due. What is overtaken and broken off says nothing of silence."""
        return self.open or (self._silent_seconds > 0 and not self.is_slow(now))

    def close(self, seconds: float, *, is_large: bool) -> None:
        """Note an answer, and how long it took."""
        pace_seconds = self._paces[is_large]
        self._failures = 0
        self._silent_since = None
        self._insisted_at = None
        if seconds <= pace_seconds:
            self._overtaken = 0
        if seconds <= max(pace_seconds, self._usual_seconds):
            self._slowed, self._usual_seconds = 0, math.inf
        self.avoided = self._overtaken >= FAILURES_TO_OPEN

    def fail(self, count: int, now: float) -> None:
        self._failures += count
        self.avoided = self.avoided or self.open
        self.forget_insistence()
        self._put_off(now)

    def overtake(self, now: float, pace_seconds: float, *, is_large: bool, otherwise_seconds: float) -> None:
        """Note that others overtook a call, and within what time they answered; and what calls of the other size used to take."""
        if not self._overtaken:
            self._paces[not is_large] = otherwise_seconds
        self._overtaken += 1
        self.avoided = self.avoided or self._overtaken >= FAILURES_TO_OPEN
        self._pace_seconds = self._paces[is_large] = pace_seconds
        self._silent_since = now if self._silent_since is None else self._silent_since
        self._put_off(now)

    def catch_up(self) -> None:
        """Note that it is as fast as others. Whether it fails is another matter."""
        self._overtaken = self._slowed = 0
        self._usual_seconds = math.inf
        self.avoided = self.open

    def compare(self, waited_seconds: float, usual_seconds: float) -> None:
        """Note how long an overtaken call was waited for, and if it is the first of them, what calls used to take at most."""
        if not self._slowed:
            self._usual_seconds = usual_seconds
        if waited_seconds > self._usual_seconds:
            self._slowed += 1

    def probe(self, now: float) -> bool:
        """Tell whether a call may be made all the same; until that has ended, no other may."""
        if now < self.until:
            return False
        self._put_off(now)
        return True

    def may_insist(self, now: float) -> bool:
        """Tell whether a call may be made although no probe is due: others who insisted have not waited for long."""
        if self._insisted_at is None:
            self._insisted_at = now
        return now - self._insisted_at < INSIST_SECONDS

    def forget_insistence(self) -> None:
        self._insisted_at = None

    def _put_off(self, now: float) -> None:
        if self.avoided:
            self.until = now + self._probe_seconds
