"""What a turn measures, and what many turns say together."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field

GIB = 1024**3
MIB = 1024**2


@dataclass(frozen=True, slots=True)
class Turn:
    """One workload on one server, for a moment. Latencies are seconds."""

    target: str
    workload: str
    size: str
    seconds: float
    latencies: tuple[float, ...]
    moved_bytes: int | None  # None where they say nothing
    cpu_seconds: float
    client_cpu_seconds: float
    peak_rss_bytes: float
    requests: int | None = None  # upstream
    errors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Measure:
    """One workload on one server: rates are the medians of its turns, percentiles those of all its requests."""

    target: str
    workload: str
    size: str
    operations: int
    operations_per_second: float
    megabytes_per_second: float | None
    p50_ms: float
    p99_ms: float
    cpu_seconds_per_gib: float | None
    cpu_seconds_per_1000_operations: float
    peak_rss_mib: float
    client_cpu_share: float  # of one core
    requests: float | None = None  # upstream, for each operation
    errors: tuple[str, ...] = field(default=())

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def as_measures(turns: Iterable[Turn]) -> list[Measure]:
    """Return one measure per server and workload, in the order of their first turns."""
    groups: dict[tuple[str, str, str], list[Turn]] = {}
    for turn in turns:
        groups.setdefault((turn.target, turn.size, turn.workload), []).append(turn)
    return [_measure(group) for group in groups.values()]


def percentile(latencies: Sequence[float], share: float) -> float:
    """Return the latency that this share of all is below; `latencies` are sorted, and none are 0."""
    return latencies[min(len(latencies) - 1, int(len(latencies) * share))] if latencies else 0.0


def _measure(turns: Sequence[Turn]) -> Measure:
    latencies = sorted(latency for turn in turns for latency in turn.latencies)
    operations = max(1, len(latencies))
    moved_bytes = None if turns[0].moved_bytes is None else sum(turn.moved_bytes or 0 for turn in turns)
    requests = None if turns[0].requests is None else sum(turn.requests or 0 for turn in turns)
    cpu_seconds = sum(turn.cpu_seconds for turn in turns)
    return Measure(
        target=turns[0].target,
        workload=turns[0].workload,
        size=turns[0].size,
        operations=len(latencies),
        operations_per_second=statistics.median(len(turn.latencies) / turn.seconds for turn in turns),
        megabytes_per_second=None
        if moved_bytes is None
        else statistics.median((turn.moved_bytes or 0) / turn.seconds for turn in turns) / 1e6,
        p50_ms=1e3 * percentile(latencies, 0.5),
        p99_ms=1e3 * percentile(latencies, 0.99),
        cpu_seconds_per_gib=cpu_seconds / (moved_bytes / GIB) if moved_bytes else None,
        cpu_seconds_per_1000_operations=1e3 * cpu_seconds / operations,
        peak_rss_mib=max(turn.peak_rss_bytes for turn in turns) / MIB,
        client_cpu_share=sum(turn.client_cpu_seconds for turn in turns) / sum(turn.seconds for turn in turns),
        requests=None if requests is None else requests / operations,
        errors=tuple(error for turn in turns for error in turn.errors),
    )
