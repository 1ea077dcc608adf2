"""What the footers of a segment's shards claim, and which claim is true: the data key and the label, without the cells.

Any shard may be forged and, by someone who has the tenant key, any share. So a footer is believed only when the data key that it commits
to has been joined. The shards are grouped by what their footers claim (scheme, size, tenant key, commitment), and the largest group comes
first. Its shares are joined k at a time until the key is the one committed to: first each k in a row, which avoids a single liar at once,
then any k. If nobody lies, the first k shares are enough. If many lie and the search gets long, it is given up: they could have made the
segment unreadable anyway.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, islice
from typing import NamedTuple

import msgspec

from proxy.codec.footer import FixedPart, Footer, with_index
from proxy.codec.label import Label, decode_label
from proxy.codec.segment import SegmentKeys, keys_of_footer
from proxy.codec.sharing import key_sharing
from proxy.errors import IntegrityError, KeyUnavailable, NotEnoughShards, ShardMismatch

MAX_TRIES = 5_000  # each some 50 us at k = 4; all there are up to 16+4

OpenShare = Callable[[Footer], bytes]


@dataclass(frozen=True, slots=True)
class JoinedSegment:
    """A segment whose data key has been joined. `fixed` is the fixed part of one of its shards."""

    fixed: FixedPart
    data_key: bytes
    keys: SegmentKeys


class OpenedLabel(NamedTuple):
    """A label, and the bytes in which every shard of its segment carries it."""

    label: Label
    sealed: bytes


@dataclass(frozen=True, slots=True)
class _Shared:
    footer: Footer
    share: bytes

    @property
    def index(self) -> int:
        return self.footer.fixed.shard_index

    @property
    def claim(self) -> bytes:
        return with_index(self.footer.fixed.pack(), 0)


def join_segment(footers: Iterable[Footer], open_share: OpenShare, reasons: list[str]) -> JoinedSegment:
    """Return the segment that the footers, k or more, tell of. What is wrong with each is added to `reasons`.

    `open_share` unwraps a footer's share with the tenant key that the footer names; it raises `ShardMismatch` or `KeyUnavailable`. Raises
    `NotEnoughShards`, and `ShardMismatch` where no footer is of any use.
    """
    opened = list(_open_shares(footers, open_share, reasons))
    if len({shard.footer.fixed.segment_id for shard in opened}) != 1:
        raise ShardMismatch("; ".join(("these are not shards of one segment", *reasons)))
    claims = _by_claim(opened)
    for claim in claims:
        joined = _join(claim, reasons)
        if joined is not None:
            return joined
    fixed = claims[0][0].footer.fixed
    raise NotEnoughShards(needed=fixed.scheme.k, found=len(claims[0]), segment=fixed.segment_id.hex(), reasons=tuple(reasons))


def open_label(joined: JoinedSegment, footers: Iterable[Footer]) -> OpenedLabel:
    """Return the label that the footers carry. All that open must say the same: it was sealed once. Raises `ShardMismatch`."""
    cipher, found = joined.keys.label_cipher(), dict[bytes, bytes]()
    segment = joined.fixed.segment_id.hex()
    failure: ShardMismatch | None = None
    for sealed in dict.fromkeys(footer.sealed_label for footer in footers):
        try:
            found[cipher.open(sealed)] = sealed
        except ShardMismatch as error:
            failure = error
    if len(found) > 1:
        raise ShardMismatch(f"segment {segment} has {len(found)} labels that differ, and all of them open")
    if not found:
        raise ShardMismatch(f"segment {segment} has no label that opens") from failure
    label, sealed = found.popitem()
    try:
        return OpenedLabel(decode_label(label), sealed)
    except msgspec.MsgspecError as error:
        raise ShardMismatch(f"segment {segment} has a label that this version cannot read: {error}") from error


def _open_shares(footers: Iterable[Footer], open_share: OpenShare, reasons: list[str]) -> Iterable[_Shared]:
    for footer in footers:
        try:
            yield _Shared(footer, open_share(footer))
        except (IntegrityError, KeyUnavailable) as error:
            reasons.append(f"{footer.shard_name}: {error}")


def _by_claim(shards: Iterable[_Shared]) -> list[list[_Shared]]:
    claims: dict[bytes, list[_Shared]] = defaultdict(list)
    for shard in shards:
        claims[shard.claim].append(shard)
    return sorted(claims.values(), key=len, reverse=True)


def _join(claim: Sequence[_Shared], reasons: list[str]) -> JoinedSegment | None:
    """Return what the claim commits to, from whichever k of its shares give it."""
    fixed = claim[0].footer.fixed
    scheme = fixed.scheme
    rows = ((*claim, *claim)[start : start + scheme.k] for start in range(len(claim)))
    for chosen in islice(chain(rows, combinations(claim, scheme.k)), MAX_TRIES):
        shares = {shard.index: shard.share for shard in chosen}
        if len(shares) < scheme.k:  # too few, or two generations of one shard
            continue
        data_key = key_sharing(scheme.k, scheme.n).join(shares)
        try:
            return JoinedSegment(fixed, data_key, keys_of_footer(fixed, data_key))
        except ShardMismatch:
            continue
    reasons.append(f"no {scheme.k} of {len(claim)} shares give a key that their shards commit to")
    return None
