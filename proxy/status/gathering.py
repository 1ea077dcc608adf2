"""Gathers the facts. Every source may be down or hang: each has its own deadline, and none hides what another knows."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from typing import NamedTuple

from msgspec.structs import replace

from proxy.clock import Clock
from proxy.config import Config
from proxy.engine.epoch import PREFIX as EPOCH_PREFIX
from proxy.engine.placing.placement import Policy, place
from proxy.errors import NotEnoughShards, ProxyError, StoreError
from proxy.policies import make_policies
from proxy.status.durable import ANYWHERE, Known, ask_manifest, tally_facts
from proxy.status.facts import DamageFacts, Facts, PolicyFacts, StoreFacts
from proxy.status.live import Answers, ask_server
from proxy.stores.build import open_bare
from proxy.stores.protocol import Store

SECONDS = 3.0  # that each source has: at 3 a.m. a page with a gap now is worth more than a whole one later


class Answered(NamedTuple):
    """What a store did when it was asked just now."""

    latency_ms: float | None
    error: str


async def gather_facts(config: Config, clock: Clock, *, seconds: float = SECONDS) -> Facts:
    """Ask everybody at once: the manifest, the server, every store. Nothing is changed and nothing is raised but `ConfigError`."""
    policies = make_policies(config)
    known, said, answered = await asyncio.gather(
        ask_manifest(config, clock, seconds),
        ask_server(config, seconds=seconds),
        _ask_stores(config, clock, seconds),
    )
    live = said.of(known.identity)
    return Facts(
        now_ms=clock.now_ms(),
        manifest=known.facts,
        server=live.server,
        stores=_stores(config, known, live, answered),
        policies=tuple(policy_facts(policy, [name for name, answer in answered.items() if answer.error]) for policy in policies.values()),
        damage=DamageFacts(waiting=dict(known.damage.by_redundancy), oldest_ms=known.damage.oldest_ms),
        losses=known.losses,
        packs=known.packs,
        unplaced_garbage=known.garbage.get(ANYWHERE, 0),
        tally=None if known.tally is None else tally_facts(known.tally),
        placement=known.placement,
        scrubs=known.scrubs,
        journal=known.journal,
        campaigns=known.campaigns,
        jobs=known.jobs,
    )


def policy_facts(policy: Policy, down: Iterable[str]) -> PolicyFacts:
    """Return what a policy comes to without some stores."""
    stores = [str(info.name) for info in policy.stores]
    missed = tuple(name for name in stores if name in set(down))
    usable = [name for name in stores if name not in missed]
    whole = place(policy, policy.scheme, bytes(16), stores)
    try:
        place(policy, policy.scheme, bytes(16), usable)
        writes = True
    except NotEnoughShards:
        writes = False
    return PolicyFacts(name=policy.name, down=missed, writes=writes, spare=sum(name in usable for name in whole) - policy.scheme.k)


async def _ask_stores(config: Config, clock: Clock, seconds: float) -> dict[str, Answered]:
    answers = await asyncio.gather(*(_ask_store(config, name, clock, seconds) for name in config.stores))
    return dict(zip(config.stores, answers, strict=True))


async def _ask_store(config: Config, name: str, clock: Clock, seconds: float) -> Answered:
    """Open a store and list what there is of epochs: one small page, which needs no manifest and changes nothing."""
    settings = replace(config.stores[name], create_bucket=False)
    async with AsyncExitStack() as opened:
        try:
            async with asyncio.timeout(seconds):
                store = await open_bare(name, settings, create=False, open_seconds=seconds, timeout_seconds=seconds)
                opened.push_async_callback(store.close)
                started = clock.monotonic()
                await _first_of(store)
                return Answered(round((clock.monotonic() - started) * 1000, 2), "")
        except TimeoutError:
            return Answered(None, f"no answer in {seconds:g} s")
        except ProxyError as error:
            return Answered(None, error.reason if isinstance(error, StoreError) else str(error))


async def _first_of(store: Store) -> None:
    async for _ in store.list(EPOCH_PREFIX):
        return


def _stores(config: Config, known: Known, live: Answers, answered: Mapping[str, Answered]) -> tuple[StoreFacts, ...]:
    damaged: dict[str, Counter[str]] = {}
    for (store, kind), count in known.damage.by_store.items():
        damaged.setdefault(store, Counter())[kind] += count
    names = [*config.stores, *sorted((known.stores | damaged.keys() | known.garbage.keys()) - config.stores.keys() - {ANYWHERE})]
    return tuple(
        StoreFacts(
            name=name,
            configured=name in config.stores,
            left=name in known.left,
            error=answered[name].error if name in answered else "",
            latency_ms=answered[name].latency_ms if name in answered else None,
            stored_bytes=None if known.tally is None else known.tally.by_store.get(name, 0),
            damaged=dict(damaged.get(name, {})),
            garbage=known.garbage.get(name, 0),
            calls=live.calls.get(name, 0),
            errors=live.errors.get(name, 0),
            condition=live.conditions.get(name),
        )
        for name in names
    )
