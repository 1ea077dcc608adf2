"""Time, handed in so that tests can move it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple, Protocol

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # of Linux: drawn at each start of the machine


class Instant(NamedTuple):
    """One look at the clocks: the wall's, which can be set, and how long the machine has been running, which cannot."""

    now_ms: int
    running_ms: int  # since the machine was started, sleep included
    boot: str  # which start that was: the running times of two are not compared


class Clock(Protocol):
    """Wall time for what is stored and compared with clients; monotonic time for what is measured."""

    def now_ms(self) -> int:
        """Return milliseconds since the Unix epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start, never going back."""
        ...

    def instant(self) -> Instant:
        """Return the wall time beside the running time of the machine."""
        ...


class SystemClock:
    """The machine's clocks."""

    def __init__(self) -> None:
        self._boot = _boot_id()

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()

    def instant(self) -> Instant:
        return Instant(self.now_ms(), time.clock_gettime_ns(_RUNNING) // 1_000_000, self._boot)


_RUNNING = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # the one that goes on while the machine sleeps, where there is one


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return f"{time.time_ns()}"  # no two starts of a process are one: what lies between them is not counted


class WriteOrder:
    """Numbers that rise with every write of this process, and from process to process with the clock.

    Milliseconds do not tell which of two writes came last, and a clock may be set back between them.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = 0

    def next(self) -> int:
        """Return a number above all before: milliseconds in the upper bits, 20 bits to count within one."""
        self._last = max(self._last + 1, self._clock.now_ms() << 20)
        return self._last


class ManualClock:
    """A clock that moves only when told."""

    def __init__(self, now_ms: int = 1_750_000_000_000) -> None:
        self._now_ms = now_ms
        self._set_by_ms = 0
        self._boot = 1

    def now_ms(self) -> int:
        return self._now_ms + self._set_by_ms

    def monotonic(self) -> float:
        return self._now_ms / 1000

    def instant(self) -> Instant:
        return Instant(self.now_ms(), self._now_ms, str(self._boot))

    def advance(self, seconds: float) -> None:
        self._now_ms += int(seconds * 1000)

    def set_by(self, seconds: float) -> None:
        """Set the wall clock forward or back. No time passes."""
        self._set_by_ms += int(seconds * 1000)

    def reboot(self, *, off_seconds: float) -> None:
        """Start the machine anew: nothing ran for so long."""
        self._now_ms += int(off_seconds * 1000)
        self._boot += 1
