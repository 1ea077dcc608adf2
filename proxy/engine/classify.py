"""Classify: how well a stored segment keeps the promises of the policy as it is today. Decided purely, from records alone.

A configuration changes while segments stay: stores are removed; schemes, failures and hands are promised anew. So code that
reuses, repairs or moves a segment asks here what it is worth today.

For a promise about loss, a shard on record as missing does not count. For a promise about disclosure it does: its store was sent it, and
may hold it. With strays, a store that is not on record may hold a shard, too, so no promise about disclosure can be kept.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from proxy.codec.geometry import Scheme
from proxy.engine.placement import Policy, shortfalls, survives
from proxy.manifest.records import Layout, Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is wrong with a segment: nothing, if all of this is empty."""

    missing: tuple[int, ...]  # shard indexes on record as not stored
    misplaced: tuple[int, ...]  # shard indexes in a store that the policy does not use, or that is not configured any more
    clumped: tuple[str, ...]  # hands of `never_together` that may hold k shards, as in "provider alder-cloud" and "coalition five_eyes"
    strays: bool  # a store that is not on record may hold a shard
    shortfalls: tuple[str, ...]  # promises about loss that are not kept, in words

    @property
    def healthy(self) -> bool:
        """Whether each shard is where it should be, and nowhere else."""
        return not (self.missing or self.misplaced or self.strays) and self.keeps_promises

    @property
    def keeps_promises(self) -> bool:
        """Whether a write that ended so could be acknowledged today."""
        return not (self.misplaced or self.clumped or self.strays or self.shortfalls)


def classify(policy: Policy, scheme: Scheme, segment: Segment) -> Verdict:
    """Hold a stored segment of this scheme against a policy."""
    allowed = {str(info.name): info for info in policy.stores}
    held = [store for index, store in enumerate(segment.stores) if index not in segment.missing and store in allowed]
    hands = Counter(hand for store in segment.stores if store in allowed for hand in policy.hands[store])
    return Verdict(
        missing=segment.missing,
        misplaced=tuple(index for index, store in enumerate(segment.stores) if store not in allowed),
        clumped=tuple(sorted(hand for hand, shards in hands.items() if shards >= scheme.k)),
        strays=segment.strays,
        shortfalls=() if survives(policy, scheme, held) else shortfalls(policy, scheme, held) or (f"only {len(held)} shards are stored",),
    )


def keeps_promises(policy: Policy, scheme: Scheme, layout: Layout) -> bool:
    """Tell whether a layout, as it was written, is kept under this policy, is of this scheme, and keeps all that is promised today."""
    return (layout.policy, layout.k, layout.m) == (policy.name, scheme.k, scheme.m) and all(
        classify(policy, scheme, segment).keeps_promises for segment in layout.segments
    )
