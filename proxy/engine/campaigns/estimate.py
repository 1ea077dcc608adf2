"""What moving shards takes, in requests, bytes and US dollars, from the prices in the configuration.

Bytes that go into a store cost nothing at any provider, its requests do. What is deleted before a store's `minimum_days` is charged for the
rest of them. When a shard was stored is not on record, so the whole time is counted: an upper bound.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from proxy.codec.format import TAG_SIZE, footer_size, sealed_label_size
from proxy.codec.geometry import Scheme, SegmentGeometry, segment_sizes
from proxy.codec.slots import compose
from proxy.engine.campaigns.moves import Move
from proxy.engine.repack.bundles import Bundle, PackSlots
from proxy.manifest.campaigns import Bill, Estimate
from proxy.manifest.records import Layout, Segment
from proxy.stores.protocol import Prices, StoreInfo

LABEL_SIZE = 200  # of an object with a short key and little metadata; the difference is a part of a thousandth of most shards
ENTRY_SIZE = 350  # of such an object in the table of a pack
GB = 1e9  # as providers count
DAYS_OF_A_MONTH = 30


def shard_size(scheme: Scheme, segment_size: int, known_footer_size: int = 0) -> int:
    """Return the bytes of one shard, cells and footer; of one that is not stored yet, about so many."""
    return SegmentGeometry(scheme, segment_size).cells_size + (known_footer_size or footer_size(sealed_label_size(LABEL_SIZE)))


def seconds_at(estimate: Estimate, *, requests_per_second: float, bytes_per_second: float) -> float:
    """Return how long it takes at the throttle: whichever of the two lasts longer."""
    return max(estimate.requests / requests_per_second, estimate.size_bytes / bytes_per_second)


def cheapest(stores: Iterable[str], count: int, infos: Mapping[str, StoreInfo]) -> list[str]:
    """Return the stores that shards are read from at the least cost; those of one shard each."""

    def cost(store: str) -> tuple[float, float, str]:
        prices = infos[store].prices
        return prices.egress_gb, prices.get_per_thousand, store

    return sorted((store for store in stores if store in infos), key=cost)[:count]


def sizes_made(bundle: Bundle) -> list[int]:
    """Return how large the segments are, about, that a bundle of slots becomes: a pack, and those whose body wastes too much of one."""
    sizes, k = [slot.size for pack in bundle.packs for slot in pack.slots], bundle.target.scheme.k
    composition = compose(sizes, k)
    lengths = [sum(sizes[place] + TAG_SIZE for place in column) for column in composition.columns]
    alone = [sizes[place] for place in composition.left_out]
    if len(alone) == len(sizes):
        return alone
    table = (len(sizes) - len(alone)) * ENTRY_SIZE
    return [*alone, k * max(*lengths, min(lengths) + table)]


class Tally:
    """Adds up what moves."""

    def __init__(self, infos: Mapping[str, StoreInfo]) -> None:
        self._infos = infos
        self._counts: dict[str, Counts] = defaultdict(Counts)
        self._segments = self._copied = self._rebuilt = self._rewritten = self._waiting = 0

    def copy(self, scheme: Scheme, segment: Segment, moves: Sequence[Move]) -> None:
        """Count shards that are each read once, and put as they are."""
        self._segments += bool(moves)
        self._copied += len(moves)
        size = shard_size(scheme, segment.size, segment.footer_size)
        for move in moves:
            self._counts[move.source].read(size)
            self._put(move, size)

    def rebuild(self, scheme: Scheme, segment: Segment, moves: Sequence[Move], *, lost: Collection[str] = ()) -> None:
        """Count shards that are coded anew from the k cheapest of the others; the stores `lost` are not read."""
        self._segments += bool(moves)
        self._rebuilt += len(moves)
        size = shard_size(scheme, segment.size, segment.footer_size)
        moved = {move.index for move in moves}
        good = [
            store for index, store in enumerate(segment.stores) if index not in moved and index not in segment.missing and store not in lost
        ]
        for store in cheapest(good, scheme.k, self._infos) if moves else ():
            self._counts[store].read(size)
        for move in moves:
            self._put(move, size)

    def rewrite(self, layout: Layout, scheme: Scheme, segment_size: int, targets: Sequence[str]) -> None:
        """Count an extent that is read, stored under a scheme, and deleted. `targets` are the stores that a segment's shards go to."""
        former = Scheme(layout.k, layout.m)
        for segment in layout.segments:
            size = shard_size(former, segment.size, segment.footer_size)
            held = [store for index, store in enumerate(segment.stores) if index not in segment.missing]
            for store in held[: former.k]:
                self._counts[store].read(size)
            for store in held:
                self._counts[store].delete(size)
        for size in segment_sizes(layout.size, segment_size):
            self._segments += 1
            self._rewritten += 1
            for store in targets:
                self._counts[store].put(shard_size(scheme, size))

    def repack(self, packs: Iterable[PackSlots], scheme: Scheme, made: Iterable[tuple[int, Sequence[str]]]) -> None:
        """Count packs that are read, and what is stored of them: segments of so many bytes, in these stores. What no other version uses of
        a pack goes with it."""
        for pack in packs:
            layout, (segment,) = pack.extent.layout, pack.extent.layout.segments
            former = Scheme(layout.k, layout.m)
            size = shard_size(former, segment.size, segment.footer_size)
            held = [store for index, store in enumerate(segment.stores) if index not in segment.missing]
            for store in cheapest(held, former.k, self._infos):
                self._counts[store].read(size)
            for store in () if pack.shared else held:
                self._counts[store].delete(size)
        for size, targets in made:
            self._segments += 1
            self._rewritten += 1
            for store in targets:
                self._counts[store].put(shard_size(scheme, size))

    def wait(self) -> None:
        """Count a segment that cannot move yet."""
        self._waiting += 1

    def estimate(self) -> Estimate:
        """Return the sum so far."""
        return Estimate(
            segments=self._segments,
            copied=self._copied,
            rebuilt=self._rebuilt,
            rewritten=self._rewritten,
            waiting=self._waiting,
            bills=tuple(self._counts[store].bill(store, self._infos.get(store)) for store in sorted(self._counts)),
        )

    def _put(self, move: Move, size: int) -> None:
        self._counts[move.target].put(size)
        self._counts[move.source].delete(size)


class Counts:
    """What is asked of one store."""

    __slots__ = ("deleted_bytes", "deletes", "gets", "puts", "read_bytes", "written_bytes")

    def __init__(self) -> None:
        self.gets = self.puts = self.deletes = self.read_bytes = self.written_bytes = self.deleted_bytes = 0

    def read(self, size: int) -> None:
        self.gets += 1
        self.read_bytes += size

    def put(self, size: int) -> None:
        self.puts += 1
        self.written_bytes += size

    def delete(self, size: int) -> None:
        self.deletes += 1
        self.deleted_bytes += size

    def bill(self, store: str, info: StoreInfo | None) -> Bill:
        """Return it with what it costs. A store that is not configured has no price."""
        prices = Prices() if info is None else info.prices
        minimum_days = 0 if info is None else info.minimum_days
        return Bill(
            store=store,
            gets=self.gets,
            puts=self.puts,
            deletes=self.deletes,
            read_bytes=self.read_bytes,
            written_bytes=self.written_bytes,
            egress_usd=self.read_bytes / GB * prices.egress_gb,
            requests_usd=self.gets / 1000 * prices.get_per_thousand + self.puts / 1000 * prices.put_per_thousand,
            early_deletion_usd=self.deleted_bytes / GB * prices.storage_gb_month * minimum_days / DAYS_OF_A_MONTH,
        )
