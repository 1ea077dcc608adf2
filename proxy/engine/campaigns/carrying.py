"""Moving the shards of one segment as a campaign wants it, against the segment as it is at that moment.

Meanwhile it may have been repaired, moved by another, or deleted; what was decided when the walk met it means nothing. So each try begins
with what the manifest knows now, with every place where an old shard may still be. A shard whose store can be read is copied; another is
rebuilt from k others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from proxy.codec.geometry import Scheme
from proxy.engine.campaigns.estimate import Tally
from proxy.engine.campaigns.moves import Move, Moves, Situation, may_stand
from proxy.engine.campaigns.wants import wanted
from proxy.engine.moving.moving import MayStand, ShardMover
from proxy.engine.placing.fleet import Fleet
from proxy.engine.placing.placement import Policy
from proxy.errors import MoveRefused, ProxyError
from proxy.manifest.campaigns import Campaign
from proxy.manifest.damage import Damaged
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Extent, Segment
from proxy.stores.protocol import StoreInfo

TRIES = 3  # copies first; what cannot be copied is rebuilt; and once more, if somebody came between


@dataclass(slots=True)
class Done:
    """What a step has done so far. `left` counts segments that were moved, or are not where they should be: another round is needed."""

    tally: Tally
    left: int = 0
    moved: int = 0
    trouble: str = ""

    def note(self, trouble: object) -> None:
        """Keep the first thing that did not work out."""
        self.trouble = self.trouble or str(trouble)


@dataclass(slots=True)
class _Segment:
    """A segment under way, and which of its shards could not be copied."""

    campaign: Campaign
    policy: Policy
    extent: Extent
    segment: Segment
    uncopied: set[int] = field(default_factory=set)


class Carrier:
    """Moves shards for campaigns."""

    def __init__(self, manifest: Manifest, fleet: Fleet, mover: ShardMover) -> None:
        self._manifest = manifest
        self._fleet = fleet
        self._mover = mover

    @property
    def infos(self) -> Mapping[str, StoreInfo]:
        return {name: store.info for name, store in self._fleet.stores.items()}

    async def carry(self, campaign: Campaign, policy: Policy, extent: Extent, segment: Segment, done: Done) -> None:
        """Bring a segment to where the campaign wants it under its policy, as far as that goes now."""
        policy = self._fleet.staying(policy)
        if not self._asks_for_moves(wanted(campaign, self._situation(policy, extent, segment))):
            return
        done.left += 1
        work = _Segment(campaign, policy, extent, segment)
        try:
            for _ in range(TRIES):
                if not await self._try(work, done):
                    return
        except MoveRefused:  # somebody came between: the next round looks again
            return
        except ProxyError as error:
            done.note(error)

    async def _try(self, work: _Segment, done: Done) -> bool:
        """Move what can be moved in one go; tell whether to look once more."""
        found = await self._manifest.find_damaged(work.extent.id, work.segment.id)
        if found is None or found.drawn:
            return False
        if found.segment.strays:  # of which nobody knows where they are: a hand could get too many
            done.note(f"segment {work.segment.id.hex()} waits: shards of it lie where no record has them, and are to be deleted first")
            return False
        situation = self._situation(work.policy, found.extent, found.segment, found)
        moves = wanted(work.campaign, situation)
        if moves.waiting:
            done.note(f"segment {work.segment.id.hex()} waits: no store may take shard {moves.waiting[0]} of it now")
        if not moves.moves:
            return False
        stands = partial(may_stand, situation, lost=found.lost)
        copied = [move for move in moves.moves if self._can_be_copied(move, found, work)]
        if copied and (len(copied) == len(moves.moves) or stands({move.index: move.target for move in copied})):
            await self._copy(work, found, copied, stands, done)
        else:
            copied = []
            await self._rebuild(found, list(moves.moves), stands, done)
        return len(copied) < len(moves.moves) or bool(work.uncopied)

    async def _copy(self, work: _Segment, found: Damaged, moves: list[Move], stands: MayStand, done: Done) -> None:
        try:
            moved = await self._mover.copy(found.extent, found.segment, {move.index: move.target for move in moves}, may_stand=stands)
        except MoveRefused:
            raise
        except ProxyError as error:  # its store cannot be read, or the other not be written: rebuilding tells which
            done.note(error)
            work.uncopied |= {move.index for move in moves}
            return
        work.uncopied |= {move.index for move in moves} - moved.stores.keys()
        done.moved += 1
        done.tally.copy(_scheme(found.extent), found.segment, [move for move in moves if move.index in moved.stores])

    async def _rebuild(self, found: Damaged, moves: list[Move], stands: MayStand, done: Done) -> None:
        targets = {move.index: move.target for move in moves}
        moved = await self._mover.rebuild(found.extent, found.segment, targets, may_stand=stands)
        for trouble in moved.trouble:
            done.note(trouble)
        done.moved += 1
        lost = [store for store in found.segment.stores if not self._fleet.readable(store)]
        done.tally.rebuild(_scheme(found.extent), found.segment, [move for move in moves if move.index in moved.stores], lost=lost)

    def _can_be_copied(self, move: Move, found: Damaged, work: _Segment) -> bool:
        return move.index not in found.lost | work.uncopied and self._fleet.readable(move.source)

    def _situation(self, policy: Policy, extent: Extent, segment: Segment, found: Damaged | None = None) -> Situation:
        lingering: dict[int, list[str]] = {}
        for leftover in () if found is None else found.leftovers:
            lingering.setdefault(leftover.shard_index, []).append(leftover.store)
        return Situation(
            policy=policy,
            scheme=_scheme(extent),
            segment=segment,
            usable=self._fleet.configured(policy) if found is None else self._fleet.writable(policy),
            infos=self.infos,
            lingering=lingering,
        )

    @staticmethod
    def _asks_for_moves(moves: Moves) -> bool:
        return bool(moves.moves or moves.waiting)


def _scheme(extent: Extent) -> Scheme:
    return Scheme(extent.layout.k, extent.layout.m)
