"""`shardgate status`: the one page for 3 a.m."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import Struct
from msgspec.structs import replace

from proxy.cli.context import DEFAULT_CONFIG, ConfigOption, JsonOption, print_json, print_table
from proxy.config import listen_address, load_config
from proxy.manifest import jobs
from proxy.manifest.copies import in_words
from proxy.status.verdict import Verdict, judge
from proxy.status.words import ago, duration, number, size

if TYPE_CHECKING:
    from proxy.status.facts import Facts, JournalFacts, ManifestFacts, ScrubFacts, StoreFacts

ACT_NOW = frozenset({"urgent", "broken"})


class StatusReport(Struct, frozen=True, kw_only=True):
    """All that is shown: what is wrong, and the facts it was judged by."""

    verdict: Verdict
    facts: Facts


def status(
    config: ConfigOption = DEFAULT_CONFIG,
    listen: Annotated[str | None, typer.Option(help="HOST:PORT where the server listens, if it was started with --listen.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what is wrong, how bad it is, and what to do; then show the state of everything. Exit code 1: act now."""
    settings = load_config(config)
    if listen is not None:
        listen_address(listen)
        settings = replace(settings, listen=listen)
    from proxy.clock import SystemClock
    from proxy.status.gathering import gather_facts  # the stores' libraries: 0.3 s

    facts = asyncio.run(gather_facts(settings, SystemClock()))
    report = StatusReport(verdict=judge(facts), facts=facts)
    if as_json:
        print_json(report)
    else:
        show(report)
    if report.verdict.severity in ACT_NOW:
        raise typer.Exit(1)


def show(report: StatusReport) -> None:
    """Print the page."""
    facts = report.facts
    print(report.verdict.headline)
    for problem in report.verdict.problems:
        print(f"  {problem.severity:9}  {problem.what}\n{'':13}→ {problem.command}")
    print()
    for name, text in _lines(facts):
        print(f"{name:12} {text}")
    if facts.stores:
        columns = ["store", "now", "latency", "p95 get", "calls", "errors", "holds", "damaged", "garbage"]
        print_table("Stores", columns, [_store_cells(store) for store in facts.stores])
    if facts.campaigns:
        rows = [[item.id, item.what, item.state, f"{item.done:,} of {item.planned:,}", item.trouble] for item in facts.campaigns]
        print_table("Campaigns: see shardgate jobs", ["id", "what", "state", "segments", "trouble"], rows)


def _lines(facts: Facts) -> list[tuple[str, str]]:
    return [
        ("server", f"{facts.server.endpoint}: {_server(facts)}"),
        ("manifest", _manifest(facts.manifest)),
        *(_known_lines(facts) if not facts.manifest.trouble else [("and more", "not known, as the manifest cannot be read")]),
    ]


def _manifest(manifest: ManifestFacts) -> str:
    if manifest.free_bytes is None:  # it could not even be measured
        return f"{manifest.path}: cannot be read"
    sizes = f"{size(manifest.size_bytes)}, log {size(manifest.log_bytes)}, {size(manifest.free_bytes)} free on its disk"
    return f"{manifest.path}: {sizes}, epoch {'not known' if manifest.trouble else manifest.epoch}"


def _known_lines(facts: Facts) -> list[tuple[str, str]]:
    return [
        ("redundancy", _redundancy(facts)),
        ("repair", _repair(facts)),
        *(("scrub", _scrub(scrub, facts.now_ms)) for scrub in facts.scrubs),
        ("journal", _journal(facts.journal, facts.now_ms) if facts.journal else "off: keep backups of the manifest"),
        ("garbage", _garbage(facts)),
        ("jobs", _jobs(facts)),
    ]


def _server(facts: Facts) -> str:
    if not facts.server.answers:
        return f"no answer ({facts.server.trouble})"
    return facts.server.trouble or f"serves, {facts.server.in_flight} requests in flight"


