"""The measures as a table in the terminal, as JSON, and as Markdown for docs/MEASUREMENTS.md."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console
from rich.table import Table

from bench.rounds import Measure

SUBJECT = "shardgate"


def print_table(console: Console, measures: Sequence[Measure]) -> None:
    """Print every measure, and beside Shardgate's the ratio of its rate to each yardstick's."""
    yardsticks = _yardsticks(measures)
    table = Table(title=f"{os.cpu_count()} cores, {platform.machine()}, client and stores on the same machine", title_justify="left")
    headers = ["", "server", "op/s", "MB/s", "p50 ms", "p99 ms", "CPU s/GiB", "CPU s/1,000 op", "peak RSS MiB"]
    for header in [*headers, *(f"x {name}" for name in yardsticks)]:
        table.add_column(header, justify="left" if header in ("", "server") else "right")
    for group in _groups(measures):
        for measure in group:
            label = f"{measure.workload} {measure.size}" if measure is group[0] else ""
            mark = " [red]errors[/red]" if measure.errors else ""
            table.add_row(label, measure.target + mark, *_numbers(measure), *_ratios(measure, group, yardsticks))
        table.add_section()
    console.print(table)
    for measure in measures:
        if measure.errors:
            console.print(
                f"{measure.target} {measure.workload} {measure.size}: {len(measure.errors)} errors, the first: {measure.errors[0]}",
                markup=False,
            )


def as_markdown(measures: Sequence[Measure]) -> str:
    """Return a table with one line per workload: Shardgate's numbers and its rate as a multiple of each yardstick's."""
    yardsticks = _yardsticks(measures)
    headers = ["workload", "op/s", "MB/s", "p50 ms", "p99 ms", "CPU s/GiB", "CPU s/1,000 op", "peak RSS MiB"]
    headers += [f"{name} op/s" for name in yardsticks] + [f"x {name}" for name in yardsticks]
    lines = [_row(headers), _row(["---"] + ["---:"] * (len(headers) - 1))]
    for group in _groups(measures):
        ours = next((measure for measure in group if measure.target == SUBJECT), None)
        if ours is None:
            continue
        rates = [_rate(next((m.operations_per_second for m in group if m.target == name), None)) for name in yardsticks]
        lines.append(_row([f"{ours.workload} {ours.size}", *_numbers(ours), *rates, *_ratios(ours, group, yardsticks)]))
    return "\n".join(lines) + "\n"


def as_json(measures: Sequence[Measure]) -> str:
    return json.dumps([measure.as_dict() for measure in measures], indent=1)


def _groups(measures: Sequence[Measure]) -> Iterator[list[Measure]]:
    for label in dict.fromkeys((measure.workload, measure.size) for measure in measures):
        yield [measure for measure in measures if (measure.workload, measure.size) == label]


def _yardsticks(measures: Iterable[Measure]) -> list[str]:
    return [name for name in dict.fromkeys(measure.target for measure in measures) if name != SUBJECT]


def _numbers(measure: Measure) -> list[str]:
    return [
        _rate(measure.operations_per_second),
        _rate(measure.megabytes_per_second),
        f"{measure.p50_ms:.2f}",
        f"{measure.p99_ms:.2f}",
        "" if measure.cpu_seconds_per_gib is None else f"{measure.cpu_seconds_per_gib:.2f}",
        f"{measure.cpu_seconds_per_1000_operations:.2f}",
        f"{measure.peak_rss_mib:,.0f}",
    ]


def _ratios(measure: Measure, group: Sequence[Measure], yardsticks: Sequence[str]) -> list[str]:
    if measure.target != SUBJECT:
        return [""] * len(yardsticks)
    rates = {other.target: other.operations_per_second for other in group}
    return [f"{measure.operations_per_second / rates[name]:.2f}" if rates.get(name) else "" for name in yardsticks]


def _rate(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
