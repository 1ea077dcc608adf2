"""A notice: what the log says of a trouble that comes and goes, at most once a minute.

A store that fails and answers by turns, a target of events, or the journal, may change every few seconds, for days. The first line says
it; each of the others would push something else out of the log. So a trouble that comes within a minute of the last line is only
counted, and nobody is told of its end. If it is still there when the minute is over, the next who meets it says so.
"""

from __future__ import annotations

import math

QUIET_SECONDS = 60.0


class Notice:
    """What was said of one trouble."""

    __slots__ = ("_is_counted", "_said_at", "_told", "_untold")

    def __init__(self) -> None:
        self._told = 0  # how bad it was said to be; 0: nothing was said of it since it last ended
        self._said_at = -math.inf
        self._untold = 0  # how often it came since then
        self._is_counted = False  # this time, too

    def meets(self, badness: int, now: float) -> str | None:
        """Note that the trouble is there, and how bad. Return what to add to a line about it; None if nothing is to be said now."""
        if badness <= self._told:
            return None
        if not self._told and now - self._said_at < QUIET_SECONDS:
            self._untold += not self._is_counted
            self._is_counted = True
            return None
        before = self._untold - self._is_counted
        self._told, self._said_at, self._untold, self._is_counted = badness, now, 0, False
        return f"; it came and went {before} times more since this was last said" if before else ""

    def was_said(self, badness: int) -> None:
        """Note that somebody else has said it: only its end is still to be told here."""
        self._told = max(self._told, badness)

    def ends(self) -> bool:
        """Note that it is over. Tell whether to say so: of a trouble that nobody was told of, nobody is told that it is over."""
        was_told = self._told > 0
        self._told, self._is_counted = 0, False
        return was_told
