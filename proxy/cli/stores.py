"""`shardgate stores`: the upstream buckets."""

from __future__ import annotations

import asyncio
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import Struct

from proxy.cli import analyses
from proxy.cli.campaigns import Orders, Wish, run, takes_orders
from proxy.cli.context import DEFAULT_CONFIG, ConfigOption, JsonOption, print_json, print_table, with_services
from proxy.config import load_config
from proxy.errors import ConfigError, ProxyError, StoreError
from proxy.stores.protocol import ShardName, Store

if TYPE_CHECKING:
    from proxy.services import Services

app = typer.Typer(help="List, check, leave and replace the stores.", no_args_is_help=True)
PROBE = b"shardgate probe " * 64


class Check(Struct, kw_only=True):
    """What a probe found: milliseconds a verb, or the error that ended it."""

    store: str
    latencies_ms: dict[str, float] = {}
    error: str = ""


@app.command("list")
def list_all(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """List the stores of the configuration."""
    stores = load_config(config).stores
    rows = [
        {"store": name, "kind": store.kind, "provider": store.provider, "region": store.region, "jurisdiction": store.jurisdiction,
         "place": store.path or f"{store.bucket}/{store.prefix}"}
        for name, store in stores.items()
    ]  # fmt: skip
    if as_json:
        print_json(rows)
    else:
        print_table("Stores", ["store", "kind", "provider", "region", "jurisdiction", "place"], [list(row.values()) for row in rows])


@app.command("check")
def check(
    name: Annotated[str | None, typer.Argument(help="One store; all if not given.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    analyze: Annotated[bool, typer.Option("--analyze", help="Try all that Shardgate needs of a bucket, before you trust it.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="With --analyze: without much data.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Put, get, range, list and delete a probe at each store; or analyze whether it does all that Shardgate needs."""
    settings = load_config(config)
    if name is not None and name not in settings.stores:
        raise ConfigError(f'there is no store "{name}"; one of: {", ".join(settings.stores)}')
    names = list(settings.stores) if name is None else [name]
    if quick and not analyze:
        raise ConfigError("--quick goes with --analyze")
    if analyze:
        analyses.run(settings, names, quick=quick, as_json=as_json)
    else:
        _check_quickly(config, names, as_json=as_json)


def _check_quickly(config: Path, names: list[str], *, as_json: bool) -> None:
    checks = with_services(config, lambda services: _check_all(services, names), first=True)  # before the first start is the time to check
    if as_json:
        print_json(checks)
    else:
        verbs = ["put", "get", "range", "list", "delete"]
        rows = [
            [item.store, *(f"{item.latencies_ms[verb]:.1f}" if verb in item.latencies_ms else "-" for verb in verbs), item.error or "ok"]
            for item in checks
        ]
        print_table("Stores, in milliseconds", ["store", *verbs, "result"], rows)
    if any(item.error for item in checks):
        if not as_json:
            print("What to do: see docs/OPERATIONS.md, At 3 a.m. (a store is down, refuses, or its disk is lost)")
        raise typer.Exit(1)


@app.command("drain")
@takes_orders
def drain(orders: Orders, name: str) -> None:
    """Leave a store: move all it holds to others. Without an option, plan it, or show how far it is."""
    run(orders, Wish(words=f"stores drain {name}", verb="drain", store=name), lambda planner: planner.drain(name))


@app.command("replace")
@takes_orders
def replace(orders: Orders, old: str, new: str) -> None:
    """Move all that a store holds to another. Without an option, plan it, or show how far it is."""
    wish = Wish(words=f"stores replace {old} {new}", verb="replace", store=old, new_store=new)
    run(orders, wish, lambda planner: planner.replace(old, new))


@app.command("rebuild")
def rebuild(name: str, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Say that a store has really lost what it says it has: repair was paused for it, and goes on."""
    with_services(config, lambda services: _rebuild(services, name))


async def _rebuild(services: Services, name: str) -> None:
    from proxy.engine.repair.brake import rebuild_lost
    from proxy.manifest.damage import how_many

    losses = await rebuild_lost(services.manifest, name, now_ms=services.clock.now_ms())
    if losses is None:
        raise ConfigError(f"repair is not paused for store {name}; see: shardgate status")
    print(f"{name} has lost {how_many(losses.found, losses.shards)}. Each is looked at once more, and made anew if it is not there.")
    print("This goes for whatever else is found in the next 24 hours, too. Watch it with: shardgate jobs")


async def _check_all(services: Services, names: list[str]) -> list[Check]:
    return list(await asyncio.gather(*(_check(name, services.stores[name]) for name in names)))


async def _check(name: str, store: Store) -> Check:
    result = Check(store=name, latencies_ms={})
    probe = ShardName(f"00/probe-{secrets.token_hex(8)}")
    clock = time.perf_counter
    started = clock()

    def lap(verb: str) -> None:
        nonlocal started
        result.latencies_ms[verb] = round((clock() - started) * 1000, 2)
        started = clock()

    try:
        await store.put(probe, [PROBE])
        lap("put")
        whole = bytes(await store.get(probe))
        lap("get")
        part = bytes(await store.get_range(probe, 16, 32))
        lap("range")
        listed = [entry async for entry in store.list(str(probe))]
        lap("list")
        await store.delete(probe)
        lap("delete")
        if whole != PROBE or part != PROBE[16:48] or listed != [(probe, len(PROBE))]:
            result.error = "what came back is not what was put"
    except ProxyError as error:
        result.error = error.reason if isinstance(error, StoreError) else str(error)
    return result
