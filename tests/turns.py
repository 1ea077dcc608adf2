"""Turns: how often others come to run on the event loop while something is done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass
class Turns:
    """The turns that somebody else had so far."""

    count: int = 0


@asynccontextmanager
async def others_turns() -> AsyncIterator[Turns]:
    """Count the turns that somebody has who is always ready to run, in the time of the block."""
    turns = Turns()

    async def other() -> None:
        while True:
            turns.count += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    try:
        yield turns
    finally:
        beside.cancel()
