from __future__ import annotations

from proxy.status.words import ago, duration, size


def test_durations_have_one_unit() -> None:
    told = [duration(seconds * 1000) for seconds in (0, 1, 59.4, 60, 3599, 3600, 86_400, 90 * 86_400)]
    assert told == ["0 seconds", "1 second", "59 seconds", "1 minute", "59 minutes", "1 hour", "1 day", "90 days"]


def test_what_lies_in_the_future_is_just_now() -> None:
    assert [ago(then, 10_000) for then in (20_000, 9_500, 5000)] == ["just now", "just now", "5 seconds ago"]


def test_sizes_have_one_unit() -> None:
    assert [size(count) for count in (0, 1023, 1024, 1536, 3 * 1024**2, 1024**5)] == [
        "0 bytes", "1,023 bytes", "1.0 KiB", "1.5 KiB", "3.0 MiB", "1,024.0 TiB",
    ]  # fmt: skip
