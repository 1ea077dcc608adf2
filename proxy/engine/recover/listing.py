"""The listings of all stores, side by side, into the notebook. A store that did not end before is asked anew, from its beginning."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping

import msgspec

from proxy.codec.format import parse_shard_name
from proxy.engine.recover.bounds import ListingBounds, ListsTooMuch
from proxy.engine.recover.notes import Notes, Tell
from proxy.errors import NoRoom, RecoveryRefused, StoreError
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


async def list_stores(stores: Mapping[str, Store], notes: Notes, tell: Tell, *, unbounded: Collection[str] = ()) -> dict[str, Listed]:
    """Note all shards that the stores list; return how each listing ended, by store. Raises `RecoveryRefused` if the disk is too small.

    `unbounded`: stores that may hold far more than all others.
    """
    counts = dict.fromkeys(stores, 0)
    bounds = ListingBounds(stores, unbounded=unbounded)

    def note(name: str, count: int) -> None:
        counts[name] = count
        tell("listings", sum(counts.values()), None)

    listings = [asyncio.ensure_future(_StoreListing(store, notes, note, bounds).run()) for store in stores.values()]
    try:
        return dict(zip(stores, await asyncio.gather(*listings), strict=True))
    except NoRoom as error:
        raise RecoveryRefused(
            f"{error}; so far the stores list: {bounds.in_words()}; make room; or, if one lists far more than it can have, leave it out of "
            "the configuration; nothing was changed"
        ) from error
    finally:
        for listing in listings:
            listing.cancel()
        await asyncio.gather(*listings, return_exceptions=True)


class _StoreListing:
    """One store's listing."""

    def __init__(self, store: Store, notes: Notes, note: Callable[[str, int], None], bounds: ListingBounds) -> None:
        self._store = store
        self._name = str(store.info.name)
        self._notes = notes
        self._note = note
        self._bounds = bounds

    async def run(self) -> Listed:
        """List the store unless that is done. One that fails is asked again a few times."""
        before = await self._notes.run(Notebook.load, self._key)
        if before is not None:
            listed = _listed.decode(before)
            self._note(self._name, listed.shards)
        else:
            listed = await self._persistently()
        await self._bounds.ended(self._name, listed.shards)
        if before is None and not listed.failure:
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
            except ListsTooMuch as error:
                return Listed(failure=str(error))
            except StoreError as error:
                failure = str(error)
        return Listed(failure=failure)

    async def _list(self) -> int:
        """Note shards, in batches of names, whatever these are: a listing of others' names may be endless as well."""
        batch: list[Sighting] = []
        names, shards = 0, 0
        async for name, size in self._store.list():
            names += 1
            place = parse_shard_name(name)
            if place is not None:
                batch.append(Sighting(SegmentId(place.segment_id), place.shard_index, place.generation, self._name, size))
            if names % BATCH == 0:
                shards += await self._keep(batch, shards)
                batch = []
                await self._bounds.reached(self._name, names)
        return shards + await self._keep(batch, shards)

    async def _keep(self, batch: list[Sighting], count: int) -> int:
        await self._notes.run(Notebook.add_sightings, batch)
        self._note(self._name, count + len(batch))
        return len(batch)
