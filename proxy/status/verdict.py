"""The verdict: what is wrong, how bad that is, and which command deals with it. Pure: facts in, problems out.

How bad is one of four. *fine*: there is nothing to do. *attention*: nothing is at risk now; look into it by day. *urgent*: one more failure
may lose data or stop the service. *broken*: something cannot be read or written now. The page is as bad as its worst problem.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal

from msgspec import Struct

from proxy.manifest import jobs
from proxy.manifest.copies import in_words
from proxy.manifest.damage import how_many
from proxy.manifest.recovery import RECOVERING
from proxy.status.facts import Facts, JournalFacts, StoreFacts
from proxy.status.words import ago, duration, number, size

Severity = Literal["fine", "attention", "urgent", "broken"]
SEVERITIES: tuple[Severity, ...] = ("fine", "attention", "urgent", "broken")
HEADLINES: dict[Severity, str] = {
    "fine": "all is well",
    "attention": "nothing is at risk now; look into it by day",
    "urgent": "one more failure may lose data or stop the service; act now",
    "broken": "something cannot be read or written; act now",
}

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
OLD_DAMAGE_MS = DAY_MS  # a repair that is well takes minutes, but waits for a store that is down
MANY_GARBAGE = 100_000  # deleted shards in a store that does not delete, or in one that is not configured
FAILURES = 3  # of a job in a row: one alone says little
LATE_JOB_MS = 15 * MINUTE_MS  # due for so long, and nobody takes it: no server runs
LATE_JOURNAL_MS = MINUTE_MS  # it is due each second
FEW_FREE_BYTES = 1024**3  # of the manifest's disk
LATE_SCRUB = 1.5  # times the days within which it should end
EVERYDAY_REDUNDANCY = 1


class Problem(Struct, frozen=True, kw_only=True):
    """One thing that is wrong, and what to type."""

    severity: Severity
    what: str
    command: str


class Verdict(Struct, frozen=True, kw_only=True):
    """The page's first line, and its problems, the worst first."""

    severity: Severity
    headline: str
    problems: tuple[Problem, ...]


def judge(facts: Facts) -> Verdict:
    """Say what is wrong."""
    problems = sorted(_problems(facts), key=lambda problem: -SEVERITIES.index(problem.severity))
    severity = problems[0].severity if problems else "fine"
    return Verdict(severity=severity, headline=f"{severity.upper()}: {HEADLINES[severity]}", problems=tuple(problems))


def _problems(facts: Facts) -> Iterator[Problem]:
    for look in _LOOKS:
        yield from look(facts)


def _at_manifest(facts: Facts) -> Iterator[Problem]:
    manifest = facts.manifest
    if manifest.trouble:
        yield _broken(
            f"the manifest cannot be read: {manifest.trouble}",
            "is this the right folder, and its disk mounted? If the manifest is lost, see docs/RUNBOOK.md: The proxy's disk is lost",
        )
    if manifest.root_key_trouble:
        what = f"the root key cannot be used, and no server can start without it: {manifest.root_key_trouble}"
        yield _broken(what, "correct its mode (chmod 600), or put its copy back")
    if not manifest.trouble and not manifest.epoch:
        what = "no server has used this manifest yet. If it should not be new, it is the wrong one, or its disk is not mounted"
        yield _attention(what, "shardgate serve")
    if manifest.fence:
        command = "shardgate recover" if manifest.fence == RECOVERING else "shardgate recover --resume"
        yield _broken(f"nothing may be written: {manifest.fence}", command)
    if manifest.free_bytes is not None and manifest.free_bytes < FEW_FREE_BYTES:
        left = f"{manifest.free_bytes / 1024**2:,.0f} MiB free"
        yield _urgent(f"the manifest's disk has {left}; once it is full, nothing can be written", "df -h")


def _at_server(facts: Facts) -> Iterator[Problem]:
    server = facts.server
    if not server.answers:
        what = f"no server of this manifest answers at {server.endpoint}: {server.trouble}"
        yield _broken(f"{what}. If it was started with --listen, give status the same", "shardgate serve")
    elif server.trouble:
        yield _broken(f"the server at {server.endpoint} cannot serve: {server.trouble}", f"curl -k {server.endpoint}/-/health")


