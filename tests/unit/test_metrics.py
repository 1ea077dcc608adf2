from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from proxy.metrics import SHARED_FOLDER, StoreCallMetrics, exposition, shared_by_workers


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


def test_workers_count_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SHARED_FOLDER, "")  # so that what is set below is undone
    script = (
        "from prometheus_client import CollectorRegistry; from proxy.metrics import *; r = CollectorRegistry();"
        "StoreCallMetrics(r).record('alder', 'put', 'ok', 0.01); print(exposition(r).decode())"
    )
    with shared_by_workers() as folder:
        for _ in range(2):
            told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
        assert 'shardgate_store_calls_total{outcome="ok",store="alder",verb="put"} 2.0' in told
        assert exposition(CollectorRegistry()).decode().splitlines() == told.splitlines()[:-1]
    assert not Path(folder).exists()
