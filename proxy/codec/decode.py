"""Decoding a segment from its shards alone: no manifest, no proxy, only k shards and someone who opens shares.

Any shard may be forged and, by someone who has the tenant key, any share. So a footer is believed only when the data key that it commits
to has been joined. The shards are grouped by what their footers claim (scheme, size, tenant key, commitment), and the largest group comes
first. Its shares are joined k at a time until the key is the one committed to: first each k in a row, which avoids a single liar at once,
then any k. If nobody lies, the first k shares are enough. If many lie and the search gets long, it is given up: they could have made the
segment unreadable anyway.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, islice

from proxy.codec.footer import FixedPart, Footer, parse_footer, with_index
from proxy.codec.label import Label, decode_label
from proxy.codec.segment import ColumnReader, SegmentKeys, keys_of_footer
from proxy.codec.sharing import key_sharing
from proxy.errors import IntegrityError, KeyUnavailable, NotEnoughShards, ShardMismatch

MAX_TRIES = 5_000  # each some 50 us at k = 4; all there are up to 16+4

OpenShare = Callable[[Footer], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedSegment:
    """A segment as its shards tell of it. `fixed` is the fixed part of one of them."""

    fixed: FixedPart
    label: Label
    plaintext: bytes


@dataclass(frozen=True, slots=True)
class _Shard:
    footer: Footer
    share: bytes
    whole: bytes | memoryview

    @property
    def index(self) -> int:
        return self.footer.fixed.shard_index

    @property
    def claim(self) -> bytes:
        return with_index(self.footer.fixed.pack(), 0)


def decode_segment(shards: Mapping[str, bytes | memoryview], open_share: OpenShare) -> DecodedSegment:
    """Return the segment of which `shards`, whole and by upstream name, are k or more.

    `open_share` unwraps a footer's share with the tenant key that the footer names; it raises `ShardMismatch` or `KeyUnavailable`. Raises
    `NotEnoughShards`, with what is wrong with each shard that is of no use, and `ShardMismatch` where no shard is of any.
    """
    reasons: list[str] = []
    opened = list(_open_shards(shards, open_share, reasons))
    if len({shard.footer.fixed.segment_id for shard in opened}) != 1:
        raise ShardMismatch("; ".join(("these are not shards of one segment", *reasons)))
    claims = _by_claim(opened)
    for claim in claims:
        keys = _join(claim, reasons)
        if keys is not None:
            return DecodedSegment(fixed=claim[0].footer.fixed, label=_label(keys, opened), plaintext=_plaintext(keys, opened, reasons))
    fixed = claims[0][0].footer.fixed
    raise NotEnoughShards(needed=fixed.scheme.k, found=len(claims[0]), segment=fixed.segment_id.hex(), reasons=tuple(reasons))


def _open_shards(shards: Mapping[str, bytes | memoryview], open_share: OpenShare, reasons: list[str]) -> Iterable[_Shard]:
    for name, whole in shards.items():
        try:
            footer = parse_footer(whole, name=name, size_bytes=len(whole))
            yield _Shard(footer, open_share(footer), whole)
        except (IntegrityError, KeyUnavailable) as error:
            reasons.append(f"{name}: {error}")


def _by_claim(shards: Iterable[_Shard]) -> list[list[_Shard]]:
    claims: dict[bytes, list[_Shard]] = defaultdict(list)
    for shard in shards:
        claims[shard.claim].append(shard)
    return sorted(claims.values(), key=len, reverse=True)


def _join(claim: Sequence[_Shard], reasons: list[str]) -> SegmentKeys | None:
    """Return the keys that the claim commits to, from whichever k of its shares give them."""
    fixed = claim[0].footer.fixed
    scheme = fixed.scheme
    rows = ((*claim, *claim)[start : start + scheme.k] for start in range(len(claim)))
    for chosen in islice(chain(rows, combinations(claim, scheme.k)), MAX_TRIES):
        shares = {shard.index: shard.share for shard in chosen}
        if len(shares) < scheme.k:  # too few, or two generations of one shard
            continue
        try:
            return keys_of_footer(fixed, key_sharing(scheme.k, scheme.n).join(shares))
        except ShardMismatch:
            continue
    reasons.append(f"no {scheme.k} of {len(claim)} shares give a key that their shards commit to")
    return None


def _label(keys: SegmentKeys, shards: Iterable[_Shard]) -> Label:
    """Return the label of the first shard whose own opens."""
    cipher, failure = keys.label_cipher(), None
    for sealed in dict.fromkeys(shard.footer.sealed_label for shard in shards):
        try:
            return decode_label(cipher.open(sealed))
        except ShardMismatch as error:
            failure = error
    raise ShardMismatch(f"segment {keys.segment_id.hex()} has no label that opens") from failure


def _plaintext(keys: SegmentKeys, shards: Iterable[_Shard], reasons: list[str]) -> bytes:
    geometry = keys.geometry
    reader = ColumnReader(keys, first=0, last=geometry.stripe_count - 1)
    for shard in shards:
        try:
            if shard.index not in reader.indexes:
                reader.add(shard.index, shard.whole)
        except IntegrityError as error:
            reasons.append(f"{shard.footer.shard_name}: {error}")
    found, needed = len(reader.indexes), geometry.scheme.k
    if found < needed:
        raise NotEnoughShards(needed=needed, found=found, segment=keys.segment_id.hex(), reasons=tuple(reasons))
    return b"".join(reader.plaintext(0, geometry.size))
