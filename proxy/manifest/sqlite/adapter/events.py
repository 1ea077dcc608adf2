"""What the manifest does with events that are still to be told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from proxy.manifest.events import Backlog, Delivery, Event
from proxy.manifest.sqlite import events
from proxy.manifest.sqlite.adapter.runner import StepRunner


class Events(StepRunner):
    """See the protocol."""

    async def add_event(self, event: Event, listeners: Iterable[tuple[str, str]]) -> None:
        await self._write(events.add_event, event, tuple(listeners))

    async def due_events(self, target: str, *, limit: int) -> tuple[Delivery, ...]:
        return await self._list(events.due_events, target, limit)

    async def finish_events(self, sequences: Sequence[int]) -> None:
        await self._note(events.finish_events, tuple(sequences))

    async def drop_events(self, *, before_ms: int, limit: int) -> int:
        return await self._note(events.drop_events, before_ms, limit)

    async def event_backlogs(self) -> tuple[Backlog, ...]:
        return await self._list(events.event_backlogs)
