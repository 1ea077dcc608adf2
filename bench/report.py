"""The measures as a table in the terminal, as JSON, and as Markdown for docs/MEASUREMENTS.md."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console
from rich.table import Table

from bench.measures import Measure

SUBJECT = "shardgate"


def print_table(console: Console, measures: Sequence[Measure]) -> None:
    """Print a line for each workload: how Shardgate compares with each yardstick first, then its own numbers, then theirs."""
    yardsticks = _yardsticks(measures)
    table = Table(title=f"{os.cpu_count()} cores, {platform.machine()}, client and stores on the same machine", title_justify="left")
    asking = _asking(measures)
    for header in headers(yardsticks, asking):
        longest = max(map(len, header.split()))
        table.add_column(header, justify="left" if header == "workload" else "right", no_wrap=header == "workload", min_width=longest)
    for group in _groups(measures):
        table.add_row(*cells(group, yardsticks, asking))
    console.print(table)
    for measure in measures:
        if measure.errors:
            console.print(
                f"{measure.target} {measure.workload} {measure.size}: {len(measure.errors)} errors, the first: {measure.errors[0]}",
                markup=False,
            )


def headers(yardsticks: Sequence[str], asking: Sequence[str] = ()) -> list[str]:
    """Return the titles of the columns. A ratio of rates above 1 is good, one of p99 below 1.

    `requests` are those of stores, for each operation: ours, and theirs of the yardsticks that are `asking` stores.
    """
    ratios = [f"{kind} {name}" for name in yardsticks for kind in ("×", "p99 ×")]
    ours = ["op/s", "MB/s", "p50 ms", "p99 ms", "CPU ms/op", "requests", "RSS MiB"]
    return ["workload", *ratios, *ours, *(f"{name} op/s" for name in yardsticks), *(f"{name} requests" for name in asking)]


def cells(group: Sequence[Measure], yardsticks: Sequence[str], asking: Sequence[str] = ()) -> list[str]:
    """Return the line of one workload; what was not measured is empty."""
    by_target = {measure.target: measure for measure in group}
    ours = by_target.get(SUBJECT)
    label = f"{group[0].workload} {group[0].size}" + (" (errors)" if any(measure.errors for measure in group) else "")
    ratios = [cell for name in yardsticks for cell in _ratios(ours, by_target.get(name))]
    rates = [_rate(by_target[name].operations_per_second) if name in by_target else "" for name in yardsticks]
    requests = [_requests(by_target.get(name)) for name in asking]
    return [label, *ratios, *([""] * 7 if ours is None else _numbers(ours)), *rates, *requests]


def as_markdown(measures: Sequence[Measure]) -> str:
    """Return the same table for docs/MEASUREMENTS.md."""
    yardsticks, asking = _yardsticks(measures), _asking(measures)
    titles = headers(yardsticks, asking)
    lines = [_row(titles), _row(["---"] + ["---:"] * (len(titles) - 1))]
    return "\n".join([*lines, *(_row(cells(group, yardsticks, asking)) for group in _groups(measures))]) + "\n"


def as_json(measures: Sequence[Measure]) -> str:
    return json.dumps([measure.as_dict() for measure in measures], indent=1)


def _groups(measures: Sequence[Measure]) -> Iterator[list[Measure]]:
    for label in dict.fromkeys((measure.workload, measure.size) for measure in measures):
        yield [measure for measure in measures if (measure.workload, measure.size) == label]


def _yardsticks(measures: Iterable[Measure]) -> list[str]:
    return [name for name in dict.fromkeys(measure.target for measure in measures) if name != SUBJECT]


def _asking(measures: Sequence[Measure]) -> list[str]:
    return [name for name in _yardsticks(measures) if any(one.target == name and one.requests is not None for one in measures)]


def _numbers(measure: Measure) -> list[str]:
    return [
        _rate(measure.operations_per_second),
        _rate(measure.megabytes_per_second),
        f"{measure.p50_ms:.2f}",
        f"{measure.p99_ms:.2f}",
        f"{measure.cpu_seconds_per_1000_operations:.2f}",
        _requests(measure),
        f"{measure.peak_rss_mib:,.0f}",
    ]


def _requests(measure: Measure | None) -> str:
    return "" if measure is None or measure.requests is None else f"{measure.requests:.2f}"


def _ratios(ours: Measure | None, yardstick: Measure | None) -> list[str]:
    if ours is None or yardstick is None or not yardstick.operations_per_second:
        return ["", ""]
    return [f"{ours.operations_per_second / yardstick.operations_per_second:.2f}", f"{ours.p99_ms / yardstick.p99_ms:.2f}"]


def _rate(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
