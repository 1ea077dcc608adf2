"""Rounds: each server is started, warmed, measured and stopped in turn, and again, so that drift of the machine hits all alike."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import uvloop

from bench.client import Outcome, Request, run_load
from bench.measures import Measure, medians
from bench.servers import Running
from bench.usage import PeakMemory, ProcessTree
from bench.workloads import Payload, Scale, Size, Workload, choose, first_objects, listed_keys, plan

GIB = 1024**3

Starter = Callable[[Path], AbstractContextManager[Running]]


def run_rounds(
    starters: Mapping[str, Starter], scale: Scale, folder: Path, report: Callable[[str], None], chosen: Collection[str] | None = None
) -> list[Measure]:
    """Measure every server `scale.rounds` times; return the medians. `chosen`: the workloads by name, as in "PUT 64 MiB"."""
    workloads = choose(plan(scale), chosen)
    payloads = {size.label: Payload(size) for size in (scale.small, scale.medium, scale.large)}
    measures: list[Measure] = []
    for number in range(1, scale.rounds + 1):
        for name, start in starters.items():
            started = time.monotonic()
            measures += _run_round(name, start, scale, workloads, folder / f"{name}-{number}", payloads)
            report(f"round {number} of {scale.rounds}: {name}, {time.monotonic() - started:.0f} s")
    return medians(measures)


def _run_round(
    name: str, start: Starter, scale: Scale, workloads: Sequence[Workload], folder: Path, payloads: Mapping[str, Payload]
) -> list[Measure]:
    folder.mkdir(parents=True)
    try:
        with start(folder) as server:
            _warm(server, scale, payloads)
            return _measure_all(name, server, workloads, payloads)
    finally:
        # Its data stays until the end: ext4 steps around files deleted in the last minutes, and creating others costs ten times as much.
        os.sync()  # what one server left in the page cache must not be written back during the next one's turn


def _warm(server: Running, scale: Scale, payloads: Mapping[str, Payload]) -> None:
    first = _load(server, first_objects(payloads.values(), server.endpoint), connections=1, seconds=30.0, repeat=False)
    listed = listed_keys(payloads[scale.small.label], server.endpoint)
    outcome = _load(server, listed, connections=scale.small.connections, seconds=30.0, repeat=False)
    outcome.errors += first.errors
    if outcome.errors:
        print(f"{server.name}: warming: {len(outcome.errors)} errors, the first: {outcome.errors[0]}", file=sys.stderr)


def _measure_all(name: str, server: Running, workloads: Sequence[Workload], payloads: Mapping[str, Payload]) -> list[Measure]:
    existing: dict[Size, list[int]] = {}
    measures = []
    for workload in workloads:
        present = existing.get(workload.size, [])
        if not (present or workload.fills):
            continue
        measure, outcome = _measure(name, server, workload, payloads[workload.size.label], present)
        if workload.fills:
            existing[workload.size] = sorted(outcome.done)
        measures.append(measure)
    return measures


def _measure(name: str, server: Running, workload: Workload, payload: Payload, present: Sequence[int]) -> tuple[Measure, Outcome]:
    requests = workload.requests(payload, server.endpoint, present)
    tree = ProcessTree(server.pid)
    memory = PeakMemory(tree)
    with memory.watch():
        asked = server.asked() if server.asked else 0
        cpu, own_cpu = tree.cpu_seconds(), _own_cpu_seconds()
        outcome = _load(server, requests, connections=workload.connections, seconds=workload.seconds, repeat=workload.repeat)
        cpu, own_cpu = tree.cpu_seconds() - cpu, _own_cpu_seconds() - own_cpu
        requests_sent = server.asked() - asked if server.asked else None
    operations = len(outcome.latencies)
    latencies = sorted(outcome.latencies) or [0.0]
    measure = Measure(
        target=name,
        workload=workload.name,
        size=workload.size.label,
        operations=operations,
        operations_per_second=operations / outcome.seconds,
        megabytes_per_second=outcome.moved_bytes / outcome.seconds / 1e6 if workload.in_bytes else None,
        p50_ms=1e3 * latencies[len(latencies) // 2],
        p99_ms=1e3 * latencies[min(len(latencies) - 1, int(len(latencies) * 0.99))],
        cpu_seconds_per_gib=cpu / (outcome.moved_bytes / GIB) if workload.in_bytes and outcome.moved_bytes else None,
        cpu_seconds_per_1000_operations=1e3 * cpu / max(operations, 1),
        peak_rss_mib=memory.peak_bytes / 1024**2,
        client_cpu_share=own_cpu / outcome.seconds,
        requests=None if requests_sent is None else requests_sent / max(operations, 1),
        errors=tuple(outcome.errors[:5]),
    )
    return measure, outcome


def _load(server: Running, requests: Sequence[Request], *, connections: int, seconds: float, repeat: bool) -> Outcome:
    endpoint = server.endpoint
    return uvloop.run(run_load(endpoint.host, endpoint.port, requests, connections=connections, at_most_seconds=seconds, repeat=repeat))


def _own_cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
