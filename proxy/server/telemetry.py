"""What is told about requests: one log line each, and counters for Prometheus.

Both are made some at a time: what a request adds to counters, and what its line says, are worked out together with those of others.
"""

from __future__ import annotations

import logging

import msgspec

from proxy.log import tell
from proxy.metrics import Counts, Uncounted

logger = logging.getLogger("proxy.access")

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Answered(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One answered request. `seconds` is how long that took; the bytes are those of the bodies, as they were sent."""

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
    seconds: float

    def message(self) -> str:
        asker, operation, code = self.tenant or "-", self.operation or "-", self.code or "-"
        request = f"{self.request_id} {asker} {operation} {self.method} {self.resource!r}"
        return f"{request} {self.status} {code} {self.seconds * 1000:.1f}ms"

    def facts(self) -> dict[str, object]:
        return {
            "request_id": self.request_id,
            "tenant": self.tenant,
            "operation": self.operation,
            "method": self.method,
            "resource": self.resource,
            "remote": self.remote,
            "status": self.status,
            "code": self.code,
            "received_bytes": self.received_bytes,
            "sent_bytes": self.sent_bytes,
            "milliseconds": round(self.seconds * 1000, 1),
        }


class Telemetry:
    """Counts and logs the requests of one process."""

    def __init__(self, counts: Counts) -> None:
        self.in_flight = 0
        self._counts = counts
        self._uncounted = Uncounted(counts, self._count)
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
        self._uncounted.add(answered)
        tell(logger, answered)

    def exposition(self) -> bytes:
        """Return all counters in Prometheus's text format."""
        return self._counts.exposition()

    def _count(self, answered: Answered) -> None:
        self._requests.add((answered.operation, answered.status))
        self._seconds.add((answered.operation,), answered.seconds)
        if answered.received_bytes:
            self._received.add(amount=answered.received_bytes)
        if answered.sent_bytes:
            self._sent.add(amount=answered.sent_bytes)
