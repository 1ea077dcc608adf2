"""The pace of a scrub: as much of the time has passed as of the work was done."""

from __future__ import annotations

import pytest

from proxy.engine.scrub.pace import DAY_SECONDS, LONGEST_WAIT_SECONDS, PART, until_next_pass_seconds, wait_seconds


def test_a_pass_waits_until_its_share_of_the_time_has_passed() -> None:
    due = 0.01 * DAY_SECONDS * PART
    assert wait_seconds(elapsed_seconds=due - 100, days=1, done=1, remaining=99) == pytest.approx(100)


@pytest.mark.parametrize(("elapsed", "done", "remaining"), [(0.5 * DAY_SECONDS, 1, 99), (0, 0, 99), (-3600, 50, 50)])
def test_a_pass_that_is_late_or_begins_or_was_begun_in_the_future_does_not_wait(elapsed: float, done: int, remaining: int) -> None:
    assert wait_seconds(elapsed_seconds=elapsed, days=1, done=done, remaining=remaining) == 0


def test_no_wait_is_so_long_that_a_change_goes_unnoticed_nor_so_short_that_it_is_not_worth_a_turn() -> None:
    assert wait_seconds(elapsed_seconds=0, days=30, done=50, remaining=50) == LONGEST_WAIT_SECONDS
    assert wait_seconds(elapsed_seconds=0.01 * DAY_SECONDS * PART - 0.5, days=1, done=1, remaining=99) == 0
    assert until_next_pass_seconds(elapsed_seconds=0, days=30) == LONGEST_WAIT_SECONDS


def test_work_done_at_its_pace_leaves_a_tenth_of_the_time() -> None:
    elapsed = 0.0
    for done in range(1, 101):
        while (wait := wait_seconds(elapsed_seconds=elapsed, days=1, done=done, remaining=100 - done)) > 0:
            elapsed += wait
    assert elapsed == pytest.approx(PART * DAY_SECONDS, rel=0.01)


def test_the_next_pass_begins_when_the_days_of_the_last_are_over() -> None:
    assert until_next_pass_seconds(elapsed_seconds=DAY_SECONDS - 60, days=1) == 60
    assert until_next_pass_seconds(elapsed_seconds=DAY_SECONDS, days=1) == 0
    assert until_next_pass_seconds(elapsed_seconds=-1, days=1) == 0
