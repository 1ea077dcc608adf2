"""The repair of one segment: look, decide, move."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from msgspec.structs import replace

from proxy.clock import Clock
from proxy.engine.campaigns.moves import may_stand
from proxy.engine.moving.moving import MayStand, Moved, ShardMover
from proxy.engine.placing.fleet import Fleet
from proxy.engine.placing.placement import Policy
from proxy.engine.repair.plan import OF_PLACES, RepairPlan, Stores, plan_repair, situation_of, unfounded
from proxy.engine.repair.strays import AT_REST_SECONDS, delete_strays
from proxy.engine.scrub.inspector import Inspector, Shard
from proxy.engine.throttle import Throttle
from proxy.errors import BudgetExhausted, IntegrityError, KeyUnavailable, MoveFailed, MoveRefused, NotEnoughShards, StoreError
from proxy.manifest.damage import LOSSES, Damage, Damaged, Repair
from proxy.manifest.protocol import Manifest

logger = logging.getLogger(__name__)

ROUNDS = 8  # one rebuilds, the next one copies; more where stores refuse what they are to take
SOON_SECONDS = 60.0  # until a segment is looked at again that waits for others
FIRST_BACKOFF_SECONDS = 60.0
LONGEST_BACKOFF_SECONDS = 3600.0
HELD_SECONDS = 3600.0  # until a shard is looked at again whose store says that it lost too much: it may have it again

Trouble = Literal["lost", "no place", "no policy", "strays", "held", "failed"]


@dataclass(slots=True)
class Outcome:
    """What the repair of one segment did. `again_seconds`: it is to be looked at again after these; None: nothing is left to do."""

    done: int = 0
    requests: int = 0
    size_bytes: int = 0
    trouble: Trouble | None = None
    detail: str = ""
    again_seconds: float | None = None
    refused: set[str] = field(default_factory=set)  # stores that did not take a shard

    def count(self, moved: Moved) -> None:
        self.done += len(moved.stores)
        self.requests += moved.requests
        self.size_bytes += moved.size_bytes
        self.refused |= moved.refused

    def wait(self, seconds: float) -> Outcome:
        self.again_seconds = seconds
        return self

    def fail(self, row: Repair, trouble: Trouble, detail: str) -> Outcome:
        """Be tried again later, and later each time."""
        self.trouble, self.detail = trouble, detail
        return self.wait(min(FIRST_BACKOFF_SECONDS * 2 ** min(row.failures, 16), LONGEST_BACKOFF_SECONDS))


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRepair:
    """What it takes to repair a segment. `throttle` is the repair's share."""

    manifest: Manifest
    policies: Mapping[str, Policy]
    fleet: Fleet
    clock: Clock
    mover: ShardMover
    inspector: Inspector
    throttle: Throttle

    async def run(self, row: Repair, *, braked: frozenset[str] = frozenset()) -> Outcome:
        """Make good what is wrong with a segment, as far as it can be now. What `braked` stores have lost waits while that is safe."""
        outcome = Outcome()
        try:
            for _ in range(ROUNDS):
                found = await self.manifest.find_damaged(row.extent_id, row.segment_id)
                if found is None or not found.damage:
                    return outcome
                if await self._round(row, found, outcome, braked):
                    return outcome
            return outcome.wait(SOON_SECONDS)
        except (MoveRefused, BudgetExhausted):  # others work on the segment, or have the memory: that is nobody's failure
            return outcome.wait(SOON_SECONDS)
        except (NotEnoughShards, MoveFailed, KeyUnavailable, IntegrityError, StoreError) as error:
            return outcome.fail(row, "failed", str(error))

    async def _round(self, row: Repair, found: Damaged, outcome: Outcome, braked: frozenset[str]) -> bool:
        """Look, decide, and make one move; return whether that was all that can be done now."""
        policy = self.policies.get(found.extent.layout.policy)
        if policy is None:
            name = found.extent.layout.policy
            outcome.fail(row, "no policy", f'policy "{name}" is not configured any more: put it back, or move its buckets to another')
            return True
        if found.drawn:
            outcome.wait(SOON_SECONDS)
            return True
        stores = self._stores(policy, outcome.refused, braked)
        found = await self._looked_at(found, stores, outcome)
        if await self._settle_strays(row, found, outcome):
            return False
        plan = plan_repair(found, stores, age_seconds=self._age_seconds(found))
        if plan.rebuild or plan.copy:
            await self._move(found, plan, partial(may_stand, situation_of(found, stores), lost=found.lost), outcome)
            return False
        self._rest(row, found, plan, outcome)
        return True

    def _stores(self, policy: Policy, refused: Collection[str], braked: frozenset[str]) -> Stores:
        staying = self.fleet.staying(policy)
        return Stores(
            policy=policy,
            staying=staying,
            writable=self.fleet.writable(staying).difference(refused),
            readable=frozenset(name for name in self.fleet.stores if self.fleet.readable(name)),
            infos={name: store.info for name, store in self.fleet.stores.items()},
            braked=braked,
        )

    async def _looked_at(self, found: Damaged, stores: Stores, outcome: Outcome) -> Damaged:
        """Return the segment with the damage that is really there; the rest is settled."""
        well = [damage for damage in found.damage if await self._is_well(found, damage, outcome)]
        well += unfounded(found, stores)
        if not well:
            return found
        await self.manifest.settle_damage(well)
        missing = {*found.segment.missing} - {damage.shard_index for damage in well}
        segment = replace(found.segment, missing=tuple(index for index in found.segment.missing if index in missing))
        return replace(found, segment=segment, damage=tuple(damage for damage in found.damage if damage not in well))

    async def _is_well(self, found: Damaged, damage: Damage, outcome: Outcome) -> bool:
        """Read a shard that is said to be lost. One whose store does not answer is taken for lost, as it was."""
        if damage.kind not in LOSSES - OF_PLACES or damage.store not in self.fleet:
            return False
        try:
            look = await self.inspector.open(Shard(found.extent, found.segment, damage.shard_index))
        except StoreError:
            return False
        outcome.size_bytes += look.size_bytes
        return look.kind is None

    async def _settle_strays(self, row: Repair, found: Damaged, outcome: Outcome) -> bool:
        """Delete strays once they have come to rest; return whether that is done, and on record."""
        if not found.segment.strays or self._age_seconds(found) < AT_REST_SECONDS:
            return False
        unknown = await self.manifest.known_stores() - set(self.fleet.stores)
        if unknown and row.failures:  # it may have one, too; what could be deleted was when this was found first
            return False
        try:
            outcome.requests += await delete_strays(found.segment, self.fleet, self.throttle)
        except StoreError:
            return False
        if unknown:
            return False
        await self.manifest.settle_strays(found.extent.id, found.segment.id)
        outcome.done += 1
        return True

    def _age_seconds(self, found: Damaged) -> float:
        return (self.clock.now_ms() - found.since_ms) / 1000

    async def _move(self, found: Damaged, plan: RepairPlan, stands: MayStand, outcome: Outcome) -> None:
        """Move what the plan says. A store that does not take its shard is left out of the next one; another may be as good."""
        try:
            if plan.rebuild:
                outcome.count(await self.mover.rebuild(found.extent, found.segment, plan.rebuild, suspect=found.lost, may_stand=stands))
            else:
                outcome.count(await self.mover.copy(found.extent, found.segment, plan.copy, may_stand=stands))
        except MoveFailed as error:
            if not error.stores:  # it was the shards that could not be read
                raise
            outcome.refused |= error.stores

    def _rest(self, row: Repair, found: Damaged, plan: RepairPlan, outcome: Outcome) -> None:
        """Nothing can be moved now: say why, and when to look again."""
        name = found.segment.id.hex()
        if plan.verdict == "lost":
            self._tell_lost(found)
            outcome.fail(row, "lost", f"segment {name}")
        elif plan.waiting:
            outcome.fail(row, "no place", f"segment {name}, shards {', '.join(map(str, plan.waiting))}")
        elif plan.held:
            self._hold(found, plan, outcome)
        elif plan.patient:
            outcome.wait(SOON_SECONDS)
        elif found.segment.strays and self._age_seconds(found) < AT_REST_SECONDS:
            # Once a clock was set back the age is negative, and a wait of days would count as none: see `due_repairs`.
            outcome.wait(AT_REST_SECONDS - max(self._age_seconds(found), 0.0))
        elif found.segment.strays:
            outcome.fail(row, "strays", f"segment {name}")
        elif found.damage:
            outcome.fail(row, "failed", f"segment {name}, {found.damage[0].kind}")

    def _hold(self, found: Damaged, plan: RepairPlan, outcome: Outcome) -> None:
        stores = sorted({found.segment.stores[index] for index in plan.held})
        outcome.trouble, outcome.detail = "held", f"segment {found.segment.id.hex()}, in {', '.join(stores)}"
        outcome.wait(HELD_SECONDS)

    def _tell_lost(self, found: Damaged) -> None:
        kinds = ", ".join(f"shard {damage.shard_index} in {damage.store} {damage.kind}" for damage in found.damage)
        logger.error(
            "segment %s of extent %d cannot be read: of its %d shards fewer than the %d needed are good (%s); "
            "bring back a store that has one of them",
            found.segment.id.hex(),
            found.extent.id,
            len(found.segment.stores),
            found.extent.layout.k,
            kinds,
        )
