"""The findings as tables a person can read, the ratio first; and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from rich.table import Table

from bench.wan.campaign import NARROW, STORES, Findings
from bench.wan.operations import FIRST, Measured

EXPANSION = 1.5  # 4+2: what is stored of a byte


def tables(findings: Findings) -> Iterator[Table]:
    """Yield the small operations and the large object."""
    healthy = findings.shardgate["healthy"]
    yield _compared("six healthy stores, beside one of them used directly", healthy, findings.direct, "direct")
    for state, measured in findings.shardgate.items():
        if state != "healthy":
            yield _compared(f"stores: {state}, beside the same when all are healthy", measured, healthy, "healthy")
    yield _large(findings)


def _compared(title: str, measured: Mapping[str, Measured], beside: Mapping[str, Measured], other: str) -> Table:
    columns = (
        "p50 ratio",
        "p99 ratio",
        "p50 ms",
        "p99 ms",
        f"{other} p50",
        f"{other} p99",
        f"worst of first {FIRST}",
        "requests",
        "of",
        "failed",
    )
    table = Table("operation", title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="right")
    for name, one in measured.items():
        yardstick = beside[name]
        half, high = one.percentile(0.5), one.percentile(0.99)
        than_half, than_high = yardstick.percentile(0.5), yardstick.percentile(0.99)
        table.add_row(
            name,
            f"{half / than_half:.2f}" if than_half else "",
            f"{high / than_high:.2f}" if than_high else "",
            *(f"{1e3 * seconds:.0f}" for seconds in (half, high, than_half, than_high, one.first)),
            f"{one.requests:.2f}",
            str(len(one.latencies)),
            str(len(one.errors)) if one.errors else "",
        )
    return table


def _large(findings: Findings) -> Table:
    size = findings.large_bytes / 1e6
    table = Table(
        f"{findings.large_bytes // 1024**2} MiB, {NARROW:.0f} MB/s a store",
        title="one large object, beside the sum of the stores' bandwidths (÷ 1.5 for writing)",
        title_justify="left",
    )
    for column in ("of the sum", "MB/s", "sum MB/s", "one store MB/s"):
        table.add_column(column, justify="right")
    for name, seconds in findings.large.items():
        total = NARROW * len(STORES) / (EXPANSION if name == "up" else 1)
        rate = size / seconds
        table.add_row(name, f"{rate / total:.2f}", f"{rate:.0f}", f"{total:.0f}", f"{NARROW:.0f}")
    return table


def as_json(findings: Findings) -> str:
    """Return everything that was measured."""

    def plain(measured: Mapping[str, Measured]) -> dict[str, object]:
        return {
            name: {"latencies": list(one.latencies), "requests": one.requests, "errors": list(one.errors)} for name, one in measured.items()
        }

    states = {state: plain(measured) for state, measured in findings.shardgate.items()}
    large = {"bytes": findings.large_bytes, "seconds": findings.large}
    return json.dumps({"direct": plain(findings.direct), "shardgate": states, "large": large}, indent=1)
