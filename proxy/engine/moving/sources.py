"""Reading the shards of a segment to make others of them: cheapest first, cells and footers opened, liars left out and told of."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import Executor
from functools import partial

from proxy.codec.footer import Footer, parse_footer
from proxy.codec.geometry import Scheme, SegmentGeometry
from proxy.codec.proof import prove_shard
from proxy.codec.segment import ColumnReader, SegmentKeys
from proxy.engine.damage import DamageReporter
from proxy.engine.placing.fleet import Fleet
from proxy.engine.throttle import Throttle
from proxy.errors import IntegrityError, NotEnoughShards, ProxyError, ShardMismatch, ShardTruncated, StoreError
from proxy.keyring import TenantCipher
from proxy.manifest.records import Extent, Layout, Segment
from proxy.stores.protocol import ShardName


def geometry_of(layout: Layout, segment: Segment) -> SegmentGeometry:
    return SegmentGeometry(Scheme(layout.k, layout.m), segment.size)


def shard_size(layout: Layout, segment: Segment) -> int:
    """Return the bytes of each shard of a segment."""
    return geometry_of(layout, segment).cells_size + segment.footer_size


class SegmentSources:
    """The shards of one segment, to read from. Counts what it asks of stores."""

    def __init__(
        self,
        extent: Extent,
        segment: Segment,
        cipher: TenantCipher,
        *,
        fleet: Fleet,
        threads: Executor,
        throttle: Throttle,
        reporter: DamageReporter,
    ) -> None:
        layout = extent.layout
        self.geometry = geometry_of(layout, segment)
        self.keys = SegmentKeys(
            self.geometry, segment_id=segment.id, data_key=cipher.unwrap(layout.wrapped_key), tenant_key_id=layout.tenant_key_id
        )
        self.requests = 0
        self.read_bytes = 0
        self.footers: dict[int, Footer] = {}  # those that have been read, and open
        self._size = shard_size(layout, segment)
        self._extent_id = extent.id
        self._segment = segment
        self._cipher = cipher
        self._fleet = fleet
        self._threads = threads
        self._throttle = throttle
        self._reporter = reporter
        self._bad: dict[int, ProxyError] = {}
        self._loop = asyncio.get_running_loop()

    async def columns(self, first: int, last: int, *, suspect: Collection[int]) -> ColumnReader:
        """Return k authenticated columns of stripes first..last; those suspect are asked last. Raises `NotEnoughShards`.

        With the last stripe come the `footers` of the same k shards.
        """
        reader, k = ColumnReader(self.keys, first=first, last=last), self.geometry.scheme.k
        while len(reader.indexes) < k:
            asked = self._candidates(reader.indexes, suspect)[: k - len(reader.indexes)]
            if len(asked) + len(reader.indexes) < k:
                raise self._too_few(len(asked) + len(reader.indexes))
            outcomes = await asyncio.gather(*(self._read_column(reader, index, first, last) for index in asked), return_exceptions=True)
            self._note(asked, outcomes)
        return reader

    async def whole(self, index: int) -> tuple[memoryview, Footer]:
        """Return one shard's sealed cells and its footer, after every cell has been opened. Raises what is wrong with it."""
        try:
            shard = await self._get(index, 0, self._size)
            name = self._segment.shard_name(index)
            footer = await self._loop.run_in_executor(self._threads, partial(prove_shard, self.keys, shard, name=name, shard_index=index))
            self._cipher.open_share(footer)
            return memoryview(shard)[: self.geometry.cells_size], footer
        except ProxyError as error:
            self._note([index], [error])
            raise

    def share(self, index: int) -> bytes:
        """Return the wrapped share of a shard, from k footers that have been read. Raises `ShardMismatch`."""
        if index in self.footers:
            return self.footers[index].wrapped_share
        k = self.geometry.scheme.k
        return self._cipher.rebuild_share(list(self.footers.values())[:k], index, self.keys)

    def _candidates(self, opened: Collection[int], suspect: Collection[int]) -> list[int]:
        left = [index for index in range(len(self._segment.stores)) if index not in opened and index not in self._bad]
        cheapest = self._fleet.by_price([(index, self._segment.stores[index]) for index in left])
        return sorted(cheapest, key=lambda index: index in suspect or index in self._segment.missing)

    async def _read_column(self, reader: ColumnReader, index: int, first: int, last: int) -> None:
        offset, length = self.geometry.cells_span(first, last)
        with_footer = last == self.geometry.stripe_count - 1
        sealed = await self._get(index, offset, length + (self._segment.footer_size if with_footer else 0))
        footer = self._open_footer(index, sealed) if with_footer else None
        await self._loop.run_in_executor(self._threads, reader.add, index, sealed)
        if footer is not None:
            self.footers[index] = footer

    async def _get(self, index: int, offset: int, length: int) -> bytes | memoryview:
        await self._throttle.take(length)
        store = self._fleet[self._segment.stores[index]]
        self.requests += 1
        answer = await store.get_range(ShardName(self._segment.shard_name(index)), offset, length, insist=True)
        self.read_bytes += len(answer)
        if len(answer) != length:
            raise ShardTruncated(store.info.name, f"answered {len(answer)} bytes of shard {self._segment.shard_name(index)}, not {length}")
        return answer

    def _open_footer(self, index: int, end: bytes | memoryview) -> Footer:
        """Read a footer, and believe none of it that is not sealed, or known anyway."""
        footer = parse_footer(end, name=self._segment.shard_name(index), size_bytes=self._size)
        if footer.fixed.pack() != self.keys.fixed_part(index):
            raise ShardMismatch(f"shard {self._segment.shard_name(index)} has the fixed part of another")
        self.keys.label_cipher().open(footer.sealed_label)
        self._cipher.open_share(footer)
        return footer

    def _note(self, asked: Iterable[int], outcomes: Sequence[BaseException | None]) -> None:
        for index, outcome in zip(asked, outcomes, strict=True):
            if isinstance(outcome, StoreError | IntegrityError):
                self._bad[index] = outcome
                self._reporter.found(self._extent_id, self._segment, index, outcome)
            elif outcome is not None:
                raise outcome

    def _too_few(self, found: int) -> NotEnoughShards:
        reasons = tuple(str(error) for error in self._bad.values())
        return NotEnoughShards(needed=self.geometry.scheme.k, found=found, segment=self._segment.id.hex(), reasons=reasons)
