"""What is told about requests: one log line each, and counters for Prometheus."""

from __future__ import annotations

import logging
from functools import partial
from time import perf_counter

import msgspec

from proxy.log import tell
from proxy.metrics import Counts

logger = logging.getLogger("proxy.access")

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """One answered request. `started` is of `time.perf_counter`; the bytes are those of the bodies, as they were sent."""

    request_id: str
    method: str
    resource: str
    operation: str
    tenant: str
    remote: str
    status: int
    code: str
    received_bytes: int
    sent_bytes: int
    started: float


class Telemetry:
    """Counts and logs the requests of one process."""

    def __init__(self, counts: Counts) -> None:
        self.in_flight = 0
        self._counts = counts
        self._requests = counts.counted("shardgate_requests", "Requests answered.", ("operation", "status"))
        self._seconds = counts.timed("shardgate_request_seconds", "Time to the last byte.", ("operation",), buckets=_BUCKETS)
        self._received = counts.counted("shardgate_received_bytes", "Bytes of request bodies.")
        self._sent = counts.counted("shardgate_sent_bytes", "Bytes of answers' bodies.")
        counts.gauge("shardgate_requests_in_flight", "Requests being answered.", lambda: self.in_flight)

    def begin(self) -> None:
        """Count a request that has come."""
        self.in_flight += 1

    def end(self, answered: Answered) -> None:
        """Count and log a request that has its answer."""
        self.in_flight -= 1
        seconds = perf_counter() - answered.started
        self._requests.add((answered.operation, answered.status))
        self._seconds.add((answered.operation,), seconds)
        if answered.received_bytes:
            self._received.add(amount=answered.received_bytes)
        if answered.sent_bytes:
            self._sent.add(amount=answered.sent_bytes)
        milliseconds = seconds * 1000
        tell(logger, _line(answered, milliseconds), partial(_facts, answered, milliseconds))

    def exposition(self) -> bytes:
        """Return all counters in Prometheus's text format."""
        return self._counts.exposition()


def _line(answered: Answered, milliseconds: float) -> str:
    asker, operation, code = answered.tenant or "-", answered.operation or "-", answered.code or "-"
    request = f"{answered.request_id} {asker} {operation} {answered.method} {answered.resource!r}"
    return f"{request} {answered.status} {code} {milliseconds:.1f}ms"


def _facts(answered: Answered, milliseconds: float) -> dict[str, object]:
    return {
        "request_id": answered.request_id,
        "tenant": answered.tenant,
        "operation": answered.operation,
        "method": answered.method,
        "resource": answered.resource,
        "remote": answered.remote,
        "status": answered.status,
        "code": answered.code,
        "received_bytes": answered.received_bytes,
        "sent_bytes": answered.sent_bytes,
        "milliseconds": round(milliseconds, 1),
    }
