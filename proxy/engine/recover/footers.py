"""Reading the footers of a segment: k of its shards, in one round of requests where the guess of k is right, and more only if some fail."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from proxy.codec.footer import Footer, footer_length, parse_footer
from proxy.codec.format import FOOTER_BASE_SIZE, shard_name
from proxy.errors import IntegrityError, StoreError
from proxy.manifest.recovery import Sighting
from proxy.stores.observe import ObservedStore
from proxy.stores.protocol import ShardName

FIRST_READ = 1024  # bytes from the end: most footers are shorter


@dataclass(slots=True)
class FootersRead:
    """The footers of one segment so far, and what is wrong with the other shards."""

    left: list[Sighting]
    footers: list[Footer] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    unanswered: list[Sighting] = field(default_factory=list)  # their stores failed: they may answer later

    @property
    def needed(self) -> int:
        """How many more shards are needed, by what the footers so far say; 1 if there is none yet."""
        k = max((footer.fixed.scheme.k for footer in self.footers), default=1)
        return max(k - len({footer.fixed.shard_index for footer in self.footers}), 0)


class FooterReader:
    """Reads footers from the stores that list shards."""

    def __init__(self, stores: Mapping[str, ObservedStore]) -> None:
        self._stores = stores
        self._guess = 1

    def begin(self, sightings: Sequence[Sighting]) -> FootersRead:
        """Return where reading begins: the newest generation of each shard first, turned by the segment's id to spread the load."""
        newest: dict[int, Sighting] = {}
        for sighting in sorted(sightings, key=lambda one: (one.generation, one.store)):
            newest[sighting.shard_index] = sighting
        first = list(newest.values())
        turn = first[0].segment_id[0] % len(first)
        rest = [sighting for sighting in sightings if newest[sighting.shard_index] is not sighting]
        return FootersRead(left=[*first[turn:], *first[:turn], *rest])

    async def read(self, read: FootersRead) -> None:
        """Read until k footers of different shards are there, or no shard is left."""
        more = max(self._guess, read.needed)
        while more and read.left:
            chosen, read.left = read.left[:more], read.left[more:]
            await asyncio.gather(*(self._read(read, sighting) for sighting in chosen))
            more = read.needed
        if read.footers:
            self._guess = read.footers[0].fixed.scheme.k

    async def read_all(self, read: FootersRead) -> None:
        """Read whatever is left, and ask once more where a store failed: those read so far did not give the key or the label."""
        chosen, read.left, read.unanswered = [*read.left, *read.unanswered], [], []
        await asyncio.gather(*(self._read(read, sighting, insist=True) for sighting in chosen))

    async def _read(self, read: FootersRead, sighting: Sighting, *, insist: bool = False) -> None:
        name = ShardName(shard_name(sighting.segment_id, sighting.shard_index, sighting.generation))
        if sighting.size_bytes < FOOTER_BASE_SIZE:
            read.reasons.append(f"store {sighting.store}: {name} has {sighting.size_bytes} bytes, and a footer has more")
            return
        try:
            end = await self._end(sighting, name, min(FIRST_READ, sighting.size_bytes), insist=insist)
            length = footer_length(end)
            if length > len(end) and length <= sighting.size_bytes:
                end = await self._end(sighting, name, length, insist=insist)
            read.footers.append(parse_footer(end, name=name, size_bytes=sighting.size_bytes))
        except StoreError as error:
            read.reasons.append(str(error))
            read.unanswered.append(sighting)
        except IntegrityError as error:
            read.reasons.append(f"store {sighting.store}: {error}")

    async def _end(self, sighting: Sighting, name: ShardName, length: int, *, insist: bool) -> bytes | memoryview:
        return await self._stores[sighting.store].get_range(name, sighting.size_bytes - length, length, insist=insist)
