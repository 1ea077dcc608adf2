"""What a round measures, and the median over several."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True, slots=True)
class Measure:
    """One workload on one server in one round, or the median over the rounds."""

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


def medians(measures: Iterable[Measure]) -> list[Measure]:
    """Return one measure per server and workload: the median of each number over the rounds."""
    groups: dict[tuple[str, str, str], list[Measure]] = {}
    for measure in measures:
        groups.setdefault((measure.target, measure.size, measure.workload), []).append(measure)
    return [_median(group) for group in groups.values()]


def _median(group: Sequence[Measure]) -> Measure:
    def middle(name: str) -> float:
        return float(statistics.median(getattr(measure, name) for measure in group))

    def middle_or_none(name: str) -> float | None:
        return None if getattr(group[0], name) is None else middle(name)

    return Measure(
        target=group[0].target,
        workload=group[0].workload,
        size=group[0].size,
        operations=int(middle("operations")),
        operations_per_second=middle("operations_per_second"),
        megabytes_per_second=middle_or_none("megabytes_per_second"),
        p50_ms=middle("p50_ms"),
        p99_ms=middle("p99_ms"),
        cpu_seconds_per_gib=middle_or_none("cpu_seconds_per_gib"),
        cpu_seconds_per_1000_operations=middle("cpu_seconds_per_1000_operations"),
        peak_rss_mib=max(measure.peak_rss_mib for measure in group),
        client_cpu_share=middle("client_cpu_share"),
        requests=middle_or_none("requests"),
        errors=tuple(error for measure in group for error in measure.errors),
    )
