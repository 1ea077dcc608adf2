"""What the manifest counts, for Prometheus: what is amiss, and what background work does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from proxy.engine.lifecycle.state import LifecycleState, load_lifecycle
from proxy.engine.scrub.reports import load_report
from proxy.engine.scrub.workers import DEEP, LIGHT
from proxy.engine.walking.tally import load_tally
from proxy.manifest.damage import DamageCount, Losses
from proxy.manifest.events import Backlog
from proxy.manifest.journal import CheckpointState, JournalPosition
from proxy.manifest.lifecycle import JOBS as LIFECYCLE_JOBS
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Job
from proxy.manifest.scrub import ScrubReport
from proxy.manifest.tally import Tally


async def read_counts(manifest: Manifest) -> ManifestCounts:
    """Ask the manifest for all of them."""
    garbage = dict.fromkeys(await manifest.known_stores(), 0) | dict(await manifest.count_garbage())
    return ManifestCounts(
        damage=await manifest.count_damage(),
        losses=await manifest.list_losses(),
        garbage=garbage,
        jobs=await manifest.list_jobs(),
        tally=await load_tally(manifest),
        scrubs={kind: await load_report(manifest, name) for kind, name in (("light", LIGHT), ("deep", DEEP))},
        journal=await manifest.journal_position(),
        checkpoints=await manifest.checkpoint_state(before_ms=0),
        events=await manifest.event_backlogs(),
        lifecycle={job: await load_lifecycle(manifest, job) for job in LIFECYCLE_JOBS},
        oldest_dead_ms=await manifest.oldest_dead_ms(),
    )


class ManifestCounts:
    """What the manifest counts, the same whichever worker is asked: told at each scrape, kept nowhere."""

    def __init__(
        self,
        *,
        damage: DamageCount,
        losses: Iterable[Losses],
        garbage: Mapping[str, int],
        jobs: Iterable[Job],
        tally: Tally | None,
        scrubs: Mapping[str, ScrubReport | None],
        journal: JournalPosition,
        checkpoints: CheckpointState,
        events: Iterable[Backlog] = (),
        lifecycle: Mapping[str, LifecycleState] = {},
        oldest_dead_ms: int | None = None,
    ) -> None:
        """`scrubs`: the last whole pass of each kind. `oldest_dead_ms`: since when what was deleted is still in a pack."""
        self._damage = damage
        self._losses = tuple(losses)
        self._garbage = garbage
        self._jobs = tuple(jobs)
        self._tally = tally
        self._journal = journal
        self._checkpoints = checkpoints
        self._events = tuple(events)
        self._lifecycle = lifecycle
        self._oldest_dead_ms = oldest_dead_ms
        self._scrubs = {kind: report for kind, report in scrubs.items() if report is not None}

    def collect(self) -> Iterator[Metric]:
        yield from self._of_damage()
        yield from self._of_losses()
        garbage = GaugeMetricFamily(
            "shardgate_garbage",
            "Deleted shards that are still to be deleted from this store; none: it is not known yet.",
            labels=("store",),
        )
        for store, count in self._garbage.items():
            garbage.add_metric((store,), count)
        yield garbage
        if self._tally is not None:
            yield from _of_tally(self._tally)
        yield GaugeMetricFamily(
            "shardgate_oldest_dead_seconds",
            "Since when something deleted is still in a pack; 0: there is nothing.",
            (self._oldest_dead_ms or 0) / 1000,
        )
        yield from self._of_scrubs()
        yield from self._of_journal()
        yield from self._of_events()
        yield from _of_lifecycle(self._lifecycle)
        yield from self._of_jobs()

    def _of_damage(self) -> Iterator[Metric]:
        shards = GaugeMetricFamily(
            "shardgate_damaged_shards", "Shards on record as damaged, by what is wrong with them.", labels=("store", "kind")
        )
        for (store, kind), count in self._damage.by_store.items():
            shards.add_metric((store, kind), count)
        segments = GaugeMetricFamily(
            "shardgate_damaged_segments",
            "Segments that wait for repair, by how many more shards each can lose; below zero, it cannot be read.",
            labels=("redundancy",),
        )
        for level, count in self._damage.by_redundancy.items():
            segments.add_metric((str(level),), count)
        oldest_seconds = (self._damage.oldest_ms or 0) / 1000
        yield from (shards, segments)
        yield GaugeMetricFamily("shardgate_oldest_damage_seconds", "When the oldest damage was found; 0: there is none.", oldest_seconds)

    def _of_losses(self) -> Iterator[Metric]:
        lost = GaugeMetricFamily("shardgate_lost_shards", "Shards that a store was found to have lost of late.", labels=("store",))
        paused = GaugeMetricFamily(
            "shardgate_repair_paused", "Whether the repair of what this store has lost waits for an operator.", labels=("store",)
        )
        for losses in self._losses:
            lost.add_metric((losses.store,), losses.found)
            paused.add_metric((losses.store,), int(losses.state == "paused"))
        yield from (lost, paused)

    def _of_scrubs(self) -> Iterator[Metric]:
        ended = GaugeMetricFamily("shardgate_scrub_ended_seconds", "When the last whole pass of a scrub ended.", labels=("scrub",))
        damaged = GaugeMetricFamily("shardgate_scrub_damaged_shards", "Damaged shards that this pass has found.", labels=("scrub",))
        unseen = GaugeMetricFamily("shardgate_scrub_unseen_stores", "Stores that this pass could not look at.", labels=("scrub",))
        orphans = GaugeMetricFamily("shardgate_orphans", "Shards in a store that nothing explains.", labels=("store",))
        for kind, report in self._scrubs.items():
            ended.add_metric((kind,), report.ended_ms / 1000)
            damaged.add_metric((kind,), report.damaged)
            unseen.add_metric((kind,), len({*report.unlisted, *report.unreachable}))
            for store, count in report.orphans.items():
                orphans.add_metric((store,), count)
        yield from (ended, damaged, unseen, orphans)

    def _of_journal(self) -> Iterator[Metric]:
        last = self._checkpoints.last
        yield GaugeMetricFamily(
            "shardgate_journal_waiting", "Changes of the manifest that the stores do not have yet.", max(self._journal.rows, 0)
        )
        yield GaugeMetricFamily(
            "shardgate_journal_stored_seconds", "When the last journal segment was stored; 0: never.", self._journal.stored_ms / 1000
        )
        yield GaugeMetricFamily(
            "shardgate_checkpoint_seconds", "When the last checkpoint was made; 0: never.", (last.made_ms if last else 0) / 1000
        )
        segments = self._checkpoints.journal_segments
        yield GaugeMetricFamily("shardgate_journal_segments", "Journal segments behind the last checkpoint.", segments)

    def _of_events(self) -> Iterator[Metric]:
        waiting = GaugeMetricFamily("shardgate_events_waiting", "Events that a target has not acknowledged yet.", labels=("target",))
        oldest = GaugeMetricFamily("shardgate_oldest_event_seconds", "When the oldest of them happened.", labels=("target",))
        for backlog in self._events:
            waiting.add_metric((backlog.target,), backlog.count)
            oldest.add_metric((backlog.target,), backlog.oldest_ms / 1000)
        yield from (waiting, oldest)

    def _of_jobs(self) -> Iterator[Metric]:
        done = CounterMetricFamily("shardgate_job_done", "What a background job has done.", labels=("job",))
        requests = CounterMetricFamily("shardgate_job_requests", "Requests of stores that a background job has made.", labels=("job",))
        remaining = GaugeMetricFamily("shardgate_job_remaining", "What a background job knows it has left to do.", labels=("job",))
        last_run = GaugeMetricFamily("shardgate_job_last_run_seconds", "When a background job last ended a step.", labels=("job",))
        failures = GaugeMetricFamily("shardgate_job_failures", "Steps in a row that failed.", labels=("job",))
        paused = GaugeMetricFamily("shardgate_job_paused", "Whether an operator has paused it.", labels=("job",))
        for job in self._jobs:
            done.add_metric((job.name,), job.done)
            requests.add_metric((job.name,), job.requests)
            if job.remaining is not None:
                remaining.add_metric((job.name,), job.remaining)
            last_run.add_metric((job.name,), job.last_run_ms / 1000)
            failures.add_metric((job.name,), job.failures)
            paused.add_metric((job.name,), int(job.paused))
        yield from (done, requests, remaining, last_run, failures, paused)

    def exposition(self) -> bytes:
        """Return them in Prometheus's text format."""
        registry = CollectorRegistry()
        registry.register(self)
        return generate_latest(registry)


