"""Begins to write packs anew, and kills itself at a chosen put or change of the manifest.

Run as a process of its own: python -m tests.fault.campaigns.packed_child DATA VERB STEP NUMBER.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.fault.campaigns.deadly import kill_at
from tests.fault.campaigns.operating import applied, planner
from tests.fault.campaigns.test_packed import MIXED
from tests.fault.campaigns.test_policy import wide_too
from tests.laboratory import laboratory
from tests.packing import delete, put_pack


async def main(data: Path, verb: str, step: str, number: int) -> None:
    async with laboratory(data, adjust=wide_too) as lab:
        await put_pack(lab, MIXED)
        await delete(lab, "k0")
        if verb == "policy":
            await applied(lab, await planner(lab).move_policy("bucket", "wide"))
        lab.clock.advance(6 * 24 * 3600)
        await lab.services.parts.ledger.renew()
        kill_at(lab, step, number)
        for _ in range(50):
            await lab.worker("campaigns" if verb == "policy" else "repack").step()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])))
