"""kill -9 in the middle of a campaign: another process goes on, nothing is lost, and nothing is left over."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from proxy.manifest.records import ExtentId
from tests.fault.campaigns.campaign_child import OBJECTS, body
from tests.fault.campaigns.operating import carried_out, check_rules, of_store
from tests.fault.campaigns.test_policy import wide_too
from tests.laboratory import ROOT, laboratory

STEPS = [("put", 4), ("before commit", 2), ("after commit", 2), ("after commit", 7)]


@pytest.mark.parametrize("verb", ["drain", "policy"])
@pytest.mark.parametrize(("step", "number"), STEPS)
async def test_another_process_goes_on_after_a_kill(tmp_path: Path, verb: str, step: str, number: int) -> None:
    command = [sys.executable, "-m", "tests.fault.campaigns.campaign_child", str(tmp_path), verb, step, str(number)]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert child.returncode == -9, child.stderr
    async with laboratory(tmp_path, now_ms=1_750_000_000_000 + 3_600_000, adjust=wide_too) as lab:
        (campaign,) = await lab.services.manifest.list_campaigns()
        for _ in range(2):  # leases and draws of the dead expire
            await lab.collect()
        await check_rules(lab)
        await carried_out(lab, campaign)
        for _ in range(3):
            lab.clock.advance(90_000)
            await lab.collect()
        for key in range(OBJECTS):
            assert await lab.get(f"k{key}") == body(key)
        extents = await lab.services.manifest.walk_extents(after=ExtentId(0), limit=99)
        assert len(extents) == OBJECTS
        assert len(await lab.shards()) == sum(len(segment.stores) for extent in extents for segment in extent.layout.segments)
        if verb == "drain":
            assert await of_store(lab, "elm") == []
        else:
            assert {(extent.layout.policy, extent.layout.k) for extent in extents} == {("wide", 6)}
