"""The event loops of the tests: the usual one, or with the mark `leaping` one of simulated time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest

from tests.leaping import LeapingLoop


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"leaping": LeapingLoop} if item.get_closest_marker("leaping") else {"usual": asyncio.new_event_loop}
