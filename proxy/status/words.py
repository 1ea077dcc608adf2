"""Durations and sizes as people say them: one number and one unit, never more exact than anybody needs."""

from __future__ import annotations

_UNITS = (("day", 86_400), ("hour", 3600), ("minute", 60))


def duration(milliseconds: float) -> str:
    """Return as in "3 hours"."""
    seconds = milliseconds / 1000
    for unit, size in _UNITS:
        if seconds >= size:
            count = int(seconds // size)
            return f"{count:,} {unit}{'s' * (count != 1)}"
    return f"{seconds:.0f} second{'s' * (round(seconds) != 1)}"


def number(count: int, one: str, several: str) -> str:
    """Return as in "1 segment waits" and "2,000 segments wait"."""
    return f"{count:,} {one if count == 1 else several}"


def ago(then_ms: int, now_ms: int) -> str:
    """Return as in "3 hours ago". A clock that was set back makes it "just now"."""
    return f"{duration(now_ms - then_ms)} ago" if now_ms - then_ms >= 1000 else "just now"


def size(count: float) -> str:
    """Return bytes as in "1.5 GiB"."""
    power = min((max(int(count), 1).bit_length() - 1) // 10, len(_SIZES) - 1)
    return f"{count:,.0f} bytes" if power == 0 else f"{count / 1024**power:,.1f} {_SIZES[power]}"


_SIZES = ("bytes", "KiB", "MiB", "GiB", "TiB")
