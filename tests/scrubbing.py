"""What the tests of scrubs share: shards as the manifest has them, ways to damage one, and what is on record."""

from __future__ import annotations

from collections.abc import AsyncIterator

from proxy.engine.scrub.inspector import Shard
from proxy.engine.scrub.reports import load_report
from proxy.manifest.records import ExtentId
from proxy.manifest.scrub import ScrubReport
from proxy.stores.protocol import ShardName
from tests.laboratory import Laboratory


async def scrub(lab: Laboratory, worker: str) -> ScrubReport:
    """Make one pass of a scrub."""
    before = await load_report(lab.services.manifest, worker)
    for _ in range(1000):
        await lab.worker(worker).step()
        report = await load_report(lab.services.manifest, worker)
        if report is not None and report != before:
            return report
    raise AssertionError("the pass does not end")


async def shards_of(lab: Laboratory) -> list[Shard]:
    """Return all shards, in order of extents, segments, indexes."""
    return [
        Shard(extent, segment, index)
        for extent in await lab.services.manifest.walk_extents(after=ExtentId(0), limit=1000)
        for segment in extent.layout.segments
        for index in range(len(segment.stores))
    ]


async def damage(lab: Laboratory) -> dict[tuple[str, str], str]:
    """Return the kind of what is on record, by store and name."""
    found = {}
    for shard in await shards_of(lab):
        damaged = await lab.services.manifest.find_damaged(shard.extent.id, shard.segment.id)
        assert damaged is not None
        found |= {(item.store, shard.name): item.kind for item in damaged.damage if item.shard_index == shard.index}
    return found


async def read(lab: Laboratory, shard: Shard) -> bytes:
    return bytes(await lab.stores[shard.store].get(shard.name))


async def spoil(lab: Laboratory, shard: Shard, content: bytes) -> None:
    """Let a store give something else for a shard."""
    await lab.stores[shard.store].put(shard.name, [content])


async def flip(lab: Laboratory, shard: Shard, at: int) -> None:
    """Flip a bit; `at` counts from the end if it is negative."""
    content = bytearray(await read(lab, shard))
    content[at] ^= 1
    await spoil(lab, shard, bytes(content))


def hide(lab: Laboratory, store_name: str, hidden: set[ShardName]) -> None:
    """Let a store's listings come without some names."""
    store = lab.stores[store_name]
    whole = store.list

    async def without(prefix: str = "") -> AsyncIterator[tuple[ShardName, int]]:
        async for entry in whole(prefix):
            if entry[0] not in hidden:
                yield entry

    store.list = without  # type: ignore[method-assign]
