"""Turns: all servers run side by side, and each workload is measured on one after the other, a part at a time, again and again.

The machine is another one from minute to minute: its neighbours come and go, its disk writes back, its clock slows down. A ratio of two
servers that were measured half a minute apart says as much of that as of them. So a turn takes a second or less, the next one is another
server's, and who begins changes each time. A server that nobody asks takes next to nothing.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from bench.client import Outcome, Request, run_load
from bench.measures import Measure, Turn, as_measures
from bench.servers import Running
from bench.usage import PeakMemory, ProcessTree
from bench.workloads import Payload, Scale, Size, Workload, choose, first_objects, listed_keys, plan

Starter = Callable[[Path], AbstractContextManager[Running]]


def run_rounds(
    starters: Mapping[str, Starter], scale: Scale, folder: Path, report: Callable[[str], None], chosen: Collection[str] | None = None
) -> list[Measure]:
    """Measure all servers `scale.rounds` times, each time started anew. `chosen`: the workloads by name, as in "PUT 64 MiB"."""
    workloads = choose(plan(scale), chosen)
    payloads = {size: Payload(size) for size in (scale.small, scale.medium, scale.large)}
    turns: list[Turn] = []
    for number in range(1, scale.rounds + 1):
        started = time.monotonic()
        with ExitStack() as running:
            servers = [_start(running, name, start, folder / f"{name}-{number}") for name, start in starters.items()]
            for server in servers:
                _warm(server.running, scale, payloads)
            for workload in workloads:
                turns += _measure(servers, workload, payloads[workload.size])
        # Its data stays until the end: ext4 steps around files deleted in the last minutes, and creating others costs ten times as much.
        report(f"round {number} of {scale.rounds}: {', '.join(starters)}, {time.monotonic() - started:.0f} s")
    return as_measures(turns)


@dataclass(slots=True)
class _Server:
    """A server under measurement, and which objects of each size it has."""

    name: str
    running: Running
    tree: ProcessTree
    objects: dict[Size, list[int]] = field(default_factory=lambda: defaultdict(list))


def _start(running: ExitStack, name: str, start: Starter, folder: Path) -> _Server:
    folder.mkdir(parents=True)
    server = running.enter_context(start(folder))
    return _Server(name, server, ProcessTree(server.pid))


def _warm(server: Running, scale: Scale, payloads: Mapping[Size, Payload]) -> None:
    first = _load(server, first_objects(payloads.values(), server.endpoint), connections=1, seconds=30.0, repeat=False)
    listed = listed_keys(payloads[scale.small], server.endpoint)
    outcome = _load(server, listed, connections=scale.small.connections, seconds=30.0, repeat=False)
    outcome.errors += first.errors
    if outcome.errors:
        print(f"{server.name}: warming: {len(outcome.errors)} errors, the first: {outcome.errors[0]}", file=sys.stderr)


def _measure(servers: Sequence[_Server], workload: Workload, payload: Payload) -> Iterator[Turn]:
    """Measure a workload on all servers, turn by turn."""
    requests = [_parts(server, workload, payload) for server in servers]
    order = list(range(len(servers)))
    for _ in range(workload.size.turns):
        for index in order:
            part = next(requests[index])
            if part:
                yield _turn(servers[index], workload, part)
        order = order[1:] + order[:1]


def _parts(server: _Server, workload: Workload, payload: Payload) -> Iterator[dict[int, Request]]:
    """Yield what is sent in each turn, by the object's number: of what reads, everything; else a part each time, and everything once."""
    size = workload.size
    numbers = range(size.count) if workload.fills else server.objects[size]
    requests = dict(zip(numbers, workload.requests(payload, server.running.endpoint, numbers), strict=False))
    for turn in range(size.turns):
        if workload.repeat:
            yield requests
        else:
            first, end = (len(requests) * at // size.turns for at in (turn, turn + 1))
            yield dict(list(requests.items())[first:end])


def _turn(server: _Server, workload: Workload, part: Mapping[int, Request]) -> Turn:
    running = server.running
    memory = PeakMemory(server.tree)
    with memory.watch():
        asked = running.asked() if running.asked else 0
        cpu, own_cpu = server.tree.cpu_seconds(), _own_cpu_seconds()
        outcome = _load(
            running, list(part.values()), connections=workload.connections, seconds=workload.turn_seconds, repeat=workload.repeat
        )
        cpu, own_cpu = server.tree.cpu_seconds() - cpu, _own_cpu_seconds() - own_cpu
        requests_sent = running.asked() - asked if running.asked else None
    if workload.fills:
        numbers = list(part)
        server.objects[workload.size] += sorted(numbers[index] for index in outcome.done)
    if not workload.repeat:
        os.sync()  # what one server left in the page cache must not be written back during the next one's turn
    return Turn(
        target=server.name,
        workload=workload.name,
        size=workload.size.label,
        seconds=outcome.seconds,
        latencies=tuple(outcome.latencies),
        moved_bytes=outcome.moved_bytes if workload.in_bytes else None,
        cpu_seconds=cpu,
        client_cpu_seconds=own_cpu,
        peak_rss_bytes=memory.peak_bytes,
        requests=requests_sent,
        errors=tuple(outcome.errors[:5]),
    )


def _load(server: Running, requests: Sequence[Request], *, connections: int, seconds: float, repeat: bool) -> Outcome:
    endpoint = server.endpoint
    return uvloop.run(run_load(endpoint.host, endpoint.port, requests, connections=connections, at_most_seconds=seconds, repeat=repeat))


def _own_cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
