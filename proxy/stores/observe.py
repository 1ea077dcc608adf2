"""What is known of a store: how fast it answers, and whether it should be asked at all.

A breaker opens after three failures in a row, or one refusal: calls then fail at once instead of each waiting out its deadline. One call
every few seconds is let through to see whether the store is back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Literal, TypeVar

from proxy.clock import Clock
from proxy.errors import ShardMissing, StoreError, StoreRejected, StoreUnavailable
from proxy.stores.protocol import ShardName, Store, StoreInfo

Result = TypeVar("Result")
Verb = Literal["put", "get_range", "get", "list", "delete"]
Recorder = Callable[[str, Verb, str, float], None]
FAILURES_TO_OPEN = 3
PROBE_SECONDS = 2.0
SAMPLES = 64
DEFAULT_P95_SECONDS = 0.5  # until a store has shown how fast it is


class ObservedStore:
    """A store with a memory."""

    def __init__(self, inner: Store, clock: Clock, *, record: Recorder | None = None) -> None:
        self._inner = inner
        self._clock = clock
        self._record = record
        self._latencies: dict[str, deque[float]] = {}
        self._p95: dict[str, float] = {}
        self._failures = 0
        self._open_until = 0.0

    @property
    def info(self) -> StoreInfo:
        return self._inner.info

    @property
    def healthy(self) -> bool:
        """Whether to send it new work: the breaker is closed, or a probe is due."""
        return self._failures < FAILURES_TO_OPEN or self._clock.monotonic() >= self._open_until

    def latency_p95(self, verb: Verb) -> float:
        """Return the 95th percentile of the last successful calls, in seconds."""
        return self._p95.get(verb, DEFAULT_P95_SECONDS)

    async def put(self, name: ShardName, body: Sequence[bytes | bytearray | memoryview]) -> None:
        self._admit()
        await self._watched("put", self._inner.put(name, body))

    async def get_range(self, name: ShardName, start: int, length: int) -> memoryview | bytes:
        self._admit()
        return await self._watched("get_range", self._inner.get_range(name, start, length))

    async def get(self, name: ShardName) -> memoryview | bytes:
        self._admit()
        return await self._watched("get", self._inner.get(name))

    async def list(self, prefix: str = "") -> AsyncIterator[tuple[ShardName, int]]:
        self._admit()
        try:
            async for entry in self._inner.list(prefix):
                yield entry
        except StoreError as error:
            self._failed("list", error, self._clock.monotonic())
            raise
        self._failures = 0

    async def delete(self, name: ShardName) -> None:
        self._admit()
        await self._watched("delete", self._inner.delete(name))

    async def close(self) -> None:
        await self._inner.close()

    def _admit(self) -> None:
        if self._failures < FAILURES_TO_OPEN:
            return
        now = self._clock.monotonic()
        if now < self._open_until:
            raise StoreUnavailable(self.info.name, "not asked: it failed several times in a row just now")
        self._open_until = now + PROBE_SECONDS  # this call is the probe

    async def _watched(self, verb: Verb, call: Awaitable[Result]) -> Result:
        started = self._clock.monotonic()
        try:
            result = await call
        except ShardMissing as error:
            self._succeeded(verb, started, type(error).__name__)
            raise
        except StoreError as error:
            self._failed(verb, error, started)
            raise
        self._succeeded(verb, started, "ok")
        return result

    def _succeeded(self, verb: Verb, started: float, outcome: str) -> None:
        elapsed = self._clock.monotonic() - started
        self._failures = 0
        ring = self._latencies.setdefault(verb, deque(maxlen=SAMPLES))
        ring.append(elapsed)
        if len(ring) < 8 or len(ring) % 8 == 0 or elapsed > self._p95.get(verb, 0.0):
            self._p95[verb] = sorted(ring)[len(ring) * 95 // 100]
        if self._record is not None:
            self._record(self.info.name, verb, outcome, elapsed)

    def _failed(self, verb: Verb, error: StoreError, started: float) -> None:
        now = self._clock.monotonic()
        self._failures += FAILURES_TO_OPEN if isinstance(error, StoreRejected) else 1
        if self._failures >= FAILURES_TO_OPEN:
            self._open_until = now + PROBE_SECONDS
        if self._record is not None:
            self._record(self.info.name, verb, type(error).__name__, now - started)
