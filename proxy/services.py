"""The composition root: from a configuration to running services."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from proxy.clock import Clock, SystemClock
from proxy.codec.geometry import Scheme, SegmentGeometry, parse_scheme
from proxy.config import Config, PolicyConfig
from proxy.engine.budget import Budget
from proxy.engine.collect import Collector
from proxy.engine.engine import Engine
from proxy.engine.fleet import Fleet
from proxy.engine.intents import IntentLedger
from proxy.engine.placement import MayFail, Policy
from proxy.engine.quorum import ShardPutter
from proxy.engine.read import Reader
from proxy.engine.stragglers import Stragglers
from proxy.engine.tasks import BackgroundTasks
from proxy.engine.write import Writer, segment_memory
from proxy.errors import ConfigError, ProxyError, StoreError
from proxy.keyring import Keyring, RootKey
from proxy.keyring.file import open_root_key_file
from proxy.manifest.protocol import Manifest
from proxy.manifest.sqlite import open_sqlite
from proxy.stores.build import OPEN_SECONDS, Opened, open_store, store_info
from proxy.stores.observe import Recorder
from proxy.stores.protocol import Store, StoreInfo
from proxy.stores.uring import Ring, open_ring

logger = logging.getLogger(__name__)

THREADS = 4  # coding, sealing, hashing: two a core of the smallest machine
DRAIN_SECONDS = 10.0
FOREIGN_NAMES = 1000  # of a bucket that others use as well, one page is looked at for shards
_SHARD = re.compile(r"[0-9a-f]{2}/[0-9a-f]{32}-[0-9a-f]{2}")


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
    limits = config.limits
    tasks = BackgroundTasks()
    threads = ThreadPoolExecutor(THREADS, thread_name_prefix="codec")
    async with open_sqlite(Path(config.manifest.path), clock) as manifest:
        await _refuse_lost_manifest(config, manifest, clock)
        keyring = Keyring(await _open_root_key(config, manifest))
        ring = open_ring(directories=sum(store.kind == "directory" for store in config.stores.values()))
        fleet = await _open_fleet(config, manifest, clock, record_store_call, ring, tidy=tidy)
        budget = Budget(limits.memory_mib * 1024 * 1024 // workers, wait_seconds=limits.memory_wait_seconds)
        _warn_of_small_budget(budget, policies.values())
        ledger = IntentLedger(manifest, clock, tasks, owner=secrets.token_hex(8), lease_seconds=limits.intent_seconds)
        stragglers = Stragglers(manifest, tasks)
        putter = ShardPutter(fleet, max_grace_seconds=limits.straggler_grace_seconds)
        writer = Writer(ledger=ledger, putter=putter, stragglers=stragglers, budget=budget, tasks=tasks, threads=threads)
        reader = Reader(manifest=manifest, fleet=fleet, budget=budget, threads=threads)
        collector = Collector(manifest, fleet, ledger, clock, delay_seconds=limits.collect_after_seconds)
        services = Services(
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
        background = [
            asyncio.create_task(_every(limits.intent_seconds / 3, ledger.renew)),
            asyncio.create_task(_every(limits.collect_interval_seconds, collector.run_once)),
        ]
        try:
            yield services
        finally:
            await tasks.drain(DRAIN_SECONDS)
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await fleet.close()
            if ring is not None:
                await ring.close()
            threads.shutdown(wait=True)


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


async def _refuse_lost_manifest(config: Config, manifest: Manifest, clock: Clock) -> None:
    """Refuse a manifest that has no past beside stores that have one. Nothing is made before this is known."""
    if await manifest.known_stores() or await manifest.list_tenants():
        return
    stores = {name: replace(store, create_bucket=False) for name, store in config.stores.items()}
    opened = await _open_stores(replace(config, stores=stores), clock, known=stores.keys(), get_seconds=OPEN_SECONDS)
    held = await asyncio.gather(*(_holds_shards(store.store) for store in opened.values()))
    for store in opened.values():
        await store.store.close()
    if holding := [name for name, holds in zip(opened, held, strict=True) if holds]:
        raise ConfigError(
            f"manifest.path: {config.manifest.path} is new or empty, but the stores {', '.join(holding)} hold shards, which only their "
            "manifest can find; put it back (is its disk mounted?), or name stores that are empty"
        )


async def _holds_shards(store: Store) -> bool:
    seen = 0
    with suppress(StoreError):  # one that does not answer, or is not there, proves nothing
        async for name, _ in store.list():
            seen += 1
            if _SHARD.fullmatch(name):
                return True
            if seen == FOREIGN_NAMES:
                break
    return False


async def _open_root_key(config: Config, manifest: Manifest) -> RootKey:
    wrapped_by = {tenant.root_key_id for tenant in await manifest.list_tenants()}
    return open_root_key_file(Path(config.root_key.path), create=config.root_key.create, expected=wrapped_by)


async def _open_fleet(config: Config, manifest: Manifest, clock: Clock, record: Recorder | None, ring: Ring | None, *, tidy: bool) -> Fleet:
    """Open every store. Only one never seen before is made: another whose directory is empty is a disk that is not mounted."""
    known = await manifest.known_stores()
    seconds = config.limits.get_timeout_seconds
    opened = await _open_stores(config, clock, known=known, get_seconds=seconds, record=record, ring=ring, tidy=tidy)
    absent = [name for name, store in opened.items() if not store.present]
    if absent:
        logger.warning("these stores are not there, not mounted, or do not answer: %s", ", ".join(absent))
    if new := opened.keys() - known - set(absent):
        await manifest.know_stores(new)
    return Fleet({name: store.store for name, store in opened.items()})


async def _open_stores(
    config: Config,
    clock: Clock,
    *,
    known: Set[str],
    get_seconds: float,
    record: Recorder | None = None,
    ring: Ring | None = None,
    tidy: bool = False,
) -> dict[str, Opened]:
    openings = [
        open_store(
            name,
            store,
            clock=clock,
            create=name not in known,
            put_seconds=config.limits.put_timeout_seconds,
            get_seconds=get_seconds,
            record=record,
            ring=ring,
            tidy=tidy,
        )
        for name, store in config.stores.items()
    ]
    return dict(zip(config.stores, await asyncio.gather(*openings), strict=True))


def make_policies(config: Config) -> dict[str, Policy]:
    """Build and prove every policy. Raises `ConfigError`."""
    infos = {name: store_info(name, store) for name, store in config.stores.items()}
    return {name: _policy(name, policy, infos) for name, policy in config.policies.items()}


def _policy(name: str, config: PolicyConfig, infos: Mapping[str, StoreInfo]) -> Policy:
    named = [infos[store] for store in config.stores] or list(infos.values())
    unknown = set(config.jurisdictions) - {info.jurisdiction for info in infos.values()}
    if unknown:
        raise ConfigError(f"policies.{name}.jurisdictions: no store is in {', '.join(sorted(unknown))}")
    return Policy(
        name=name,
        scheme=_scheme(config.scheme, f"policies.{name}.scheme"),
        stores=tuple(info for info in named if not config.jurisdictions or info.jurisdiction in config.jurisdictions),
        may_fail=MayFail(config.may_fail.stores, config.may_fail.providers, config.may_fail.regions),
        never_together=frozenset(config.never_together),
        storage_classes={key: _scheme(text, f"policies.{name}.storage_classes.{key}") for key, text in config.storage_classes.items()},
        segment_size=config.segment_mib * 1024 * 1024,
    )


def _scheme(text: str, key: str) -> Scheme:
    try:
        return parse_scheme(text)
    except ValueError as error:
        raise ConfigError(f"{key}: {error}") from error


async def _every(seconds: float, step: Callable[[], Awaitable[object]]) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await step()
        except ProxyError as error:
            logger.warning("background work failed, and will be tried again: %s", error)
        except Exception:  # whatever it is: were the task to end here, leases would expire and garbage pile up, and nobody would know
            logger.exception("background work failed, and will be tried again")
