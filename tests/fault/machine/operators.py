"""Operators: the commands that they give beside the clients. What is refused, or gets no answer, is given up."""

from __future__ import annotations

from contextlib import suppress
from typing import Literal, NamedTuple

from proxy.engine.campaigns.planning import Pace, Planner
from proxy.engine.journal.checkpointing import request_checkpoint
from proxy.errors import ProxyError
from proxy.manifest.campaigns import Campaign, Order
from proxy.services import Services


class Wish(NamedTuple):
    """What is to be moved."""

    verb: Literal["drain", "replace", "rebalance", "policy"]
    store: str = ""
    new_store: str = ""
    bucket: str = ""
    policy: str = ""


class Operator:
    """Gives commands with the services of one process, as `shardgate` does with its own."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._planner = Planner(
            manifest=services.manifest,
            fleet=services.fleet,
            policies=services.policies,
            clock=services.clock,
            pace=Pace(1000, 64 * 2**20),
        )

    async def begin(self, wish: Wish) -> None:
        """Plan, and apply the plan."""
        with suppress(ProxyError):
            campaign = await self._plan(wish)
            await self._planner.check(campaign)
            await self._order(campaign, "apply")

    async def order(self, which: int, order: Order) -> None:
        """Pause, resume or cancel one of the campaigns there are."""
        with suppress(ProxyError):
            if campaigns := await self._services.manifest.list_campaigns():
                await self._order(campaigns[which % len(campaigns)], order)

    async def ask_for_a_checkpoint(self) -> None:
        with suppress(ProxyError):
            await request_checkpoint(self._services.manifest)

    async def _plan(self, wish: Wish) -> Campaign:
        match wish.verb:
            case "drain":
                return await self._planner.drain(wish.store)
            case "replace":
                return await self._planner.replace(wish.store, wish.new_store)
            case "rebalance":
                return await self._planner.rebalance()
            case "policy":
                return await self._planner.move_policy(wish.bucket, wish.policy)

    async def _order(self, campaign: Campaign, order: Order) -> None:
        services = self._services
        await services.manifest.order_campaign(campaign.id, order, now_ms=services.clock.now_ms())
        services.fleet.leave(await services.manifest.leaving_stores())
