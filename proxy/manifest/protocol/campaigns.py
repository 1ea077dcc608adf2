"""What the manifest promises about campaigns: their records, and the steps by which they change what is stored where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from proxy.manifest.campaigns import Advance, Campaign, CampaignId, ExtentUser, Order, Position, Used
from proxy.manifest.plans.extents import CountedExtent
from proxy.manifest.records import BucketId, ExtentId, ExtentRef, Layout, Settlement


class Campaigns(Protocol):
    """See `Manifest`."""

    # The records: what an order or a step does to one is in `proxy.manifest.campaigns`
    async def add_campaign(self, campaign: Campaign) -> None: ...  # plans that nobody has applied for a month are forgotten
    async def find_campaign(self, campaign_id: CampaignId) -> Campaign | None: ...
    async def list_campaigns(self) -> tuple[Campaign, ...]: ...  # by when they were planned
    async def order_campaign(self, campaign_id: CampaignId, order: Order, *, now_ms: int) -> Campaign: ...

    """CampaignRefused if there is none, or if it makes no sense now. Applied, a campaign of a policy gives the bucket that policy in the
    same step: every write that begins later is under it."""

    async def advance_campaign(self, campaign_id: CampaignId, step: Advance, *, now_ms: int) -> Campaign | None: ...  # None: not the next
    async def reopen_campaign(self, campaign_id: CampaignId) -> None: ...  # something came in that had begun before it
    async def leaving_stores(self) -> frozenset[str]: ...  # that take no new shards

    # What a bucket's policy moves
    async def walk_users(self, bucket_id: BucketId, *, after: Position, limit: int) -> tuple[Used, ...]: ...

    """The bucket's parts, or its versions once `parts_done` is set, that refer to extents, in one order, from behind a position."""

    async def load_counted(self, ids: Sequence[ExtentId]) -> tuple[CountedExtent, ...]: ...  # those that are still there
    async def adopt_extent(self, user: ExtentUser, extent_id: ExtentId, policy: str) -> bool: ...

    """Put an extent under another policy, if this is its one user. False: it is not, or not any more."""

    async def exchange_extent(
        self, user: ExtentUser, extent_id: ExtentId, layout: Layout, *, settlements: Sequence[Settlement], now_ms: int
    ) -> ExtentRef: ...

    """Let a version or part use a new extent in place of one, which loses a reference. ExtentMissing if it does not use that any more:
    nothing is changed, and the ids are not settled. Everything else about the version or part stays as it is. Where the old extent has
    other users, the new one is on record as its successor under this policy and scheme."""

    async def share_successor(self, user: ExtentUser, extent_id: ExtentId, policy: str, k: int, m: int, *, now_ms: int) -> bool: ...

    """Let a version or part use what another use of the extent was already exchanged for. False if there is no such successor any more, or
    the extent is not used."""
