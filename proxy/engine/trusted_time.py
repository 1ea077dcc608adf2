"""The worker that keeps the trusted time, so that a restart of the machine costs it no more than a minute beside the pause.

See `proxy.manifest.plans.trusted_time` for what the trusted time is.
"""

from __future__ import annotations

from proxy.clock import Clock
from proxy.engine.workers import Progress
from proxy.manifest.protocol import Manifest

IDLE_SECONDS = 60.0
TOLD_MS = 15 * 60 * 1000  # a clock that is as far from the trusted time is told of: a restart takes less


class TrustedTimeKeeper:
    """Renews the mark. Where there is no bucket with object lock, it does nothing."""

    name = "trusted-time"
    everywhere = False
    idle_seconds = IDLE_SECONDS

    def __init__(self, manifest: Manifest, clock: Clock) -> None:
        self._manifest = manifest
        self._clock = clock

    async def step(self) -> Progress:
        trusted_ms = await self._manifest.renew_trusted_time()
        if trusted_ms is None:
            return Progress(idle=True)
        return Progress(idle=True, done=1, trouble=_trouble(self._clock.now_ms() - trusted_ms))


def _trouble(behind_ms: int) -> str:
    if abs(behind_ms) < TOLD_MS:
        return ""
    hours = abs(behind_ms) / 3_600_000
    if behind_ms > 0:
        return f"the time that locks are held against is {hours:.1f} h behind the clock: locks last longer by as much"
    return f"the clock is {hours:.1f} h behind the time that locks are held against: set it right"
