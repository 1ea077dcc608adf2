"""What is counted, for Prometheus: here the calls of stores, the damage that reads find, and the cache."""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from proxy.shared_counts import SHARED_FOLDER

# A directory answers in a millisecond, a distant cloud in hundreds; the last is the longest timeout one would configure.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class StoreCallMetrics:
    """Counts store calls into a Prometheus registry. `record` fits what an observed store wants to be given."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._calls = Counter("shardgate_store_calls", "Calls of stores.", ("store", "verb", "outcome"), registry=registry)
        self._seconds = Histogram("shardgate_store_call_seconds", "Time of a call.", ("store", "verb"), buckets=_BUCKETS, registry=registry)
        # `labels` takes a lock and builds a key anew at each call; the label sets are few and stay.
        self._counters: dict[tuple[str, str, str], Counter] = {}
        self._timers: dict[tuple[str, str], Histogram] = {}

    def record(self, store: str, verb: str, outcome: str, seconds: float) -> None:
        """Count one call; `outcome` is "ok" or the name of the error's class."""
        counter = self._counters.get((store, verb, outcome))
        if counter is None:
            counter = self._counters[store, verb, outcome] = self._calls.labels(store, verb, outcome)
            self._timers[store, verb] = self._seconds.labels(store, verb)
        counter.inc()
        self._timers[store, verb].observe(seconds)


class DamageMetrics:
    """Counts damaged shards as reads meet them, each time anew."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._found = Counter(
            "shardgate_damage_found", "Reads of a shard that found it damaged, by what was wrong.", ("store", "kind"), registry=registry
        )

    def record(self, store: str, kind: str) -> None:
        """Count one."""
        self._found.labels(store, kind).inc()


class CacheMetrics:
    """Counts what the cache is asked for and what it has. The methods fit what a cache wants to be given."""

    def __init__(self, registry: CollectorRegistry) -> None:
        looks = Counter("shardgate_cache_looks", "Looks into the cache, by what came of them.", ("outcome",), registry=registry)
        served = Counter("shardgate_cache_served_bytes", "Bytes that the cache had, by where.", ("place",), registry=registry)
        self._held = Gauge("shardgate_cache_memory_bytes", "Memory of the cache.", registry=registry, multiprocess_mode="livesum")
        self._looks = {outcome: looks.labels(outcome) for outcome in ("memory", "directory", "miss", "spoilt")}
        self._served = {place: served.labels(place) for place in ("memory", "directory")}

    def record(self, outcome: str, size_bytes: int) -> None:
        """Count one look; of one that found something, its bytes."""
        self._looks[outcome].inc()
        if size_bytes:
            self._served[outcome].inc(size_bytes)

    def record_held(self, size_bytes: int) -> None:
        """Tell how much memory the cache of this process has now."""
        self._held.set(size_bytes)


def exposition(registry: CollectorRegistry) -> bytes:
    """Return everything counted, by this process or by all that share with it, in Prometheus's text format."""
    if SHARED_FOLDER in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # the library's
    return generate_latest(registry)
