"""What clients asked of each key and what they were told, in the order in which it happened."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import Literal, NamedTuple

NEVER = 10**9

# "see": what a listing tells of the latest version; "list": what it tells of all
Kind = Literal["put", "delete", "delete version", "get", "tag", "see", "list"]
Tags = tuple[tuple[str, str], ...]


class Entry(NamedTuple):
    """One version of a key. `body` names its content: None is a delete marker. An `id` of None was never told."""

    id: str | None
    body: str | None
    tags: Tags = ()

    @property
    def is_marker(self) -> bool:
        return self.body is None


class Place(NamedTuple):
    """A key of a bucket."""

    bucket: str
    key: str


class Refused(NamedTuple):
    """The answer that a condition did not hold, or that there is no such object: nothing was done."""


@dataclass(eq=False)
class Event:
    """One operation on one key. Without an answer it may or may not have happened. `began` and `ended` count moments of all clients."""

    number: int
    place: Place
    kind: Kind
    began: int
    body: str | None = None  # of a put
    tags: Tags = ()
    version_id: str | None = None  # asked for
    if_absent: bool = False
    if_body: str | None = None  # put only if the latest version has this body
    ended: int = NEVER
    answered: bool = False
    answer: object = None

    def __str__(self) -> str:
        asked = " ".join(
            f"{name}={value}"
            for name, value in (
                ("body", self.body),
                ("tags", self.tags),
                ("version", self.version_id),
                ("if_absent", self.if_absent),
                ("if_body", self.if_body),
            )
            if value
        )
        told = self.answer if self.answered else "no answer"
        until = self.ended if self.answered else "..."
        return f"[{self.began:>4}, {until:>4}] #{self.number} {self.kind} {asked} -> {told}"


@dataclass
class History:
    """All events of a run."""

    events: list[Event] = field(default_factory=list)
    _moments: count[int] = field(default_factory=count)
    _numbers: count[int] = field(default_factory=count)

    def begin(self, place: Place, kind: Kind, **asked: object) -> Event:
        event = Event(next(self._numbers), place, kind, next(self._moments), **asked)  # type: ignore[arg-type]
        self.events.append(event)
        return event

    def end(self, event: Event, answer: object) -> None:
        event.ended, event.answered, event.answer = next(self._moments), True, answer

    def drop(self, event: Event) -> None:
        """Forget an operation that is known not to have happened."""
        self.events.remove(event)

    def at(self, place: Place) -> list[Event]:
        return [event for event in self.events if event.place == place]

    @property
    def places(self) -> list[Place]:
        return sorted({event.place for event in self.events})
