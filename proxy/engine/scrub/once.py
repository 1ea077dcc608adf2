"""One pass at once, for a command: as fast as the throttle allows, kept nowhere, beside the workers of a server or without any."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from proxy.clock import Clock
from proxy.engine.placing.fleet import Fleet
from proxy.engine.scrub.deep import DeepScrub
from proxy.engine.scrub.findings import Finding, Report
from proxy.engine.scrub.inspector import Inspector
from proxy.engine.scrub.passes import AfterSlice, ComparisonPass, PassPosition, Tools
from proxy.engine.scrub.workers import DEEP_BATCH
from proxy.engine.walking.walk import PositionsInMemory, Walk
from proxy.manifest.protocol import Manifest
from proxy.manifest.scrub import ScrubReport

Show = Callable[[int], None]  # told how much has been done so far
SHOW_SECONDS = 0.2
NAMED = 1000  # findings that are kept to be shown; all are counted


class Named:
    """A report that keeps the first findings, and passes all on."""

    def __init__(self, then: Report | None = None) -> None:
        self.findings: list[Finding] = []
        self._then = then

    async def __call__(self, findings: Sequence[Finding]) -> None:
        self.findings += findings[: NAMED - len(self.findings)]
        if self._then is not None:
            await self._then(findings)


async def compare_once(tools: Tools, show: Show, *, everything: bool = False, after_slice: AfterSlice | None = None) -> PassPosition:
    """Compare all listings with the manifest; `show` counts names listed and shards compared."""
    run = ComparisonPass(tools, PositionsInMemory(), name="once", everything=everything, after_slice=after_slice)
    try:
        while True:
            position = await run.advance(seconds=SHOW_SECONDS)
            compared = run.compared if run.is_running else position.compared
            show(compared.shards + sum(compared.listed.values()))
            if position.finished:
                return position
    finally:
        await run.close()


async def open_once(manifest: Manifest, clock: Clock, inspector: Inspector, fleet: Fleet, report: Report, show: Show) -> ScrubReport:
    """Open every shard; `show` counts those."""
    reports: list[ScrubReport] = []

    async def finish(whole: ScrubReport) -> None:
        reports.append(whole)

    scrub = DeepScrub(inspector, fleet, clock, report, finish)
    walk = Walk(manifest, PositionsInMemory(), clock, [scrub], name="once", batch=DEEP_BATCH)
    while not (await walk.advance(seconds=SHOW_SECONDS)).finished:
        show(scrub.report.shards)
    show(reports[-1].shards)
    return reports[-1]
