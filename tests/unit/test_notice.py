"""What comes and goes is said once a minute, and what stays is said in the end."""

from __future__ import annotations

from proxy.notice import Notice


def test_a_trouble_that_stays_is_said_once_and_its_end_once() -> None:
    notice = Notice()
    assert [notice.meets(1, float(now)) for now in range(0, 1000, 10)] == ["", *[None] * 99]
    assert [notice.ends(), notice.ends()] == [True, False]


def test_one_that_comes_back_within_a_minute_and_stays_is_said_when_the_minute_is_over() -> None:
    notice = Notice()
    assert notice.meets(1, 0.0) == ""
    assert notice.ends()
    assert [notice.meets(1, now) for now in (1.0, 30.0, 59.9)] == [None] * 3
    assert [notice.meets(1, now) for now in (60.0, 61.0)] == ["", None]
    assert notice.ends()


def test_of_what_was_not_said_the_end_is_not_said_either_and_the_next_line_counts_it() -> None:
    notice = Notice()
    assert notice.meets(1, 0.0) == ""
    assert notice.ends()
    for now in (10.0, 20.0, 30.0):
        assert notice.meets(1, now) is None
        assert not notice.ends()
    assert notice.meets(1, 70.0) == "; it came and went 3 times more since this was last said"
    assert notice.ends()
    assert notice.meets(1, 200.0) == ""


def test_that_it_gets_worse_is_said_at_once_if_it_was_said_at_all() -> None:
    notice = Notice()
    assert [notice.meets(1, 0.0), notice.meets(2, 1.0), notice.meets(1, 2.0)] == ["", "", None]
    assert notice.ends()
    assert [notice.meets(1, 3.0), notice.meets(2, 4.0)] == [None, None]
    assert not notice.ends()


def test_of_what_was_said_elsewhere_only_the_end_is_told() -> None:
    notice = Notice()
    notice.was_said(1)
    assert notice.meets(1, 0.0) is None
    assert notice.ends()
    assert notice.meets(1, 1.0) == ""  # it is the first line here
