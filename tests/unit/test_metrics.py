from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from proxy.metrics import COUNTED_AT_ONCE, CacheMetrics, Counts, DamageMetrics, StoreCallMetrics, Uncounted, exposition
from proxy.shared_counts import SHARED_FOLDER, forget_gauges, shared_by_workers
from tests.patience import PATIENCE_SECONDS


def test_store_calls_are_counted_by_store_verb_and_outcome() -> None:
    registry = CollectorRegistry()
    counts = Counts(registry)
    metrics = StoreCallMetrics(counts)

    metrics.record("alder", "put", "ok", 0.01)
    metrics.record("alder", "put", "ok", 0.03)
    metrics.record("alder", "put", "StoreUnavailable", 2.0)
    counts.flush()

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    assert value("shardgate_store_calls_total", store="alder", verb="put", outcome="ok") == 2
    assert value("shardgate_store_calls_total", store="alder", verb="put", outcome="StoreUnavailable") == 1
    assert value("shardgate_store_call_seconds_sum", store="alder", verb="put") == 2.04


def test_what_is_added_up_later_is_all_told_by_the_next_flush() -> None:
    registry = CollectorRegistry()
    counts = Counts(registry)
    uncounted = Uncounted(counts, lambda amount: seen.add(amount=amount))
    seen = counts.counted("seen", "Seen.")
    total = 0
    for number in range(COUNTED_AT_ONCE * 2 + 3):
        uncounted.add(number)
        total += number
        if number in {0, COUNTED_AT_ONCE - 1, COUNTED_AT_ONCE, COUNTED_AT_ONCE * 2 + 2}:
            counts.flush()
            assert registry.get_sample_value("seen_total") == total


def test_looks_into_the_cache_are_counted_with_what_came_of_them() -> None:
    registry = CollectorRegistry()
    counts = Counts(registry)
    metrics = CacheMetrics(counts)
    for outcome, size in (("memory", 100), ("directory", 1000), ("miss", 0), ("miss", 0), ("spoilt", 0)):
        metrics.record(outcome, size)
    metrics.record_held(5000)
    counts.flush()

    looks = {
        outcome: registry.get_sample_value("shardgate_cache_looks_total", {"outcome": outcome}) for outcome in ("memory", "miss", "spoilt")
    }
    assert looks == {"memory": 1, "miss": 2, "spoilt": 1}
    assert registry.get_sample_value("shardgate_cache_served_bytes_total", {"place": "directory"}) == 1000
    assert registry.get_sample_value("shardgate_cache_memory_bytes") == 5000


BUCKETS = (0.001, 0.01, 0.1, 1.0)
SECONDS = st.floats(0, 5) | st.sampled_from([*BUCKETS, 0.0])


@given(st.lists(st.lists(st.tuples(st.sampled_from(["get", "put"]), SECONDS))))
def test_what_is_timed_in_batches_is_told_as_if_each_were_told_at_once(batches: list[list[tuple[str, float]]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    counts = Counts(ours)
    timed = counts.timed("seconds", "Time.", ("verb",), buckets=BUCKETS)
    each = Histogram("seconds", "Time.", ("verb",), buckets=BUCKETS, registry=theirs)
    for batch in batches:
        for verb, seconds in batch:
            timed.add((verb,), seconds)
            each.labels(verb).observe(seconds)
        counts.flush()
    for verb in ("get", "put"):
        for bound in (*map(str, BUCKETS), "+Inf"):
            labels = {"verb": verb, "le": bound}
            assert ours.get_sample_value("seconds_bucket", labels) == theirs.get_sample_value("seconds_bucket", labels)
        told = ours.get_sample_value("seconds_sum", {"verb": verb})
        assert told == (None if (sum_ := theirs.get_sample_value("seconds_sum", {"verb": verb})) is None else pytest.approx(sum_))


async def test_counts_are_told_now_and_then_and_at_the_end() -> None:
    registry = CollectorRegistry()
    counts, in_flight = Counts(registry), [3]
    counts.gauge("in_flight", "now", lambda: in_flight[0])
    counted = counts.counted("things", "Things.")
    async with counts.flushing():
        counted.add()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while registry.get_sample_value("things_total") != 1:
                await asyncio.sleep(0.01)
        assert registry.get_sample_value("in_flight") == 3
        in_flight[0] = 0
        counted.add(amount=4)
    assert registry.get_sample_value("things_total") == 5
    assert registry.get_sample_value("in_flight") == 0


def test_damage_is_counted_by_store_and_kind() -> None:
    counts = Counts(CollectorRegistry())
    DamageMetrics(counts).record("alder", "missing")
    assert 'shardgate_damage_found_total{kind="missing",store="alder"} 1.0' in counts.exposition().decode()


SCRIPT = """
import os, sys
from proxy.shared_counts import *
share_counts(int(sys.argv[1]), stores=1)
from prometheus_client import CollectorRegistry, Gauge
from proxy.metrics import *
registry = CollectorRegistry()
counts = Counts(registry)
StoreCallMetrics(counts).record("alder", "put", "ok", 0.01)
Gauge("in_flight", "now", registry=registry, multiprocess_mode="livesum").inc()
print(counts.exposition().decode(), flush=True)
os._exit(9)
"""
PUTS = 'shardgate_store_calls_total{outcome="ok",store="alder",verb="put"}'


def _work(worker: int, **options: object) -> str:
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(worker)], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 9, done.stderr
    return done.stdout


def test_workers_count_together() -> None:
    with shared_by_workers():
        folder = Path(os.environ[SHARED_FOLDER])
        assert f"{PUTS} 1.0" in _work(0)
        told = _work(1)
        assert f"{PUTS} 2.0" in told
        assert exposition(CollectorRegistry()).decode().splitlines() == told.splitlines()[:-1]
    assert not folder.exists()
    assert SHARED_FOLDER not in os.environ


def test_a_worker_counts_on_where_the_one_before_it_ended() -> None:
    with shared_by_workers():
        _work(0)
        files = sorted(os.listdir(os.environ[SHARED_FOLDER]))
        _work(1)
        forget_gauges(1)
        told = _work(1)
        assert f"{PUTS} 3.0" in told
        assert "in_flight 2.0" in told
        forget_gauges(1)
        told = exposition(CollectorRegistry()).decode()
        assert f"{PUTS} 3.0" in told
        assert "in_flight 1.0" in told
        assert len(os.listdir(os.environ[SHARED_FOLDER])) == 2 * len(files) - 1


def test_counts_take_their_blocks_at_the_start() -> None:
    with shared_by_workers():
        _work(0)
        folder = Path(os.environ[SHARED_FOLDER])
        sizes = {path.name: path.stat() for path in folder.iterdir()}
        assert set(sizes) == {"counter_0.db", "histogram_0.db", "gauge_livesum_0.db"}
        assert all(status.st_blocks * 512 >= status.st_size for status in sizes.values())


def test_a_worker_without_room_counts_alone() -> None:
    def no_large_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # as on a full disk, no file can grow

    with shared_by_workers():
        _work(0)
        told = _work(1, preexec_fn=no_large_files)
        assert f"{PUTS} 1.0" in told
        assert f"{PUTS} 2.0" in _work(0)
        assert sorted(os.listdir(os.environ[SHARED_FOLDER])) == ["counter_0.db", "gauge_livesum_0.db", "histogram_0.db"]


def test_no_room_for_a_folder_is_no_reason_not_to_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with shared_by_workers():
        assert SHARED_FOLDER not in os.environ
        assert f"{PUTS} 1.0" in _work(0)
