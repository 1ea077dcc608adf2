"""Begins to write packs anew, and kills itself at a chosen put or change of the manifest.

Run as a process of its own: python -m tests.fault.campaigns.packed_child DATA VERB STEP NUMBER.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

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
        seen = 0

        def count() -> None:
            nonlocal seen
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

        if step == "put":
            for store in lab.stores.values():
                store.before = lambda asked: count() if asked == "put" else None
        committer = lab.services.manifest._committer  # type: ignore[attr-defined]  # below the protocol, where the disk is
        run = committer.run

        async def deadly(change):
            if step == "before commit":
                count()
            result = await run(change)
            if step == "after commit":
                count()
            return result

        committer.run = deadly
        for _ in range(50):
            await lab.worker("campaigns" if verb == "policy" else "repack").step()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])))
