"""The comparison: what stores list against what the manifest says, both ways, one slice of all segments at a time.

The problem. Neither side stands still: while stores list, a server writes, deletes, moves. A name that is in one and not in the other is
mostly of something under way.

The idea. The order in which the two are read lets each case be told:

    1. the newest extent     what is written later is not expected in the listings
       garbage               may be deleted, and forgotten, while stores list
    2. the listings          into a scratch database
    3. leases, moves under way, garbage: what they explain is taken out
    4. all extents: what they explain is taken out, strays of theirs too; what is expected and was not listed is suspected to be missing
    5. garbage again

An **orphan** is what is left. Whatever was listed and was rightly there was garbage at step 1; or at step 3 it was leased, being moved, or
garbage, and is explained; or it belonged to an extent. Then step 4 meets it in that extent, whose id is not beyond those there are at step
3; or it has left the extent in between, by a deletion or a move, and step 5 finds it among the garbage. Garbage lies for an hour
(`collect_after_seconds`). If a comparison takes longer, what has become garbage and was deleted in that time is a name too many, of a shard
that is gone. Whoever deletes orphans waits for the next pass, which does not see it again.

A shard is **missing** only if its own store says so when it is asked for it by name, and the manifest expects it still after that.
A listing alone proves nothing: not all stores promise to list at once what was put.

A store whose listing breaks off is left out, in both directions, and named.

Rejected: one prefix after the other, without a scratch database. The manifest has no index by segment, and each prefix would cost a walk
over all extents. Rejected: a request a shard, which costs a thousand times as much as a listing.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import ParamSpec, TypeVar

from proxy.codec.proof import is_shard_size
from proxy.engine.scrub.compared import Compared, bump
from proxy.engine.scrub.findings import Finding, Report
from proxy.engine.scrub.inspector import Inspector, Shard
from proxy.engine.scrub.names import kind_of_name
from proxy.engine.scrub.slices import Slice
from proxy.engine.throttle import Throttle
from proxy.errors import BudgetExhausted, KeyUnavailable, NoRoom, StoreError, StoreUnavailable
from proxy.manifest.damage import Draw
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import ExtentId, Garbage, IntentId
from proxy.manifest.sqlite.listings import Listed, Listings
from proxy.stores.protocol import ShardName, Store

P = ParamSpec("P")
Result = TypeVar("Result")

PAGE = 1000  # names of each store in memory, as many as one request of most providers lists
ROWS = 500
EXTENTS = 100
AT_ONCE = 16  # suspects being looked at
MOST_NAMES = 100_000_000  # of one store in one slice, twice as many as a slice is made for: a store that lists more makes them up


class Comparison:
    """Compares one slice. Runs once; whoever made it closes it."""

    def __init__(
        self,
        manifest: Manifest,
        stores: Mapping[str, Store],
        inspector: Inspector,
        throttle: Throttle,
        threads: Executor,
        listings: Listings,
        report: Report,
        compared: Compared,
    ) -> None:
        """`compared` is added to, and tells which stores are left out already."""
        self._manifest = manifest
        self._stores = stores
        self._inspector = inspector
        self._throttle = throttle
        self._threads = threads
        self._listings = listings
        self._report = report
        self._compared = compared
        self._identity = ""

    async def run(self, part: Slice, *, everything: bool) -> AsyncIterator[None]:
        """Compare, and yield after each bounded unit of work. With `everything`, what is no shard is listed as well."""
        self._identity = (await self._manifest.find_epoch()).identity
        before = await self._manifest.newest_extent()
        await self._note_garbage(part)
        async for _ in self._list_all(part, everything=everything):
            yield
        await self._explain_work_under_way()
        async for _ in self._compare_extents(part, before=before):
            yield
        await self._explain_garbage()
        await self._in_thread(self._listings.explain_doomed)
        async for page in self.orphans():
            for listed in page:
                bump(self._compared.orphans, listed.store)
                bump(self._compared.orphan_bytes, listed.store, listed.size_bytes)
            yield

    async def orphans(self) -> AsyncIterator[Sequence[Listed]]:
        """After the run: yield what nothing explains, page by page, of the stores that have listed to the end."""
        after: Listed | None = None
        while page := await self._in_thread(self._listings.left, after=after, limit=ROWS):
            after = page[-1]
            if found := [listed for listed in page if listed.store not in self._compared.unlisted]:
                yield found

    async def close(self) -> None:
        await self._in_thread(self._listings.close)

    # What the stores list

    async def _note_garbage(self, part: Slice) -> None:
        async for rows in self._garbage():
            ours = [row for row in rows if part.holds_name(row.name)]
            try:
                await self._in_thread(self._listings.doom, _named(ours), _searches(ours))
            except NoRoom as error:
                self._compared.unlisted |= dict.fromkeys(self._stores, str(error))
                return

    async def _list_all(self, part: Slice, *, everything: bool) -> AsyncIterator[None]:
        for prefix in ("",) if everything or part.count == 1 else part.folders:
            running = [_Listing(name, store, prefix) for name, store in self._stores.items() if name not in self._compared.unlisted]
            while running:
                await asyncio.gather(*(self._list_page(listing, part) for listing in running))
                running = [listing for listing in running if not listing.ended]
                yield

    async def _list_page(self, listing: _Listing, part: Slice) -> None:
        await self._throttle.take()
        self._compared.requests += 1
        try:
            page = await listing.next_page()
            bump(self._compared.listed, listing.store_name, len(page))
            await self._in_thread(self._listings.add, listing.store_name, self._shards_of(listing.store_name, page, part))
        except (StoreError, NoRoom) as error:
            listing.ended = True
            self._compared.unlisted[listing.store_name] = error.reason if isinstance(error, StoreError) else str(error)

    def _shards_of(self, store: str, page: Sequence[tuple[ShardName, int]], part: Slice) -> list[tuple[str, int]]:
        shards: list[tuple[str, int]] = []
        for name, size in page:
            kind = kind_of_name(name, identity=self._identity)
            if kind == "shard":
                if part.holds_name(name):
                    shards.append((name, size))
            elif kind == "another manifest's":
                self._compared.note_shared(store)
            elif kind == "foreign":
                self._compared.note_foreign(store, name)
        return shards

    # What explains a name

    async def _explain_work_under_way(self) -> None:
        after = IntentId(0)
        while intents := await self._manifest.walk_intents(after=after, limit=ROWS):
            after = intents[-1].id
            await self._in_thread(self._listings.explain_segments, [segment_id for intent in intents for segment_id in intent.segment_ids])
        draw: Draw | None = None
        while draws := await self._manifest.walk_draws(after=draw, limit=ROWS):
            draw = draws[-1]
            await self._in_thread(self._listings.take, [shard for drawn in draws for shard in drawn.shards])
        await self._explain_garbage()

    async def _explain_garbage(self) -> None:
        async for rows in self._garbage():
            await self._in_thread(self._listings.take, _named(rows))
            await self._in_thread(self._listings.explain_searches, _searches(rows))

    async def _garbage(self) -> AsyncIterator[Sequence[Garbage]]:
        after: Garbage | None = None
        while rows := await self._manifest.walk_garbage(after=after, limit=ROWS):
            after = rows[-1]
            yield rows

    async def _compare_extents(self, part: Slice, *, before: ExtentId) -> AsyncIterator[None]:
        newest, after = await self._manifest.newest_extent(), ExtentId(0)
        while extents := await self._manifest.walk_extents(after=after, limit=EXTENTS):
            after = extents[-1].id
            shards = [
                Shard(extent, segment, index)
                for extent in extents
                for segment in extent.layout.segments
                if part.holds_segment(segment.id)
                for index in range(len(segment.stores))
            ]
            await self._compare(shards, before=before)
            yield
            if after >= newest:
                return

    async def _compare(self, shards: Sequence[Shard], *, before: ExtentId) -> None:
        sizes = await self._in_thread(self._listings.take, [(shard.store, shard.name) for shard in shards])
        with_strays = {shard.segment.id for shard in shards if shard.segment.strays}
        await self._in_thread(self._listings.explain_segments, with_strays)  # these are on record, and deleted once they have come to rest
        expected = [(shard, size) for shard, size in zip(shards, sizes, strict=True) if self._is_expected(shard)]
        self._compared.shards += len(expected)
        suspects = [suspect for suspect in _suspects(expected) if suspect.shard.extent.id <= before]
        gate, requests = asyncio.Semaphore(AT_ONCE), self._inspector.requests
        looks = await asyncio.gather(*(self._look(suspect, gate) for suspect in suspects))
        self._compared.requests += self._inspector.requests - requests
        found = [finding for finding in looks if finding is not None]
        still_expected = await self._inspector.still_expected(finding.shard for finding in found)
        findings = [finding for finding in found if finding.shard.name in still_expected]
        for finding in findings:
            bump(self._compared.found, finding.kind)
        await self._report(findings)

    def _is_expected(self, shard: Shard) -> bool:
        """A store that is not configured is the audit's to tell; a shard on record as missing may have come or not."""
        return shard.index not in shard.segment.missing and shard.store in self._stores and shard.store not in self._compared.unlisted

    async def _look(self, suspect: _Suspect, gate: asyncio.Semaphore) -> Finding | None:
        shard = suspect.shard
        async with gate:
            try:
                look = await (self._inspector.open(shard) if suspect.is_listed else self._inspector.probe(shard, size_bytes=suspect.usual))
            except (StoreError, KeyUnavailable, BudgetExhausted):
                bump(self._compared.unreachable, shard.store)
                return None
            return Finding.of(shard, look) if look.kind else None

    async def _in_thread(self, call: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(call, *args, **kwargs))


