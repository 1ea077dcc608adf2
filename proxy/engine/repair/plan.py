"""What to do about one segment, decided purely: which shards are rebuilt, which are copied, where to, and what has to wait."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from proxy.codec.geometry import Scheme
from proxy.engine.campaigns.moves import Moves, Situation, restore
from proxy.engine.placing.classify import Classified, Verdict, classify, placed_wrongly
from proxy.engine.placing.placement import Policy
from proxy.manifest.damage import LOSSES, SUDDEN, Damage, Damaged, DamageKind, Leftover
from proxy.stores.protocol import StoreInfo

OF_PLACES: frozenset[DamageKind] = frozenset({"unreachable", "misplaced", "clumped", "surplus"})  # true or not by the records alone
PATIENCE_SECONDS = 3600.0  # a shard waits as long for a store that is only down, while the segment keeps its promises without it


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """The stores as they are now, for one policy."""

    policy: Policy  # as it is configured
    staying: Policy  # without the stores that are being left: only these get shards
    writable: frozenset[str]
    readable: frozenset[str]
    infos: Mapping[str, StoreInfo]  # of all that are configured
    braked: frozenset[str] = frozenset()  # found to have lost so much that an operator has to confirm it


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairPlan:
    """`waiting` shards find no place now; `patient` ones wait for their own store, `held` ones for an operator."""

    verdict: Verdict
    rebuild: Mapping[int, str]
    copy: Mapping[int, str]
    waiting: tuple[int, ...] = ()
    patient: tuple[int, ...] = ()
    held: tuple[int, ...] = ()


def plan_repair(found: Damaged, stores: Stores, *, age_seconds: float) -> RepairPlan:
    """Decide about a segment whose damage has been looked at."""
    layout, segment = found.extent.layout, found.segment
    scheme = Scheme(layout.k, layout.m)
    now = _classified(found, stores, scheme, answering=stores.readable)
    if _classified(found, stores, scheme, answering=None).verdict == "lost":
        return RepairPlan(verdict="lost", rebuild={}, copy={})
    verdict = "urgent" if now.verdict == "lost" else now.verdict
    wrong = wrong_now(found, stores)
    patient = [index for index, kind in wrong.items() if kind == "missing" and _is_only_down(segment.stores[index], stores)]
    if verdict == "urgent" or not 0 <= age_seconds < PATIENCE_SECONDS:  # a clock was set back: nobody knows how old it is
        patient = []
    held = [] if verdict == "urgent" else [index for index, kind in wrong.items() if _is_braked(kind, segment.stores[index], stores)]
    wrong = {index: kind for index, kind in wrong.items() if index not in {*patient, *held}}
    moves = restore(situation_of(found, stores), wrong)
    if segment.strays:  # of which nobody knows where they are: a shard may only go where it was
        moves = _staying_home(moves)
    to_copy = {index for index, kind in wrong.items() if kind not in LOSSES and segment.stores[index] in stores.readable}
    return RepairPlan(
        verdict=verdict,
        rebuild={index: store for index, store in moves.targets.items() if index not in to_copy},
        copy={index: store for index, store in moves.targets.items() if index in to_copy},
        waiting=moves.waiting,
        patient=tuple(patient),
        held=tuple(held),
    )


def wrong_now(found: Damaged, stores: Stores) -> dict[int, DamageKind]:
    """Return what is wrong with each shard today: what is on record as lost, and what the policy would have put elsewhere."""
    layout, segment = found.extent.layout, found.segment
    lost: dict[int, DamageKind] = dict.fromkeys(segment.missing, "missing")
    lost |= {damage.shard_index: damage.kind for damage in found.damage if damage.kind in LOSSES}
    return {**wrong_places(stores.policy, Scheme(layout.k, layout.m), segment.stores, stores.infos), **lost}


def wrong_places(policy: Policy, scheme: Scheme, places: tuple[str, ...], configured: Collection[str]) -> dict[int, DamageKind]:
    """Return which shards are not where the policy, as configured now, would have them, and why."""
    return {
        index: "unreachable" if places[index] not in configured else kind for index, kind in placed_wrongly(policy, scheme, places).items()
    }


def unfounded(found: Damaged, stores: Stores) -> tuple[Damage, ...]:
    """Return what is on record about places and is not true any more: the configuration has changed back, or the shard has moved."""
    layout = found.extent.layout
    wrong = wrong_places(stores.policy, Scheme(layout.k, layout.m), found.segment.stores, stores.infos)
    return tuple(damage for damage in found.damage if damage.kind in OF_PLACES and damage.shard_index not in wrong)


def _classified(found: Damaged, stores: Stores, scheme: Scheme, *, answering: Collection[str] | None) -> Classified:
    return classify(
        stores.policy,
        scheme,
        found.segment,
        damage=found.damage,
        leftovers=found.leftovers,
        answering=answering,
        configured=stores.infos,
    )


def _staying_home(moves: Moves) -> Moves:
    away = tuple(move.index for move in moves.moves if move.target != move.source)
    return Moves(tuple(move for move in moves.moves if move.target == move.source), (*moves.waiting, *away))


def _is_only_down(store: str, stores: Stores) -> bool:
    return store not in stores.writable and any(info.name == store for info in stores.staying.stores)


def _is_braked(kind: DamageKind, store: str, stores: Stores) -> bool:
    return kind in SUDDEN and store in stores.braked


def situation_of(found: Damaged, stores: Stores) -> Situation:
    """Return a segment among the places it is in or may go to."""
    return Situation(
        policy=stores.staying,
        scheme=Scheme(found.extent.layout.k, found.extent.layout.m),
        segment=found.segment,
        usable=stores.writable,
        infos=stores.infos,
        lingering=_by_index(found.leftovers),
    )


def _by_index(leftovers: Iterable[Leftover]) -> dict[int, set[str]]:
    stores: dict[int, set[str]] = {}
    for left in leftovers:
        stores.setdefault(left.shard_index, set()).add(left.store)
    return stores
