"""GETs beside background work: the p99 of each, with a repair or a deep scrub at full speed and without, in turns in one run.

Two kinds of object lie in the stores: those that are read, which stay whole, and large ones that nobody reads. A scrub opens the shards of
all, pass after pass. For a repair, shards of the large ones are removed from their stores, behind the server's back, and reported as
missing, so that it never runs out of work. Between turns the work is paused. A turn begins when it has ended a step, and is followed by the
end of another.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

from bench.client import Outcome, Request, run_load
from bench.measures import percentile
from bench.servers import Running, ServerFailed
from bench.workloads import MIB, Payload, Size, gets, puts
from proxy.clock import SystemClock
from proxy.manifest.damage import Damage
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Extent, ExtentId, Segment
from proxy.manifest.records import Job as JobRecord
from proxy.manifest.sqlite import open_sqlite

SMALL, MEDIUM = Size("4 KiB", 4096, 1000, 16), Size("1 MiB", MIB, 128, 8)
VICTIMS = Size("64 MiB", 64 * MIB, 16, 4)
Job = Literal["repair", "scrub-deep"]
BACKLOG = 16  # segments that wait for repair at any time of a turn
START_SECONDS = 90.0  # the worker looks for work every ten seconds, and whether it is still paused every fifteen
NOW_MS = 0  # of the reports: such damage is due at once


@dataclass(slots=True)
class BesideResult:
    """Latencies in seconds, by size, without the work and with it; what the work was meanwhile."""

    calm: dict[str, list[float]] = field(default_factory=dict)
    busy: dict[str, list[float]] = field(default_factory=dict)
    shards: int = 0
    size_bytes: int = 0
    seconds: float = 0.0
    errors: list[str] = field(default_factory=list)

    def p99_ms(self, size: str) -> tuple[float, float]:
        """Return the 99th percentile of a size without the work, and with it."""
        return 1e3 * percentile(sorted(self.calm[size]), 0.99), 1e3 * percentile(sorted(self.busy[size]), 0.99)


async def measure_beside(job: Job, server: Running, data: Path, *, rounds: int, seconds: float) -> BesideResult:
    """Measure GETs in turns, each size for `seconds`."""
    result = BesideResult()
    payloads = {size: Payload(size) for size in (SMALL, MEDIUM)}
    for payload in payloads.values():
        await _load(server, puts(payload, server.endpoint, ()), payload.size, 120.0, result, repeat=False)
    async with open_sqlite(data / "manifest.sqlite", SystemClock()) as manifest:
        await manifest.pause_job(job, True)
        behind = await manifest.newest_extent()
        await _load(server, puts(Payload(VICTIMS), server.endpoint, ()), VICTIMS, 300.0, result, repeat=False)
        for _ in range(rounds):
            await _turn(server, payloads, result, result.calm, seconds)
            async with _working(job, manifest, data, behind, result):
                await _turn(server, payloads, result, result.busy, seconds)
    return result


class Victims:
    """Segments whose shards are removed again and again. `behind`: they are the extents behind this one."""

    def __init__(self, manifest: Manifest, data: Path, behind: ExtentId) -> None:
        self._manifest = manifest
        self._data = data
        self._behind = behind
        self._turn = 0

    async def keep_damaged(self) -> None:
        """Have some segments wait for repair at all times."""
        while True:
            waiting = sum((await self._manifest.count_damage()).by_redundancy.values())
            if waiting < BACKLOG:
                await self._damage(BACKLOG)
            await asyncio.sleep(0.5)

    async def _damage(self, count: int) -> None:
        extents = await self._manifest.walk_extents(after=self._behind, limit=1000)
        segments = [(extent, segment) for extent in extents for segment in extent.layout.segments]
        chosen = [segments[(self._turn + number) % len(segments)] for number in range(min(count, len(segments)))]
        self._turn += count
        await self._manifest.report_damage([self._lose(extent, segment) for extent, segment in chosen], now_ms=NOW_MS)

    def _lose(self, extent: Extent, segment: Segment) -> Damage:
        index = self._turn // BACKLOG % len(segment.stores)
        store, generation = segment.stores[index], segment.generations[index] if segment.generations else 0
        with suppress(FileNotFoundError):  # it is lost already
            (self._data / "stores" / store / segment.shard_name(index)).unlink()
        return Damage(extent_id=extent.id, segment_id=segment.id, shard_index=index, kind="missing", store=store, generation=generation)


async def _keep_damaged(data: Path, behind: ExtentId) -> None:
    async with open_sqlite(data / "manifest.sqlite", SystemClock()) as manifest:
        await Victims(manifest, data, behind).keep_damaged()


def _damage_in_child(data: Path, behind: ExtentId) -> None:
    asyncio.run(_keep_damaged(data, behind))


@asynccontextmanager
async def _working(job: Job, manifest: Manifest, data: Path, behind: ExtentId, result: BesideResult) -> AsyncIterator[None]:
    """Let the work go on from before the block to its end."""
    await manifest.pause_job(job, False)
    with _damaging(data, behind) if job == "repair" else nullcontext():
        try:
            before = await _at_work(manifest, job)
            started = time.perf_counter()
            yield
            after = await _at_work(manifest, job)  # the end of a step that was under way: it is on record only then
            result.seconds += time.perf_counter() - started
            result.shards += after.done - before.done
            result.size_bytes += after.size_bytes - before.size_bytes
        finally:
            await manifest.pause_job(job, True)
            await _at_rest(manifest, job)


@contextmanager
def _damaging(data: Path, behind: ExtentId) -> Iterator[None]:
    """Do damage by a process of its own: in this one it would delay answers."""
    damaging = get_context("spawn").Process(target=_damage_in_child, args=(data, behind), daemon=True)
    damaging.start()
    try:
        yield
    finally:
        damaging.kill()
        damaging.join()


async def _at_work(manifest: Manifest, job: Job) -> JobRecord:
    begun = await manifest.find_job(job)
    for _ in range(int(START_SECONDS * 10)):
        now = await manifest.find_job(job)
        if now.done > begun.done:
            return now
        await asyncio.sleep(0.1)
    raise ServerFailed(f"{job} stands still: {begun.last_error or 'it finds no work'}")


async def _at_rest(manifest: Manifest, job: Job) -> None:
    for _ in range(int(START_SECONDS * 10)):
        if not (await manifest.find_job(job)).holder:
            return
        await asyncio.sleep(0.1)
    raise ServerFailed(f"{job} does not pause")


async def _turn(
    server: Running, payloads: dict[Size, Payload], result: BesideResult, latencies: dict[str, list[float]], seconds: float
) -> None:
    for size, payload in payloads.items():
        outcome = await _load(server, gets(payload, server.endpoint, range(size.count)), size, seconds, result, repeat=True)
        latencies.setdefault(size.label, []).extend(outcome.latencies)


async def _load(server: Running, requests: Sequence[Request], size: Size, seconds: float, result: BesideResult, *, repeat: bool) -> Outcome:
    endpoint = server.endpoint
    outcome = await run_load(endpoint.host, endpoint.port, requests, connections=size.connections, at_most_seconds=seconds, repeat=repeat)
    result.errors += outcome.errors
    return outcome
