"""Which shards of one segment move where, decided purely: the same decision serves the plan, which moves nothing, and the step that moves.

A shard is counted wherever it may be. Until a store has confirmed the deletion of an old shard, its hand still holds it; so a move may have
to wait for the deletion of another before the hand that gets the shard holds one fewer. Such a shard is `waiting`, and looked at again in
the next round.

As few shards as can be: those that must leave go where the limits allow. Only if one finds no place are others moved to make room, as a new
write under this policy would place them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice, permutations

from proxy.codec.geometry import Scheme
from proxy.engine.placing.placement import Policy, detour, left_at_worst, place
from proxy.errors import NotEnoughShards
from proxy.manifest.damage import LOSSES, DamageKind
from proxy.manifest.records import Segment
from proxy.stores.protocol import StoreInfo

ORDERS = 24  # in which places are looked for: whoever comes first may take the only place of another


@dataclass(frozen=True, slots=True)
class Move:
    """One shard, from where it is to where it is to be."""

    index: int
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Moves:
    """What moves now, and which shards wait: their hands are too full, or there is no store for them."""

    moves: tuple[Move, ...] = ()
    waiting: tuple[int, ...] = ()

    @property
    def targets(self) -> dict[int, str]:
        return {move.index: move.target for move in self.moves}


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """A segment, and what is known of the places it is in or may go to."""

    policy: Policy  # its promises are kept, and only its stores get shards
    scheme: Scheme
    segment: Segment
    usable: frozenset[str]  # those of the policy's stores that may get shards
    infos: Mapping[str, StoreInfo]  # of all configured stores: the hands of those that the policy does not use count, too
    lingering: Mapping[int, Collection[str]] = field(default_factory=dict)  # by index: stores that may still hold an old shard


def relocate(situation: Situation, indexes: Iterable[int], *, prefer: str = "") -> Moves:
    """Move these shards to other stores, each to `prefer` if it may hold it and holds no other of the segment."""
    board = _Board(situation)
    waiting = [index for index in indexes if not board.move(index, [prefer], alone=True) and not board.move(index, situation.usable)]
    if not waiting:
        return board.moves()
    together = rebalance(situation)
    return together if len(together.moves) > len(board.moves().moves) else board.moves(waiting)


def rebalance(situation: Situation) -> Moves:
    """Move as few shards as give each store as many as a new write would."""
    segment = situation.segment
    try:
        goal = Counter(place(situation.policy, situation.scheme, segment.id, situation.usable))
    except NotEnoughShards:
        return Moves(waiting=tuple(range(len(segment.stores))))
    board = _Board(situation)
    surplus = Counter(segment.stores) - goal
    lacking = list((goal - Counter(segment.stores)).elements())
    waiting = []
    for index in [index for index, store in enumerate(segment.stores) if surplus[store] > 0 and not surplus.subtract([store])]:
        target = board.move(index, lacking)
        if target:
            lacking.remove(target)
        else:
            waiting.append(index)
    return board.moves(waiting)


def conform(situation: Situation) -> Moves:
    """Move what this policy would not leave where it is: shards in stores it does not use, and those of hands that hold too many."""
    allowed = {str(info.name) for info in situation.policy.stores}
    misplaced = [index for index, store in enumerate(situation.segment.stores) if store not in allowed]
    moved = relocate(situation, misplaced)
    if moved.waiting or _within_limits(situation, moved):
        return moved
    return rebalance(situation)


def restore(situation: Situation, wrong: Mapping[int, DamageKind]) -> Moves:
    """Find a place for each shard with which something is wrong; a shard may go back to the store it was in.

    One that its store does not have any more belongs there first of all: nobody sees more than before. One that its store has changed goes
    to a store that holds no other of the segment, if there is one.
    """
    best: Moves | None = None
    for order in islice(permutations(sorted(wrong)), ORDERS):
        board = _Board(situation)
        waiting = [index for index in order if not _restore_one(board, situation, index, wrong[index])]
        found = board.moves(waiting)
        if not waiting:
            return found
        if best is None or len(found.moves) > len(best.moves):
            best = found
    return best or Moves()


def _restore_one(board: _Board, situation: Situation, index: int, kind: DamageKind) -> str | None:
    own = [situation.segment.stores[index]] if kind in LOSSES else []
    if kind == "missing" and (store := board.move(index, own, again=True)):
        return store
    return board.move(index, situation.usable, alone=True) or board.move(index, own, again=True) or board.move(index, situation.usable)


def may_stand(situation: Situation, targets: Mapping[int, str], *, lost: Collection[int] = ()) -> bool:
    """Tell whether some of the decided moves may be all there is: one may need the place that another was to leave.

    No failure that the policy names may leave fewer good shards than before, unless enough to read. What may never be together needs no
    look: a shard counts where it was and where it goes, whatever becomes of the others. `lost`: indexes that are not good now.
    """
    policy, k = _with_others(situation.policy, tuple(sorted(_strangers(situation), key=lambda info: info.name))), situation.scheme.k
    known = {str(info.name) for info in policy.stores}
    before = {index: store for index, store in enumerate(situation.segment.stores) if index not in lost}
    after = before | dict(targets)
    now, then = (left_at_worst(policy, [store for store in held.values() if store in known]) for held in (before, after))
    return all(left >= min(left_now, k) for left, left_now in zip(then, now, strict=True))


def _within_limits(situation: Situation, moved: Moves) -> bool:
    """Tell whether each shard, once all have moved, could have been placed where it is beside the others."""
    stores = [moved.targets.get(index, store) for index, store in enumerate(situation.segment.stores)]
    sent = {index: [store] for index, store in enumerate(stores)}
    return all(
        detour(
            situation.policy,
            situation.scheme,
            index,
            held=[other for other_index, other in enumerate(stores) if other_index != index],
            sent=sent,
            usable=[store],
        )
        for index, store in enumerate(stores)
    )


class _Board:
    """The shards of a segment as they are, and as they will be with what has been decided."""

    def __init__(self, situation: Situation) -> None:
        self._situation = situation
        self._counted = _with_others(situation.policy, tuple(sorted(_strangers(situation), key=lambda info: info.name)))
        self._stores = dict(enumerate(situation.segment.stores))
        self._known = {str(info.name) for info in self._counted.stores}
        self._sent = {
            index: {store, *situation.lingering.get(index, ())} & self._known for index, store in enumerate(situation.segment.stores)
        }
        self._moves: list[Move] = []

    def move(self, index: int, targets: Collection[str], *, alone: bool = False, again: bool = False) -> str | None:
        """Decide that a shard moves to the best of these stores that may hold it now; return which, or None.

        With `alone`, only to one that holds no other shard of the segment; with `again`, also to the one it is in.
        """
        here = self._stores[index]
        held = [store for other, store in self._stores.items() if other != index and store in self._known]
        usable = [
            store for store in targets if store in self._situation.usable and (again or store != here) and not (alone and store in held)
        ]
        target = detour(self._counted, self._situation.scheme, index, held=held, sent=self._sent, usable=usable)
        if target is None:
            return None
        self._stores[index] = target
        self._sent[index].add(target)
        self._moves.append(Move(index, self._situation.segment.stores[index], target))
        return target

    def moves(self, waiting: Sequence[int] = ()) -> Moves:
        return Moves(tuple(self._moves), tuple(waiting))


def _strangers(situation: Situation) -> list[StoreInfo]:
    own = {str(info.name) for info in situation.policy.stores}
    holding = {*situation.segment.stores, *(store for stores in situation.lingering.values() for store in stores)}
    return [situation.infos[store] for store in holding - own if store in situation.infos]


@lru_cache(maxsize=1024)
def _with_others(policy: Policy, others: tuple[StoreInfo, ...]) -> Policy:
    """Return the policy with stores that count as hands, though they get nothing."""
    return replace(policy, stores=(*policy.stores, *others)) if others else policy
