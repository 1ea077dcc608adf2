"""What the commands that move data share: a plan, orders to it, and a look at how it goes on.

The work is the servers'. While a command is attached it takes turns with them, so that it goes on without a server, too.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Concatenate, ParamSpec, get_type_hints

import typer
from msgspec import Struct, convert
from msgspec.structs import fields

from proxy.cli.campaign_views import Leftovers, print_plan, print_standing, view_of
from proxy.cli.context import DEFAULT_CONFIG, ConfigOption, JsonOption, print_json, with_services
from proxy.cli.progress import progress_bar
from proxy.errors import CampaignRefused, ConfigError
from proxy.manifest.campaigns import Campaign, CampaignId, Order

if TYPE_CHECKING:
    from proxy.engine.campaigns.planning import Planner
    from proxy.services import Services

Arguments = ParamSpec("Arguments")

INTERRUPTED = 130
LOOK_SECONDS = 1.0
RENEW_SECONDS = 30.0


class Wish(Struct, frozen=True, kw_only=True):
    """What is to be moved, as the command line says it. `words` repeat it."""

    words: str
    verb: str
    store: str = ""
    new_store: str = ""
    bucket: str = ""
    policy: str = ""

    def fits(self, campaign: Campaign) -> bool:
        told = (campaign.verb, campaign.store, campaign.new_store, campaign.bucket, campaign.policy)
        return told == (self.verb, self.store, self.new_store, self.bucket, self.policy)


class Orders(Struct, frozen=True, kw_only=True):
    """What is to be done, as the command line says it. Each field is an option of all the commands that take orders."""

    config: ConfigOption = DEFAULT_CONFIG
    apply: Annotated[str | None, typer.Option("--apply", metavar="ID", help="Carry out this plan, and watch it.")] = None
    pause: Annotated[str | None, typer.Option("--pause", metavar="ID", help="Let it rest until it is resumed.")] = None
    resume: Annotated[str | None, typer.Option("--resume", metavar="ID", help="Go on with what was paused, and watch it.")] = None
    cancel: Annotated[str | None, typer.Option("--cancel", metavar="ID", help="Give it up: what has moved stays where it is now.")] = None
    detach: Annotated[bool, typer.Option("--detach", help="Do not watch: leave the work to the servers.")] = False
    as_json: JsonOption = False

    def given(self) -> tuple[Order, CampaignId] | None:
        """Return the one order there is. Raises `ConfigError` if there are several."""
        told: list[tuple[Order, str | None]] = [
            ("apply", self.apply), ("pause", self.pause), ("resume", self.resume), ("cancel", self.cancel),
        ]  # fmt: skip
        given = [(order, CampaignId(campaign_id)) for order, campaign_id in told if campaign_id is not None]
        if len(given) > 1:
            raise ConfigError(f"--{given[0][0]} and --{given[1][0]}: give one of them")
        return given[0] if given else None


def takes_orders(command: Callable[Concatenate[Orders, Arguments], None]) -> Callable[..., None]:
    """Give a command the options of `Orders` behind its own arguments. typer reads them from the signature."""
    _, *own = inspect.signature(command, eval_str=True).parameters.values()
    types = get_type_hints(Orders, include_extras=True)
    options = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=types[field.name])
        for field in fields(Orders)
    ]

    def run_command(**given: object) -> None:
        orders = convert({option.name: given.pop(option.name) for option in options}, Orders)
        command(orders, **given)  # type: ignore[arg-type, call-arg]  # by the names that the signature gives

    run_command.__doc__ = command.__doc__
    run_command.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
    run_command.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *options)}
    return run_command


@takes_orders
def rebalance(orders: Orders) -> None:
    """Spread what is stored as new writes would be, such as after a store was added. Without an option, plan it."""
    run(orders, Wish(words="rebalance", verb="rebalance"), lambda planner: planner.rebalance())


def run(orders: Orders, wish: Wish, plan: Callable[[Planner], Awaitable[Campaign]]) -> None:
    """Plan, or give an order to what was planned."""
    given = orders.given()
    if given is None:
        campaign, leftovers = with_services(orders.config, lambda services: _plan(services, wish, plan))
        _show(campaign, wish, leftovers, as_json=orders.as_json)
        return
    order, campaign_id = given
    campaign = with_services(orders.config, lambda services: _order(services, wish, order, campaign_id))
    if orders.detach or order in {"pause", "cancel"}:
        _show(campaign, wish, None, as_json=orders.as_json)
    else:
        _watch(orders.config, campaign, wish, as_json=orders.as_json)


def _show(campaign: Campaign, wish: Wish, leftovers: Leftovers | None, *, as_json: bool) -> None:
    if as_json:
        print_json(view_of(campaign, leftovers))
    elif campaign.state == "planned":
        print_plan(campaign, wish.words)
    else:
        print_standing(campaign, wish.words, leftovers)


def _watch(config: Path, campaign: Campaign, wish: Wish, *, as_json: bool) -> None:
    try:
        ended, leftovers = with_services(config, lambda services: _attached(services, campaign))
    except KeyboardInterrupt:
        served = with_services(config, _is_served)
        print(f"\ndetached from {campaign.id}: {_who_goes_on(served=served)}", file=sys.stderr)
        print(f"watch it again with: shardgate {wish.words} --apply {campaign.id}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    _show(ended, wish, leftovers, as_json=as_json)


def _who_goes_on(*, served: bool) -> str:
    if served:
        return "the work goes on in the servers."
    return "NO SERVER RUNS, so the work rests until one is started. Nothing is lost: it goes on from where it is."


async def _plan(services: Services, wish: Wish, plan: Callable[[Planner], Awaitable[Campaign]]) -> tuple[Campaign, Leftovers | None]:
    """Return a new plan; or, of a store that is being left already, how far that is."""
    for campaign in reversed(await services.manifest.list_campaigns()):
        if wish.fits(campaign) and (campaign.leaves or campaign.state in {"running", "paused"}):
            return campaign, await _leftovers(services, campaign)
    return await plan(_planner(services)), None


async def _order(services: Services, wish: Wish, order: Order, campaign_id: CampaignId) -> Campaign:
    campaign = await services.manifest.find_campaign(campaign_id)
    if campaign is None:
        raise CampaignRefused(f"there is no campaign {campaign_id}: make a plan with: shardgate {wish.words}")
    if not wish.fits(campaign):
        raise CampaignRefused(f"{campaign_id} is not a plan of this command; make one with: shardgate {wish.words}")
    if order == "apply":
        if campaign.state in {"running", "done"}:
            return campaign  # who has detached comes back
        await _planner(services).check(campaign)
    ordered = await services.manifest.order_campaign(campaign_id, order, now_ms=services.clock.now_ms())
    services.fleet.leave(await services.manifest.leaving_stores())
    return ordered


async def _attached(services: Services, campaign: Campaign) -> tuple[Campaign, Leftovers | None]:
    """Watch a campaign to its end, and take the turns that no server takes: its own, and those of the checkpoint that it may wait for."""
    from proxy.engine.campaigns.worker import CampaignWorker
    from proxy.engine.journal.checkpointing import CheckpointWorker
    from proxy.engine.workers import Runner

    workers = [worker for worker in services.workers if isinstance(worker, CampaignWorker | CheckpointWorker)]
    runner = Runner(services.manifest, services.clock, (), holder=services.parts.ledger.owner)
    renewing = asyncio.create_task(_renew(services))
    try:
        with progress_bar(campaign.id, total=campaign.estimate.segments) as show:
            while (found := await services.manifest.find_campaign(campaign.id)) is not None and found.state == "running":
                show(found.actual.segments)
                wait = min([await runner.turn(worker) for worker in workers])
                await asyncio.sleep(min(wait, LOOK_SECONDS))
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
    ended = campaign if found is None else found
    return ended, await _leftovers(services, ended)


async def _renew(services: Services) -> None:
    """Keep the leases of this process alive, as a server's worker does."""
    while True:
        await asyncio.sleep(RENEW_SECONDS)
        await services.parts.ledger.renew()


