"""The worker of campaigns shares the event loop with the clients."""

from __future__ import annotations

from typing import cast

from proxy.clock import ManualClock
from proxy.engine.campaigns.carrying import Carrier, Done
from proxy.engine.campaigns.estimate import Tally
from proxy.engine.campaigns.packed import PackedMover
from proxy.engine.campaigns.rewriting import Rewriter
from proxy.engine.campaigns.worker import RUN, CampaignWorker
from proxy.manifest.campaigns import Campaign, CampaignId
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Extent, ExtentId, Layout
from tests.turns import others_turns
from tests.unit.campaigns.fleets import INFOS, SIX, policy, segment

SEGMENTS = 10 * RUN


class NothingMoves:
    """Stands for the carrier where all is in its place: it waits for nobody."""

    looked_at = 0

    async def carry(self, *_: object) -> None:
        self.looked_at += 1


async def test_others_have_turns_while_a_large_object_is_looked_at_of_which_nothing_moves() -> None:
    carrier = NothingMoves()
    worker = CampaignWorker(
        manifest=cast(Manifest, None),
        policies={},
        carrier=cast(Carrier, carrier),
        rewriter=cast(Rewriter, None),
        packed=cast(PackedMover, None),
        clock=ManualClock(0),
        journal=False,
    )
    layout = Layout(size=1, k=4, m=2, tenant_key_id="t", wrapped_key=b"", segments=(segment(),) * SEGMENTS)
    campaign = Campaign(id=CampaignId("c"), verb="rebalance", planned_ms=0)
    async with others_turns() as turns:
        assert await worker._carry_segments(campaign, policy(*SIX), Extent(id=ExtentId(1), layout=layout), Done(Tally(INFOS)), until=1.0)
    assert carrier.looked_at == SEGMENTS
    assert turns.count >= SEGMENTS // RUN
