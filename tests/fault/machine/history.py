"""What clients asked of each key and what they were told, in the order in which it happened."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import Literal, NamedTuple

NEVER = 10**9

# "see": what a listing tells of the latest version; "list": what it tells of all; "recovery": the manifest is lost, and made anew
Kind = Literal["put", "delete", "delete version", "get", "tag", "see", "list", "recovery"]
TAKES_AWAY = frozenset({"delete", "delete version", "tag"})  # of which no label tells, so that the journal alone can
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
    unproved: bool = False  # the stores had nothing of it when the manifest was lost, as far as is known

    @property
    def undoable(self) -> bool:
        """Whether a recovery may leave it out: it was not acknowledged, or nothing but the lost manifest told of it."""
        return self.unproved or not self.answered

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
    _failed: list[Event] = field(default_factory=list)  # puts that did nothing, and may have left shards
    _proved: int = -1  # the last moment at which the stores had all that had happened
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

    def fail(self, event: Event) -> None:
        """Forget a put that failed: nobody can see it, unless a recovery finds what it has left in the stores."""
        self.drop(event)
        self._failed.append(event)

    def prove(self) -> None:
        """The stores have all that has happened until now."""
        self._proved = next(self._moments)

    def lose(self) -> None:
        """The manifest is lost. What it alone told of may be gone, and what failed may be found."""
        for event in self.events:
            event.unproved |= event.kind in TAKES_AWAY and event.answered and event.ended > self._proved
        self.events += self._failed
        self._failed.clear()

    def at(self, place: Place) -> list[Event]:
        return [event for event in self.events if event.place == place]

    @property
    def places(self) -> list[Place]:
        return sorted({event.place for event in self.events})
