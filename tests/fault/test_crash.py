"""kill -9 at every step of a PUT: the old object or the new one, nothing between, and no shard is left over for good."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fault.crash_child import NEW, STEPS
from tests.laboratory import laboratory

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("step", STEPS)
async def test_a_killed_put_leaves_old_or_new_and_no_orphan(tmp_path: Path, step: str) -> None:
    child = subprocess.run([sys.executable, "-m", "tests.fault.crash_child", str(tmp_path), step], cwd=ROOT, capture_output=True, text=True)
    assert child.returncode == -9, child.stderr
    async with laboratory(tmp_path, now_ms=1_750_000_000_000 + 600_000) as lab:
        assert await lab.get("k") == (NEW if step == "after commit" else b"old")
        await lab.collect()
        assert len(await lab.shards()) == 6
        await lab.services.manifest.delete_latest(lab.bucket.id, "k", marker_id="m", now_ms=lab.clock.now_ms())  # type: ignore[arg-type]
        await lab.collect()
        assert await lab.shards() == set()
