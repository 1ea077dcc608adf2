"""Load from a process of its own: what a client costs does not count among the server's."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import uvloop

from bench.client import Outcome, Request, run_load
from bench.signing import Endpoint
from bench.workloads import Payload, Scale, Size, listed_keys, plan


def fill_listing(endpoint: Endpoint, scale: Scale) -> Outcome:
    """Put the objects that LIST lists. They warm the server, too."""
    return _run(endpoint, listed_keys(_payload(scale.small), endpoint), scale.small.connections, scale.write_seconds * 10, repeat=False)


def run_workload(endpoint: Endpoint, scale: Scale, name: str, existing: Sequence[int]) -> Outcome:
    """Send what the small workload of this name sends. `existing` are the objects that are there."""
    workload = next(each for each in plan(scale) if each.name == name and each.size is scale.small)
    requests = workload.requests(_payload(workload.size), endpoint, existing)
    return _run(endpoint, requests, workload.connections, workload.seconds, repeat=workload.repeat)


@cache  # what a GET expects is what the PUT before it has sent
def _payload(size: Size) -> Payload:
    return Payload(size)


def _run(endpoint: Endpoint, requests: Sequence[Request], connections: int, seconds: float, *, repeat: bool) -> Outcome:
    return uvloop.run(run_load(endpoint.host, endpoint.port, requests, connections=connections, at_most_seconds=seconds, repeat=repeat))
