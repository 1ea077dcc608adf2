"""The findings as one table a person can read, the ratio first; and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from rich.table import Table

from bench.wan.aims import OF_THE_SUM, Aim, Ratios, aim_of, compare
from bench.wan.campaign import FULL, NARROW, Comparison, Findings
from bench.wan.operations import FIRST, Measured
from bench.wan.stores import STORES
from bench.workloads import MIB

EXPANSION = 1.5  # 4+2: what is stored of a byte
RATIOS = ("× p50", "aim", "× p99", "aim", "aims")
TIMES = ("p50 ms", "p99 ms", "beside: p50", "p99", f"worst of {FIRST}")
COLUMNS = (*RATIOS, *TIMES, "adapted after", "requests", "of", "failed")


def table(findings: Findings) -> Table:
    """Return what is beside what, section by section, and the large object at the end."""
    all_of_it = Table(title="× p50, × p99: as multiples of what is beside it", title_justify="left")
    all_of_it.add_column("", no_wrap=True)
    for column in COLUMNS:
        all_of_it.add_column(column, justify="right")
    for comparison in findings.comparisons:
        all_of_it.add_row(f"[bold]{_title(comparison.state)}")
        for row in _rows(comparison):
            all_of_it.add_row(*row)
        all_of_it.add_section()
    all_of_it.add_row(f"[bold]{findings.large_bytes // MIB} MiB, beside {NARROW:.0f} MB/s a store")
    for name, seconds in findings.large.items():
        all_of_it.add_row(*_large(name, seconds, findings.large_bytes))
    return all_of_it


def _title(state: str) -> str:
    return "healthy, beside one bucket" if state == "healthy" else f"{state}, beside healthy"


def _rows(comparison: Comparison) -> Iterator[tuple[str, ...]]:
    for name, one in comparison.measured.items():
        beside, aim = comparison.beside[name], aim_of(comparison.state, name)
        ratios = compare(one, beside)
        times = [_ms(measured.percentile(share)) for measured in (one, beside) for share in (0.5, 0.99)]
        adapted = "" if comparison.state == "healthy" else f"{one.adapted_after(_unusual(beside)):.0f}"
        failed = str(len(one.errors)) if one.errors else ""
        yield (name, *_compared(ratios, aim), *times, _ms(one.first), adapted, f"{one.requests:.2f}", str(len(one.latencies)), failed)


def _compared(ratios: Ratios, aim: Aim) -> tuple[str, ...]:
    p99_aim = _aim(aim.p99) if ratios.p99_counts or aim.p99 is None else f"({_aim(aim.p99)})"
    return (f"{ratios.p50:.2f}", _aim(aim.p50), f"{ratios.p99:.2f}", p99_aim, ratios.verdict(aim))


def _unusual(healthy: Measured) -> float:
    """Return the seconds that tell of a change: healthy stores hardly ever take as long."""
    return 1.5 * healthy.percentile(0.99)


def _aim(most: float | None) -> str:
    return "" if most is None else f"{most:.1f}"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.0f}"


def _large(name: str, seconds: float, size_bytes: int) -> tuple[str, ...]:
    ideal = ideal_seconds(name, size_bytes)
    ratio, aim = seconds / ideal, Aim(OF_THE_SUM if size_bytes == FULL.large_bytes else None)
    verdict = Ratios(ratio, float("nan"), p99_counts=False).verdict(aim)
    return (name, f"{ratio:.2f}", _aim(aim.p50), "", "", verdict, _ms(seconds), "", _ms(ideal))


def ideal_seconds(name: str, size_bytes: int) -> float:
    """Return what the large object would take if all lines were busy all the time."""
    return size_bytes / 1e6 * (EXPANSION if name == "up" else 1.0) / (NARROW * len(STORES))


def as_json(findings: Findings) -> str:
    """Return everything that was measured."""
    large = {
        name: {"seconds": seconds, "at the sum of the bandwidths": ideal_seconds(name, findings.large_bytes)}
        for name, seconds in findings.large.items()
    }
    comparisons = [_plain(one) for one in findings.comparisons]
    return json.dumps({"comparisons": comparisons, "large bytes": findings.large_bytes, "large": large}, indent=1)


def _plain(comparison: Comparison) -> dict[str, object]:
    operations = {}
    for name, one in comparison.measured.items():
        beside, aim = comparison.beside[name], aim_of(comparison.state, name)
        ratios = compare(one, beside)
        operations[name] = {
            "p50 ratio": ratios.p50,
            "p99 ratio": ratios.p99,
            "p50 aim": aim.p50,
            "p99 aim": aim.p99,
            "aims": ratios.verdict(aim),
            "measured": _measured(one),
            "beside": _measured(beside),
        }
    return {"state": comparison.state, "operations": operations}


def _measured(one: Measured) -> Mapping[str, object]:
    return {"latencies": list(one.latencies), "requests": one.requests, "errors": list(one.errors)}
