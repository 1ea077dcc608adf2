"""What one lost message costs where a store is slow and another dead: the engine over the lines of the bench, in simulated time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest

from bench.wan.campaign import FAST, TROUBLES
from bench.wan.line import State
from bench.wan.operations import AT_ONCE, GET_8M, GET_64K, PUT_4K_16, PUT_64K, Measured, Operation
from bench.wan.simulated import measured
from bench.wan.simulated_proxy import SimulatedProxy
from bench.workloads import MIB
from tests.leaping import leap

SEED = 1


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


async def _measured(operation: Operation, states: dict[str, State]) -> Measured:
    proxy = SimulatedProxy(SEED, megabytes_per_second=FAST)
    await measured(proxy.answer, operation, proxy.chance)
    proxy.turn(states)
    before = proxy.requests
    latencies = await measured(proxy.answer, operation, proxy.chance)
    return Measured(latencies=latencies, requests=(proxy.requests - before) / len(latencies))


@pytest.mark.parametrize("operation", [GET_64K, PUT_64K, GET_8M], ids=lambda operation: operation.name)
def test_with_one_store_slow_and_one_dead_requests_take_little_longer(operation: Operation) -> None:
    healthy = leap(_measured(operation, {}))
    troubled = leap(_measured(operation, dict(TROUBLES["slow + dead"])))
    assert troubled.percentile(0.5) < 1.1 * healthy.percentile(0.5)
    assert troubled.percentile(0.99) < 1.7 * healthy.percentile(0.99)


@pytest.mark.parametrize("writers", [8, 16])
def test_many_writers_of_small_objects_share_their_puts_and_take_little_longer_than_a_few(writers: int) -> None:
    few = leap(_measured(replace(PUT_4K_16, connections=4, most=400), {}))
    many = leap(_measured(replace(PUT_4K_16, connections=writers, most=800), {}))
    assert many.requests < 0.9
    assert many.percentile(0.5) < 1.15 * few.percentile(0.5)


async def _download_seconds(states: dict[str, State]) -> float:
    """Return how long a large download takes while lines are so, for the first time."""
    proxy, loop = SimulatedProxy(SEED, megabytes_per_second=FAST), asyncio.get_running_loop()
    await measured(proxy.answer, GET_8M, proxy.chance)
    proxy.turn(states)
    began = loop.time()
    await proxy.download(96 * MIB, at_once=AT_ONCE)
    return loop.time() - began


@pytest.mark.parametrize("state", ["slow", "hanging"])
def test_a_large_download_in_ranges_soon_finds_out_that_a_store_is_in_trouble_and_its_line_not_narrow(state: str) -> None:
    assert leap(_download_seconds(dict(TROUBLES[state]))) < 2.5 * leap(_download_seconds({}))


def test_the_same_seed_gives_the_same_figures() -> None:
    assert leap(_measured(GET_64K, {})) == leap(_measured(GET_64K, {}))
