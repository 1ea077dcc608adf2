"""The event loops of the tests: the usual one, or with the mark `leaping` one of simulated time; and Ctrl-C, which programs must hear."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping

import pytest

from tests.leaping import LeapingLoop


def pytest_configure() -> None:
    """Hear Ctrl-C: what a script starts in the background ignores it, and so would the programs under test."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"leaping": LeapingLoop} if item.get_closest_marker("leaping") else {"usual": asyncio.new_event_loop}
