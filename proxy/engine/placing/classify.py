"""Classify: how well a stored segment keeps the promises of the policy as it is today. Decided purely, from records alone.

A configuration changes while segments stay: stores are removed; schemes, failures and hands are promised anew. So code that
reuses, repairs or moves a segment asks here what it is worth today.

For a promise about loss, a shard that is damaged, or that nobody can reach, does not count. For a promise about disclosure it does: its
store was sent it, and may hold it. So does a shard that a move left behind, until its store has confirmed the deletion. With strays, a
store that is not on record may hold a shard, too, so no promise about disclosure can be kept.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from proxy.codec.geometry import Scheme
from proxy.engine.placing.placement import Policy, detour, shortfalls, survives
from proxy.manifest.damage import Damage, DamageKind, Leftover
from proxy.manifest.records import Layout, Segment

Verdict = Literal["fine", "repair", "urgent", "lost"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Classified:
    """A segment's shards, by what is right or wrong with them. Sets of shard indexes, unless said otherwise."""

    healthy: tuple[int, ...]  # good, and where they should be
    missing: tuple[int, ...]  # not stored, gone, or cut short
    forged: tuple[int, ...]
    misplaced: tuple[int, ...]  # in a store that the policy does not use
    unreachable: tuple[int, ...]  # of the others, in a store that is not configured any more, or does not answer now
    crowded: tuple[int, ...]  # of the others, one too many for a store, a provider, a region or another hand
    clumped: tuple[str, ...]  # hands of `never_together` that may hold k shards, as in "provider alder-cloud" and "coalition five_eyes"
    surplus: tuple[str, ...]  # stores that may hold a shard beside its own
    strays: bool  # a store that is not on record may hold a shard
    shortfalls: tuple[str, ...]  # promises about loss that are not kept, in words
    spare: int  # how many more shards may be lost before it cannot be read; below 0, it cannot

    @property
    def is_whole(self) -> bool:
        """Whether each shard is where it should be, and nowhere else."""
        wrong = self.missing or self.forged or self.misplaced or self.unreachable or self.crowded or self.surplus or self.strays
        return not wrong and self.keeps_promises

    @property
    def keeps_promises(self) -> bool:
        """Whether a write that ended so could be acknowledged today."""
        return not (self.misplaced or self.clumped or self.strays or self.shortfalls)

    @property
    def verdict(self) -> Verdict:
        """Urgent is what breaks a promise: the next failure may lose data, or somebody may read it."""
        if self.spare < 0:
            return "lost"
        if self.shortfalls or self.clumped:
            return "urgent"
        return "fine" if self.is_whole else "repair"


def classify(
    policy: Policy,
    scheme: Scheme,
    segment: Segment,
    *,
    damage: Iterable[Damage] = (),
    leftovers: Iterable[Leftover] = (),
    answering: Collection[str] | None = None,
    configured: Collection[str] | None = None,
) -> Classified:
    """Hold a stored segment of this scheme against a policy.

    `answering` are the stores that can be read now, and `configured` those that are configured at all; without them, all are.
    """
    kinds = {found.shard_index: found.kind for found in damage}
    missing = [index for index in range(scheme.n) if index in segment.missing or kinds.get(index) in {"missing", "truncated"}]
    forged = [index for index, kind in kinds.items() if kind == "forged" and index not in missing]
    gone = {index for index, store in enumerate(segment.stores) if configured is not None and store not in configured}
    silent = {index for index, store in enumerate(segment.stores) if answering is not None and store not in answering}
    wrong_place = placed_wrongly(policy, scheme, segment.stores)
    misplaced = [index for index, kind in wrong_place.items() if kind == "misplaced" and index not in gone]
    bad = {*missing, *forged}
    unreachable = sorted((gone | silent) - bad - set(misplaced))
    good = [index for index in range(scheme.n) if index not in bad | gone | silent]
    allowed = {str(info.name) for info in policy.stores}
    held = [segment.stores[index] for index in good if segment.stores[index] in allowed]
    crowded = [index for index, kind in wrong_place.items() if kind == "clumped" and index in good]
    surplus = sorted({left.store for left in leftovers if left.store != segment.stores[left.shard_index]})
    return Classified(
        healthy=tuple(index for index in good if index not in wrong_place),
        missing=tuple(missing),
        forged=tuple(sorted(forged)),
        misplaced=tuple(misplaced),
        unreachable=tuple(unreachable),
        crowded=tuple(crowded),
        clumped=_clumped(policy, scheme, segment, leftovers),
        surplus=tuple(surplus),
        strays=segment.strays,
        shortfalls=() if survives(policy, scheme, held) else shortfalls(policy, scheme, held) or (f"only {len(held)} shards are stored",),
        spare=len(good) - scheme.k,
    )


@lru_cache(maxsize=4096)  # placements come again and again: a walk over all segments asks for a few hundred
def placed_wrongly(policy: Policy, scheme: Scheme, stores: tuple[str, ...]) -> Mapping[int, DamageKind]:
    """Return which shards the policy would not have put where they are: in stores that it does not use, or one too many for a hand.

    Of those in a hand, as many are right as it may have, the first ones.
    """
    allowed = {str(info.name) for info in policy.stores}
    wrong: dict[int, DamageKind] = {index: "misplaced" for index, store in enumerate(stores) if store not in allowed}
    kept: dict[int, list[str]] = {}
    for index, store in enumerate(stores):
        if store in allowed:
            held = [other for others in kept.values() for other in others]
            if detour(policy, scheme, index, held=held, sent=kept, usable=[store]) is None:
                wrong[index] = "clumped"
            else:
                kept[index] = [store]
    return wrong


def keeps_promises(policy: Policy, scheme: Scheme, layout: Layout) -> bool:
    """Tell whether a layout, as it was written, is kept under this policy, is of this scheme, and keeps all that is promised today."""
    return (layout.policy, layout.k, layout.m) == (policy.name, scheme.k, scheme.m) and all(
        classify(policy, scheme, segment).keeps_promises for segment in layout.segments
    )


def _clumped(policy: Policy, scheme: Scheme, segment: Segment, leftovers: Iterable[Leftover]) -> tuple[str, ...]:
    """Return the hands that may hold k different shards. Two copies of one shard tell no more than one."""
    places = {(index, store) for index, store in enumerate(segment.stores)} | {(left.shard_index, left.store) for left in leftovers}
    shards: dict[str, set[int]] = {}
    for index, store in places:
        for hand in policy.hands.get(store, ()):
            shards.setdefault(hand, set()).add(index)
    return tuple(sorted(hand for hand, indexes in shards.items() if len(indexes) >= scheme.k))
