"""A line to a distant bucket: latency with a heavy tail, bandwidth, and what can happen to it. All of it comes from timers, not from work.

Each message, a request or an answer, waits for the line's bandwidth, which all connections share, and then for a delay that is drawn anew:
half the round trip, a little jitter, and for one message in fifty between 20 and 300 ms more, as after a lost packet. So one request in 25
is hit, on its way there or back. A new connection takes a round trip more. A real line also has TCP's slow start, and TLS; this one has
neither.

A line is **healthy**, **slow** (ten times the delay, a tenth of the bandwidth), **dead** (connections are reset) or **hanging**
(connections are taken, and nothing is ever answered).
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from functools import partial
from random import Random
from typing import Literal, Protocol, cast

State = Literal["healthy", "slow", "dead", "hanging"]
ONE_WAY_SECONDS = 0.015
JITTER_SECONDS = 0.001  # on average
TAIL_SHARE = 0.02
TAIL_SECONDS = (0.02, 0.3)  # on a logarithmic scale
SLOWER = 10
PACKET = 64 * 1024  # what of an answer takes its turn on the line at once
TIMER_SECONDS = 0.001  # how much too early a timer may be: uvloop's count milliseconds
QUEUE_SECONDS = 0.006  # how long the line may be booked in advance: more than timers are late


class Line:
    """One bucket's line. `requests` counts what was asked over it."""

    def __init__(self, name: str, *, bytes_per_second: float, seed: int) -> None:
        self.name = name
        self.state: State = "healthy"
        self.bytes_per_second = bytes_per_second
        self.requests = 0
        self.connections: set[Connection] = set()
        self._random = Random(seed)
        self._booked_until = {"up": 0.0, "down": 0.0}

    def turn(self, state: State) -> None:
        """Change what the line is like. Connections that hung, or that a dead line had, are reset."""
        was, self.state = self.state, state
        if state == "dead" or was == "hanging":
            for connection in tuple(self.connections):
                connection.reset()

    def delay(self) -> float:
        """Draw the delay of one message."""
        seconds = ONE_WAY_SECONDS + self._random.expovariate(1 / JITTER_SECONDS)
        if self._random.random() < TAIL_SHARE:
            low, high = TAIL_SECONDS
            seconds += low * math.exp(self._random.random() * math.log(high / low))
        return seconds * (SLOWER if self.state == "slow" else 1)

    def book(self, direction: Literal["up", "down"], size_bytes: int, now: float) -> float:
        """Return when so many bytes have left."""
        rate = self.bytes_per_second / (SLOWER if self.state == "slow" else 1)
        self._booked_until[direction] = max(self._booked_until[direction], now) + size_bytes / rate
        return self._booked_until[direction]

    def booked_seconds(self, direction: Literal["up", "down"], now: float) -> float:
        return max(self._booked_until[direction] - now, 0.0)


class Server(Protocol):
    """What is at the far end: takes what arrives, and returns what is to be sent, whole answers only."""

    def feed(self, data: bytes) -> list[bytes | memoryview]: ...


class Connection(asyncio.Protocol):
    """One client's connection over a line."""

    def __init__(self, line: Line, server: Server) -> None:
        self._line = line
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._answering = True  # so that the first bytes begin a request
        self._arriving: deque[tuple[float, bytes]] = deque()
        self._unsent: deque[memoryview] = deque()
        self._leaving: deque[tuple[float, memoryview]] = deque()
        self._up_delay = self._down_delay = 0.0
        self._resumed_at = 0.0
        self._timers: set[asyncio.TimerHandle] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own is no subclass of it
        self._line.connections.add(self)
        self._handshake = 2 * self._line.delay()
        if self._line.state == "dead":
            self._later(self._loop.time() + self._handshake, self.reset)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- the protocol's signature
        self._line.connections.discard(self)
        for timer in self._timers:
            timer.cancel()

    def reset(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._answering:
            self._answering = False
            self._line.requests += 1
            self._up_delay, self._handshake = self._line.delay() + self._handshake, 0.0
        if self._line.state in {"dead", "hanging"}:
            return
        now = self._loop.time()
        at = self._line.book("up", len(data), min(self._resumed_at or now, now)) + self._up_delay
        self._resumed_at = 0.0
        self._arriving.append((at, data))
        self._later(at, self._arrive)
        if (ahead := self._line.booked_seconds("up", now)) > QUEUE_SECONDS:
            self._transport.pause_reading()
            self._resumed_at = now + ahead - QUEUE_SECONDS / 2  # however late the timer is, the line was not idle meanwhile
            self._later(self._resumed_at, self._transport.resume_reading)

    def _arrive(self) -> None:
        now = self._loop.time() + TIMER_SECONDS
        while self._arriving and self._arriving[0][0] <= now and self._line.state not in {"dead", "hanging"}:
            answer = self._server.feed(self._arriving.popleft()[1])
            if answer:
                self._answering = True
                self._down_delay = self._line.delay()
                self._unsent.extend(packet for part in answer for packet in _packets(memoryview(part)))
                self._send(now)

    def _send(self, since: float) -> None:
        """Book the line for as many packets as may be booked in advance. There was something to send `since` then, however late it is."""
        now = self._loop.time()
        while self._unsent and self._line.booked_seconds("down", now) < QUEUE_SECONDS:
            packet = self._unsent.popleft()
            at = self._line.book("down", len(packet), since) + self._down_delay
            self._leaving.append((at, packet))
            self._later(at, self._leave)
        if self._unsent:
            again = now + QUEUE_SECONDS / 2
            self._later(again, partial(self._send, again))

    def _leave(self) -> None:
        now = self._loop.time() + TIMER_SECONDS
        while self._leaving and self._leaving[0][0] <= now and self._line.state not in {"dead", "hanging"}:
            self._transport.write(self._leaving.popleft()[1])

    def _later(self, at: float, step: _Step) -> None:
        def run() -> None:
            self._timers.discard(timer)
            if not self._transport.is_closing():
                step()

        timer = self._loop.call_at(at, run)
        self._timers.add(timer)


def _packets(data: memoryview) -> list[memoryview]:
    return [data[start : start + PACKET] for start in range(0, len(data), PACKET)]


class _Step(Protocol):
    def __call__(self) -> None: ...
