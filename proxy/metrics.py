"""What is counted, for Prometheus: in plain numbers first, which go to the library ten times a second.

The library takes a lock for each count, and writes it to memory that workers share: four microseconds, and a request counts a dozen times.
Plain numbers take a tenth of that. A process that is killed loses what it counted in its last tenth of a second. All of it is for one
thread, the event loop's.

What is counted most is even added up later, some at a time (`Uncounted`): between two requests the code for it, and the numbers, are out of
the processor's caches, and it takes four times as long.
"""

from __future__ import annotations

import asyncio
import math
import os
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from proxy.shared_counts import SHARED_FOLDER

Item = TypeVar("Item")
FLUSH_SECONDS = 0.1
COUNTED_AT_ONCE = 32  # items, in a twentieth of a millisecond
# A directory answers in a millisecond, a distant cloud in hundreds; the last is the longest timeout one would configure.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
Labels = tuple[object, ...]


class Counts:
    """All that one process counts into a registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._flushes: list[Callable[[], None]] = []

    def counted(self, name: str, what: str, labels: Sequence[str] = ()) -> Counted:
        made = Counted(Counter(name, what, labels, registry=self.registry), has_labels=bool(labels))
        self._flushes.append(made.flush)
        return made

    def timed(self, name: str, what: str, labels: Sequence[str] = (), *, buckets: Sequence[float]) -> Timed:
        made = Timed(Histogram(name, what, labels, buckets=buckets, registry=self.registry), buckets)
        self._flushes.append(made.flush)
        return made

    def gauge(self, name: str, what: str, read: Callable[[], float], *, labels: Sequence[str] = (), values: Labels = ()) -> None:
        """Tell a number as it is, summed over the workers that live. `values` are those of the labels."""
        gauge = Gauge(name, what, labels, registry=self.registry, multiprocess_mode="livesum")
        child = gauge.labels(*values) if labels else gauge
        self._flushes.append(lambda: child.set(read()))

    def before_flush(self, settle: Callable[[], None]) -> None:
        """Have something counted that has been put off, each time before what was registered later is flushed."""
        self._flushes.append(settle)

    def flush(self) -> None:
        for flush in self._flushes:
            flush()

    def exposition(self) -> bytes:
        """Return everything counted, in Prometheus's text format. What other workers have counted just now may be missing."""
        self.flush()
        return exposition(self.registry)

    @asynccontextmanager
    async def flushing(self) -> AsyncIterator[None]:
        """Flush now and then, and at the end."""
        task = asyncio.create_task(self._flush_forever())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            self.flush()

    async def _flush_forever(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            self.flush()


class Counted:
    """A counter, with any labels."""

    def __init__(self, counter: Counter, *, has_labels: bool) -> None:
        self._counter = counter
        self._has_labels = has_labels
        self._children: dict[Labels, Counter] = {}
        self._pending: dict[Labels, float] = {}

    def add(self, labels: Labels = (), amount: float = 1) -> None:
        self._pending[labels] = self._pending.get(labels, 0) + amount

    def flush(self) -> None:
        pending, self._pending = self._pending, {}
        for labels, amount in pending.items():
            child = self._children.get(labels)
            if child is None:
                child = self._children[labels] = self._counter.labels(*labels) if self._has_labels else self._counter
            child.inc(amount)


class Timed:
    """A histogram of seconds, with any labels."""

    def __init__(self, histogram: Histogram, buckets: Sequence[float]) -> None:
        self._histogram = histogram
        self._bounds = (*buckets, math.inf)
        self._children: dict[Labels, Histogram] = {}
        self._pending: dict[Labels, list[float]] = {}  # a number for each bucket, and the sum

    def add(self, labels: Labels, seconds: float) -> None:
        pending = self._pending.get(labels)
        if pending is None:
            pending = self._pending[labels] = [0] * (len(self._bounds) + 1)
        pending[bisect_left(self._bounds, seconds)] += 1
        pending[-1] += seconds

    def flush(self) -> None:
        pending, self._pending = self._pending, {}
        for labels, (*numbers, seconds) in pending.items():
            child = self._children.get(labels)
            if child is None:
                child = self._children[labels] = self._histogram.labels(*labels)
            # What its `observe` does for each number. It has no way to take many at once.
            child._sum.inc(seconds)
            for bucket, number in zip(child._buckets, numbers, strict=True):
                if number:
                    bucket.inc(number)


class Uncounted(Generic[Item]):
    """What is still to be counted. To be made before the counters it is for."""

    def __init__(self, counts: Counts, count: Callable[[Item], None]) -> None:
        self._items: list[Item] = []
        self._count = count
        counts.before_flush(self._count_all)

    def add(self, item: Item) -> None:
        self._items.append(item)
        if len(self._items) >= COUNTED_AT_ONCE:
            self._count_all()

    def _count_all(self) -> None:
        items, self._items = self._items, []
        for item in items:
            self._count(item)


class StoreCallMetrics:
    """Counts store calls. `record` fits what an observed store wants to be given."""

    def __init__(self, counts: Counts) -> None:
        self._uncounted = Uncounted(counts, self._count)
        self._calls = counts.counted("shardgate_store_calls", "Calls of stores.", ("store", "verb", "outcome"))
        self._seconds = counts.timed("shardgate_store_call_seconds", "Time of a call.", ("store", "verb"), buckets=_BUCKETS)

    def record(self, store: str, verb: str, outcome: str, seconds: float) -> None:
        """Count one call; `outcome` is "ok" or the name of the error's class."""
        self._uncounted.add((store, verb, outcome, seconds))

    def _count(self, call: tuple[str, str, str, float]) -> None:
        store, verb, outcome, seconds = call
        self._calls.add((store, verb, outcome))
        self._seconds.add((store, verb), seconds)


class DamageMetrics:
    """Counts damaged shards as reads meet them, each time anew."""

    def __init__(self, counts: Counts) -> None:
        self._found = counts.counted(
            "shardgate_damage_found", "Reads of a shard that found it damaged, by what was wrong.", ("store", "kind")
        )

    def record(self, store: str, kind: str) -> None:
        """Count one."""
        self._found.add((store, kind))


class CacheMetrics:
    """Counts what the cache is asked for and what it has. The methods fit what a cache wants to be given."""

    def __init__(self, counts: Counts) -> None:
        self._looks = counts.counted("shardgate_cache_looks", "Looks into the cache, by what came of them.", ("outcome",))
        self._served = counts.counted("shardgate_cache_served_bytes", "Bytes that the cache had, by where.", ("place",))
        self._held_bytes = 0
        counts.gauge("shardgate_cache_memory_bytes", "Memory of the cache.", lambda: self._held_bytes)
        for outcome in ("memory", "directory", "miss", "spoilt"):
            self._looks.add((outcome,), 0)
        for place in ("memory", "directory"):
            self._served.add((place,), 0)

    def record(self, outcome: str, size_bytes: int) -> None:
        """Count one look; of one that found something, its bytes."""
        self._looks.add((outcome,))
        if size_bytes:
            self._served.add((outcome,), size_bytes)

    def record_held(self, size_bytes: int) -> None:
        """Tell how much memory the cache of this process has now."""
        self._held_bytes = size_bytes


class PackMetrics:
    """Counts packs as they are stored."""

    def __init__(self, counts: Counts) -> None:
        self._packs = counts.counted("shardgate_packs_stored", "Packs stored.")
        self._objects = counts.counted("shardgate_packed_objects", "Objects stored in packs.")
        self._bytes = counts.counted("shardgate_packed_bytes", "Bytes of the objects stored in packs.")

    def record(self, slots: int, size_bytes: int) -> None:
        """Count one pack."""
        self._packs.add()
        self._objects.add(amount=slots)
        self._bytes.add(amount=size_bytes)


def exposition(registry: CollectorRegistry) -> bytes:
    """Return everything counted, by this process or by all that share with it, in Prometheus's text format."""
    if SHARED_FOLDER in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # the library's
    return generate_latest(registry)
