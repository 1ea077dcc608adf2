"""What the manifest promises about events that are still to be told. The steps that are given a cause write them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from proxy.manifest.events import Backlog, Delivery, Event


class Events(Protocol):
    """See `Manifest`."""

    async def add_event(self, event: Event, listeners: Iterable[tuple[str, str]]) -> None: ...  # (target, id of the configuration)

    async def due_events(self, target: str, *, limit: int) -> tuple[Delivery, ...]: ...

    """What one target is still to be told, oldest first. Nothing is claimed: an event may be told twice, and one job tells at a time."""

    async def finish_events(self, sequences: Sequence[int]) -> None: ...  # they were told
    async def drop_events(self, *, before_ms: int, limit: int) -> int: ...  # of any target, the oldest; how many were forgotten
    async def event_backlogs(self) -> tuple[Backlog, ...]: ...  # of every target that something waits for