def _at_policies(facts: Facts) -> Iterator[Problem]:
    for policy in facts.policies:
        if not policy.down:
            continue
        names = ", ".join(policy.down)
        if policy.spare < 0:
            yield _broken(f"objects under policy {policy.name} cannot be read: {names} do not answer", "shardgate stores check")
        elif not policy.writes:
            yield _broken(f"nothing can be written under policy {policy.name}: {names} do not answer", "shardgate stores check")
        elif policy.spare == 0:
            yield _urgent(f"objects under policy {policy.name} bear no further loss while {names} do not answer", "shardgate stores check")


def _at_stores(facts: Facts) -> Iterator[Problem]:
    for store in facts.stores:
        if not store.configured:
            yield from _unconfigured(store)
        elif store.error:
            yield _attention(f"store {store.name} does not answer: {store.error}", f"shardgate stores check {store.name}")
        elif store.condition and (bad := sorted(work for work, breaker in store.condition.breakers.items() if breaker != "closed")):
            why = store.condition.last_error or "it answers late"
            yield _attention(
                f"the server does not use store {store.name} to {', '.join(bad)}: {why}", f"shardgate stores check {store.name}"
            )
        if store.configured and store.garbage >= MANY_GARBAGE:
            yield _attention(f"{store.garbage:,} deleted shards are still in store {store.name}", "shardgate jobs")


def _unconfigured(store: StoreFacts) -> Iterator[Problem]:
    """What a campaign has emptied is out of the way: the deletes that wait for it harm nobody."""
    gone = f"store {store.name}, which is not configured any more"
    back = f"put [stores.{store.name}] back, then: shardgate stores drain {store.name}"
    if store.damaged:
        yield _attention(f"{sum(store.damaged.values()):,} shards are on record in {gone}", back)
    elif store.stored_bytes and not store.left:
        yield _attention(f"{size(store.stored_bytes)} of shards in use were counted in {gone}", back)
    elif store.garbage and not store.left:
        yield _attention(
            f"{store.garbage:,} deleted shards may still be in {gone}", "put the store back until they are gone, or empty it by hand"
        )


def _at_damage(facts: Facts) -> Iterator[Problem]:
    if lost := _unreadable(facts.damage.waiting):
        yield _broken(f"{number(lost, 'segment', 'segments')} cannot be read: too few shards are left", "shardgate object lost")
    if bare := facts.damage.waiting.get(0, 0):
        yield _urgent(f"{number(bare, 'segment', 'segments')} can lose no more shard", "shardgate jobs")
    if waiting := sum(count for level, count in facts.damage.waiting.items() if level >= EVERYDAY_REDUNDANCY):
        yield _attention(f"{number(waiting, 'segment waits', 'segments wait')} for repair; each can still lose a shard", "shardgate jobs")
    if facts.damage.oldest_ms is not None and facts.now_ms - facts.damage.oldest_ms > OLD_DAMAGE_MS:
        yield _attention(f"the oldest damage was found {ago(facts.damage.oldest_ms, facts.now_ms)}, and is not repaired", "shardgate jobs")


def _at_losses(facts: Facts) -> Iterator[Problem]:
    for losses in facts.losses:
        if losses.paused:
            what = f"store {losses.store} says that it has lost {how_many(losses.found, losses.shards)}: their repair is paused"
            yield _urgent(
                f"{what}. Is it the right bucket, with the right prefix and credentials? It goes on by itself when they are there again",
                f"if they are really gone: shardgate stores rebuild {losses.store}",
            )


def _at_tally(facts: Facts) -> Iterator[Problem]:
    """What was counted may have been repaired since; what is damaged but not on record yet is known from here alone."""
    if facts.tally is None:
        return
    counted = f"when last counted, {ago(facts.tally.ended_ms, facts.now_ms)}"
    lost, bare = _unreadable(facts.tally.redundancy), facts.tally.redundancy.get(0, 0)
    if lost > _unreadable(facts.damage.waiting):
        yield _urgent(f"{number(lost, 'segment', 'segments')} could not be read {counted}", "shardgate stores check")
    if bare > facts.damage.waiting.get(0, 0):
        yield _attention(f"{number(bare, 'segment', 'segments')} could lose no more shard {counted}", "shardgate jobs")


def _at_placement(facts: Facts) -> Iterator[Problem]:
    for policy, count in sorted(facts.placement.outdated.items()):
        yield _attention(
            f"policy {policy} does not have the scheme of {number(count, 'segment', 'segments')} under it any more",
            f"shardgate policy move BUCKET {policy}",
        )
    for policy, count in sorted(facts.placement.orphaned.items()):
        yield _attention(
            f"{number(count, 'segment is', 'segments are')} kept under policy {policy}, which is not configured",
            "shardgate policy move BUCKET POLICY",
        )


