"""`shardgate fsck`: what the stores hold against what the manifest says, both ways."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import Struct

from proxy.cli.context import DEFAULT_CONFIG, ConfigOption, JsonOption, print_json, print_table, with_services
from proxy.cli.progress import progress_bar
from proxy.cli.scrub import INTERRUPTED, FindingRow, exit_code, expected_units, print_findings, refuse_fenced, rows_of
from proxy.manifest.copies import in_words

if TYPE_CHECKING:
    from proxy.engine.scrub.comparison import Comparison
    from proxy.engine.scrub.passes import PassPosition
    from proxy.manifest.copies import CopyReport
    from proxy.services import Services

SHOWN = 20  # damaged segments of the manifest's copy
NAMED = 1000  # orphans that are named
WHAT = {"j/": "journal segment", "c/": "checkpoint", "r/": "run of checkpoint"}


class StoreRow(Struct, frozen=True, kw_only=True):
    """What was found in one store. Of one that could not be listed to the end, nothing is known."""

    store: str
    listed: int
    orphans: int
    orphan_bytes: int
    foreign: int  # names that are none of ours: they are left alone
    foreign_examples: list[str]
    unreachable: int  # shards that were not as expected, and could not be looked at
    shared: bool  # another manifest uses it: no orphan of it is touched
    failure: str


class OrphanRow(Struct, frozen=True, kw_only=True):
    """A shard that nothing explains."""

    store: str
    name: str
    size_bytes: int


class Acted(Struct, frozen=True, kw_only=True):
    """What --apply has done."""

    condemned: int  # orphans queued for deletion
    waiting: int  # orphans in quarantine
    forgotten: int  # no orphans any more


class JournalRow(Struct, frozen=True, kw_only=True):
    """Something that a recovery needs and that is not stored as it would be now. Of a checkpoint or run: one segment."""

    what: str
    urgent: bool
    spare: int  # shards that may still be lost
    kinds: dict[str, int]
    stores: list[str]


class FsckReport(Struct, frozen=True, kw_only=True):
    """All that was found. Of findings and orphans, the first thousand are named."""

    complete: bool
    fence: str
    shards: int
    found: dict[str, int]
    findings: list[FindingRow]
    stores: list[StoreRow]
    orphans: list[OrphanRow]
    acted: Acted | None
    journal_shards: int = 0  # expected: of the journal, the last checkpoint and its runs
    journal: list[JournalRow] = []

    @property
    def orphan_count(self) -> int:
        """Those of another manifest may be none."""
        return sum(row.orphans for row in self.stores if not row.shared)

    @property
    def damaged(self) -> int:
        return sum(self.found.values())


def fsck(
    config: ConfigOption = DEFAULT_CONFIG,
    apply: Annotated[bool, typer.Option("--apply", help="Queue damage for repair, put orphans into quarantine, delete old ones.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare the listings of all stores with the manifest, both ways. Without --apply, nothing is changed."""
    try:
        report = with_services(config, lambda services: _check(services, apply=apply))
    except KeyboardInterrupt:
        print("stopped. Nothing was deleted.")
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        print_json(report)
    else:
        _print(report)
    if code := exit_code(damaged=report.damaged + report.orphan_count + len(report.journal) > 0, incomplete=not report.complete):
        raise typer.Exit(code)


async def _check(services: Services, *, apply: bool) -> FsckReport:
    from proxy.engine.scrub.findings import to_repair
    from proxy.engine.scrub.once import Named, compare_once
    from proxy.engine.scrub.orphans import Quarantine
    from proxy.upkeep import comparing

    if apply:
        await refuse_fenced(services)
    manifest, clock = services.manifest, services.clock
    quarantine = Quarantine(manifest, clock, services.stores.keys(), days=services.config.fsck.quarantine_days)
    named, orphans = Named(to_repair(manifest, clock) if apply else None), list[OrphanRow]()

    async def after_slice(comparison: Comparison, position: PassPosition) -> None:
        async for page in comparison.orphans():
            room = NAMED - len(orphans)
            orphans.extend(OrphanRow(store=row.store, name=row.name, size_bytes=row.size_bytes) for row in page[:room])
            if not room:
                break
        if apply:
            await quarantine.after_slice(comparison, position)

    with progress_bar("comparing", total=await expected_units(services)) as show:
        position = await compare_once(comparing(services.parts, named), show, everything=True, after_slice=after_slice)
    copies = await _check_journal(services, apply=apply)
    judged = await quarantine.judge(position) if apply else None
    acted = None if judged is None else Acted(condemned=judged.condemned, waiting=judged.waiting, forgotten=judged.forgotten)
    fence = (await manifest.find_epoch()).fence
    return _report(services, position, rows_of(named.findings), orphans, acted, copies, fence=fence)