def _redundancy(facts: Facts) -> str:
    if facts.tally is None:
        return "not counted yet"
    levels = f": {_levels(facts.tally.redundancy)}" if facts.tally.segments else ""
    counted = ago(facts.tally.ended_ms, facts.now_ms)
    return f"{number(facts.tally.segments, 'segment', 'segments')}, {size(facts.tally.plaintext_bytes)}{levels} (counted {counted})"


def _repair(facts: Facts) -> str:
    waiting = sum(facts.damage.waiting.values())
    if not waiting:
        return "nothing waits for repair"
    oldest = "" if facts.damage.oldest_ms is None else f"; the oldest damage was found {ago(facts.damage.oldest_ms, facts.now_ms)}"
    levels = _levels(facts.damage.waiting)
    return f"{number(waiting, 'segment waits', 'segments wait')} ({levels}){oldest}"


def _levels(levels: Mapping[int, int]) -> str:
    """Say how many segments can lose how many more shards."""
    lost = sum(count for level, count in levels.items() if level < 0)
    told = [f"{lost:,} cannot be read"] if lost else []
    told += [f"{count:,} can lose {level} more" for level, count in sorted(levels.items()) if level >= 0 and count]
    return ", ".join(told) or "none"


def _scrub(scrub: ScrubFacts, now_ms: int) -> str:
    last = "no pass has ended yet"
    if scrub.ended_ms is not None:
        last = f"the last pass ended {ago(scrub.ended_ms, now_ms)}: {scrub.shards:,} shards, {scrub.damaged:,} of them damaged"
    return f"{scrub.kind}: {last}{f'; another goes on, {scrub.remaining:,} steps to go' if scrub.remaining else ''}"


def _journal(journal: JournalFacts, now_ms: int) -> str:
    lag = f"{journal.waiting:,} changes wait, none was stored for {duration(journal.lag_ms)}" if journal.waiting else "up to date"
    checkpoint = "no checkpoint yet" if journal.checkpoint_ms is None else f"last checkpoint {ago(journal.checkpoint_ms, now_ms)}"
    damaged = f"; damaged shards: {in_words(journal.damaged)}" if journal.damaged else ""
    return f"{lag}; {checkpoint}, {number(journal.since_checkpoint, 'segment', 'segments')} behind it{damaged}"


def _garbage(facts: Facts) -> str:
    count = sum(store.garbage for store in facts.stores) + facts.unplaced_garbage
    return f"{count:,} deleted shards are still in the stores" if count else "none"


def _jobs(facts: Facts) -> str:
    """Name the jobs that do not just wait for their turn: mostly all do."""
    trouble = " (with trouble: see shardgate jobs)"
    states = [(job, jobs.state(job, now_ms=facts.now_ms)) for job in facts.jobs]
    named = [f"{job.name} {state}{trouble if job.last_error else ''}" for job, state in states if job.last_error or state != "waiting"]
    waiting = len(states) - len(named)
    return ", ".join([*named, *([f"{waiting} waiting"] if waiting else [])]) or "none has run yet"


def _store_cells(store: StoreFacts) -> list[str]:
    condition = store.condition
    bad = [f"{work} {state}" for work, state in condition.breakers.items() if state != "closed"] if condition else []
    now = "not configured" if not store.configured else "DOWN" if store.error else ", ".join(bad) or "up"
    p95 = None if condition is None else condition.p95_ms.get("get_range", condition.p95_ms.get("get"))
    return [
        store.name,
        now,
        _milliseconds(store.latency_ms),
        _milliseconds(p95),
        f"{store.calls:,}" if condition else "",
        f"{store.errors:,}" if condition else "",
        "" if store.stored_bytes is None else size(store.stored_bytes),
        ", ".join(f"{count:,} {kind}" for kind, count in sorted(store.damaged.items())),
        f"{store.garbage:,}",
    ]


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f} ms"
