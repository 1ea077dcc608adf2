from __future__ import annotations

from prometheus_client import CollectorRegistry

from proxy.metrics import StoreCallMetrics


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
