"""Decoding a segment from its shards alone: no manifest, no proxy, only k shards and someone who opens shares.

The footers tell which segment it is (`claims`). The cells then authenticate themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from proxy.codec.claims import OpenShare, join_segment, open_label
from proxy.codec.footer import FixedPart, Footer, parse_footer
from proxy.codec.label import Label
from proxy.codec.segment import ColumnReader, SegmentKeys
from proxy.errors import IntegrityError, NotEnoughShards


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedSegment:
    """A segment as its shards tell of it. `fixed` is the fixed part of one of them."""

    fixed: FixedPart
    label: Label
    plaintext: bytes


@dataclass(frozen=True, slots=True)
class _Shard:
    footer: Footer
    whole: bytes | memoryview


def decode_segment(shards: Mapping[str, bytes | memoryview], open_share: OpenShare) -> DecodedSegment:
    """Return the segment of which `shards`, whole and by upstream name, are k or more.

    `open_share` unwraps a footer's share with the tenant key that the footer names; it raises `ShardMismatch` or `KeyUnavailable`. Raises
    `NotEnoughShards`, with what is wrong with each shard that is of no use, and `ShardMismatch` where no shard is of any.
    """
    reasons: list[str] = []
    parsed = list(_parse(shards, reasons))
    footers = [shard.footer for shard in parsed]
    joined = join_segment(footers, open_share, reasons)
    return DecodedSegment(fixed=joined.fixed, label=open_label(joined, footers).label, plaintext=_plaintext(joined.keys, parsed, reasons))


def _parse(shards: Mapping[str, bytes | memoryview], reasons: list[str]) -> Iterable[_Shard]:
    for name, whole in shards.items():
        try:
            yield _Shard(parse_footer(whole, name=name, size_bytes=len(whole)), whole)
        except IntegrityError as error:
            reasons.append(f"{name}: {error}")


def _plaintext(keys: SegmentKeys, shards: Iterable[_Shard], reasons: list[str]) -> bytes:
    geometry = keys.geometry
    reader = ColumnReader(keys, first=0, last=geometry.stripe_count - 1)
    for shard in shards:
        index = shard.footer.fixed.shard_index
        try:
            if index not in reader.indexes:
                reader.add(index, shard.whole)
        except IntegrityError as error:
            reasons.append(f"{shard.footer.shard_name}: {error}")
    found, needed = len(reader.indexes), geometry.scheme.k
    if found < needed:
        raise NotEnoughShards(needed=needed, found=found, segment=keys.segment_id.hex(), reasons=tuple(reasons))
    return b"".join(reader.plaintext(0, geometry.size))
