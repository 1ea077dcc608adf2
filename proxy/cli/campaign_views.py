"""How plans and campaigns are shown."""

from __future__ import annotations

from msgspec import Struct

from proxy.cli.context import print_table
from proxy.manifest.campaigns import Bill, Campaign, Estimate
from proxy.status.words import duration, size


class BillView(Struct, frozen=True, kw_only=True):
    """What is asked of one store, with its price in US dollars. Early deletion is an upper bound."""

    store: str
    gets: int
    puts: int
    deletes: int
    read_bytes: int
    written_bytes: int
    egress_usd: float
    requests_usd: float
    early_deletion_usd: float
    usd: float


class EstimateView(Struct, frozen=True, kw_only=True):
    """What moves, and what it takes."""

    segments: int
    copied: int
    rebuilt: int
    rewritten: int
    waiting: int
    bytes: int
    requests: int
    usd: float
    stores: list[BillView]


class Leftovers(Struct, frozen=True, kw_only=True):
    """What a store that was left holds still. `more`: it holds so much that not all was looked at."""

    garbage: int
    shards: int
    journal: int
    foreign: int
    more: bool
    trouble: str
    delay_seconds: float
    keep_seconds: float

    @property
    def nothing(self) -> bool:
        return not (self.garbage or self.shards or self.journal or self.more)


class CampaignView(Struct, frozen=True, kw_only=True):
    """A campaign as JSON: what was planned, where it stands, and what was done."""

    id: str
    verb: str
    state: str
    store: str
    new_store: str
    bucket: str
    policy: str
    seconds: float
    planned: EstimateView
    planned_if_dead: EstimateView | None
    actual: EstimateView
    trouble: str
    leftovers: Leftovers | None


def view_of(campaign: Campaign, leftovers: Leftovers | None) -> CampaignView:
    """Return all that is known of a campaign."""
    return CampaignView(
        id=campaign.id,
        verb=campaign.verb,
        state=campaign.state,
        store=campaign.store,
        new_store=campaign.new_store,
        bucket=campaign.bucket,
        policy=campaign.policy,
        seconds=round(campaign.seconds, 1),
        planned=_estimate_view(campaign.estimate),
        planned_if_dead=None if campaign.if_dead is None else _estimate_view(campaign.if_dead),
        actual=_estimate_view(campaign.actual),
        trouble=campaign.trouble,
        leftovers=leftovers,
    )


def print_plan(campaign: Campaign, words: str) -> None:
    """Print a plan, its price, and how to carry it out."""
    plan = campaign.estimate
    if not plan.segments:
        print(f"{campaign.id}: nothing has to move" + (f"; {_waiting(plan)}" if plan.waiting else ""))
    else:
        print_table(f"Plan {campaign.id}", _COLUMNS, [*(_bill_cells(bill) for bill in plan.bills), _total_cells(plan)])
        print(f"{_moves(plan)}: {_sums(plan)}, at least {duration(campaign.seconds * 1000)} at the throttle.")
        if plan.waiting:
            print(_waiting(plan))
    if campaign.if_dead is not None and campaign.if_dead.segments:
        print(f"If {campaign.store} is dead: {_moves(campaign.if_dead)}: {_sums(campaign.if_dead)}.")
    if any(bill.early_deletion_usd for bill in plan.bills):
        print("Early deletion is an upper bound: as if everything had been stored today.")
    if campaign.verb == "policy":
        print(f"From the moment it is applied, new objects in {campaign.bucket} are stored under {campaign.policy}.")
    elif campaign.store:
        print(f"From the moment it is applied, {campaign.store} takes no new shards.")
    if campaign.verb == "rebalance" and not plan.segments:
        return
    print(f"Carry it out with: shardgate {words} --apply {campaign.id}")


def print_standing(campaign: Campaign, words: str, leftovers: Leftovers | None) -> None:
    """Print where a campaign stands, with what was planned against what was done."""
    print(f"{campaign.id} is {campaign.state}.")
    planned = campaign.if_dead if campaign.if_dead is not None and campaign.actual.rebuilt > campaign.actual.copied else campaign.estimate
    rows = [[name, was, done] for name, was, done in _compared(planned, campaign.actual) if (was, done) != ("0", "0")]
    print_table("Planned and done", ["", "planned", "done"], rows)
    if campaign.trouble:
        print(f"last trouble: {campaign.trouble}")
    match campaign.state:
        case "running":
            print(f"Watch it with: shardgate {words} --apply {campaign.id}")
        case "paused":
            print(f"Go on with: shardgate {words} --resume {campaign.id}")
        case "cancelled":
            print("What has moved stays where it is now." + (f" {campaign.store} takes new shards again." if campaign.store else ""))
    if leftovers is not None:
        _print_leftovers(campaign, words, leftovers)


