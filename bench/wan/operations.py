"""What is done over the lines: small and middling objects one request at a time on each connection, and one large object at full width."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection
from itertools import count
from typing import Literal

import uvloop

from bench.client import Request, run_load
from bench.servers import ServerFailed
from bench.signing import Endpoint
from bench.wan.line import ONE_WAY_SECONDS
from bench.workloads import KIB, MIB

FIRST = 10  # operations after a change, in which the proxy may still learn what has happened
LEARNING = 40  # of these it is told how many it took
FILLED = 16  # objects that GETs read, over and over
PART_SIZE = 16 * MIB
ROUND_TRIP_SECONDS = 2 * ONE_WAY_SECONDS
PAUSE_SECONDS = 0.001  # on average, of a client between its requests: or those who share a pack would fall into step
AT_ONCE = 8  # parts of a large object: what clients do when they are told to be fast


@dataclass(frozen=True, slots=True)
class Operation:
    """One kind of request, and how many connections send it, each waiting for its answer before the next."""

    method: Literal["GET", "PUT"]
    label: str
    size_bytes: int
    connections: int
    most: int  # requests in one measurement

    @property
    def name(self) -> str:
        writers = f", {self.connections} writers" if self.connections > 4 else ""
        return f"{self.method} {self.label}{writers}"


GET_4K = Operation("GET", "4 KiB", 4 * KIB, 4, 400)
GET_64K = Operation("GET", "64 KiB", 64 * KIB, 4, 600)
PUT_64K = Operation("PUT", "64 KiB", 64 * KIB, 4, 600)
GET_8M = Operation("GET", "8 MiB", 8 * MIB, 1, 60)
PUT_8M = Operation("PUT", "8 MiB", 8 * MIB, 1, 60)
PUT_4K_16 = Operation("PUT", "4 KiB", 4 * KIB, 16, 1600)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One operation in one state: seconds of each request in the order they began, and what they cost upstream."""

    latencies: Sequence[float]
    requests: float  # upstream, an operation
    errors: Sequence[str] = ()

    @property
    def first(self) -> float:
        """The longest of the first ten."""
        return max(self.latencies[:FIRST], default=0.0)

    def adapted_after(self, limit_seconds: float) -> float:
        """Return the number of the last of the first forty that took longer than this."""
        return float(last_above(self.latencies[:LEARNING], limit_seconds))

    def percentile(self, share: float) -> float:
        """Return a percentile of all but the first ten."""
        ordered = sorted(self.latencies[FIRST:])
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0


def last_above(latencies: Sequence[float], limit_seconds: float) -> int:
    """Return the number of the last one above the limit, from one on; 0 if none is."""
    return max((number for number, seconds in enumerate(latencies, 1) if seconds > limit_seconds), default=0)


class Client:
    """Sends operations to one S3 endpoint. No key is put twice."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._numbers = count()
        self._block = os.urandom(8 * MIB)

    def fill(self, operation: Operation) -> None:
        """Put what a GET reads."""
        requests = [self._put(operation, f"read-{number}") for number in range(FILLED)]
        outcome = uvloop.run(run_load(*self._place, requests, connections=4, at_most_seconds=60, repeat=False))
        if outcome.errors:
            raise ServerFailed(f"cannot put what is to be read: {outcome.errors[0]}")

    def run(self, operation: Operation, *, seconds: float) -> tuple[list[float], list[str]]:
        """Return the seconds of each request in the order they began, and what failed."""
        could = int(operation.connections * (seconds / ROUND_TRIP_SECONDS + 1))
        requests = [self._request(operation, number) for number in range(min(operation.most, could))]
        load = run_load(
            *self._place,
            requests,
            connections=operation.connections,
            at_most_seconds=seconds,
            repeat=False,
            pause_seconds=PAUSE_SECONDS,
        )
        outcome = uvloop.run(load)
        return [taken for _, taken in sorted(zip(outcome.done, outcome.latencies, strict=True))], outcome.errors

    @property
    def _place(self) -> tuple[str, int]:
        return self._endpoint.host, self._endpoint.port

    def _request(self, operation: Operation, number: int) -> Request:
        if operation.method == "PUT":
            return self._put(operation, f"written-{next(self._numbers)}")
        head = self._endpoint.sign("GET", _path(operation, f"read-{number % FILLED}"))
        return Request(head, statuses=(200, 206), answer_bytes=operation.size_bytes, answer_starts=self._block[:64])

    def _put(self, operation: Operation, name: str) -> Request:
        head = self._endpoint.sign("PUT", _path(operation, name), body_bytes=operation.size_bytes)
        return Request(head, (memoryview(self._block)[: operation.size_bytes],))

    def upload(self, size_bytes: int) -> float:
        """Upload one large object in parts; return the seconds it took."""
        path = f"/bench/large-{next(self._numbers)}"
        part = memoryview(self._block * 2)
        began = time.perf_counter()
        upload = _found(rb"<UploadId>([^<]+)", self._exchange("POST", path, "uploads=")[1])
        with ThreadPoolExecutor(AT_ONCE) as pool:
            numbers = range(1, size_bytes // PART_SIZE + 1)
            etags = list(pool.map(lambda number: self._exchange("PUT", path, f"partNumber={number}&uploadId={upload}", part)[0], numbers))
        parts = "".join(f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number, etag in enumerate(etags, 1))
        document = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        self._exchange("POST", path, f"uploadId={upload}", document)
        seconds = time.perf_counter() - began
        self._large = path
        return seconds

    def download(self, size_bytes: int, *, at_once: int) -> float:
        """Download what was uploaded last: as one stream, or in ranges, so many at once. Return the seconds it took."""
        step = PART_SIZE if at_once > 1 else size_bytes
        ranges = [f"bytes={start}-{min(start + step, size_bytes) - 1}" for start in range(0, size_bytes, step)]
        began = time.perf_counter()
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(partial(self._receive, self._large, step), ranges))
        return time.perf_counter() - began

    def _exchange(self, method: str, path: str, query: str, body: bytes | memoryview = b"") -> tuple[str, bytes]:
        """Send one request; return the answer's ETag and body."""
        connection = HTTPConnection(*self._place, timeout=120)
        try:
            connection.request(method, f"{path}?{query}", body=body, headers=self._headers(method, path, query, len(body)))
            response = connection.getresponse()
            text = response.read()
            if response.status != 200:
                raise ServerFailed(f"{method} {path}?{query}: {response.status} {text[:300]!r}")
            return response.headers.get("ETag", ""), text
        finally:
            connection.close()

    def _receive(self, path: str, size_bytes: int, wanted: str) -> None:
        connection = HTTPConnection(*self._place, timeout=120)
        try:
            connection.request("GET", path, headers=self._headers("GET", path, "", None, {"Range": wanted}))
            response = connection.getresponse()
            buffer, received = bytearray(MIB), 0
            while taken := response.readinto(buffer):
                received += taken
            if received != size_bytes:
                raise ServerFailed(f"GET {path} {wanted}: {response.status}, {received} bytes")
        finally:
            connection.close()

    def _headers(self, method: str, path: str, query: str, size: int | None, extra: dict[str, str] | None = None) -> dict[str, str]:
        lines = self._endpoint.sign(method, path, query, body_bytes=size, extra=extra).decode().split("\r\n")[1:-2]
        return dict(line.split(": ", 1) for line in lines)


def _path(operation: Operation, name: str) -> str:
    return f"/bench/{operation.label.replace(' ', '')}/{name}"


def _found(pattern: bytes, text: bytes) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise ServerFailed(f"an answer without {pattern!r}: {text[:300]!r}")
    return match[1].decode()
