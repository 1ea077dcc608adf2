"""The composition root: from a configuration to running services."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

from proxy.clock import Clock, SystemClock
from proxy.codec.geometry import SegmentGeometry
from proxy.config import Config
from proxy.engine.cache.cache import NOT_RECORDED, RecordCache, SealedCache
from proxy.engine.cache.opening import open_cache
from proxy.engine.damage import DamageReporter, RecordDamage
from proxy.engine.engine import Engine
from proxy.engine.epoch import EpochKeeper
from proxy.engine.journal.acknowledge import acknowledged
from proxy.engine.journal.fence import JournalFence
from proxy.engine.journal.reading import CopyReader
from proxy.engine.memory.background import BACKGROUND, BackgroundMemory
from proxy.engine.memory.budget import Budget
from proxy.engine.outgoing.access_log import AccessLog
from proxy.engine.outgoing.inventory import InventoryMaker
from proxy.engine.outgoing.replication import Replicator
from proxy.engine.packing.pack import Packer
from proxy.engine.packing.pack_carrier import PackCarrier, RecordPack
from proxy.engine.packing.pack_segment import PackPutter
from proxy.engine.placing.fleet import Fleet
from proxy.engine.placing.placement import Policy
from proxy.engine.reading.read import Reader
from proxy.engine.tasks import BackgroundTasks
from proxy.engine.throttle import Throttle
from proxy.engine.workers import Runner, Worker
from proxy.engine.writing.delivery import Delivery
from proxy.engine.writing.filling import CodingThreads, Filler, segment_memory
from proxy.engine.writing.intents import IntentLedger
from proxy.engine.writing.quorum import ShardPutter
from proxy.engine.writing.stragglers import LatePuts, Stragglers
from proxy.engine.writing.write import Writer
from proxy.errors import ManifestFenced, ProxyError
from proxy.journaling import Journal, make_journal
from proxy.keyring import Keyring
from proxy.lanes import Lanes, Pool
from proxy.manifest.protocol import Manifest
from proxy.openings import OpenedFleet, open_fleet, open_manifest, open_root_key
from proxy.policies import make_policies
from proxy.stores.observe import Recorder
from proxy.stores.protocol import Store
from proxy.targets.build import open_targets
from proxy.upkeep import Parts, make_workers

logger = logging.getLogger(__name__)

THREADS = 4  # coding, sealing, hashing: two a core of the smallest machine
DRAIN_SECONDS = 10.0
FLUSH_SECONDS = 5.0
READING_SHARE = 8  # of the memory, one part in so many is for what is read from clients before it is charged to them


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
    access_log: AccessLog
    epoch: EpochKeeper
    parts: Parts  # what workers are made of
    journal: Journal | None  # None: none is kept
    workers: Sequence[Worker]
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
    record_damage: RecordDamage | None = None,
    record_cache: RecordCache = NOT_RECORDED,
    record_pack: RecordPack = lambda _slots, _size_bytes: None,
    serving: bool = False,
) -> AsyncIterator[Services]:
    """Open everything; on leaving, let late puts end, then close.

    Of the configured memory, this process takes the share of one of `workers`. One that is `serving` begins a new epoch, runs the workers,
    and removes what crashes left in directories. A manifest that is behind its stores is opened to be read: see `proxy.engine.epoch`.
    """
    async with AsyncExitStack() as opened:
        ground = await _open_ground(opened, config, clock or SystemClock(), workers=workers, record=record_store_call, serving=serving)
        cache = await opened.enter_async_context(open_cache(config, ground.tasks, record_cache, workers=workers))
        parts = await _open_parts(opened, ground, cache, record_damage)
        manifest, journal = ground.manifest, parts.journal
        if journal is not None:
            manifest = acknowledged(manifest, journal.flusher, config.journal.acknowledge)
        engine = _make_engine(parts, ground.budget, manifest, record_pack)
        access_log = AccessLog(engine, parts.clock, ground.budget, region=config.region, interval_seconds=config.limits.access_log_seconds)
        replicator = Replicator(manifest, engine, parts.clock, parts.throttle.share())
        inventories = InventoryMaker(manifest, engine, parts.clock, parts.threads)
        background = (*make_workers(parts), access_log, replicator, inventories)
        runner = Runner(manifest, parts.clock, background if serving else (), holder=parts.ledger.owner)
        await opened.enter_async_context(_running(runner, parts.tasks, parts.ledger, access_log, journal if serving else None))
        yield Services(
            config=config,
            clock=parts.clock,
            manifest=manifest,
            keyring=parts.keyring,
            fleet=parts.fleet,
            policies=parts.policies,
            default_policy=config.default_policy,
            engine=engine,
            access_log=access_log,
            epoch=parts.epoch,
            parts=parts,
            journal=journal,
            workers=background,
            budget=ground.budget,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ground:
    """What all the rest is built on: the manifest and its stores, which belong together, and the memory of this process."""

    config: Config
    clock: Clock
    policies: Mapping[str, Policy]
    tasks: BackgroundTasks
    manifest: Manifest
    keyring: Keyring
    threads: Pool
    coding: CodingThreads
    fleet: Fleet
    epoch: EpochKeeper
    budget: Budget


async def _open_ground(
    opened: AsyncExitStack, config: Config, clock: Clock, *, workers: int, record: Recorder | None, serving: bool
) -> _Ground:
    policies = make_policies(config)
    manifest = await opened.enter_async_context(open_manifest(config, clock))
    keyring = Keyring(await open_root_key(config, manifest))
    threads = opened.enter_context(Pool(THREADS, thread_name_prefix="codec"))
    coding = _coding_threads(opened, workers)
    memory_bytes = config.limits.memory_mib * 1024 * 1024 // workers
    found = await opened.enter_async_context(_fleet(config, manifest, clock, record, tidy=serving))
    epoch = _epoch_keeper(config, manifest, keyring, found.fleet, clock)
    await _begin(epoch, manifest, found, serving=serving)
    found.fleet.leave(await manifest.leaving_stores())
    budget = Budget(memory_bytes - memory_bytes // READING_SHARE, wait_seconds=config.limits.memory_wait_seconds)
    _warn_of_small_budget(budget, policies.values())
    return _Ground(
        config=config,
        clock=clock,
        policies=policies,
        tasks=BackgroundTasks(),
        manifest=manifest,
        keyring=keyring,
        threads=threads,
        coding=coding,
        fleet=found.fleet,
        epoch=epoch,
        budget=budget,
    )


def _coding_threads(opened: AsyncExitStack, workers: int) -> CodingThreads:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    whole, strides = Lanes(max(cores // workers, 1), name="codec-whole"), Lanes(THREADS, name="codec-strides")
    opened.callback(whole.close)
    opened.callback(strides.close)
    return CodingThreads(whole=whole, strides=strides)


def _epoch_keeper(config: Config, manifest: Manifest, keyring: Keyring, fleet: Fleet, clock: Clock) -> EpochKeeper:
    seconds = config.limits.store_open_seconds
    fence = JournalFence(manifest, CopyReader(fleet.stores, keyring.journal_cipher()), timeout_seconds=seconds)
    return EpochKeeper(manifest, fleet.stores, keyring, clock, timeout_seconds=seconds, journal=fence if config.journal.enabled else None)


async def _open_parts(opened: AsyncExitStack, ground: _Ground, cache: SealedCache | None, record_damage: RecordDamage | None) -> Parts:
    config, limits, clock, manifest = ground.config, ground.config.limits, ground.clock, ground.manifest
    tasks, fleet, threads, budget = ground.tasks, ground.fleet, ground.threads, ground.budget
    owner = f"{os.uname().nodename}-{os.getpid()}-{secrets.token_hex(4)}"
    putter = ShardPutter(fleet, max_grace_seconds=limits.straggler_grace_seconds, tasks=tasks, budget=budget)
    reporter = DamageReporter(manifest, tasks, clock, record=record_damage)
    return Parts(
        config=config,
        clock=clock,
        manifest=manifest,
        keyring=ground.keyring,
        policies=ground.policies,
        fleet=fleet,
        threads=threads,
        coding=ground.coding,
        ledger=IntentLedger(manifest, clock, tasks, owner=owner, lease_seconds=limits.intent_seconds),
        epoch=ground.epoch,
        reader=Reader(manifest=manifest, fleet=fleet, budget=budget, threads=threads, reporter=reporter, cache=cache),
        putter=putter,
        stragglers=Stragglers(manifest, tasks, clock),
        reporter=reporter,
        tasks=tasks,
        throttle=_throttle(config, budget),
        memory=BackgroundMemory(budget, wait_seconds=limits.memory_wait_seconds),
        journal=make_journal(
            config,
            manifest=manifest,
            keyring=ground.keyring,
            policies=ground.policies,
            fleet=fleet,
            putter=putter,
            clock=clock,
            tasks=tasks,
            threads=threads,
        ),
        targets=await opened.enter_async_context(open_targets(config.notifications.targets)),
    )


def _make_engine(parts: Parts, budget: Budget, manifest: Manifest, record_pack: RecordPack) -> Engine:
    """Return the engine for requests; its `manifest` may answer later than that of the parts, when the journal has what was done."""
    ledger, tasks = parts.ledger, parts.tasks
    filler = Filler(ledger=ledger, budget=budget, threads=parts.coding)
    delivery = Delivery(ledger=ledger, putter=parts.putter, stragglers=parts.stragglers, late=LatePuts(budget), tasks=tasks)
    pack_putter = PackPutter(ledger=ledger, threads=parts.threads, delivery=delivery)
    return Engine(
        manifest=manifest,
        keyring=parts.keyring,
        writer=Writer(filler=filler, delivery=delivery),
        packer=_packer(parts, PackCarrier(pack_putter, budget, tasks, record=record_pack), budget),
        reader=parts.reader,
        policies=parts.policies,
        clock=parts.clock,
    )


def _packer(parts: Parts, carrier: PackCarrier, budget: Budget) -> Packer | None:
    config = parts.config.packs
    if not config.below_kib:
        return None
    return Packer(
        carrier=carrier,
        budget=budget,
        tasks=parts.tasks,
        below_size=config.below_kib * 1024,
        linger_seconds=config.linger_ms / 1000,
        are_nearby=parts.fleet.are_nearby,
    )


def _throttle(config: Config, budget: Budget) -> Throttle:
    limits = config.limits
    bytes_per_second = limits.background_mib_per_second * 1024 * 1024
    return Throttle(
        limits.background_requests_per_second, bytes_per_second, clients_wait=lambda: budget.keeps_waiting(others_than=BACKGROUND)
    )


@asynccontextmanager
async def _fleet(config: Config, manifest: Manifest, clock: Clock, record: Recorder | None, *, tidy: bool) -> AsyncIterator[OpenedFleet]:
    found = await open_fleet(config, manifest, clock, record, tidy=tidy)
    try:
        yield found
    finally:
        await found.fleet.close()


async def _begin(epoch: EpochKeeper, manifest: Manifest, found: OpenedFleet, *, serving: bool) -> None:
    """Compare the manifest with its stores, and go on from there unless it is behind."""
    if serving:
        with suppress(ManifestFenced):  # which has been said: what there is can still be read
            await epoch.move()
    else:
        await epoch.compare()
    if found.new and not (await manifest.find_epoch()).fence:
        await manifest.know_stores(found.new)


@asynccontextmanager
async def _running(
    runner: Runner, tasks: BackgroundTasks, ledger: IntentLedger, access_log: AccessLog, journal: Journal | None
) -> AsyncIterator[None]:
    """Run the workers. On leaving, the lines of the access logs are stored, and the tasks of requests end, while their leases are kept
    alive; then the workers, and the leases.

    The journal comes first and last. First: the new epoch needs its segment, or a recovery would have to doubt whether the end of the
    journal is hidden from it. Last: giving leases back is a change, too.
    """
    if journal is not None:
        await _in_time(journal.flusher.flush())
    async with runner.running():
        try:
            yield
        finally:
            with suppress(ProxyError, TimeoutError):  # those that wait are lost, as on a crash
                async with asyncio.timeout(FLUSH_SECONDS):
                    await access_log.flush()
            await tasks.drain(DRAIN_SECONDS)
    with suppress(ProxyError):  # what is not given back expires
        await ledger.give_back()
    if journal is not None:
        await _in_time(journal.flusher.stored())
        await tasks.drain(FLUSH_SECONDS)


async def _in_time(storing: Awaitable[None]) -> None:
    with suppress(ProxyError, TimeoutError):  # what is not in the journal now is there soon, or at the next start
        async with asyncio.timeout(FLUSH_SECONDS):
            await storing


def _warn_of_small_budget(budget: Budget, policies: Iterable[Policy]) -> None:
    for policy in policies:
        schemes = {policy.scheme, *policy.storage_classes.values()}
        memory = max(segment_memory(SegmentGeometry(scheme, policy.segment_size)) for scheme in schemes)
        if memory > budget.largest_bytes:
            logger.warning(
                "limits.memory_mib: a segment of policy %s takes %.0f MiB, but a request of this worker may hold only %.0f, so it will "
                "use more than its share: raise memory_mib, or lower workers or segment_mib",
                policy.name,
                memory / 1024**2,
                budget.largest_bytes / 1024**2,
            )
