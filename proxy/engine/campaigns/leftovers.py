"""What a store that was left holds still: garbage that waits for its delay, the journal's objects, and what nobody knows."""

from __future__ import annotations

import asyncio

from msgspec import Struct

from proxy.codec.format import is_shard_name, parse_copy_name
from proxy.engine.epoch import PREFIX as EPOCH_PREFIX
from proxy.engine.placing.fleet import Fleet
from proxy.errors import StoreError
from proxy.manifest.protocol import Manifest

NAMES = 100_000  # looked at: a store that was left holds few


class Leftover(Struct, kw_only=True):
    """Counts by kind. `more`: there were more names than are looked at. `trouble`: why the store could not be listed."""

    garbage: int = 0
    shards: int = 0
    journal: int = 0
    foreign: int = 0
    more: bool = False
    trouble: str = ""


async def look_at(manifest: Manifest, fleet: Fleet, store: str, *, timeout_seconds: float) -> Leftover:
    """List a store, and count what is queued for it."""
    left = Leftover(garbage=(await manifest.count_garbage()).get(store, 0))
    if store not in fleet:
        left.trouble = "it is not in the configuration"
        return left
    try:
        async with asyncio.timeout(timeout_seconds):
            await _count(fleet, store, left)
    except (StoreError, TimeoutError) as error:
        left.trouble = str(error) or f"no answer in {timeout_seconds:g} s"
    return left


async def _count(fleet: Fleet, store: str, left: Leftover) -> None:
    seen = 0
    async for name, _ in fleet[store].list():
        seen += 1
        if seen > NAMES:
            left.more = True
            return
        if is_shard_name(name):
            left.shards += 1
        elif parse_copy_name(name) is not None:
            left.journal += 1
        elif not name.startswith(EPOCH_PREFIX):
            left.foreign += 1
