"""Which columns to ask for where much is read from afar: those of the stores that have least to send just now.

Placement turns with each segment, by chance. So of a few segments that are read together, some stores have more data columns than others,
and these would set the pace. Parity is as good where any k columns are asked for, and decoding is cheap beside a line.

Which columns a window asks for is **booked** with their stores at once, before memory is there for them. Several windows are begun in one
step, and all would otherwise choose the same stores.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from proxy.engine.placing.fleet import Fleet
from proxy.manifest.records import Segment
from proxy.stores.observe import LARGE_SIZE

SPREAD_SIZE = LARGE_SIZE  # of a column
SPREAD_READS = 1  # so many fewer make up for decoding


class Booking:
    """The columns that one window reads. Each counts for its store, within the block, until it has ended."""

    def __init__(self, fleet: Fleet, segment: Segment, columns: Iterable[int] = ()) -> None:
        names = segment.stores
        self._reads = {index: fleet[names[index]] for index in columns if names[index] in fleet}

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Count all of them, until the end of the block at most."""
        for store in self._reads.values():
            store.reads += 1
        try:
            yield
        finally:
            for index in tuple(self._reads):
                self.ended(index)

    def ended(self, index: int) -> None:
        """Take note that a store has sent what it was asked for, or will not."""
        store = self._reads.pop(index, None)
        if store is not None:
            store.reads -= 1


def is_spread(fleet: Fleet, segment: Segment, wanted: frozenset[int], *, k: int, size_bytes: int) -> bool:
    """Tell whether so much is read from afar that it matters of which stores. `size_bytes`: of each column."""
    return size_bytes >= SPREAD_SIZE and len(wanted) >= k and fleet.are_far(segment.stores)


def spread(fleet: Fleet, segment: Segment, wanted: frozenset[int]) -> frozenset[int]:
    """Return the columns wanted, or others instead of those whose stores are busier, if they cost no more."""
    reads = {index: fleet[name].reads for index, name in enumerate(segment.stores) if name in fleet}
    chosen = {index for index in wanted if index in reads}
    for other in sorted(reads.keys() - wanted - set(segment.missing), key=reads.__getitem__):
        busiest = max(chosen, key=reads.__getitem__, default=other)
        is_free = reads[busiest] - reads[other] >= SPREAD_READS and fleet[segment.stores[other]].keeps_pace("get_range")
        if is_free and _price(fleet, segment, other) <= _price(fleet, segment, busiest):
            chosen.remove(busiest)
            chosen.add(other)
    return frozenset(chosen | {index for index in wanted if index not in reads})


def _price(fleet: Fleet, segment: Segment, index: int) -> float:
    return fleet[segment.stores[index]].info.prices.egress_gb
