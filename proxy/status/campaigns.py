"""Campaigns in the words of an operator."""

from __future__ import annotations

from proxy.manifest.campaigns import Campaign
from proxy.status.facts import CampaignFacts

GOING_ON = frozenset({"running", "paused"})


def campaign_facts(campaign: Campaign) -> CampaignFacts:
    """Return what is to be known of a campaign that goes on. Its time is that of the plan, which is the throttle's."""
    planned, done = campaign.estimate.segments, campaign.actual.segments
    return CampaignFacts(
        id=campaign.id,
        what=_what(campaign),
        state=campaign.state,
        done=done,
        planned=planned,
        remaining_seconds=campaign.seconds * max(planned - done, 0) / max(planned, 1),
        trouble=campaign.trouble,
    )


def _what(campaign: Campaign) -> str:
    match campaign.verb:
        case "drain":
            return f"drain of {campaign.store}"
        case "replace":
            return f"replacement of {campaign.store} by {campaign.new_store}"
        case "policy":
            return f"move of bucket {campaign.bucket} to policy {campaign.policy}"
        case "rebalance":
            return "rebalance"
