"""What an object takes of its stores, on average: bytes, puts, and the requests and bytes of a read; with segments of its own, or packed.

Which bodies share a pack is asked of the code that packs them (`compose`): one that would waste too much of it becomes a segment of its
own, and is then read by k requests and not by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from random import Random

from proxy.codec.format import MAX_PACK_SIZE, MAX_PACK_SLOTS, TAG_SIZE, footer_size, sealed_label_size
from proxy.codec.geometry import Scheme, SegmentGeometry, segment_sizes
from proxy.codec.slots import compose

Sizes = Mapping[int, float]  # bytes → the share of all objects that have so many; together 1

LABEL_SIZE = 300  # of an ordinary segment: names and a small record
ENTRY_SIZE = 300  # the same of one object in a pack's table
WINDOW_SIZES = (1, 2, 4)  # MiB that a long read fetches at a time, the last again and again
DRAWN = 10_000  # objects of several sizes that are packed, to learn what becomes of each


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What one object takes of all its stores together, on average."""

    stored: float
    puts: float
    gets: float  # of one read
    read: float  # bytes of one read


def plain_use(sizes: Sizes, scheme: Scheme, segment_size: int) -> Use:
    """Return what an object takes where all have segments of their own."""
    return _added((share, _alone(size, scheme, segment_size)) for size, share in sizes.items())


def packed_use(sizes: Sizes, scheme: Scheme, segment_size: int, *, together: int, below: int) -> Use:
    """Return what an object takes where those smaller than `below` are packed, and so many of all are written at the same time."""
    large = {size: share for size, share in sizes.items() if not _is_small(size, below)}
    uses = [(share, _alone(size, scheme, segment_size)) for size, share in large.items()]
    if len(large) < len(sizes):
        uses.append((1 - sum(large.values()), _small_use(sizes, scheme, segment_size, together=together, below=below)))
    return _added(uses)


def _small_use(sizes: Sizes, scheme: Scheme, segment_size: int, *, together: int, below: int) -> Use:
    """Return what one of the small objects takes."""
    packs = [pack for batch in _batches(sizes, together) for pack in _packs([size for size in batch if _is_small(size, below)])]
    uses = [(len(pack), _shared(pack, scheme, segment_size)) for pack in packs]
    count = sum(map(len, packs))
    return _added((slots / count, use) for slots, use in uses)


def _is_small(size: int, below: int) -> bool:
    return 0 < size < below


def _batches(sizes: Sizes, together: int) -> Iterator[Sequence[int]]:
    """Yield the sizes of objects that are written at the same time: of several sizes by chance, which is the same in each run."""
    if len(sizes) == 1:
        yield list(sizes) * together
        return
    drawn = [size for size, share in sizes.items() for _ in range(max(1, round(share * DRAWN)))]
    Random(0).shuffle(drawn)
    for start in range(0, len(drawn), together):
        yield drawn[start : start + together]


def _packs(sizes: Sequence[int]) -> Iterator[Sequence[int]]:
    """Yield those that come to one pack each: it takes only so many."""
    pack: list[int] = []
    for size in sizes:
        if pack and (len(pack) == MAX_PACK_SLOTS or sum(pack) + size > MAX_PACK_SIZE):
            yield pack
            pack = []
        pack.append(size)
    if pack:
        yield pack


def _shared(sizes: Sequence[int], scheme: Scheme, segment_size: int) -> Use:
    """Return what one of these takes that come to a pack together. Some may be left out of it."""
    composition = compose(sizes, scheme.k)
    share = 1 / len(sizes)
    uses = [(share, _alone(sizes[place], scheme, segment_size)) for place in composition.left_out]
    slots = len(sizes) - len(composition.left_out)
    if slots:
        lengths = [sum(sizes[place] + TAG_SIZE for place in column) for column in composition.columns]
        column = max(*lengths, min(lengths) + slots * ENTRY_SIZE + TAG_SIZE)
        stored = _stored(SegmentGeometry(scheme, scheme.k * column), 0)
        uses.append((slots * share, Use(stored=stored / slots, puts=scheme.n / slots, gets=1.0, read=sum(lengths) / slots)))
    return _added(uses)


def _alone(size: int, scheme: Scheme, segment_size: int) -> Use:
    """Return what an object of this size takes that has segments of its own."""
    segments = [SegmentGeometry(scheme, part) for part in segment_sizes(size, segment_size)]
    return Use(
        stored=sum(_stored(geometry, LABEL_SIZE) for geometry in segments),
        puts=float(scheme.n * len(segments)),
        gets=float(sum(scheme.k * _windows(geometry.size) for geometry in segments)),
        read=float(sum(scheme.k * geometry.cells_size for geometry in segments)),
    )


def _stored(geometry: SegmentGeometry, label_size: int) -> float:
    return float(geometry.scheme.n * (geometry.cells_size + footer_size(sealed_label_size(label_size))))


def _windows(size: int) -> int:
    """Return how often each of k stores is asked for a segment."""
    count, left = 0, size
    while left > 0:
        left -= WINDOW_SIZES[min(count, len(WINDOW_SIZES) - 1)] * 1024**2
        count += 1
    return count


def _added(parts: Iterable[tuple[float, Use]]) -> Use:
    """Return the sum of uses, each as often as is said of it."""
    stored, puts, gets, read = (
        sum(column) for column in zip(*(tuple(times * amount for amount in astuple(use)) for times, use in parts), strict=True)
    )
    return Use(stored=stored, puts=puts, gets=gets, read=read)
