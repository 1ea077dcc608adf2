"""`python -m bench.wan.simulated`: what `bench.wan` measures, in simulated time, so that it says the same however busy the machine is.

Time leaps to the next timer. The same seeds give the same figures, and a p99 is of thousands of requests. What the processor does takes
fixed times, so the ratios count.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random
from statistics import mean
from typing import Annotated

import typer
from rich.console import Console

from bench.wan.campaign import FAST, FULL, NARROW, TROUBLES, Comparison, Findings
from bench.wan.line import Line
from bench.wan.operations import AT_ONCE, FIRST, LEARNING, PAUSE_SECONDS, Measured, Operation, last_above
from bench.wan.simulated_bucket import SimulatedBucket
from bench.wan.simulated_proxy import SimulatedProxy
from bench.wan.table import table
from bench.workloads import MIB
from proxy.stores.protocol import ShardName, StoreInfo, StoreName
from tests.leaping import leap, stand_still

SECONDS = 5.0  # of each operation in each state
STALLS_A_SECOND = 7.0
LARGE_SEEDS = 5  # at most: they differ less

Step = Callable[[Operation, int], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooled(Measured):
    """One operation in one state, over several runs. `latencies` are all of them."""

    runs: Sequence[Sequence[float]]

    @property
    def first(self) -> float:
        """The longest of the first ten, on average."""
        return mean(max(run[:FIRST], default=0.0) for run in self.runs)

    def adapted_after(self, limit_seconds: float) -> float:
        """Return the number of the last of the first forty that took longer than this, on average."""
        return mean(last_above(run[:LEARNING], limit_seconds) for run in self.runs)

    def percentile(self, share: float) -> float:
        ordered = sorted(seconds for run in self.runs for seconds in run[FIRST:])
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0


def main(
    seeds: Annotated[int, typer.Option(min=1, help="Each is a run of its own.")] = 8,
    state: Annotated[list[str] | None, typer.Option(help=f"Only these beside healthy: {', '.join(TROUBLES)}.")] = None,
    large_mib: Annotated[int, typer.Option(min=64, help="The size of the large object.")] = 256,
    stall_ms: Annotated[float, typer.Option(min=0.0, help="As on a busy machine: all stands still so long, seven times a second.")] = 0.0,
) -> None:
    """Simulate, and print the table of `bench.wan`."""
    logging.disable(logging.CRITICAL)  # what goes wrong does so on purpose
    findings = Findings(large_bytes=large_mib * MIB)
    direct = _pooled([leap(_direct(seed)) for seed in range(seeds)])
    names = ("healthy", *(state or TROUBLES))
    states = {name: _pooled([leap(_in_state(seed, name, stall_ms / 1000)) for seed in range(seeds)]) for name in names}
    healthy = states["healthy"]
    findings.comparisons = [Comparison(name, found, direct if name == "healthy" else healthy) for name, found in states.items()]
    large = [leap(_large(seed, findings.large_bytes)) for seed in range(min(seeds, LARGE_SEEDS))]
    findings.large = {what: mean(one[what] for one in large) for what in large[0]}
    Console(width=170).print(table(findings))


def _pooled(runs: Sequence[dict[str, Measured]]) -> dict[str, Measured]:
    return {
        name: Pooled(
            latencies=[seconds for run in runs for seconds in run[name].latencies],
            requests=mean(run[name].requests for run in runs),
            runs=[run[name].latencies for run in runs],
        )
        for name in runs[0]
    }


async def _direct(seed: int) -> dict[str, Measured]:
    """The same operations on one bucket."""
    bucket = SimulatedBucket(
        StoreInfo(name=StoreName("direct"), provider="direct", region="direct", jurisdiction="D"),
        Line("direct", bytes_per_second=FAST * 1e6, seed=-seed - 1),
    )

    async def step(operation: Operation, number: int) -> None:
        if operation.method == "PUT":
            await bucket.put(ShardName(str(number)), [bytes(operation.size_bytes)])
        else:
            await bucket.get_range(ShardName(str(number)), 0, operation.size_bytes)

    return {one.name: Measured(latencies=await measured(step, one, Random(seed)), requests=1.0) for one in FULL.healthy}


async def _in_state(seed: int, state: str, stall_seconds: float) -> dict[str, Measured]:
    """Let a proxy get to know its stores, and then measure what it does when they are in this state."""
    busy = asyncio.create_task(_stall(Random(seed), stall_seconds))
    proxy, found = SimulatedProxy(seed, megabytes_per_second=FAST), {}
    for operation in FULL.troubled:
        await measured(proxy.answer, operation, proxy.chance)
    proxy.turn(TROUBLES.get(state, {}))
    for operation in FULL.troubled if state in TROUBLES else FULL.healthy:
        before = proxy.requests
        latencies = await measured(proxy.answer, operation, proxy.chance)
        found[operation.name] = Measured(latencies=latencies, requests=(proxy.requests - before) / len(latencies))
    busy.cancel()
    return found


async def _stall(chance: Random, mean_seconds: float) -> None:
    while mean_seconds:
        await asyncio.sleep(chance.expovariate(STALLS_A_SECOND))
        stand_still(chance.expovariate(1 / mean_seconds))


async def _large(seed: int, size_bytes: int) -> dict[str, float]:
    """Return the seconds that a large object takes over narrow lines, which were broad before."""
    proxy, loop = SimulatedProxy(seed, megabytes_per_second=FAST), asyncio.get_running_loop()
    for operation in FULL.healthy:
        await measured(proxy.answer, operation, proxy.chance)
    proxy.widen(NARROW)

    async def timed(step: Awaitable[None]) -> float:
        begun = loop.time()
        await step
        return loop.time() - begun

    return {
        "up": await timed(proxy.upload(size_bytes)),
        f"down, {AT_ONCE} ranges at once": await timed(proxy.download(size_bytes, at_once=AT_ONCE)),
        "down, one stream": await timed(proxy.download(size_bytes, at_once=1)),
    }


async def measured(step: Step, operation: Operation, chance: Random) -> list[float]:
    """Return the seconds of each request in the order they began."""
    loop, numbers = asyncio.get_running_loop(), iter(range(operation.most))
    taken: list[tuple[float, float]] = []
    end = loop.time() + SECONDS

    async def client() -> None:
        for number in numbers:
            await asyncio.sleep(chance.expovariate(1 / PAUSE_SECONDS))
            begun = loop.time()
            if begun > end:
                return
            await step(operation, number)
            taken.append((begun, loop.time() - begun))

    await asyncio.gather(*(client() for _ in range(operation.connections)))
    return [seconds for _, seconds in sorted(taken)]


if __name__ == "__main__":
    typer.run(main)