async def _check_journal(services: Services, *, apply: bool) -> CopyReport:
    """Compare what a recovery needs. What is damaged is written anew by a checkpoint."""
    from proxy.engine.journal.checkpointing import request_checkpoint
    from proxy.engine.journal.scrubbing import load_copy_report, save_copy_report
    from proxy.manifest.copies import CopyReport
    from proxy.upkeep import scrub_of_copies

    if services.journal is None:
        return CopyReport()
    report = await scrub_of_copies(services.parts, services.journal).compare(await load_copy_report(services.manifest))
    if apply and report.damaged:
        await save_copy_report(services.manifest, report)
        await request_checkpoint(services.manifest)
    return report


def _report(
    services: Services,
    position: PassPosition,
    findings: list[FindingRow],
    orphans: list[OrphanRow],
    acted: Acted | None,
    copies: CopyReport,
    *,
    fence: str,
) -> FsckReport:
    compared = position.compared
    rows = [
        StoreRow(
            store=store,
            listed=compared.listed.get(store, 0),
            orphans=compared.orphans.get(store, 0),
            orphan_bytes=compared.orphan_bytes.get(store, 0),
            foreign=compared.foreign.get(store, 0),
            foreign_examples=compared.foreign_examples.get(store, []),
            unreachable=compared.unreachable.get(store, 0),
            shared=store in compared.shared,
            failure=compared.unlisted.get(store, ""),
        )
        for store in services.stores
    ]
    return FsckReport(
        complete=not (compared.unlisted or compared.unreachable or copies.silent),
        fence=fence,
        shards=compared.shards,
        found=compared.found,
        findings=findings,
        stores=rows,
        orphans=orphans,
        acted=acted,
        journal_shards=copies.shards,
        journal=[
            JournalRow(
                what=f"{WHAT[copy.prefix]} {copy.number}",
                urgent=copy.urgent,
                spare=copy.spare,
                kinds=dict(copy.kinds),
                stores=list(copy.stores),
            )
            for copy in copies.damaged
        ],
    )


def _print(report: FsckReport) -> None:
    if report.fence:
        print(f"Most of this is of no use, the manifest is behind its stores: {report.fence}")
    columns = ["store", "names", "orphans", "bytes of orphans", "not ours", "remarks"]
    print_table("Stores", columns, [_cells(row) for row in report.stores])
    print_findings(report.findings, total=report.damaged)
    _print_journal(report)
    if report.orphans:
        count = report.orphan_count
        title = "Orphans" if count == len(report.orphans) else f"Orphans: the first {len(report.orphans):,} of {count:,}"
        print_table(title, ["store", "name", "bytes"], [[row.store, row.name, f"{row.size_bytes:,}"] for row in report.orphans])
    print(f"Shards expected: {report.shards:,}. Missing or damaged: {report.damaged:,}. Orphans: {report.orphan_count:,}.")
    _print_remedy(report)


def _print_journal(report: FsckReport) -> None:
    if report.journal:
        first = report.journal[:SHOWN]
        title = (
            "The manifest's copy"
            if len(first) == len(report.journal)
            else f"The manifest's copy: the first {SHOWN} of {len(report.journal):,}"
        )
        rows = [
            [row.what, in_words(row.kinds), ", ".join(row.stores), str(row.spare), "its policy's promise is broken" if row.urgent else ""]
            for row in first
        ]
        print_table(title, ["what", "damaged shards", "stores", "may still lose", "remarks"], rows)
    if report.journal_shards:
        print(f"Shards of the manifest's copy: {report.journal_shards:,}. Damaged segments: {len(report.journal):,}.")


def _cells(row: StoreRow) -> list[str]:
    remarks = [
        f"not compared, its listing broke off: {row.failure}" if row.failure else "",
        "used by another manifest, too: its orphans are left alone" if row.shared else "",
        f"{row.unreachable:,} shards could not be looked at" if row.unreachable else "",
        f"not ours, such as {row.foreign_examples[0]}" if row.foreign_examples else "",
    ]
    return [
        row.store,
        f"{row.listed:,}",
        f"{row.orphans:,}",
        f"{row.orphan_bytes:,}",
        f"{row.foreign:,}",
        "; ".join(remark for remark in remarks if remark),
    ]


def _print_remedy(report: FsckReport) -> None:
    if report.acted is not None:
        acted = report.acted
        print(f"Queued for repair: {report.damaged:,}. Orphans queued for deletion: {acted.condemned:,}, in quarantine: {acted.waiting:,}.")
        if report.journal:
            print("A checkpoint is asked for: it writes anew what is damaged of the manifest's copy.")
    elif report.damaged or report.orphan_count or report.journal:
        print("Nothing was changed. To queue the damage for repair, and put the orphans into quarantine: shardgate fsck --apply")
    if any(row.failure for row in report.stores):
        print("A store was not compared, so no orphan may be deleted. Check it with: shardgate stores check. Then run fsck again.")
    elif not report.complete:
        print("Some shards could not be looked at. Check the stores with: shardgate stores check. Then run fsck again.")