async def _is_served(services: Services) -> bool:
    """Tell whether a server has lately done what each must do, such as renewing its leases."""
    names = {worker.name for worker in services.workers if worker.everywhere}
    last_run_ms = max((job.last_run_ms for job in await services.manifest.list_jobs() if job.name in names), default=0)
    return services.clock.now_ms() - last_run_ms < services.config.limits.intent_seconds * 1000


def _planner(services: Services) -> Planner:
    from proxy.engine.campaigns.planning import Pace, Planner

    limits = services.config.limits
    return Planner(
        manifest=services.manifest,
        fleet=services.fleet,
        policies=services.policies,
        clock=services.clock,
        pace=Pace(limits.background_requests_per_second, limits.background_mib_per_second * 1024 * 1024),
    )


async def _leftovers(services: Services, campaign: Campaign) -> Leftovers | None:
    """Look at what a store that was left holds still."""
    from proxy.engine.campaigns.leftovers import look_at

    if campaign.state != "done" or not campaign.leaves:
        return None
    seconds = services.config.limits.get_timeout_seconds
    found = await look_at(services.manifest, services.fleet, campaign.store, timeout_seconds=seconds)
    return Leftovers(
        garbage=found.garbage, shards=found.shards, journal=found.journal, foreign=found.foreign, more=found.more, trouble=found.trouble,
        delay_seconds=services.config.limits.collect_after_seconds, keep_seconds=services.config.journal.keep_seconds,
    )  # fmt: skip
