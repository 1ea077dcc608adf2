"""Trusted time: what the ends of retentions are held against, so that a clock that is set forward frees nothing.

The problem. A retention ends at a date. Whoever may set the machine's clock, or a clock that is wrong by itself, could end every one of
them at once: `date -s +10years`, then delete. And a clock that is set back after that would be no remedy.

The idea. How long a machine has been running cannot be set. So the manifest keeps a mark: what the trusted time was, and how long the
machine had been running by then. The trusted time goes on from there as the running time does, and never goes beyond the wall clock. It
never goes back. The mark is renewed each minute, and kept by the journal once a day and at each start of the machine.

What it costs. Time in which the machine was off does not count, nor does time in which its clock was behind: then the trusted time stands
still. It never catches up by itself, for a start with a clock that was set forward looks the same as one after a long pause. So locks
last longer than their dates by as much, and never shorter. (Rejected: to believe the wall clock after a start, within some bound. A
machine can be started again and again. And to believe what stores say the time is: of many installations all stores run on the machines
whose clock is wrong.)

What it does not do. Whoever writes to the database can do anything to it, as can whoever holds the keys of all stores. The first mark is
made when the first bucket with object lock is: a clock that is ahead then is believed.
"""

from __future__ import annotations

from proxy.clock import Instant
from proxy.manifest.records import Record

DAY_MS = 24 * 3600 * 1000


class TimeMark(Record, frozen=True, kw_only=True, omit_defaults=True):
    """What the trusted time was when the machine had been running for so long since one of its starts."""

    trusted_ms: int
    running_ms: int
    boot: str

    @property
    def day(self) -> int:
        """Return the day it is of. The journal keeps the mark when that changes."""
        return self.trusted_ms // DAY_MS


def first_mark(instant: Instant) -> TimeMark:
    """Begin with what the wall clock says."""
    return TimeMark(trusted_ms=instant.now_ms, running_ms=instant.running_ms, boot=instant.boot)


def mark_at(mark: TimeMark, instant: Instant) -> TimeMark:
    """Return the mark of a later instant. Of what passed since another start of the machine, nothing is known."""
    passed_ms = max(0, instant.running_ms - mark.running_ms) if instant.boot == mark.boot else 0
    trusted_ms = max(mark.trusted_ms, min(instant.now_ms, mark.trusted_ms + passed_ms))
    return TimeMark(trusted_ms=trusted_ms, running_ms=instant.running_ms, boot=instant.boot)
