"""A load client that costs little: pre-signed HTTP/1.1 requests over keep-alive connections, and a reader of the bare minimum.

Client and servers share two cores, so each microsecond spent here is one the measured server does not get. Requests are
therefore rendered and signed before the clock starts, a connection drives itself from its own callbacks (no coroutine, no
future a request), and of a response only the status line and the lengths are read. A sample of bodies is compared byte by
byte; of the others the length is checked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import cast

RECEIVE_BYTES = 512 * 1024
HEAD_END = b"\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Request:
    """One request, ready to send: `head` is the signed header block, `body` the pieces after it."""

    head: bytes
    body: tuple[bytes | memoryview, ...] = ()
    statuses: tuple[int, ...] = (200,)
    answer_bytes: int | None = None  # the body's length, when it is known
    answer_starts: bytes = b""  # what the body must begin with, when it is known
    bodiless: bool = False  # a HEAD: the length is announced and no body follows
    moved_bytes: int = 0  # payload, either way


@dataclass(slots=True)
class Outcome:
    """What a load did: latencies in seconds, payload bytes, and what went wrong."""

    seconds: float = 0.0
    moved_bytes: int = 0
    latencies: list[float] = field(default_factory=list)
    done: list[int] = field(default_factory=list)  # indices of the requests that were answered as expected
    errors: list[str] = field(default_factory=list)


async def run_load(
    host: str,
    port: int,
    requests: Sequence[Request],
    *,
    connections: int,
    at_most_seconds: float,
    repeat: bool,
    pause_seconds: float = 0.0,
) -> Outcome:
    """Send `requests` over `connections`, once each or over and over, until the time is up; return what happened.

    Every connection is open before the clock starts. A request in flight when the time is up is waited for. Each client pauses before each
    request, so long on average: those that are answered together would send the next together else.
    """
    load = _Load(requests, repeat=repeat, pause_seconds=pause_seconds)
    loop = asyncio.get_running_loop()
    protocols = [(await loop.create_connection(lambda: _Connection(load), host, port))[1] for _ in range(min(connections, len(requests)))]
    await load.run(protocols, at_most_seconds)
    for protocol in protocols:
        protocol.close()
    return load.outcome


class _Load:
    """The requests still to send, shared by the connections of one run."""

    def __init__(self, requests: Sequence[Request], *, repeat: bool, pause_seconds: float) -> None:
        self.outcome = Outcome()
        self.requests = requests
        self._pause_seconds = pause_seconds
        self._chance = Random(0)
        self._order = self._indices(len(requests), repeat=repeat)
        self._deadline = 0.0
        self._running = 0
        self._idle = asyncio.Event()

    async def run(self, connections: Sequence[_Connection], at_most_seconds: float) -> None:
        started = time.perf_counter()
        self._deadline = started + at_most_seconds
        self._running = len(connections)
        for connection in connections:
            self.go_on(connection)
        try:
            await asyncio.wait_for(self._idle.wait(), at_most_seconds + 90)
        except TimeoutError:
            self.outcome.errors.append("no answer in 90 s after the end of the run")
        self.outcome.seconds = time.perf_counter() - started

    def take(self) -> int | None:
        """Return the index of the next request, or None when there is nothing more to do."""
        if time.perf_counter() >= self._deadline:
            return None
        return next(self._order, None)

    def go_on(self, connection: _Connection) -> None:
        """Let a client send its next request."""
        if self._pause_seconds:
            asyncio.get_running_loop().call_later(self._chance.expovariate(1 / self._pause_seconds), connection.send_next)
        else:
            connection.send_next()

    def leave(self) -> None:
        """Say that one connection has finished."""
        self._running -= 1
        if self._running == 0:
            self._idle.set()

    @staticmethod
    def _indices(count: int, *, repeat: bool) -> Iterator[int]:
        while True:
            yield from range(count)
            if not repeat:
                return


class _Connection(asyncio.BufferedProtocol):
    """One keep-alive connection: sends a request when the answer to the one before is complete."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._buffer = bytearray(RECEIVE_BYTES)
        self._view = memoryview(self._buffer)
        self._filled = 0  # bytes of an unfinished header block
        self._missing: int | None = None  # body bytes still to come; None while the header block is read
        self._chunked: bytearray | None = None
        self._keep: bytearray | None = None
        self._status = 0
        self._body_bytes = 0
        self._busy = False
        self._index = 0
        self._request = load.requests[0]
        self._started = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own is no subclass of it

    def connection_lost(self, exc: Exception | None) -> None:
        if self._busy:
            self._busy = False
            self._load.outcome.errors.append(f"connection lost: {exc}")
            self._load.leave()

    def close(self) -> None:
        self._transport.close()

    def send_next(self) -> None:
        if self._transport.is_closing():
            return  # it was lost in a pause
        index = self._load.take()
        if index is None:
            self._busy = False
            self._load.leave()
            return
        self._busy = True
        self._index = index
        self._request = request = self._load.requests[index]
        self._keep = bytearray() if request.answer_starts else None
        self._started = time.perf_counter()
        if request.body:
            self._transport.writelines((request.head, *request.body))
        else:
            self._transport.write(request.head)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 -- the protocol's signature
        return self._view[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        if self._missing is None:
            self._filled += nbytes
            self._read_head()
        else:
            self._read_body(self._view[:nbytes])

    def _read_head(self) -> None:
        end = self._buffer.find(HEAD_END, 0, self._filled)
        if end < 0:
            return
        head = bytes(self._view[:end]).lower()
        received = self._filled
        self._filled = 0
        self._status = int(head[9:12])
        if self._status == 100:
            self._view[: received - end - 4] = bytes(self._view[end + 4 : received])
            self._filled = received - end - 4
            self._read_head()
            return
        self._chunked = bytearray() if b"\r\ntransfer-encoding: chunked" in head else None
        self._body_bytes = 0
        if self._status not in self._request.statuses and self._keep is None:
            self._keep = bytearray()
        self._missing = self._announced(head)
        if self._missing == 0 and self._chunked is None:
            self._finish()
        else:
            self._read_body(self._view[end + 4 : received])

    def _announced(self, head: bytes) -> int:
        if self._request.bodiless or self._status in (204, 304):
            self._chunked = None
            return 0
        found = head.find(b"\r\ncontent-length:")
        if found < 0:
            return 0
        return int(head[found + 17 :].split(b"\r\n", 1)[0])

    def _read_body(self, data: memoryview) -> None:
        if self._chunked is not None:
            self._chunked += data
            if self._chunked.endswith(LAST_CHUNK):
                self._finish_chunked(self._chunked)
            return
        assert self._missing is not None
        self._missing -= len(data)
        self._body_bytes += len(data)
        if self._keep is not None:
            self._keep += data
        if self._missing <= 0:
            self._finish()

    def _finish_chunked(self, chunked: bytearray) -> None:
        body = bytearray()
        at = 0
        while True:
            line_end = chunked.find(b"\r\n", at)
            if line_end < 0:
                return  # the final bytes only looked like the last chunk
            size = int(chunked[at:line_end].split(b";")[0], 16)
            if size == 0:
                break
            body += chunked[line_end + 2 : line_end + 2 + size]
            at = line_end + 2 + size + 2
        self._body_bytes = len(body)
        if self._keep is not None:
            self._keep = body
        self._finish()

    def _finish(self) -> None:
        self._missing = None
        self._chunked = None
        request, outcome = self._request, self._load.outcome
        wrong = self._what_is_wrong(request)
        if wrong:
            outcome.errors.append(wrong)
        else:
            outcome.latencies.append(time.perf_counter() - self._started)
            outcome.moved_bytes += request.moved_bytes
            outcome.done.append(self._index)
        self._load.go_on(self)

    def _what_is_wrong(self, request: Request) -> str | None:
        if self._status not in request.statuses:
            return f"status {self._status}, expected {request.statuses[0]}: {bytes(self._keep or b'')[:200].decode('ascii', 'replace')!r}"
        if request.answer_bytes is not None and self._body_bytes != request.answer_bytes:
            return f"{self._body_bytes} bytes, expected {request.answer_bytes}"
        if request.answer_starts and self._keep is not None and not self._keep.startswith(request.answer_starts):
            return "the body is not what was put"
        return None
