"""The composition root: from a configuration to running services."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from proxy.clock import Clock, SystemClock
from proxy.codec.geometry import SegmentGeometry
from proxy.config import Config
from proxy.engine.budget import Budget
from proxy.engine.collect import Collector
from proxy.engine.engine import Engine
from proxy.engine.fleet import Fleet
from proxy.engine.intents import IntentLedger
from proxy.engine.placement import Policy
from proxy.engine.quorum import ShardPutter
from proxy.engine.read import Reader
from proxy.engine.stragglers import Stragglers
from proxy.engine.tasks import BackgroundTasks
from proxy.engine.write import Writer, segment_memory
from proxy.errors import ProxyError
from proxy.keyring import Keyring
from proxy.manifest.protocol import Manifest
from proxy.manifest.sqlite import open_sqlite
from proxy.openings import open_fleet, open_root_key, refuse_lost_manifest
from proxy.policies import make_policies
from proxy.stores.observe import Recorder
from proxy.stores.protocol import Store
from proxy.stores.uring import open_ring

logger = logging.getLogger(__name__)
Step = Callable[[], Awaitable[object]]

THREADS = 4  # coding, sealing, hashing: two a core of the smallest machine
DRAIN_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Services:
    """All that a server or a command needs."""

    config: Config
    clock: Clock
    manifest: Manifest
    keyring: Keyring
    fleet: Fleet
    policies: Mapping[str, Policy]
    default_policy: str
    engine: Engine
    collector: Collector
    budget: Budget

    @property
    def stores(self) -> Mapping[str, Store]:
        return self.fleet.stores


@asynccontextmanager
async def open_services(
    config: Config,
    *,
    clock: Clock | None = None,
    workers: int = 1,
    record_store_call: Recorder | None = None,
    tidy: bool = False,
) -> AsyncIterator[Services]:
    """Open everything, and run collection and lease renewal; on leaving, let late puts end, then close.

    Of the configured memory, this process takes the share of one of `workers`. With `tidy`, what crashes left in directories is removed.
    """
    clock = clock or SystemClock()
    policies = make_policies(config)
    tasks = BackgroundTasks()
    async with AsyncExitStack() as opened:
        seconds = config.limits.manifest_timeout_seconds
        manifest = await opened.enter_async_context(open_sqlite(Path(config.manifest.path), clock, timeout_seconds=seconds))
        await refuse_lost_manifest(config, manifest, clock)
        keyring = Keyring(await open_root_key(config, manifest))
        threads = opened.enter_context(ThreadPoolExecutor(THREADS, thread_name_prefix="codec"))
        fleet = await opened.enter_async_context(_fleet(config, manifest, clock, record_store_call, tidy=tidy))

        limits = config.limits
        budget = Budget(limits.memory_mib * 1024 * 1024 // workers, wait_seconds=limits.memory_wait_seconds)
        _warn_of_small_budget(budget, policies.values())
        ledger = IntentLedger(manifest, clock, tasks, owner=secrets.token_hex(8), lease_seconds=limits.intent_seconds)
        putter = ShardPutter(fleet, max_grace_seconds=limits.straggler_grace_seconds)
        stragglers = Stragglers(manifest, tasks)
        writer = Writer(ledger=ledger, putter=putter, stragglers=stragglers, budget=budget, tasks=tasks, threads=threads)
        reader = Reader(manifest=manifest, fleet=fleet, budget=budget, threads=threads)
        collector = Collector(manifest, fleet, ledger, clock, delay_seconds=limits.collect_after_seconds)
        steps = ((ledger.renew, limits.intent_seconds / 3), (collector.run_once, limits.collect_interval_seconds))
        await opened.enter_async_context(_running(tasks, steps))
        yield Services(
            config=config,
            clock=clock,
            manifest=manifest,
            keyring=keyring,
            fleet=fleet,
            policies=policies,
            default_policy=config.default_policy,
            engine=Engine(manifest=manifest, keyring=keyring, writer=writer, reader=reader, policies=policies, clock=clock),
            collector=collector,
            budget=budget,
        )


@asynccontextmanager
async def _fleet(config: Config, manifest: Manifest, clock: Clock, record: Recorder | None, *, tidy: bool) -> AsyncIterator[Fleet]:
    ring = open_ring(directories=sum(store.kind == "directory" for store in config.stores.values()))
    try:
        fleet = await open_fleet(config, manifest, clock, record, ring, tidy=tidy)
        try:
            yield fleet
        finally:
            await fleet.close()
    finally:
        if ring is not None:
            await ring.close()


@asynccontextmanager
async def _running(tasks: BackgroundTasks, steps: Iterable[tuple[Step, float]]) -> AsyncIterator[None]:
    """Take each step every so many seconds; on leaving, let the tasks of requests end first."""
    running = [asyncio.create_task(_every(seconds, step)) for step, seconds in steps]
    try:
        yield
    finally:
        await tasks.drain(DRAIN_SECONDS)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _warn_of_small_budget(budget: Budget, policies: Iterable[Policy]) -> None:
    for policy in policies:
        schemes = {policy.scheme, *policy.storage_classes.values()}
        memory = max(segment_memory(SegmentGeometry(scheme, policy.segment_size)) for scheme in schemes)
        if memory > budget.largest_bytes:
            logger.warning(
                "limits.memory_mib: a segment of policy %s takes %.0f MiB, and a request of this worker is granted %.0f; it will take more "
                "than is granted: raise memory_mib, or lower workers or segment_mib",
                policy.name,
                memory / 1024**2,
                budget.largest_bytes / 1024**2,
            )


async def _every(seconds: float, step: Step) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await step()
        except ProxyError as error:
            logger.warning("background work failed, and will be tried again: %s", error)
        except Exception:  # whatever it is: were the task to end here, leases would expire and garbage pile up, and nobody would know
            logger.exception("background work failed, and will be tried again")
