"""The scrub of the manifest's copy: is all that a recovery would read where it was put, and does it open?

Walks over extents do not meet it. There is little of it, so all of its names are listed at once. As with shards of objects, a listing alone
proves nothing: what it lacks is asked for by name, and what has an odd size is opened.

Nothing is repaired here. The next checkpoint does not refer to a run that is damaged, but writes it anew from the manifest, and makes
damaged journal segments useless. (Rejected: to rebuild single shards. The manifest is at hand, so a checkpoint does it all, even where
too few shards are left.)
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from typing import NamedTuple

from msgspec.structs import replace

from proxy.clock import Clock
from proxy.codec.format import CHECKPOINT_PREFIX, JOURNAL_PREFIX, RUN_PREFIX, SEALED_CELL_SIZE, CopyName, parse_copy_name, shard_name
from proxy.codec.geometry import Scheme, SegmentGeometry
from proxy.codec.proof import is_shard_size, prove_shard, smallest_shard_size
from proxy.codec.segment import SegmentKeys
from proxy.engine.journal.soundness import Evidence, basis_of, judge
from proxy.engine.journal.writing import CopyWriter
from proxy.engine.memory.background import BackgroundMemory
from proxy.engine.throttle import Throttle
from proxy.errors import IntegrityError, ShardMissing, ShardOversized, StoreError, StoreUnavailable
from proxy.keyring import TenantCipher
from proxy.manifest.copies import BadShard, CopyReport, DamagedCopy, NeededCopies, StoredCopy
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Segment
from proxy.stores.protocol import ShardName, Store

PAGE = 1000  # names: as many as one request of most providers lists
NAMES = 1_000_000  # of one store are looked at. One that lists more makes them up, and is taken for silent
LABEL_ROOM = 4096  # of memory for a footer: the labels of copies are short


class _Listed(NamedTuple):
    """What stores list: of each shard, by segment and index, its size in each store that has it; and who did not list."""

    sizes: Mapping[tuple[bytes, int], Mapping[str, int]]
    silent: dict[str, str]


class _Part(NamedTuple):
    """A segment of a copy."""

    identity: str
    copy: StoredCopy
    segment: Segment

    def name(self, index: int) -> ShardName:
        return ShardName(str(CopyName(self.copy.prefix, self.identity, self.copy.number, self.segment.id, index)))

    @property
    def geometry(self) -> SegmentGeometry:
        return SegmentGeometry(Scheme(self.copy.layout.k, self.copy.layout.m), self.segment.size)


class CopyScrub:
    """Compares what a recovery needs with what the stores have, and opens it."""

    def __init__(
        self,
        manifest: Manifest,
        writer: CopyWriter,
        cipher: TenantCipher,
        stores: Mapping[str, Store],
        clock: Clock,
        throttle: Throttle,
        memory: BackgroundMemory,
        threads: Executor,
    ) -> None:
        self._manifest = manifest
        self._writer = writer
        self._cipher = cipher
        self._stores = stores
        self._clock = clock
        self._throttle = throttle
        self._memory = memory
        self._threads = threads
        self.requests = 0

    def basis(self, needed: NeededCopies) -> str:
        """Return what a comparison would rest on now."""
        return basis_of(self._writer.policy, needed, self._stores)

    async def compare(self, before: CopyReport) -> CopyReport:
        """List all stores, and return what is damaged of what a recovery needs. What was found by opening before stays found."""
        requests = self.requests
        needed, identity = await self._manifest.needed_copies(), (await self._manifest.find_epoch()).identity
        listed = await self._list_all(identity)
        parts = [_Part(identity, copy, segment) for copy in needed.copies for segment in copy.layout.segments]
        bad = {(shard.segment_id, shard.shard_index): shard for shard in before.bad}
        damaged: list[DamagedCopy] = []
        for part in parts:
            found = judge(self._writer.policy, part.copy, part.segment, await self._evidence(part, listed, bad), self._stores)
            if found is not None:
                damaged.append(found)
        still = _ids(await self._manifest.needed_copies())  # meanwhile a checkpoint may have made it useless, and it was removed
        damaged = [copy for copy in damaged if copy.segment_id in still]
        now_ms = self._clock.now_ms()
        return replace(
            before,
            compared_ms=now_ms,
            basis=self.basis(needed),
            segments=len(parts),
            shards=sum(len(part.segment.stores) for part in parts),
            requests=self.requests - requests,
            damaged=tuple(damaged),
            since_ms=(before.since_ms or now_ms) if damaged else 0,
            silent=listed.silent,
            bad=tuple(shard for shard in bad.values() if shard.segment_id in still),
        )

    async def open(self, before: CopyReport, *, seconds: float) -> CopyReport:
        """Go on opening every shard for so long. A store that does not answer is left out until the next time.

        After the last one, `opening` is None. What is found is in `bad`, and in `damaged` once it is compared again.
        """
        until = self._clock.monotonic() + seconds
        needed, identity = await self._manifest.needed_copies(), (await self._manifest.find_epoch()).identity
        parts = {segment.id: _Part(identity, copy, segment) for copy in needed.copies for segment in copy.layout.segments}
        bad = {(shard.segment_id, shard.shard_index): shard for shard in before.bad}
        after = before.opening or b""
        for segment_id in sorted(each for each in parts if each > after):  # what is written meanwhile is new, and may be left out
            if after != (before.opening or b"") and self._clock.monotonic() >= until:
                return replace(before, bad=tuple(bad.values()), opening=after)
            for shard in await self._open_all(parts[segment_id]):
                bad[shard.segment_id, shard.shard_index] = shard
            after = segment_id
        return replace(before, bad=tuple(bad.values()), opening=None, opened_ms=self._clock.now_ms())

    # Listings

    async def _list_all(self, identity: str) -> _Listed:
        sizes: dict[tuple[bytes, int], dict[str, int]] = defaultdict(dict)
        silent: dict[str, str] = {}
        await asyncio.gather(*(self._list(name, store, identity, sizes, silent) for name, store in self._stores.items()))
        return _Listed(sizes, silent)

    async def _list(
        self, name: str, store: Store, identity: str, sizes: dict[tuple[bytes, int], dict[str, int]], silent: dict[str, str]
    ) -> None:
        try:
            seen = 0
            for prefix in (JOURNAL_PREFIX, CHECKPOINT_PREFIX, RUN_PREFIX):
                await self._ask()
                async for listed, size in store.list(f"{prefix}{identity}/"):
                    seen += 1
                    if seen % PAGE == 0:
                        await self._ask()
                    if seen > NAMES:
                        raise StoreUnavailable(name, f"lists more than {NAMES:,} names")
                    if (copy := parse_copy_name(listed)) is not None:
                        sizes[copy.segment_id, copy.shard_index][name] = size
        except StoreError as error:
            silent[name] = str(error)

    # One segment

    async def _evidence(self, part: _Part, listed: _Listed, bad: Mapping[tuple[bytes, int], BadShard]) -> Evidence:
        segment = part.segment
        found = {index: listed.sizes.get((segment.id, index), {}) for index in range(len(segment.stores))}
        places = {index: _place(segment.stores[index], sizes) for index, sizes in found.items() if sizes}
        missing = {index for index in found if index not in places and await self._is_missing(part, index, listed)}
        kinds = {
            index: bad[segment.id, index].kind
            for index in found
            if (segment.id, index) in bad and bad[segment.id, index].store == places.get(index, segment.stores[index])
        }
        for index in _odd(part.geometry, {index: found[index][store] for index, store in places.items()}):
            shard = await self._open(part, index, places[index], listed.silent)
            if shard is not None:
                kinds[index] = shard.kind
        return Evidence(places, frozenset(missing), dict(kinds))

    async def _is_missing(self, part: _Part, index: int, listed: _Listed) -> bool:
        """Ask for a shard that no store lists. Of a store that does not answer, or is not configured any more, the record is believed."""
        store = part.segment.stores[index]
        if index in part.segment.missing:
            return True
        if store in listed.silent or store not in self._stores:
            return False
        await self._ask(1)
        try:
            await self._stores[store].get_range(part.name(index), 0, 1)
        except ShardMissing:
            return True
        except StoreError as error:
            listed.silent[store] = str(error)
        return False

    async def _open_all(self, part: _Part) -> Iterable[BadShard]:
        silent: dict[str, str] = {}
        present = [index for index, store in enumerate(part.segment.stores) if store in self._stores]
        looks = await asyncio.gather(*(self._open(part, index, part.segment.stores[index], silent) for index in present))
        return [look for look in looks if look is not None]

    async def _open(self, part: _Part, index: int, store: str, silent: dict[str, str]) -> BadShard | None:
        """Read a whole shard, and prove it. One that is not there is the comparison's to tell."""
        if not part.copy.layout.wrapped_key:  # a recovered manifest does not know it, and makes a checkpoint soon
            return None
        room = part.geometry.cells_size + SEALED_CELL_SIZE + LABEL_ROOM
        async with self._memory.held(room):
            await self._ask(room)
            try:
                whole = await self._stores[store].get(part.name(index))
                await asyncio.get_running_loop().run_in_executor(self._threads, self._prove, part, index, whole)
            except ShardOversized:
                return BadShard(segment_id=part.segment.id, shard_index=index, store=store, kind="forged")
            except ShardMissing:
                return None
            except StoreError as error:
                silent[store] = str(error)
                return None
            except IntegrityError:
                short = len(whole) < smallest_shard_size(part.geometry)
                return BadShard(segment_id=part.segment.id, shard_index=index, store=store, kind="truncated" if short else "forged")
        return None

    def _prove(self, part: _Part, index: int, whole: bytes | memoryview) -> None:
        layout = part.copy.layout
        keys = SegmentKeys(
            part.geometry,
            segment_id=part.segment.id,
            data_key=self._cipher.unwrap(layout.wrapped_key),
            tenant_key_id=layout.tenant_key_id,
        )
        self._cipher.open_share(prove_shard(keys, whole, name=shard_name(part.segment.id, index), shard_index=index))

    async def _ask(self, size_bytes: int = 0) -> None:
        await self._throttle.take(size_bytes)
        self.requests += 1


def _place(own: str, sizes: Mapping[str, int]) -> str:
    return own if own in sizes else min(sizes)


def _odd(geometry: SegmentGeometry, sizes: Mapping[int, int]) -> list[int]:
    """Return the shards whose size is not that of most: all of a segment bear the same label."""
    if not sizes:
        return []
    usual, votes = Counter(sizes.values()).most_common(1)[0]
    believed = is_shard_size(geometry, usual) and 2 * votes > len(sizes)
    return [index for index, size in sizes.items() if not believed or size != usual]


def _ids(needed: NeededCopies) -> frozenset[bytes]:
    return frozenset(segment.id for copy in needed.copies for segment in copy.layout.segments)
