"""Which columns to ask for where much is read from afar: those of the stores that have least to send just now.

Placement turns with each segment, by chance. So of a few segments that are read together, some stores have more data columns than others,
and these would set the pace. Parity is as good where any k columns are asked for, and decoding is cheap beside a line.
"""

from __future__ import annotations

from proxy.engine.fleet import Fleet
from proxy.manifest.records import Segment

SPREAD_SIZE = 256 * 1024  # of a column: from here on the bytes take longer than the round trip, on a line that is shared
SPREAD_READS = 2  # so many fewer under way make up for decoding


def spread(fleet: Fleet, segment: Segment, wanted: frozenset[int], *, k: int, size_bytes: int) -> frozenset[int]:
    """Return the columns wanted, or others instead of those whose stores are busier, if they cost no more. `size_bytes`: of each."""
    if size_bytes < SPREAD_SIZE or len(wanted) < k or not fleet.are_far(segment.stores):
        return wanted
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
