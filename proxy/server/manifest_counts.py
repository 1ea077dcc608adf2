"""What the manifest counts, for Prometheus: what is amiss, and what background work does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from proxy.manifest.damage import DamageCount
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Job


async def read_counts(manifest: Manifest) -> ManifestCounts:
    """Ask the manifest for all of them."""
    garbage = dict.fromkeys(await manifest.known_stores(), 0) | dict(await manifest.count_garbage())
    return ManifestCounts(damage=await manifest.count_damage(), garbage=garbage, jobs=await manifest.list_jobs())


class ManifestCounts:
    """What the manifest counts, the same whichever worker is asked: told at each scrape, kept nowhere."""

    def __init__(self, *, damage: DamageCount, garbage: Mapping[str, int], jobs: Iterable[Job]) -> None:
        self._damage = damage
        self._garbage = garbage
        self._jobs = tuple(jobs)

    def collect(self) -> Iterator[Metric]:
        yield from self._of_damage()
        garbage = GaugeMetricFamily(
            "shardgate_garbage",
            "Deleted shards that are still to be deleted from this store; none: it is not known yet.",
            labels=("store",),
        )
        for store, count in self._garbage.items():
            garbage.add_metric((store,), count)
        yield garbage
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
