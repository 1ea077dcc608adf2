"""What each example begins with: a configuration with small segments, short delays, a policy to move to and a store to spare."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from msgspec.structs import replace

from proxy.config import Config, LimitsConfig, load_config
from proxy.config.sections import PacksConfig, StoreConfig
from tests.fault.machine.clients import KEYS
from tests.fault.machine.history import Place

ROOT = Path(__file__).parents[3]
PLAIN, VERSIONED = "plain", "versioned"
PLACES = tuple(Place(bucket, key) for bucket in (PLAIN, VERSIONED) for key in KEYS)
STORES = ("alder", "birch", "cedar", "dogwood", "elm", "fir", "gum")  # six are enough, so that one can be drained
SPARE = StoreConfig(kind="memory", provider="gum-cloud", region="au-east", jurisdiction="AU")
POLICIES = ("standard", "thrifty")
LIMITS = LimitsConfig(
    straggler_grace_seconds=0.5,
    put_timeout_seconds=20.0,
    get_timeout_seconds=20.0,
    collect_after_seconds=100.0,
    collect_interval_seconds=60.0,
    background_requests_per_second=1_000_000,
)
REPACK_DAYS = 0.001
Acknowledge = Literal["needed", "all"]


def simulated_config(data: Path, *, acknowledge: Acknowledge, packs: bool) -> Config:
    """Return the configuration of the benchmark, with stores in memory. With `packs`, what is deleted from one goes within minutes."""
    config = load_config(ROOT / "config/bench.toml", {**os.environ, "SHARDGATE_DATA": str(data)})
    stores = {name: replace(store, kind="memory", path="") for name, store in config.stores.items()}
    standard = replace(config.policies["standard"], segment_mib=1)
    return replace(
        config,
        limits=LIMITS,
        journal=replace(config.journal, interval_ms=10_000, acknowledge=acknowledge, keep_seconds=100.0),
        stores={**stores, "gum": SPARE},
        packs=PacksConfig(below_kib=128 if packs else 0, repack_within_days=REPACK_DAYS),
        policies={"standard": standard, "thrifty": replace(standard, scheme="3+2", storage_classes={})},
    )
