"""`python -m bench.cost`: what a workload costs a month under a policy, packed and not, beside one S3 bucket and its replica.

The stores, the scheme and the rules are those of a configuration; the prices are those of `config/prices.toml`. Where shards go is asked of
the code that places them, for some thousand segments: each store gets its share of the shards, and of the data shards, which are what
healthy reads ask for.

What is counted: storage, puts, gets and egress of shards, and the puts of the journal. What is not: deletions (free), the repacking of
packs, scrubs, and the free tiers that some providers have. Objects may have several sizes, which are written and read as often as they are
there.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from math import expm1
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench.servers import REPOSITORY
from bench.uses import Sizes, Use, packed_use, plain_use
from proxy.config import load_config
from proxy.engine.placing.placement import Policy, place
from proxy.policies import make_policies

GB = 1e9  # as providers count
SAMPLES = 2000  # segments that are placed to learn each store's share
MONTH_SECONDS = 30 * 86400
UNITS = {"": 1, "B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(B|KiB|MiB|GiB|)(?::(\d*\.?\d+))?")
SIZE_HELP = "Bytes in each, such as 16384, 16KiB or 1MiB. Of several sizes give each with its share: --size 4KiB:0.8 --size 1MiB:0.2"
_NEEDED = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}|\"env:([A-Za-z_][A-Za-z0-9_]*)\"")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """One provider's prices, as in `config/prices.toml`."""

    storage_gb_month: float
    put_per_thousand: float
    get_per_thousand: float
    egress_gb: float
    between_regions_gb: float = 0.0
    minimum_days: int = 0
    as_of: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What there is, and what happens to it in a month."""

    objects: int
    sizes: Sizes
    puts: int
    gets: int
    together: int  # objects that are written at the same time: those of them that are small share a pack

    @property
    def mean_size(self) -> float:
        return sum(size * share for size, share in self.sizes.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """A month, in dollars."""

    name: str
    stored_gb: float
    storage: float
    puts: float
    gets: float
    egress: float
    journal: float = 0.0

    @property
    def total(self) -> float:
        return self.storage + self.puts + self.gets + self.egress + self.journal


@dataclass(frozen=True, slots=True)
class JournalUse:
    """How often the journal is put, while something changes, and under which policy."""

    interval_seconds: float
    policy: Policy

    def puts(self, load: Load) -> float:
        """Return the puts of a month, where writes come `together` and at random: one flush for each interval with a write."""
        intervals = MONTH_SECONDS / self.interval_seconds
        return self.policy.scheme.n * intervals * -expm1(-load.puts / load.together / intervals)


@dataclass(frozen=True, slots=True)
class Shares:
    """The part of all shards, and of the data shards, that each provider gets."""

    shards: Mapping[str, float]
    data: Mapping[str, float]


def main(
    objects: Annotated[int, typer.Option(help="Objects that are there.")] = 10_000_000,
    size: Annotated[list[str] | None, typer.Option(help=SIZE_HELP)] = None,
    puts: Annotated[int, typer.Option(help="Objects written in a month.")] = 3_000_000,
    gets: Annotated[int, typer.Option(help="Objects read in a month, whole.")] = 20_000_000,
    together: Annotated[int, typer.Option(help="Objects written at the same time: the small ones share a pack.")] = 16,
    config: Annotated[Path, typer.Option(help="A configuration: its stores name their providers.")] = REPOSITORY / "config/multicloud.toml",
    policy: Annotated[str, typer.Option(help="One of its policies; the default policy if not given.")] = "",
    prices: Annotated[Path, typer.Option(help="The price lists.")] = REPOSITORY / "config/prices.toml",
    beside: Annotated[str, typer.Option(help="The provider of the bucket to compare with.")] = "AWS",
    as_json: Annotated[bool, typer.Option("--json", help="Print the bills as JSON.")] = False,
) -> None:
    """Compute the bill of a month."""
    settings = load_config(config, placeholders(config.read_text()))
    policies = make_policies(settings)
    chosen = policies[policy or settings.default_policy]
    journal = JournalUse(settings.journal.interval_ms / 1000, policies[settings.journal.policy or settings.default_policy])
    lists = read_prices(prices)
    load = Load(objects=objects, sizes=parse_sizes(size or ["16KiB"]), puts=puts, gets=gets, together=together)
    bills = monthly_bills(load, chosen, journal, lists, below=settings.packs.below_kib * 1024, beside=beside)
    if as_json:
        print(json.dumps([{**asdict(bill), "total": bill.total} for bill in bills], indent=1))
        return
    print_bills(bills, load, chosen, lists)


def parse_sizes(given: Iterable[str]) -> Sizes:
    """Read what `--size` says. Shares are made to be 1 together; who gives none has 1 before that. Raises `typer.BadParameter`."""
    weights: defaultdict[int, float] = defaultdict(float)
    for text in given:
        match = _SIZE.fullmatch(text)
        if match is None:
            raise typer.BadParameter(f"{text!r} is no size such as 16384, 4KiB or 1MiB:0.2")
        number, unit, weight = match.groups()
        weights[round(float(number) * UNITS[unit])] += float(weight or 1)
    if not (total := sum(weights.values())):
        raise typer.BadParameter("some share must be more than 0")
    return {size: weight / total for size, weight in weights.items() if weight}


def described(sizes: Sizes) -> str:
    if len(sizes) == 1:
        return f"{min(sizes):,}"
    return ", ".join(f"{size:,} ({share:.4g})" for size, share in sorted(sizes.items()))


def placeholders(text: str) -> dict[str, str]:
    """Return an environment in which every variable that a configuration needs is set: a price needs no credentials."""
    return {name: "unset" for pair in _NEEDED.findall(text) for name in pair if name}


def read_prices(path: Path) -> dict[str, Prices]:
    return {name: Prices(**table) for name, table in tomllib.loads(path.read_text()).items()}


def monthly_bills(load: Load, policy: Policy, journal: JournalUse, lists: Mapping[str, Prices], *, below: int, beside: str) -> list[Bill]:
    """Return the bills: packed, if there are objects so small, then not packed, then of a bucket and its replica."""
    shares = shares_of(policy)
    noted = journal.puts(load) / 1000 * _average(shares_of(journal.policy).shards, lists, "put_per_thousand")
    bills = [_bill("not packed", load, plain_use(load.sizes, policy.scheme, policy.segment_size), shares, noted, lists)]
    if min(load.sizes) < below:
        packed = packed_use(load.sizes, policy.scheme, policy.segment_size, together=load.together, below=below)
        bills.insert(0, _bill(f"packed, {load.together} together", load, packed, shares, noted, lists))
    return [*bills, replicated_bill(load, beside, lists[beside])]


def shares_of(policy: Policy) -> Shares:
    """Learn by placing segments how shards are spread over providers."""
    usable = frozenset(str(info.name) for info in policy.stores)
    providers = {str(info.name): info.provider for info in policy.stores}
    shards: Counter[str] = Counter()
    data: Counter[str] = Counter()
    for number in range(SAMPLES):
        stores = place(policy, policy.scheme, sha256(number.to_bytes(4, "big")).digest()[:16], usable)
        shards.update(providers[store] for store in stores)
        data.update(providers[store] for store in stores[: policy.scheme.k])
    return Shares(
        {name: count / shards.total() for name, count in shards.items()}, {name: count / data.total() for name, count in data.items()}
    )


def replicated_bill(load: Load, provider: str, prices: Prices) -> Bill:
    """Return the bill of one bucket that is replicated to another region of the same provider."""
    stored = 2 * load.objects * load.mean_size / GB
    moved = load.puts * load.mean_size / GB * prices.between_regions_gb
    return Bill(
        name=f"one bucket at {provider} and its replica",
        stored_gb=stored,
        storage=stored * prices.storage_gb_month,
        puts=2 * load.puts / 1000 * prices.put_per_thousand + moved,
        gets=load.gets / 1000 * prices.get_per_thousand,
        egress=load.gets * load.mean_size / GB * prices.egress_gb,
    )


def _bill(name: str, load: Load, use: Use, shares: Shares, journal: float, lists: Mapping[str, Prices]) -> Bill:
    stored = load.objects * use.stored / GB
    return Bill(
        name=name,
        stored_gb=stored,
        storage=stored * _average(shares.shards, lists, "storage_gb_month"),
        puts=load.puts * use.puts / 1000 * _average(shares.shards, lists, "put_per_thousand"),
        gets=load.gets * use.gets / 1000 * _average(shares.data, lists, "get_per_thousand"),
        egress=load.gets * use.read / GB * _average(shares.data, lists, "egress_gb"),
        journal=journal,
    )


def _average(parts: Mapping[str, float], lists: Mapping[str, Prices], price: str) -> float:
    return sum(part * float(getattr(lists[provider], price)) for provider, part in parts.items())


def print_bills(bills: list[Bill], load: Load, policy: Policy, lists: Mapping[str, Prices]) -> None:
    console = Console(width=140)
    providers = sorted({info.provider for info in policy.stores})
    console.print(
        f"{load.objects:,} objects of {described(load.sizes)} bytes, {load.puts:,} written and {load.gets:,} read a month; "
        f"policy {policy.name}: {policy.scheme} over {', '.join(providers)}"
    )
    table = Table()
    for header in ("US$ a month", "total", "ratio", "stored GB", "storage", "puts", "gets", "egress", "journal"):
        table.add_column(header, justify="left" if header == "US$ a month" else "right")
    for bill in bills:
        amounts = (bill.stored_gb, bill.storage, bill.puts, bill.gets, bill.egress, bill.journal)
        table.add_row(bill.name, f"{bill.total:,.2f}", f"{bill.total / bills[-1].total:.2f}", *(f"{amount:,.2f}" for amount in amounts))
    console.print(table)
    dates = ", ".join(f"{name} {lists[name].as_of}" for name in providers)
    console.print(f"The ratio is to the last line. Prices as of: {dates}.")


if __name__ == "__main__":
    typer.run(main)