def _of_tally(tally: Tally) -> Iterator[Metric]:
    segments = GaugeMetricFamily(
        "shardgate_segments", "Segments by how many more shards each can lose, when they were last counted.", labels=("redundancy",)
    )
    for level, count in tally.by_redundancy.items():
        segments.add_metric((str(level),), count)
    stored = GaugeMetricFamily("shardgate_stored_bytes", "Bytes of shards that are in use, when they were last counted.", labels=("store",))
    for store, size in tally.by_store.items():
        stored.add_metric((store,), size)
    yield from (segments, stored, *_of_packs(tally))
    yield GaugeMetricFamily("shardgate_counted_seconds", "When segments and bytes were last counted.", tally.ended_ms / 1000)


def _of_packs(tally: Tally) -> Iterator[Metric]:
    yield GaugeMetricFamily("shardgate_packs", "Packs of small objects, when they were last counted.", tally.packs)
    held = GaugeMetricFamily("shardgate_pack_bytes", "Bytes of objects in packs, in use or deleted, at that time.", labels=("state",))
    held.add_metric(("live",), tally.packed_bytes)
    held.add_metric(("dead",), tally.dead_bytes)
    yield held


def _of_lifecycle(states: Mapping[str, LifecycleState]) -> Iterator[Metric]:
    done = CounterMetricFamily("shardgate_lifecycle_done", "What lifecycle rules have done to versions and uploads.", labels=("what",))
    ended = GaugeMetricFamily("shardgate_lifecycle_ended_seconds", "When the last whole pass ended; 0: never.", labels=("job",))
    walked = GaugeMetricFamily("shardgate_lifecycle_walked", "Versions and uploads that this pass has looked at.", labels=("job",))
    for job, state in states.items():
        for what, count in sorted(state.totals.items()):
            done.add_metric((what,), count)
        ended.add_metric((job,), state.ended_ms / 1000)
        walked.add_metric((job,), state.rows)
    yield from (done, ended, walked)
