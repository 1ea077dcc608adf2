"""A process that kills itself at a chosen put, or change of the manifest."""

from __future__ import annotations

import os
import signal

from tests.laboratory import Laboratory


def kill_at(lab: Laboratory, step: str, number: int) -> None:
    """Kill this process at the `number`th "put", or "before commit" or "after commit" of a change, from now on."""
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
