"""Reading the manifest's copy, with nothing but the stores and the cipher.

Nobody need know where a copy lies: its names tell what it is, so a listing finds it in whichever store it is. What a name says is only what
a store says. Who reads compares it with the plaintext, which nobody without the root key can have sealed.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import NamedTuple

from proxy.codec.decode import DecodedSegment, decode_segment
from proxy.codec.format import CopyName, copy_prefix, parse_copy_name, shard_name
from proxy.codec.geometry import Scheme, SegmentGeometry
from proxy.codec.segment import ColumnReader, SegmentKeys
from proxy.errors import IntegrityError, NotEnoughShards, StoreError, StoreUnavailable
from proxy.keyring import TenantCipher
from proxy.manifest.records import Layout, Segment
from proxy.stores.protocol import ShardName, Store

FIRST_K = 2  # shards that are read first of a copy whose scheme is not known yet: each of them tells it
NAMES = 1_000_000  # of one store are looked at. One that lists more makes them up, and is taken for silent


class FoundCopy(NamedTuple):
    """A copy as listings tell of it: each name, and the stores that list it."""

    prefix: str
    identity: str
    number: int
    segment_id: bytes
    names: Mapping[ShardName, tuple[str, ...]]


class Listing(NamedTuple):
    """What the stores list, by number and then by segment id, and the stores that did not answer."""

    found: tuple[FoundCopy, ...]
    silent: frozenset[str]


async def bounded_names(store: Store, prefix: str) -> AsyncIterator[ShardName]:
    """Yield the names that a store lists. One whose listing has no end is taken for one that does not answer: `StoreUnavailable`."""
    count = 0
    async for name, _ in store.list(prefix):
        count += 1
        if count > NAMES:
            raise StoreUnavailable(store.info.name, f"lists more than {NAMES:,} names that begin with {prefix}")
        yield name


class CopyReader:
    """Finds and reads copies, with nothing but the stores and the cipher. Every answer of a store may be a lie."""

    def __init__(self, stores: Mapping[str, Store], cipher: TenantCipher) -> None:
        self._stores = stores
        self._cipher = cipher

    async def find(self, prefix: str, *, identity: str = "", number: int | None = None, timeout_seconds: float | None = None) -> Listing:
        """List copies: all of a kind, those of one manifest, or those of one number. A store that takes longer is silent."""
        start = prefix
        if identity:
            start = f"{prefix}{identity}/" if number is None else copy_prefix(prefix, identity, number)
        listed = await asyncio.gather(*(self._list(store, start, timeout_seconds) for store in self._stores.values()))
        found: dict[tuple[int, bytes, str], dict[ShardName, tuple[str, ...]]] = defaultdict(dict)
        for store, names in zip(self._stores, listed, strict=True):
            for name in names or ():
                copy = parse_copy_name(name)
                if copy is not None and copy.prefix == prefix:
                    stores = found[copy.number, copy.segment_id, copy.identity]
                    stores[name] = (*stores.get(name, ()), store)
        return Listing(
            tuple(
                FoundCopy(prefix, owner, copy_number, segment_id, names)
                for (copy_number, segment_id, owner), names in sorted(found.items())
            ),
            frozenset(store for store, names in zip(self._stores, listed, strict=True) if names is None),
        )

    async def read(self, copy: FoundCopy) -> bytes:
        """Return the plaintext of a copy that was found. Raises `NotEnoughShards`."""
        return (await self.decode(copy)).plaintext

    async def decode(self, copy: FoundCopy) -> DecodedSegment:
        """As `read`, with what the footers say."""
        candidates = [(name, store) for name, stores in copy.names.items() for store in stores]
        shards: dict[str, bytes | memoryview] = {}
        reasons: list[str] = []
        needed, wanted = FIRST_K, FIRST_K
        while candidates:
            batch, candidates = candidates[:wanted], candidates[wanted:]
            for (name, _), answer in zip(batch, await self._get_all(batch), strict=True):
                if isinstance(answer, StoreError):
                    reasons.append(str(answer))
                elif (parsed := parse_copy_name(name)) is not None:
                    shards[shard_name(parsed.segment_id, parsed.shard_index)] = answer
            try:
                return decode_segment(shards, self._cipher.open_share)
            except NotEnoughShards as error:
                needed, wanted = error.needed, max(error.needed - error.found, 1)
                reasons += error.reasons
            except IntegrityError as error:
                reasons.append(str(error))
        raise NotEnoughShards(needed=needed, found=len(shards), segment=copy.segment_id.hex(), reasons=tuple(dict.fromkeys(reasons)))

    async def read_layout(self, prefix: str, identity: str, number: int, layout: Layout) -> AsyncIterator[bytes]:
        """Yield the plaintext of each segment of what was stored under this layout. Raises `NotEnoughShards`.

        The layout is believed: it says under which key the cells were sealed. Where the shards lie is looked for if they are not there.
        """
        data_key = self._cipher.unwrap(layout.wrapped_key)
        for segment in layout.segments:
            yield await self._read_segment(CopyName(prefix, identity, number, segment.id, 0), layout, segment, data_key)

    async def _read_segment(self, name: CopyName, layout: Layout, segment: Segment, data_key: bytes) -> bytes:
        geometry = SegmentGeometry(Scheme(layout.k, layout.m), segment.size)
        keys = SegmentKeys(geometry, segment_id=segment.id, data_key=data_key, tenant_key_id=layout.tenant_key_id)
        reader = ColumnReader(keys, first=0, last=geometry.stripe_count - 1)
        reasons: list[str] = []
        candidates = self._where(name, segment)
        while candidates and len(reader.indexes) < layout.k:
            wanted = layout.k - len(reader.indexes)
            batch, candidates = candidates[:wanted], candidates[wanted:]
            for (shard, store), answer in zip(batch, await self._get_all(batch), strict=True):
                try:
                    if isinstance(answer, StoreError):
                        raise answer
                    if (parsed := parse_copy_name(shard)) is not None and parsed.shard_index not in reader.indexes:
                        reader.add(parsed.shard_index, answer)
                except (StoreError, IntegrityError) as error:
                    reasons.append(f"store {store}: {error}")
        if len(reader.indexes) < layout.k:
            raise NotEnoughShards(needed=layout.k, found=len(reader.indexes), segment=segment.id.hex(), reasons=tuple(reasons))
        return b"".join(reader.plaintext(0, segment.size))

    def _where(self, name: CopyName, segment: Segment) -> list[tuple[ShardName, str]]:
        """Return where each shard may lie: where it was put, then where else it may have gone."""
        names = [ShardName(str(name._replace(shard_index=index))) for index in range(len(segment.stores))]
        planned = [(shard, store) for shard, store in zip(names, segment.stores, strict=True) if store in self._stores]
        known = [place for index, place in enumerate(planned) if index not in segment.missing]
        others = [(shard, store) for shard in names for store in self._stores]
        return list(dict.fromkeys((*known, *planned, *others)))

    async def _get_all(self, places: Sequence[tuple[ShardName, str]]) -> list[bytes | memoryview | StoreError]:
        return await asyncio.gather(*(self._get(*place) for place in places))

    async def _get(self, name: ShardName, store: str) -> bytes | memoryview | StoreError:
        try:
            return await self._stores[store].get(name)
        except StoreError as error:
            return error

    async def _list(self, store: Store, prefix: str, timeout_seconds: float | None) -> list[ShardName] | None:
        try:
            async with asyncio.timeout(timeout_seconds):
                return [name async for name in bounded_names(store, prefix)]
        except (StoreError, TimeoutError):
            return None
