"""`python -m bench.picture RESULTS.json OUT.svg`: the measures as a picture for the README, one bar for each workload."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Annotated

import typer

from bench.report import SUBJECT

YARDSTICK = "rclone"
WIDTH, ROW, BAR, TOP, LABELS, VALUES = 720, 26, 16, 58, 170, 70
LEVEL_COLOUR, BETTER, WORSE = "#8a8f98", "#2a7f62", "#c98a3b"
STEPS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8, 16, 32)  # where the scale may have a line


def main(results: Annotated[Path, typer.Argument()], picture: Annotated[Path, typer.Argument()]) -> None:
    """Draw what `python -m bench --json RESULTS.json` has written."""
    picture.write_text(draw(ratios_of(json.loads(results.read_text()))))


def ratios_of(measures: Iterable[Mapping[str, object]]) -> list[tuple[str, float]]:
    """Return each workload and Shardgate's rate as a multiple of rclone's, in the order measured."""
    rates: dict[str, dict[str, float]] = {}
    for measure in measures:
        label = f"{measure['workload']} {measure['size']}"
        rates.setdefault(label, {})[str(measure["target"])] = float(str(measure["operations_per_second"]))
    return [(label, found[SUBJECT] / found[YARDSTICK]) for label, found in rates.items() if found.get(YARDSTICK) and SUBJECT in found]


def draw(ratios: Sequence[tuple[str, float]]) -> str:
    """Return an SVG: bars to the right of 1 where Shardgate is faster, to the left where it is slower, on a logarithmic scale."""
    scale = _Scale([ratio for _, ratio in ratios])
    height = TOP + ROW * len(ratios) + 14
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="system-ui, sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="22" font-size="15" fill="#1c2128">Operations a second, as a multiple of {YARDSTICK}\'s</text>',
    ]
    for step in scale.steps:
        x, level = scale.x(step), step == 1
        stroke = f'stroke="{LEVEL_COLOUR if level else "#e3e6ea"}" stroke-width="{1.5 if level else 1}"'
        lines.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 8}" y2="{height - 12}" {stroke}/>')
        lines.append(f'<text x="{x:.1f}" y="{TOP - 14}" text-anchor="middle" fill="#57606a" font-size="11">{_step(step)}</text>')
    for number, (label, ratio) in enumerate(ratios):
        lines += _row(TOP + ROW * number, label, ratio, scale)
    return "\n".join([*lines, "</svg>"]) + "\n"


class _Scale:
    def __init__(self, ratios: Sequence[float]) -> None:
        low, high = min([*ratios, 1 / 2]), max([*ratios, 2])
        self.steps = [step for step in STEPS if low / 2 < step < high * 2]
        self._low, self._high = math.log(min(low, self.steps[0])), math.log(max(high, self.steps[-1]))

    def x(self, ratio: float) -> float:
        room = WIDTH - LABELS - VALUES
        return LABELS + room * (math.log(ratio) - self._low) / (self._high - self._low)


def _row(y: int, label: str, ratio: float, scale: _Scale) -> list[str]:
    left, right = sorted((scale.x(1), scale.x(ratio)))
    colour = BETTER if ratio >= 1 else WORSE
    return [
        f'<text x="12" y="{y + 13}" fill="#1c2128">{escape(label)}</text>',
        f'<rect x="{left:.1f}" y="{y}" width="{max(right - left, 1):.1f}" height="{BAR}" rx="2" fill="{colour}"/>',
        f'<text x="{WIDTH - 12}" y="{y + 13}" text-anchor="end" fill="#1c2128">{ratio:.2f}</text>',
    ]


def _step(step: float) -> str:
    return f"{step:g}" if step >= 1 else f"1/{round(1 / step)}"


if __name__ == "__main__":
    typer.run(main)
