"""A coalition is named after objects were stored: repair takes from it what it may not have, and listings show that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec

from proxy.config import CoalitionConfig, Config
from proxy.config.sections import MayFailConfig
from tests.laboratory import Laboratory, laboratory
from tests.patience import PATIENCE_SECONDS
from tests.servers import ROOT

MEMBERS = ("alder", "birch", "cedar", "dogwood")
QUICK = {"background_requests_per_second": 1_000_000, "background_mib_per_second": 100_000}
HOUR = 3600.0


def with_promises(config: Config, *never_together: str) -> Config:
    standard = msgspec.structs.replace(config.policies["standard"], may_fail=MayFailConfig(), never_together=never_together)
    coalitions = {"four": CoalitionConfig(stores=MEMBERS)}
    return msgspec.structs.replace(config, coalitions=coalitions, policies={**config.policies, "standard": standard})


async def repair(lab: Laboratory) -> None:
    """Look at every extent, then make good what was found, and let what was left behind be deleted."""
    await lab.worker("audit").step()
    for _ in range(4):
        lab.clock.advance(HOUR + 1)
        while not (await lab.worker("repair").step()).idle:
            await lab.settled()
        await lab.run_collector()


def verify(folder: Path) -> tuple[int, int]:
    """Return the exit code of the check that anyone can make, and the most shards of a segment that the coalition holds."""
    statement = {"buckets": {path.name: {"provider": path.name, "listing": str(path)} for path in (folder / "stores").iterdir()}}
    (folder / "statement.json").write_text(json.dumps({**statement, "coalitions": {"four": {"buckets": MEMBERS}}}))
    command = [sys.executable, "-I", "-S", str(ROOT / "tools/shardgate-verify.py"), str(folder / "statement.json"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    hands = {hand["name"]: hand["most"] for hand in json.loads(done.stdout)["hands"]}
    return done.returncode, hands["four"]


async def test_repair_takes_from_a_coalition_what_it_held_before_it_was_named(tmp_path: Path) -> None:
    data = {f"k{number}": os.urandom(100_000 * number + 1) for number in range(4)}
    async with laboratory(tmp_path, adjust=lambda config: with_promises(config, "provider"), **QUICK) as lab:
        for key, body in data.items():
            await lab.put(key, body)
    assert verify(tmp_path) == (1, 4)
    async with laboratory(tmp_path, adjust=lambda config: with_promises(config, "provider", "four"), **QUICK) as lab:
        await repair(lab)
        for key, body in data.items():
            assert await lab.get(key) == body
    assert verify(tmp_path) == (0, 3)
