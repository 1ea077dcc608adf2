"""What is told about requests: one log line each, and counters for Prometheus."""

from __future__ import annotations

import logging
from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

logger = logging.getLogger("proxy.access")

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Telemetry:
    """Counts and logs the requests of one process."""

    def __init__(self) -> None:
        self.in_flight = 0
        self._registry = CollectorRegistry()
        self._requests = Counter("shardgate_requests", "Requests answered.", ("operation", "status"), registry=self._registry)
        self._seconds = Histogram(
            "shardgate_request_seconds", "Time to the last byte.", ("operation",), buckets=_BUCKETS, registry=self._registry
        )
        self._in_flight = Gauge("shardgate_requests_in_flight", "Requests being answered.", registry=self._registry)
        self._in_flight.set_function(lambda: self.in_flight)
        self._children: dict[tuple[str, int], Counter] = {}
        self._timers: dict[str, Histogram] = {}

    def record(
        self, *, request_id: str, method: str, resource: str, operation: str, tenant: str, status: int, code: str, started: float
    ) -> None:
        """Count and log one answered request. `started` is of `time.perf_counter`."""
        seconds = perf_counter() - started
        child = self._children.get((operation, status))
        if child is None:
            child = self._children[(operation, status)] = self._requests.labels(operation, str(status))
            self._timers[operation] = self._seconds.labels(operation)
        child.inc()
        self._timers[operation].observe(seconds)
        if logger.isEnabledFor(logging.INFO):
            fields = (request_id, tenant or "-", operation or "-", method, resource, status, code or "-", seconds * 1000)
            logger.info("%s %s %s %s %r %d %s %.1fms", *fields)

    def exposition(self) -> bytes:
        """Return all counters in Prometheus's text format."""
        return generate_latest(self._registry)
