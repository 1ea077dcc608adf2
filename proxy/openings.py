"""Opening what has a past: a manifest, a root key or a directory that is missing is never made anew.

Most likely its disk is not mounted. A new one would seem to work, but find nothing that was stored before; and what was stored in it would
be lost when the disk came back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Set
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from proxy.clock import Clock
from proxy.codec.format import is_shard_name, parse_copy_name
from proxy.config import Config
from proxy.engine.epoch import PREFIX as EPOCH_PREFIX
from proxy.engine.epoch import parse_marker
from proxy.engine.placing.fleet import Fleet
from proxy.errors import ConfigError, StoreError
from proxy.keyring import RootKey
from proxy.keyring.file import open_root_key_file
from proxy.manifest.protocol import Manifest
from proxy.manifest.sqlite import open_sqlite
from proxy.paths import is_there
from proxy.stores.build import Opened, open_bare, open_store
from proxy.stores.convoy import Convoy
from proxy.stores.kept_files import raise_file_limit
from proxy.stores.observe import Recorder
from proxy.stores.protocol import Store

logger = logging.getLogger(__name__)

FOREIGN_NAMES = 1000  # of a bucket that others use as well, one page is looked at for shards


@asynccontextmanager
async def open_manifest(config: Config, clock: Clock) -> AsyncIterator[Manifest]:
    """Open the manifest, and make it if it is not there: but not beside stores that were used with another one."""
    refuse = partial(_refuse_used_stores, config, clock)
    seconds = config.limits.manifest_timeout_seconds
    async with open_sqlite(Path(config.manifest.path), clock, timeout_seconds=seconds, before_making=refuse) as manifest:
        await refuse_lost_manifest(config, manifest, clock)
        yield manifest


async def refuse_lost_manifest(config: Config, manifest: Manifest, clock: Clock) -> None:
    """Refuse a manifest that has no past beside stores that have one. Nothing is made before this is known.

    A first start that breaks off may leave markers of this very manifest in some stores, before it knows any of them.
    """
    if not (await manifest.known_stores() or await manifest.list_tenants()):
        await _refuse_used_stores(config, clock, own=(await manifest.find_epoch()).identity)


async def _refuse_used_stores(config: Config, clock: Clock, *, own: str = "") -> None:
    stores = {name: replace(store, create_bucket=False) for name, store in config.stores.items()}
    seconds = config.limits.store_open_seconds
    opened = await _open_stores(replace(config, stores=stores), clock, known=stores.keys(), get_seconds=seconds)
    try:
        held = await asyncio.gather(*(_has_a_past(store.store, seconds, own) for store in opened.values()))
    finally:
        for store in opened.values():
            await store.store.close()
    if holding := [name for name, holds in zip(opened, held, strict=True) if holds]:
        raise ConfigError(
            f"manifest.path: {config.manifest.path} is new or empty, but the stores {', '.join(holding)} were used with another one; "
            "put it back (is its disk mounted?), or, if it is lost, make it anew from these stores: shardgate recover; for a new "
            "installation, name stores that are empty"
        )


async def _has_a_past(store: Store, timeout_seconds: float, own: str) -> bool:
    with suppress(StoreError, TimeoutError):  # one that does not answer, or is not there, proves nothing
        async with asyncio.timeout(timeout_seconds):
            async for name, _ in store.list(EPOCH_PREFIX):
                marker = parse_marker(name)
                if marker is None or marker.identity != own:
                    return True
            return await _holds_shards(store)
    return False


async def _holds_shards(store: Store) -> bool:
    seen = 0
    async for name, _ in store.list():
        seen += 1
        if is_shard_name(name) or parse_copy_name(name) is not None:
            return True
        if seen == FOREIGN_NAMES:
            break
    return False


async def open_root_key(config: Config, manifest: Manifest) -> RootKey:
    """Open the key that wraps the tenants' keys. One is made only while there is no tenant."""
    wrapped_by = {tenant.root_key_id for tenant in await manifest.list_tenants()}
    wrapped_by |= {key.root_key_id for key in await manifest.list_kms_keys()}
    return open_root_key_file(Path(config.root_key.path), create=config.root_key.create, expected=wrapped_by)


class OpenedFleet(NamedTuple):
    """The fleet, and which of its stores the manifest has not known before."""

    fleet: Fleet
    new: frozenset[str]


async def open_fleet(config: Config, manifest: Manifest, clock: Clock, record: Recorder | None, *, tidy: bool) -> OpenedFleet:
    """Open every store. Only one never seen before is made: another whose directory is empty is a disk that is not mounted."""
    known = await manifest.known_stores()
    seconds = config.limits.get_timeout_seconds
    opened = await _open_stores(config, clock, known=known, get_seconds=seconds, record=record, tidy=tidy)
    absent = [name for name, store in opened.items() if not store.present]
    if absent:
        logger.warning("these stores are not there, not mounted, or do not answer: %s", ", ".join(absent))
    for name in absent:
        opened[name].store.missed()
    fleet = Fleet({name: store.store for name, store in opened.items()})
    return OpenedFleet(fleet, frozenset(opened) - known - set(absent))


@asynccontextmanager
async def open_candidate(config: Config, name: str, clock: Clock) -> AsyncIterator[Store]:
    """Open one store to examine it, bare: without breaker, limits and deadlines. No manifest is made, and none hears of it."""
    limits = config.limits
    store = await open_bare(
        name,
        config.stores[name],
        create=name not in await _known_already(config, clock),
        open_seconds=limits.store_open_seconds,
        timeout_seconds=limits.put_timeout_seconds,
    )
    try:
        yield store
    finally:
        await store.close()


async def _known_already(config: Config, clock: Clock) -> Set[str]:
    """Return the stores that the manifest knows, if there is one: a directory of these that is not there is not mounted."""
    path = Path(config.manifest.path)
    if not await asyncio.to_thread(is_there, path):
        return frozenset()
    async with open_sqlite(path, clock, timeout_seconds=config.limits.manifest_timeout_seconds) as manifest:
        return await manifest.known_stores()


async def open_present_fleet(config: Config, clock: Clock) -> Fleet:
    """Open every store as it is, and make none: whatever is not there will not answer."""
    stores = {name: replace(store, create_bucket=False) for name, store in config.stores.items()}
    seconds = config.limits.get_timeout_seconds
    opened = await _open_stores(replace(config, stores=stores), clock, known=stores.keys(), get_seconds=seconds)
    return Fleet({name: store.store for name, store in opened.items()})


async def _open_stores(
    config: Config,
    clock: Clock,
    *,
    known: Set[str],
    get_seconds: float,
    record: Recorder | None = None,
    tidy: bool = False,
) -> dict[str, Opened]:
    convoy = Convoy()
    raise_file_limit()  # commands as well as servers: many shells and services begin with 1,024
    openings = [
        open_store(
            name,
            store,
            clock=clock,
            create=name not in known,
            open_seconds=config.limits.store_open_seconds,
            put_seconds=config.limits.put_timeout_seconds,
            get_seconds=get_seconds,
            record=record,
            convoy=convoy,
            tidy=tidy,
        )
        for name, store in config.stores.items()
    ]
    return dict(zip(config.stores, await asyncio.gather(*openings), strict=True))