class _Listing:
    """A store's listing of one prefix, page by page."""

    def __init__(self, store_name: str, store: Store, prefix: str) -> None:
        self.store_name = store_name
        self.ended = False
        self._listed = 0
        self._entries = aiter(store.list(prefix))

    async def next_page(self) -> list[tuple[ShardName, int]]:
        """Raises `StoreError`."""
        page: list[tuple[ShardName, int]] = []
        async for entry in self._entries:
            page.append(entry)
            if len(page) == PAGE:
                break
        else:
            self.ended = True
        self._listed += len(page)
        if self._listed > MOST_NAMES:
            raise StoreUnavailable(self.store_name, f"lists more than {MOST_NAMES:,} names")
        return page


@dataclass(frozen=True, slots=True, kw_only=True)
class _Suspect:
    """A shard that was not listed, or with another size than the others of its segment. `usual`: the size of those, if it can be one."""

    shard: Shard
    is_listed: bool
    usual: int | None


def _suspects(expected: Sequence[tuple[Shard, int | None]]) -> Iterable[_Suspect]:
    """All shards of a segment are of one size: all bear the same label. If they do not agree which, each is looked at."""
    for _, group in groupby(expected, key=lambda pair: pair[0].segment.id):
        segment = list(group)
        geometry = segment[0][0].geometry
        sizes = Counter(size for _, size in segment if size is not None)
        usual, votes = sizes.most_common(1)[0] if sizes else (0, 0)
        believed = usual if is_shard_size(geometry, usual) and 2 * votes > sizes.total() else None
        for shard, size in segment:
            if size is None or size != believed:
                yield _Suspect(shard=shard, is_listed=size is not None, usual=believed)


def _named(rows: Iterable[Garbage]) -> list[tuple[str, str]]:
    return [shard for row in rows if not row.search for shard in row.shards or ((row.store, row.name),)]


def _searches(rows: Iterable[Garbage]) -> list[tuple[str, str]]:
    return [(row.store, row.name) for row in rows if row.search]
