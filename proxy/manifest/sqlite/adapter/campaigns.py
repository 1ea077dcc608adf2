"""What the manifest does with campaigns."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.manifest.campaigns import Advance, Campaign, CampaignId, ExtentUser, Order, Position, Used
from proxy.manifest.plans.extents import CountedExtent
from proxy.manifest.records import BucketId, ExtentId, ExtentRef, Layout, Settlement
from proxy.manifest.sqlite import campaigns
from proxy.manifest.sqlite.adapter.runner import StepRunner


class Campaigns(StepRunner):
    """See the protocol."""

    async def add_campaign(self, campaign: Campaign) -> None:
        await self._write(campaigns.add_campaign, campaign)

    async def find_campaign(self, campaign_id: CampaignId) -> Campaign | None:
        return await self._read(campaigns.find_campaign, campaign_id)

    async def list_campaigns(self) -> tuple[Campaign, ...]:
        return await self._read(campaigns.list_campaigns)

    async def order_campaign(self, campaign_id: CampaignId, order: Order, *, now_ms: int) -> Campaign:
        return await self._write(campaigns.order_campaign, campaign_id, order, now_ms)

    async def advance_campaign(self, campaign_id: CampaignId, step: Advance, *, now_ms: int) -> Campaign | None:
        return await self._write(campaigns.advance_campaign, campaign_id, step, now_ms)

    async def reopen_campaign(self, campaign_id: CampaignId) -> None:
        await self._write(campaigns.reopen_campaign, campaign_id)

    async def leaving_stores(self) -> frozenset[str]:
        return await self._read(campaigns.leaving_stores)

    async def walk_users(self, bucket_id: BucketId, *, after: Position, limit: int) -> tuple[Used, ...]:
        return await self._list(campaigns.walk_users, bucket_id, after, limit)

    async def load_counted(self, ids: Sequence[ExtentId]) -> tuple[CountedExtent, ...]:
        return await self._list(campaigns.load_counted, ids)

    async def adopt_extent(self, user: ExtentUser, extent_id: ExtentId, policy: str) -> bool:
        return await self._write(campaigns.adopt_extent, user, extent_id, policy)

    async def exchange_extent(
        self, user: ExtentUser, extent_id: ExtentId, layout: Layout, *, settlements: Sequence[Settlement], now_ms: int
    ) -> ExtentRef:
        return await self._write(campaigns.exchange_extent, user, extent_id, layout, settlements, now_ms)

    async def share_successor(self, user: ExtentUser, extent_id: ExtentId, policy: str, k: int, m: int, *, now_ms: int) -> bool:
        return await self._write(campaigns.share_successor, user, extent_id, policy, k, m, now_ms)
