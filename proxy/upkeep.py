"""Which background work there is, and what each worker is made of."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass

from proxy.clock import Clock
from proxy.config import Config
from proxy.engine.background import BackgroundMemory
from proxy.engine.collect import Collector
from proxy.engine.epoch import EpochKeeper
from proxy.engine.fleet import Fleet
from proxy.engine.intents import IntentLedger, LeaseRenewal
from proxy.engine.placement import Policy
from proxy.engine.throttle import Throttle
from proxy.engine.workers import Worker
from proxy.keyring import Keyring
from proxy.manifest.protocol import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What workers are made of."""

    config: Config
    clock: Clock
    manifest: Manifest
    keyring: Keyring
    policies: Mapping[str, Policy]
    fleet: Fleet
    threads: Executor  # for coding, sealing, hashing
    ledger: IntentLedger
    epoch: EpochKeeper
    throttle: Throttle  # all workers of this process share it
    memory: BackgroundMemory


def make_workers(parts: Parts) -> tuple[Worker, ...]:
    """Return the workers of a process that serves."""
    return (LeaseRenewal(parts.ledger, lease_seconds=parts.config.limits.intent_seconds), parts.epoch, _collector(parts))


def _collector(parts: Parts) -> Collector:
    limits = parts.config.limits
    return Collector(
        parts.manifest,
        parts.fleet,
        parts.ledger,
        parts.clock,
        parts.throttle,
        parts.memory,
        delay_seconds=limits.collect_after_seconds,
        idle_seconds=limits.collect_interval_seconds,
    )
