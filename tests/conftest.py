"""What holds for all tests: their event loops, the usual one or with the mark `leaping` one of simulated time; Ctrl-C, which programs must
hear; and that no property fails because the machine is busy."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping

import pytest
from hypothesis import HealthCheck, settings

from tests.leaping import LeapingLoop

# Without this, an example that takes longer than 200 ms fails, and so does one that takes long to make.
settings.register_profile("patient", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_configure() -> None:
    """Hear Ctrl-C: what a script starts in the background ignores it, and so would the programs under test."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"leaping": LeapingLoop} if item.get_closest_marker("leaping") else {"usual": asyncio.new_event_loop}
