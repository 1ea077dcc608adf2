"""`shardgate stores`: the upstream buckets."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING

import typer
from msgspec import Struct

from proxy.cli.context import DEFAULT_CONFIG, ConfigOption, JsonOption, print_json, print_table, with_services
from proxy.config import load_config
from proxy.errors import ProxyError
from proxy.stores.protocol import ShardName, Store

if TYPE_CHECKING:
    from proxy.services import Services

app = typer.Typer(help="List and check the stores.", no_args_is_help=True)
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
def check(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Put, get, range, list and delete a probe at each store."""
    checks = with_services(config, _check_all, first=True)  # before the first start is the time to check
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
        raise typer.Exit(1)


async def _check_all(services: Services) -> list[Check]:
    return list(await asyncio.gather(*(_check(name, store) for name, store in services.stores.items())))


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
        result.error = str(error)
    return result
