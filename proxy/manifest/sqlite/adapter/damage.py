"""What the manifest does with damaged segments, and with shards that move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from proxy.manifest.damage import BrakeState, Damage, DamageCount, Damaged, Losses, Repair
from proxy.manifest.records import Extent, ExtentId, Segment, SegmentId
from proxy.manifest.sqlite import damage as ledger
from proxy.manifest.sqlite import extents, losses, moving
from proxy.manifest.sqlite.adapter.runner import StepRunner


class DamageLedger(StepRunner):
    """See the protocol."""

    # Damage

    async def report_damage(self, damage: Sequence[Damage], *, now_ms: int) -> int:
        return await self._note(ledger.report_damage, damage, now_ms)

    async def unknown_damage(self, damage: Sequence[Damage]) -> tuple[Damage, ...]:
        return await self._list(ledger.unknown_damage, damage)

    async def settle_damage(self, damage: Sequence[Damage]) -> None:
        await self._write(ledger.settle_damage, damage)

    async def settle_strays(self, extent_id: ExtentId, segment_id: SegmentId) -> None:
        await self._write(ledger.settle_strays, extent_id, segment_id)

    async def record_shard(self, extent_id: ExtentId, segment_id: SegmentId, shard_index: int, *, store: str, now_ms: int) -> None:
        await self._write(ledger.record_shard, extent_id, segment_id, shard_index, store, now_ms)

    async def due_repairs(self, *, now_ms: int, limit: int) -> tuple[Repair, ...]:
        return await self._list(ledger.due_repairs, now_ms=now_ms, limit=limit)

    async def put_off_repair(self, repair: Repair, *, due_ms: int) -> None:
        await self._note(ledger.put_off_repair, repair, due_ms)

    async def hasten_repairs(self, *, after: tuple[ExtentId, SegmentId], now_ms: int, limit: int) -> tuple[ExtentId, SegmentId] | None:
        return await self._note(ledger.hasten_repairs, after, now_ms, limit)

    async def find_damaged(self, extent_id: ExtentId, segment_id: SegmentId) -> Damaged | None:
        return await self._list(ledger.find_damaged, extent_id, segment_id)

    async def lost_segments(self, *, after: tuple[ExtentId, SegmentId], limit: int) -> tuple[tuple[ExtentId, SegmentId], ...]:
        return await self._list(ledger.lost_segments, after=after, limit=limit)

    async def count_damage(self, *, limit: int = 1_000_000) -> DamageCount:
        return await self._list(ledger.count_damage, limit=limit)

    # What stores have lost

    async def list_losses(self) -> tuple[Losses, ...]:
        return await self._list(losses.list_losses)

    async def set_brake(self, store: str, state: BrakeState, *, shards: int = 0) -> None:
        await self._write(losses.set_brake, store, state, shards)

    async def forget_losses(self, store: str) -> None:
        await self._write(losses.forget_losses, store)

    # Moving shards

    async def draw_generation(
        self, extent_id: ExtentId, segment_id: SegmentId, targets: Mapping[int, str], *, expires_ms: int
    ) -> Segment | None:
        return await self._write(moving.draw_generation, extent_id, segment_id, targets, expires_ms)

    async def replace_shards(
        self, extent_id: ExtentId, segment_id: SegmentId, targets: Mapping[int, str], generation: int, *, now_ms: int
    ) -> bool:
        return await self._write(moving.replace_shards, extent_id, segment_id, targets, generation, now_ms)

    async def give_up_draw(
        self, extent_id: ExtentId, segment_id: SegmentId, targets: Mapping[int, str], generation: int, *, now_ms: int
    ) -> None:
        await self._write(moving.give_up_draw, extent_id, segment_id, targets, generation, now_ms)

    async def revoke_expired_draws(self, *, now_ms: int) -> int:
        return await self._note(moving.revoke_expired_draws, now_ms)

    # All extents

    async def walk_extents(self, *, after: ExtentId, limit: int) -> tuple[Extent, ...]:
        return await self._list(extents.walk_extents, after=after, limit=limit)
