"""`shardgate stores check --analyze`: whether buckets do what Shardgate needs, printed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from proxy.cli.context import print_json, print_table

if TYPE_CHECKING:
    from proxy.config import Config
    from proxy.stores.conformance import Conformance, Finding

SHOWN_LEFT = 20


def run(config: Config, names: Sequence[str], *, quick: bool, as_json: bool) -> None:
    """Analyze stores, one after another, so that none slows another down. Exit code 1 if one is unfit."""
    reports = asyncio.run(_analyze(config, names, quick=quick))
    if as_json:
        print_json(reports)
    else:
        for report in reports:
            _print(report)
    if not all(report.fit for report in reports):
        raise typer.Exit(1)


async def _analyze(config: Config, names: Sequence[str], *, quick: bool) -> list[Conformance]:
    from proxy.clock import SystemClock
    from proxy.openings import open_candidate  # the stores' libraries: 0.2 s, for this alone
    from proxy.stores.conformance import analyze

    reports = []
    for name in names:
        async with open_candidate(config, name, SystemClock()) as store:
            report = await analyze(
                store,
                SystemClock(),
                put_seconds=config.limits.put_timeout_seconds,
                get_seconds=config.limits.get_timeout_seconds,
                quick=quick,
                tell=_Progress(name),
                tell_left=_tell_left,
            )
        reports.append(report)
    return reports


class _Progress:
    """Shows at a terminal what is tried now."""

    def __init__(self, store: str) -> None:
        self._store = store

    def __call__(self, text: str) -> None:
        if sys.stderr.isatty():
            print(f"{self._store}: {text} ...", file=sys.stderr)


def _tell_left(names: Sequence[str]) -> None:
    """Say what could not be removed: also after Ctrl-C, when there is no report."""
    print(f"shardgate: {len(names):,} objects could not be removed, or may still be there; remove them by hand:", file=sys.stderr)
    for name in names[:SHOWN_LEFT]:
        print(f"    {name}", file=sys.stderr)
    if len(names) > SHOWN_LEFT:
        print(f"    ... and others below {names[0].rpartition('/')[0]}/", file=sys.stderr)


def _print(report: Conformance) -> None:
    failed = [finding for finding in report.findings if finding.outcome == "failed"]
    notes = sum(finding.outcome == "note" for finding in report.findings)
    verdict = "fit for Shardgate" if report.fit else f"NOT FIT for Shardgate: {', '.join(finding.check for finding in failed)}"
    print_table(f"Store {report.store}", ["", "tried", "found"], [_cells(finding) for finding in report.findings])
    for finding in report.findings:
        if finding.meaning:
            print(f"{_MARKS[finding.outcome]} {finding.check}: {finding.found}\n    It means: {finding.meaning}\n    Do: {finding.remedy}")
    print(f"store {report.store}: {verdict} ({len(report.findings)} things tried, {len(failed)} failed, {notes} notes)")


_MARKS = {"passed": "ok", "failed": "FAILED", "note": "note"}


def _cells(finding: Finding) -> list[str]:
    return [_MARKS[finding.outcome], finding.check, finding.found]
