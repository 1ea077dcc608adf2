"""The audit: the worker that walks over all extents, counts what there is, and holds each segment against its policy as configured now.

It reads the manifest alone, so a pass costs some CPU and no request of a store.
"""

from __future__ import annotations

from collections.abc import Sequence

from proxy.clock import Clock
from proxy.engine.walking.walk import Observer, Walk
from proxy.engine.workers import Progress
from proxy.manifest.protocol import Manifest

AUDIT = "audit"
STEP_SECONDS = 0.2  # as long as clients may share the core with it at a stretch
SHARE = 20  # of the time, one part in so many is worked: a pass over ten million extents takes some hours
PASS_SECONDS = 600.0  # from one pass to the next, if that is more
SOON_SECONDS = 60.0  # and a second more for each extent, while there are few: what is new to a young server is soon counted


class Auditor:
    """Shows all extents to observers that need nothing but the manifest."""

    name = AUDIT
    everywhere = False

    def __init__(self, manifest: Manifest, clock: Clock, observers: Sequence[Observer]) -> None:
        self._clock = clock
        self._walk = Walk(manifest, manifest, clock, observers, name=AUDIT)
        self.idle_seconds = 10.0  # a first tally comes soon after a start

    async def step(self) -> Progress:
        """Walk for a short time, then rest for longer."""
        started = self._clock.monotonic()
        advance = await self._walk.advance(seconds=STEP_SECONDS)
        worked = self._clock.monotonic() - started
        age = (self._clock.now_ms() - advance.position.begun_ms) / 1000
        due = min(SOON_SECONDS + advance.position.seen, PASS_SECONDS)
        self.idle_seconds = max(due - age, 0.0) if advance.finished and age >= 0 else max(SHARE * worked, 0.1)
        return Progress(idle=True, done=advance.seen, remaining=0 if advance.finished else advance.position.remaining)
