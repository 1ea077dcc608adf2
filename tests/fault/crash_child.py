"""Puts an object and kills itself at a chosen step. Run as a process of its own: python -m tests.fault.crash_child DATA STEP."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from tests.laboratory import laboratory

STEPS = ("lease", "first put", "third put", "last put", "before commit", "after commit")
NEW = b"new" * 100_000


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def main(data: Path, step: str) -> None:
    async with laboratory(data) as lab:
        await lab.put("k", b"old")
        puts = {"first put": 1, "third put": 3, "last put": 6}.get(step)
        seen = 0

        def count(verb: str) -> None:
            nonlocal seen
            seen += verb == "put"
            if seen == puts:
                die()

        for store in lab.stores.values():
            store.before = count
        committer = lab.services.manifest._committer  # type: ignore[attr-defined]  # below the protocol, where the disk is
        run = committer.run

        async def deadly(change):
            if step == "before commit":
                die()
            result = await run(change)
            if step in {"after commit", "lease"}:
                die()
            return result

        if step == "lease":
            lab.services.engine._writer._ledger._free.clear()
        if puts is None:
            committer.run = deadly
        await lab.put("k", NEW)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
