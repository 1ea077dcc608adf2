"""What a campaign wants of one segment: pure, and the same for the plan and for the step that moves."""

from __future__ import annotations

from proxy.engine.campaigns.moves import Moves, Situation, conform, rebalance, relocate
from proxy.manifest.campaigns import LEAVING_VERBS, Campaign


def wanted(campaign: Campaign, situation: Situation) -> Moves:
    """Return which shards are to move, and where to."""
    if campaign.verb in LEAVING_VERBS:
        leaving = [index for index, store in enumerate(situation.segment.stores) if store == campaign.store]
        return relocate(situation, leaving, prefer=campaign.new_store)
    return rebalance(situation) if campaign.verb == "rebalance" else conform(situation)
