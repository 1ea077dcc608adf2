"""Begins to leave a store, or to move a bucket's policy, and kills itself at a chosen put or change of the manifest.

Run as a process of its own: python -m tests.fault.campaigns.campaign_child DATA VERB STEP NUMBER.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.fault.campaigns.deadly import kill_at
from tests.fault.campaigns.operating import applied, planner
from tests.fault.campaigns.test_policy import wide_too
from tests.laboratory import laboratory

OBJECTS = 6


def body(number: int) -> bytes:
    return bytes([number]) * 100_000


async def main(data: Path, verb: str, step: str, number: int) -> None:
    async with laboratory(data, adjust=wide_too) as lab:
        for key in range(OBJECTS):
            await lab.put(f"k{key}", body(key))
        plan = await (planner(lab).drain("elm") if verb == "drain" else planner(lab).move_policy("bucket", "wide"))
        await applied(lab, plan)
        kill_at(lab, step, number)
        for _ in range(50):
            await lab.worker("campaigns").step()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])))
