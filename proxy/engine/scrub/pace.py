"""The pace of a pass: units of work spread over its days, so that it hardly shows, and is done in time."""

from __future__ import annotations

DAY_SECONDS = 24 * 3600.0
PART = 0.9  # of the time: what is left makes up for stores that were down, and for restarts
LONGEST_WAIT_SECONDS = 15 * 60.0  # how late a change of the configuration, or a store that is back, is noticed
SHORTEST_WAIT_SECONDS = 1.0  # shorter ones are not worth a turn: the work comes in larger units


def wait_seconds(*, elapsed_seconds: float, days: float, done: int, remaining: int) -> float:
    """Return how long to wait before the next unit: until as much of the time has passed as has been done of the work.

    A pass that is late, or began under a clock that was set back since, does not wait.
    """
    if elapsed_seconds < 0 or not done:
        return 0.0
    due = days * DAY_SECONDS * PART * done / (done + max(remaining, 0))
    wait = min(due - elapsed_seconds, LONGEST_WAIT_SECONDS)
    return wait if wait >= SHORTEST_WAIT_SECONDS else 0.0


def until_next_pass_seconds(*, elapsed_seconds: float, days: float) -> float:
    """Return how long to wait for the next pass, from when the last one began. A clock that was set back starts one at once."""
    if elapsed_seconds < 0:
        return 0.0
    return min(max(days * DAY_SECONDS - elapsed_seconds, 0.0), LONGEST_WAIT_SECONDS)
