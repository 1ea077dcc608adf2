"""Latencies: how long the last calls of one kind took."""

from __future__ import annotations

from collections import deque

SAMPLES = 64
SAMPLES_A_SORT = 8  # the percentile of 64 hardly moves within 8, and a sort a call would cost more than the bookkeeping


class Latency:
    """The last calls of one verb."""

    __slots__ = ("_added", "_ring", "median", "p90", "p95")

    def __init__(self, first: float) -> None:
        self._ring = deque([first], maxlen=SAMPLES)
        self._added = 1
        self.p95 = self.p90 = self.median = first

    def add(self, seconds: float) -> None:
        self._ring.append(seconds)
        self._added += 1
        if self._added < SAMPLES_A_SORT or self._added % SAMPLES_A_SORT == 0:
            ordered = sorted(self._ring)
            self.p95, self.p90, self.median = (ordered[len(ordered) * share // 100] for share in (95, 90, 50))
