"""What the manifest does with packs."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.errors import ManifestConflict
from proxy.manifest.drafts import PackedDraft, VersionDraft
from proxy.manifest.packs import Pack, SlotMove, SlotPlace, SlotUser
from proxy.manifest.records import ExtentId, Layout, Settlement, Version
from proxy.manifest.sqlite import packs
from proxy.manifest.sqlite.adapter.runner import StepRunner


class Packs(StepRunner):
    """See the protocol."""

    async def commit_pack(
        self, layout: Layout, packed: Sequence[PackedDraft], *, settlements: Sequence[Settlement], now_ms: int
    ) -> list[Version | ManifestConflict]:
        return await self._write(packs.commit_pack, layout, packed, settlements, self._clock.instant(), now_ms)

    async def confirm_version(self, version: Version, draft: VersionDraft) -> Version:  # noqa: ARG002 - whoever waits for the journal asks
        return version

    def is_confirmed(self, version: Version, draft: VersionDraft) -> bool:  # noqa: ARG002 - as above
        return True

    async def find_packs(self, ids: Sequence[ExtentId]) -> tuple[Pack, ...]:
        return await self._list(packs.find_packs, ids)

    async def packs_between(self, *, first: ExtentId, last: ExtentId) -> tuple[Pack, ...]:
        return await self._list(packs.packs_between, first, last)

    async def dead_packs(self, *, before_ms: int, after: tuple[int, ExtentId], limit: int) -> tuple[Pack, ...]:
        return await self._list(packs.dead_packs, before_ms, after, limit)

    async def half_dead_packs(self, *, after: ExtentId, limit: int) -> tuple[Pack, ...]:
        return await self._list(packs.half_dead_packs, after, limit)

    async def small_packs(self, *, after: tuple[str, ExtentId], limit: int) -> tuple[Pack, ...]:
        return await self._list(packs.small_packs, after, limit)

    async def oldest_dead_ms(self) -> int | None:
        return await self._list(packs.oldest_dead_ms)

    async def walk_slots(self, extent_id: ExtentId, *, after: SlotPlace, limit: int) -> tuple[SlotUser, ...]:
        return await self._list(packs.walk_slots, extent_id, after, limit)

    async def exchange_slots(
        self, layout: Layout, moves: Sequence[SlotMove], *, settlements: Sequence[Settlement], now_ms: int
    ) -> ExtentId | None:
        return await self._write(packs.exchange_slots, layout, moves, settlements, now_ms)

    async def join_slots(self, extent_id: ExtentId, moves: Sequence[SlotMove], *, now_ms: int) -> int:
        return await self._write(packs.join_slots, extent_id, moves, now_ms)
