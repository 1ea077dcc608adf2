"""The listings of all stores, side by side, into the notebook. A store that did not end before is asked anew, from its beginning."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import msgspec

from proxy.codec.format import parse_shard_name
from proxy.engine.recover.notes import Notes, Tell
from proxy.errors import StoreError
from proxy.manifest.records import Record, SegmentId
from proxy.manifest.recovery import Sighting
from proxy.manifest.sqlite.notebook import Notebook
from proxy.stores.protocol import Store

BATCH = 10_000
TRIES = 3
PAUSE_SECONDS = 1.0  # before a listing that broke off is begun again


class Listed(Record, frozen=True, kw_only=True, omit_defaults=True):
    """How a store's listing ended: with so many shards, or with a failure."""

    shards: int = 0
    failure: str = ""


_listed = msgspec.msgpack.Decoder(Listed)


async def list_stores(stores: Mapping[str, Store], notes: Notes, tell: Tell) -> dict[str, Listed]:
    """Note all shards that the stores list; return how each listing ended, by store."""
    counts = dict.fromkeys(stores, 0)

    def note(name: str, count: int) -> None:
        counts[name] = count
        tell("listings", sum(counts.values()), None)

    ended = await asyncio.gather(*(_StoreListing(store, notes, note).run() for store in stores.values()))
    return dict(zip(stores, ended, strict=True))


class _StoreListing:
    """One store's listing."""

    def __init__(self, store: Store, notes: Notes, note: Callable[[str, int], None]) -> None:
        self._store = store
        self._name = str(store.info.name)
        self._notes = notes
        self._note = note

    async def run(self) -> Listed:
        """List the store unless that is done. One that fails is asked again a few times."""
        before = await self._notes.run(Notebook.load, self._key)
        if before is not None:
            listed = _listed.decode(before)
            self._note(self._name, listed.shards)
            return listed
        listed = await self._persistently()
        if not listed.failure:
            await self._notes.run(Notebook.save, self._key, msgspec.msgpack.encode(listed))
        return listed

    @property
    def _key(self) -> str:
        return f"listed {self._name}"

    async def _persistently(self) -> Listed:
        failure = ""
        for attempt in range(TRIES):
            if attempt:
                await asyncio.sleep(PAUSE_SECONDS)
            try:
                return Listed(shards=await self._list())
            except StoreError as error:
                failure = str(error)
        return Listed(failure=failure)

    async def _list(self) -> int:
        batch: list[Sighting] = []
        count = 0
        async for name, size in self._store.list():
            place = parse_shard_name(name)
            if place is None:
                continue
            batch.append(Sighting(SegmentId(place.segment_id), place.shard_index, place.generation, self._name, size))
            if len(batch) == BATCH:
                count += await self._keep(batch, count)
                batch = []
        return count + await self._keep(batch, count)

    async def _keep(self, batch: list[Sighting], count: int) -> int:
        await self._notes.run(Notebook.add_sightings, batch)
        self._note(self._name, count + len(batch))
        return len(batch)
