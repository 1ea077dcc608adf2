"""Soundness: is the manifest's copy stored as it would be now, and if not, how soon is it to be written anew? Decided purely."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from proxy.codec.geometry import Scheme
from proxy.engine.placing.classify import Classified, classify
from proxy.engine.placing.placement import Policy
from proxy.manifest.copies import CopyReport, DamagedCopy, NeededCopies, StoredCopy
from proxy.manifest.damage import Damage, DamageKind
from proxy.manifest.records import ExtentId, Layout, Segment

PATIENCE_MS = 12 * 3_600_000  # what is no promise broken waits so long for a checkpoint that is made anyway
PAUSE_MS = 3_600_000  # between checkpoints: a store that takes everything and has nothing must not keep them going


@dataclass(frozen=True, slots=True)
class Evidence:
    """What stores say of the shards of one segment: where each lies, which are missing, and which do not open."""

    places: Mapping[int, str]
    missing: frozenset[int]
    bad: Mapping[int, DamageKind]


def judge(policy: Policy, copy: StoredCopy, segment: Segment, seen: Evidence, configured: Collection[str]) -> DamagedCopy | None:
    """Return what is wrong with a segment under the policy as it is now, or None."""
    found = _classified(policy, copy.layout, segment, seen, configured)
    wrong = {
        "missing": found.missing,
        "forged": found.forged,
        "misplaced": found.misplaced,
        "unreachable": found.unreachable,
        "clumped": found.crowded,
    }
    kinds = {kind: len(indexes) for kind, indexes in wrong.items() if indexes}
    if not _is_of(policy, copy.layout) or (not kinds and (found.shortfalls or found.clumped)):
        kinds["policy"] = 1
    if not kinds:
        return None
    return DamagedCopy(
        prefix=copy.prefix,
        number=copy.number,
        segment_id=segment.id,
        urgent=found.verdict in {"urgent", "lost"},
        spare=found.spare,
        kinds=kinds,
        stores=tuple(sorted({seen.places.get(index, segment.stores[index]) for indexes in wrong.values() for index in indexes})),
    )


def wants_checkpoint(report: CopyReport, needed: NeededCopies, *, now_ms: int, stores: Collection[str]) -> bool:
    """Tell whether a checkpoint is to be asked for: all it needs is written anew where it is damaged. `stores` are those of the policy.

    While one of them is silent, another checkpoint would be no better than this one, unless a promise is broken: it is written so that the
    promise holds, or not at all.
    """
    if not needed.is_known:
        return True
    if now_ms - needed.made_ms < PAUSE_MS:
        return False
    if report.urgent:
        return True
    since_ms = max(report.since_ms, needed.made_ms)  # what a new checkpoint has not mended, the next one will hardly mend sooner
    return bool(report.damaged) and now_ms - since_ms >= PATIENCE_MS and not set(report.silent) & set(stores)


def basis_of(policy: Policy, needed: NeededCopies, configured: Collection[str]) -> str:
    """Return all that a verdict depends on beside the stores' answers: if it changes, they are compared again."""
    stores = ",".join(sorted(f"{info.name}@{info.provider}@{info.region}" for info in policy.stores))
    rules = ",".join(f"{unit}={count}" for unit, count in sorted(policy.may_fail.rules()))
    hands = ",".join("+".join((store, *held)) for store, held in sorted(policy.hands.items()))
    scheme = policy.scheme
    return f"{needed.checkpoint} {policy.name} {scheme.k}+{scheme.m} {rules} {stores} {hands} {','.join(sorted(configured))}"


def lies_in(needed: NeededCopies, store: str) -> bool:
    """Tell whether anything that a recovery needs was put in this store."""
    return any(store in segment.stores for copy in needed.copies for segment in copy.layout.segments)


def _classified(policy: Policy, layout: Layout, segment: Segment, seen: Evidence, configured: Collection[str]) -> Classified:
    """Strays are not asked about: the listings say where shards are."""
    stores = tuple(seen.places.get(index, store) for index, store in enumerate(segment.stores))
    actual = replace(segment, stores=stores, missing=tuple(sorted(seen.missing)), strays=False)
    damage = [
        Damage(extent_id=ExtentId(0), segment_id=segment.id, shard_index=index, kind=kind, store=stores[index])
        for index, kind in seen.bad.items()
    ]
    return classify(policy, Scheme(layout.k, layout.m), actual, damage=damage, configured=configured)


def _is_of(policy: Policy, layout: Layout) -> bool:
    return (layout.policy, layout.k, layout.m) == (policy.name, policy.scheme.k, policy.scheme.m)
