from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from proxy.metrics import CacheMetrics, StoreCallMetrics, exposition
from proxy.shared_counts import SHARED_FOLDER, forget_gauges, shared_by_workers


def test_store_calls_are_counted_by_store_verb_and_outcome() -> None:
    registry = CollectorRegistry()
    metrics = StoreCallMetrics(registry)

    metrics.record("alder", "put", "ok", 0.01)
    metrics.record("alder", "put", "ok", 0.03)
    metrics.record("alder", "put", "StoreUnavailable", 2.0)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    assert value("shardgate_store_calls_total", store="alder", verb="put", outcome="ok") == 2
    assert value("shardgate_store_calls_total", store="alder", verb="put", outcome="StoreUnavailable") == 1
    assert value("shardgate_store_call_seconds_sum", store="alder", verb="put") == 2.04


def test_looks_into_the_cache_are_counted_with_what_came_of_them() -> None:
    registry = CollectorRegistry()
    metrics = CacheMetrics(registry)
    for outcome, size in (("memory", 100), ("directory", 1000), ("miss", 0), ("miss", 0), ("spoilt", 0)):
        metrics.record(outcome, size)
    metrics.record_held(5000)

    looks = {
        outcome: registry.get_sample_value("shardgate_cache_looks_total", {"outcome": outcome}) for outcome in ("memory", "miss", "spoilt")
    }
    assert looks == {"memory": 1, "miss": 2, "spoilt": 1}
    assert registry.get_sample_value("shardgate_cache_served_bytes_total", {"place": "directory"}) == 1000
    assert registry.get_sample_value("shardgate_cache_memory_bytes") == 5000


SCRIPT = """
import os, sys
from proxy.shared_counts import *
share_counts(int(sys.argv[1]), stores=1)
from prometheus_client import CollectorRegistry, Gauge
from proxy.metrics import *
registry = CollectorRegistry()
StoreCallMetrics(registry).record("alder", "put", "ok", 0.01)
Gauge("in_flight", "now", registry=registry, multiprocess_mode="livesum").inc()
print(exposition(registry).decode(), flush=True)
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