def _unreadable(levels: Mapping[int, int]) -> int:
    return sum(count for level, count in levels.items() if level < 0)


def _at_jobs(facts: Facts) -> Iterator[Problem]:
    """What did not work out in a step that went on is no problem of its own: whatever it was about is told for itself."""
    for job in facts.jobs:
        if job.paused:
            yield _attention(f"job {job.name} is paused", f"shardgate jobs resume {job.name}")
        elif job.failures >= FAILURES:
            yield _attention(f"job {job.name} failed {job.failures} times in a row: {job.last_error}", "shardgate jobs")
        elif _is_late(facts, job.due_ms) and jobs.state(job, now_ms=facts.now_ms) != "running":
            yield _attention(f"job {job.name} has been due for {duration(facts.now_ms - job.due_ms)}: no server runs it", "shardgate serve")


def _is_late(facts: Facts, due_ms: int) -> bool:
    return 0 < due_ms < facts.now_ms - LATE_JOB_MS and facts.server.answers


def _at_journal(facts: Facts) -> Iterator[Problem]:
    journal = facts.journal
    if journal is None:
        return
    if journal.waiting and journal.lag_ms > LATE_JOURNAL_MS:
        late = f"{journal.waiting:,} changes are not in the stores, which have taken none for {duration(journal.lag_ms)}"
        yield _urgent(f"{late}: if this disk is lost now, they are lost", "shardgate jobs")
    if journal.gap:
        yield _attention("changes were made without a journal; the next checkpoint makes the copy in the stores whole", "shardgate jobs")
    if journal.damaged:
        yield _of_damaged_copy(journal)


def _of_damaged_copy(journal: JournalFacts) -> Problem:
    what = f"the manifest's copy in the stores is damaged ({in_words(journal.damaged)})"
    if journal.spare < 0:
        return _urgent(f"{what}: a recovery would not be complete until the next checkpoint, which is asked for", "shardgate jobs")
    if journal.urgent:
        return _urgent(f"{what}: it does not survive what its policy promises; a checkpoint is asked for", "shardgate jobs")
    return _attention(f"{what}; the next checkpoint, within a day, writes it anew", "shardgate jobs")


def _at_scrubs(facts: Facts) -> Iterator[Problem]:
    for scrub in facts.scrubs:
        option = " --deep" if scrub.kind == "deep" else ""
        if scrub.ended_ms is not None and facts.now_ms - scrub.ended_ms > LATE_SCRUB * scrub.days * DAY_MS:
            last = ago(scrub.ended_ms, facts.now_ms)
            yield _attention(
                f"the last {scrub.kind} scrub ended {last}; one is due every {scrub.days:g} days", f"shardgate scrub{option} --now"
            )


def _at_packs(facts: Facts) -> Iterator[Problem]:
    since_ms, days = facts.packs.dead_since_ms, facts.packs.within_days
    if since_ms is not None and facts.now_ms - since_ms > days * DAY_MS:
        what = f"objects deleted {ago(since_ms, facts.now_ms)} are still in their packs: they should be gone within {days:g} days"
        yield _attention(what, "shardgate jobs")


def _at_campaigns(facts: Facts) -> Iterator[Problem]:
    for campaign in facts.campaigns:
        if campaign.trouble:
            yield _attention(f"{campaign.what} ({campaign.id}): {campaign.trouble}", "shardgate jobs")
        elif campaign.state == "paused":
            yield _attention(f"{campaign.what} ({campaign.id}) is paused", "shardgate jobs")


_LOOKS: tuple[Callable[[Facts], Iterable[Problem]], ...] = (
    _at_manifest,
    _at_server,
    _at_policies,
    _at_damage,
    _at_losses,
    _at_tally,
    _at_placement,
    _at_stores,
    _at_journal,
    _at_jobs,
    _at_scrubs,
    _at_packs,
    _at_campaigns,
)


def _broken(what: str, command: str) -> Problem:
    return Problem(severity="broken", what=what, command=command)


def _urgent(what: str, command: str) -> Problem:
    return Problem(severity="urgent", what=what, command=command)


def _attention(what: str, command: str) -> Problem:
    return Problem(severity="attention", what=what, command=command)
