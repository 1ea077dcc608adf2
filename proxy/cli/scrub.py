"""`shardgate scrub`: is every shard where it should be, and is it what was put there?"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import Struct
from msgspec.structs import asdict

from proxy.cli.context import DEFAULT_CONFIG, ConfigOption, JsonOption, print_json, print_table, with_services
from proxy.cli.progress import progress_bar
from proxy.errors import ConfigError

if TYPE_CHECKING:
    from proxy.engine.scrub.findings import Finding
    from proxy.manifest.scrub import ScrubReport
    from proxy.services import Services

DAMAGED = 3  # exit codes: 1 and 2 are of errors and of wrong arguments
INCOMPLETE = 4
INTERRUPTED = 130
SHOWN = 50  # damaged shards in the table


class FindingRow(Struct, frozen=True, kw_only=True):
    """What is shown of a damaged shard."""

    kind: str
    store: str
    name: str
    detail: str


class Outcome(Struct, frozen=True, kw_only=True):
    """What a pass has found. Of `findings`, the first thousand are named; `report` counts all."""

    kind: str
    report: dict[str, object]
    findings: list[FindingRow]


class Standing(Struct, frozen=True, kw_only=True):
    """How far the scrubs of the servers are."""

    kind: str
    last_pass_ended: str | None
    shards: int
    damaged: int
    not_looked_at: list[str]


def scrub(
    config: ConfigOption = DEFAULT_CONFIG,
    now: Annotated[bool, typer.Option("--now", help="Make one pass at once.")] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Read and open every shard, rather than compare listings.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Look for shards that are missing or damaged, and queue them for repair. Without --now, show what the last passes have found."""
    if deep and not now:
        raise ConfigError("--deep says how a pass is made: add --now")
    if now:
        _scrub_now(config, deep=deep, as_json=as_json)
    else:
        _show(with_services(config, _standings), as_json=as_json)


def _scrub_now(config: Path, *, deep: bool, as_json: bool) -> None:
    try:
        report, findings = with_services(config, _open_all if deep else _compare_all)
    except KeyboardInterrupt:
        print("stopped. What was found until then is queued for repair.")
        raise typer.Exit(INTERRUPTED) from None
    rows = rows_of(findings)
    if as_json:
        print_json(Outcome(kind="deep" if deep else "light", report=asdict(report), findings=rows))
    else:
        _print_outcome(report, rows)
    if code := exit_code(damaged=report.damaged > 0, incomplete=bool(report.unlisted or report.unreachable)):
        raise typer.Exit(code)


def exit_code(*, damaged: bool, incomplete: bool) -> int:
    return DAMAGED if damaged else INCOMPLETE if incomplete else 0


def rows_of(findings: list[Finding]) -> list[FindingRow]:
    return [FindingRow(kind=item.kind, store=item.shard.store, name=item.shard.name, detail=item.detail) for item in findings]


def print_findings(rows: list[FindingRow], *, total: int) -> None:
    """Print a table of damaged shards, if there are any. A store that has lost all it had does not hide what is said below."""
    if rows:
        shown = rows[:SHOWN]
        title = "Damaged shards" if total == len(shown) else f"Damaged shards: the first {len(shown):,} of {total:,}"
        print_table(title, ["kind", "store", "name", "what is wrong"], [[row.kind, row.store, row.name, row.detail] for row in shown])
        if len(rows) > len(shown):
            print(f"--json names {'all' if len(rows) == total else f'{len(rows):,}'} of them.")


def _print_outcome(report: ScrubReport, rows: list[FindingRow]) -> None:
    print_findings(rows, total=report.damaged)
    print(f"Shards looked at: {report.shards:,}. Damaged: {report.damaged:,}.")
    if report.damaged:
        print("They are queued for repair: a running server repairs them. See: shardgate status")
    _print_gaps(report)


def _print_gaps(report: ScrubReport) -> None:
    for store, why in report.unlisted.items():
        print(f"Not compared, for its listing broke off: {store}: {why}")
    for store, count in report.unreachable.items():
        print(f"Shards of {store} that could not be read: {count:,}. It did not answer.")
    if report.unlisted or report.unreachable:
        print("This is no damage. Check the stores with: shardgate stores check. Then scrub again.")


async def _compare_all(services: Services) -> tuple[ScrubReport, list[Finding]]:
    from proxy.engine.scrub.findings import to_repair
    from proxy.engine.scrub.once import Named, compare_once
    from proxy.engine.scrub.reports import report_of, save_report
    from proxy.engine.scrub.workers import LIGHT
    from proxy.upkeep import comparing

    await refuse_fenced(services)
    manifest, clock = services.manifest, services.clock
    named = Named(to_repair(manifest, clock))
    with progress_bar("comparing", total=await expected_units(services)) as show:
        position = await compare_once(comparing(services.parts, named), show)
    report = report_of(position, ended_ms=clock.now_ms())
    await save_report(manifest, LIGHT, report)
    return report, named.findings


async def _open_all(services: Services) -> tuple[ScrubReport, list[Finding]]:
    from proxy.engine.scrub.findings import to_repair
    from proxy.engine.scrub.once import Named, open_once
    from proxy.engine.scrub.reports import save_report
    from proxy.engine.scrub.workers import DEEP
    from proxy.upkeep import inspector

    await refuse_fenced(services)
    manifest, clock = services.manifest, services.clock
    named, total = Named(to_repair(manifest, clock)), await expected_units(services)
    with progress_bar("opening shards", total=total and total // 2) as show:
        report = await open_once(manifest, clock, inspector(services.parts), services.fleet, named, show)
    await save_report(manifest, DEEP, report)
    return report, named.findings


async def refuse_fenced(services: Services) -> None:
    """What is found could not be put on record, and most of it would be wrong."""
    if fence := (await services.manifest.find_epoch()).fence:
        raise ConfigError(fence)


async def expected_units(services: Services) -> int | None:
    """Return about how many names there are to list and shards to compare; None while nobody has counted."""
    from proxy.engine.walking.tally import load_tally

    tally = await load_tally(services.manifest)
    return 2 * tally.shards or None if tally else None


async def _standings(services: Services) -> list[Standing]:
    from proxy.engine.scrub.reports import load_report
    from proxy.engine.scrub.workers import DEEP, LIGHT

    found = [(kind, await load_report(services.manifest, name)) for kind, name in (("light", LIGHT), ("deep", DEEP))]
    return [_standing(kind, report) for kind, report in found]


def _standing(kind: str, report: ScrubReport | None) -> Standing:
    if report is None:
        return Standing(kind=kind, last_pass_ended=None, shards=0, damaged=0, not_looked_at=[])
    ended = datetime.fromtimestamp(report.ended_ms / 1000, UTC).isoformat(timespec="seconds")
    gaps = sorted({*report.unlisted, *report.unreachable})
    return Standing(kind=kind, last_pass_ended=ended, shards=report.shards, damaged=report.damaged, not_looked_at=gaps)


def _show(standings: list[Standing], *, as_json: bool) -> None:
    if as_json:
        print_json(standings)
        return
    columns = ["scrub", "last pass ended", "shards", "damaged", "stores not looked at"]
    rows = [
        [item.kind, item.last_pass_ended or "never", f"{item.shards:,}", f"{item.damaged:,}", ", ".join(item.not_looked_at)]
        for item in standings
    ]
    print_table("Scrubs", columns, rows)
    print("How far the pass under way is: shardgate jobs. A pass at once: shardgate scrub --now, or --deep --now")
