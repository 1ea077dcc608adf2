"""The pace of a client: slow is served, too slow is not."""

from __future__ import annotations

import pytest

from proxy.s3.errors import S3Error
from proxy.server.wire.inlet import Pace


def test_a_pace_is_judged_at_the_end_of_a_window() -> None:
    pace = Pace(window_seconds=30, min_bytes_per_second=100)
    pace.add(1, 29.9)
    assert pace.left_seconds == pytest.approx(0.1)
    with pytest.raises(S3Error, match="RequestTimeout"):
        pace.add(1, 0.1)


def test_what_came_fast_does_not_excuse_what_comes_later() -> None:
    pace = Pace(window_seconds=30, min_bytes_per_second=100)
    pace.add(10_000_000, 30)
    assert pace.left_seconds == 30
    for _ in range(5):
        pace.add(1, 5)
    with pytest.raises(S3Error, match="RequestTimeout"):
        pace.add(1, 5)


def test_a_client_as_fast_as_it_must_be_may_go_on_for_ever() -> None:
    pace = Pace(window_seconds=30, min_bytes_per_second=100)
    for _ in range(1000):
        pace.add(500, 5)


def test_time_in_which_nobody_waits_does_not_count() -> None:
    pace = Pace(window_seconds=30, min_bytes_per_second=100)
    for _ in range(1000):
        pace.add(1)
    assert pace.left_seconds == 30


def test_without_a_minimum_every_pace_will_do() -> None:
    pace = Pace(window_seconds=30, min_bytes_per_second=0)
    for _ in range(1000):
        pace.add(1, 29)
