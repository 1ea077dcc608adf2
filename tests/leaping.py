"""An event loop whose time leaps to the next timer when nobody has anything to do: what takes seconds takes none, and always the same.

For code without threads and sockets. A test marked `leaping` runs on such a loop, and so do its fixtures.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from proxy.clock import ManualClock

Result = TypeVar("Result")


class LeapingLoop(asyncio.SelectorEventLoop):
    """Begins at 1,000 seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 1000.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        if not self._ready:
            self._now = max(self._now, min((timer._when for timer in self._scheduled if not timer._cancelled), default=self._now))
        super()._run_once()


class LoopClock(ManualClock):
    """A clock that goes as the running loop does."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


def leap(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end on a loop of its own."""
    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        return runner.run(coroutine)


def stand_still(seconds: float) -> None:
    """Let time pass in the middle of a step, as it does while a step takes long."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, LeapingLoop)
    loop._now += seconds
