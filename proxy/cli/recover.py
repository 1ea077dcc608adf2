"""`shardgate recover`: a manifest from the stores and the root key."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from proxy.cli.context import DEFAULT_CONFIG, ConfigOption, JsonOption, print_json, print_table
from proxy.config import load_config

if TYPE_CHECKING:
    from rich.progress import TaskID

    from proxy.engine.recover.report import Report

Tell = Callable[[str, int, int | None], None]
SHOWN = 50  # findings that the table shows: --json names them all, up to a thousand
MEANINGS = {
    "unread": "segments whose label could not be read: left where they are",
    "incomplete": "versions or parts without all of their segments: left where they are",
    "superseded": "versions or parts that something newer replaced",
    "unconfirmed": "conditional writes that were never acknowledged, and may have been refused",
    "homeless": "versions or parts whose bucket or upload is gone",
    "lost": "stored segments with too few shards to be read",
}


def recover(
    config: ConfigOption = DEFAULT_CONFIG,
    resume: Annotated[bool, typer.Option("--resume", help="Let a manifest that is an older copy catch up with its stores.")] = False,
    identity: Annotated[str, typer.Option(help="Of the manifest, if the stores hold the copies of several.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Make a new manifest from what the stores hold. Nothing is deleted; if it is interrupted, run it again and it goes on."""
    settings = load_config(config)
    from proxy.recovering import recover as run  # half a second, for this alone

    with _progress() as tell:
        report = asyncio.run(run(settings, tell, identity=identity, resume=resume))
    if as_json:
        print_json(report)
    else:
        _print(report)


@contextmanager
def _progress() -> Iterator[Tell]:
    """Show how far each phase is, on a terminal; stay silent elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as progress:
        tasks: dict[str, TaskID] = {}

        def tell(phase: str, done: int, total: int | None) -> None:
            if phase not in tasks:
                tasks[phase] = progress.add_task(phase, total=total)
            progress.update(tasks[phase], completed=done, total=total)

        yield tell


def _print(report: Report) -> None:
    rows = [[name, "did not answer" if one.failure else f"{one.shards:,}"] for name, one in report.stores.items()]
    print_table("What the stores list", ["store", "shards"], rows)
    print_table("What came back", ["what", "count"], _counts(report))
    if report.finding_counts:
        counted = [[sort, f"{count:,}", MEANINGS[sort]] for sort, count in report.finding_counts.items()]
        print_table("What did not come back", ["kind", "count", "meaning"], counted)
        print_table(
            "Which", ["kind", "what", "why"], [[one.sort, _shown(one.subject), _shown(one.reason)] for one in report.findings[:SHOWN]]
        )
    for doubt in report.unproved:
        print(f"not proved: {_shown(doubt)}")
    print(f"The manifest is recovered after {report.seconds:.1f} s, and goes on in epoch {report.epoch}. Start the server now.")


def _counts(report: Report) -> list[list[str]]:
    journal, counts = report.journal, report.counts
    ended = datetime.fromtimestamp(journal.made_ms / 1000, UTC).isoformat(timespec="seconds") if journal.made_ms else "never"
    return [
        ["checkpoint", "none" if journal.checkpoint is None else str(journal.checkpoint)],
        ["journal segments replayed", f"{journal.segments:,}, the last is number {journal.number} of {ended}"],
        *([name, f"{counts[table]:,}"] for table, name in _NAMES.items()),
        ["of those, versions that only labels told of", f"{report.versions_from_labels:,}"],
        ["of those, parts that only labels told of", f"{report.parts_from_labels:,}"],
        ["shards that are missing, and wait for repair", f"{report.missing_shards:,}"],
    ]


def _shown(text: str) -> str:
    """Return a text that says nothing to the terminal but what it says to the reader: a key may hold anything."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


_NAMES = {
    "tenant": "tenants",
    "access_key": "access keys",
    "bucket": "buckets",
    "version": "versions",
    "upload": "uploads in progress",
    "part": "their parts",
}