def _print_leftovers(campaign: Campaign, words: str, left: Leftovers) -> None:
    store = campaign.store
    if left.trouble:
        print(f"{store} cannot be listed: {left.trouble}. No object needs it any more.")
        if left.garbage:
            print(f"{left.garbage:,} shards of deleted or moved data may still lie in it.")
        print(f"Take it out of the configuration when you will: remove [stores.{store}], and restart the servers.")
        return
    if left.nothing:
        print(f"{store} holds nothing that is needed. Remove [stores.{store}] from the configuration, and restart the servers.")
    else:
        more = "at least " if left.more else ""
        print(f"{store} still holds {more}{left.shards:,} shards and {left.journal:,} objects of the journal. No object needs them.")
        if left.garbage:
            delay = duration(left.delay_seconds * 1000)
            print(f"{left.garbage:,} shards are queued for deletion there; a server deletes them, {delay} after they were queued.")
        if left.journal:
            kept = duration(left.keep_seconds * 1000)
            print(f"Wait with removing it: the journal has left it, and what its last checkpoint has replaced is deleted {kept} later.")
        print(f"Look again with: shardgate {words}")
    if left.foreign:
        print(f"{left.foreign:,} objects in it are not Shardgate's: they are left alone.")


_COLUMNS = ["store", "gets", "puts", "deletes", "read", "written", "egress", "requests", "early deletion", "US dollars"]


def _bill_cells(bill: Bill) -> list[str]:
    costs = (bill.egress_usd, bill.requests_usd, bill.early_deletion_usd, bill.usd)
    counts = (bill.gets, bill.puts, bill.deletes)
    return [bill.store, *(f"{count:,}" for count in counts), size(bill.read_bytes), size(bill.written_bytes), *map(_usd, costs)]


def _total_cells(plan: Estimate) -> list[str]:
    bills = plan.bills
    return [
        "all",
        *(f"{sum(counts):,}" for counts in zip(*((bill.gets, bill.puts, bill.deletes) for bill in bills), strict=True)),
        *(size(sum(sizes)) for sizes in zip(*((bill.read_bytes, bill.written_bytes) for bill in bills), strict=True)),
        *(
            _usd(sum(costs))
            for costs in zip(*((bill.egress_usd, bill.requests_usd, bill.early_deletion_usd, bill.usd) for bill in bills), strict=True)
        ),
    ]


def _compared(planned: Estimate, actual: Estimate) -> list[tuple[str, str, str]]:
    def row(name: str, value: str) -> tuple[str, str, str]:
        return name, f"{getattr(planned, value):,}", f"{getattr(actual, value):,}"

    return [
        row("segments", "segments"),
        row("shards copied", "copied"),
        row("shards rebuilt", "rebuilt"),
        row("segments stored anew", "rewritten"),
        row("requests", "requests"),
        ("moved", size(planned.size_bytes), size(actual.size_bytes)),
        ("US dollars", _usd(planned.usd), _usd(actual.usd)),
    ]


def _moves(plan: Estimate) -> str:
    parts = [(plan.copied, "shards copied"), (plan.rebuilt, "shards rebuilt"), (plan.rewritten, "segments stored anew")]
    return f"{plan.segments:,} segments, " + ", ".join(f"{count:,} {what}" for count, what in parts if count)


def _sums(plan: Estimate) -> str:
    return f"{size(plan.size_bytes)} read and written in {plan.requests:,} requests, US$ {_usd(plan.usd)}"


def _waiting(plan: Estimate) -> str:
    return f"{plan.waiting:,} segments cannot move now: no store may take their shards, or their policy is not configured."


def _usd(value: float) -> str:
    return f"{value:,.2f}" if value >= 0.01 or not value else f"{value:.6f}"


def _estimate_view(estimate: Estimate) -> EstimateView:
    return EstimateView(
        segments=estimate.segments,
        copied=estimate.copied,
        rebuilt=estimate.rebuilt,
        rewritten=estimate.rewritten,
        waiting=estimate.waiting,
        bytes=estimate.size_bytes,
        requests=estimate.requests,
        usd=estimate.usd,
        stores=[_bill_view(bill) for bill in estimate.bills],
    )


def _bill_view(bill: Bill) -> BillView:
    return BillView(
        store=bill.store,
        gets=bill.gets,
        puts=bill.puts,
        deletes=bill.deletes,
        read_bytes=bill.read_bytes,
        written_bytes=bill.written_bytes,
        egress_usd=bill.egress_usd,
        requests_usd=bill.requests_usd,
        early_deletion_usd=bill.early_deletion_usd,
        usd=bill.usd,
    )
