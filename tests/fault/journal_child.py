"""Puts an object that waits for the journal, and kills itself at a chosen step: python -m tests.fault.journal_child DATA STEP."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from proxy.config import JournalConfig
from tests.fault.crash_child import die
from tests.laboratory import laboratory

STEPS = ("before read", "after read", "first put", "last put", "before record", "after record")
KEPT = JournalConfig(interval_ms=10**9, acknowledge_seconds=20.0)


class Deadly:
    """A manifest whose process dies before or after one step."""

    def __init__(self, inner: object, step: str, moment: str) -> None:
        self._inner = inner
        self._step = step
        self._moment = moment

    def __getattr__(self, name: str) -> object:
        found = getattr(self._inner, name)
        if name != self._step:
            return found

        async def dies(*args: object, **kwargs: object) -> object:
            if self._moment == "before":
                die()
            result = await found(*args, **kwargs)
            die()
            return result

        return dies


async def main(data: Path, step: str) -> None:
    async with laboratory(data, journal=KEPT) as lab:
        await lab.put("before", b"")
        flusher = lab.services.journal.flusher  # type: ignore[union-attr]  # one is kept
        moment, _, what = step.partition(" ")
        if what == "put":
            puts, seen = {"first": 1, "last": 6}[moment], 0

            def count(verb: str) -> None:
                nonlocal seen
                seen += verb == "put"
                if seen == puts:
                    die()

            for store in lab.stores.values():
                store.before = count
        else:
            verb = {"read": "read_changes", "record": "record_segment"}[what]
            flusher._manifest = Deadly(flusher._manifest, verb, moment)  # type: ignore[assignment]  # by name
        await lab.put("during", b"")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
