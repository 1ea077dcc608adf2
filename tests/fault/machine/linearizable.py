"""Linearizability: whether there is an order of a key's operations that explains all answers, each at some instant of its time.

An operation that was answered happened at one instant between its beginning and its answer. One that was not may have happened at any
instant since, or not at all. The search is Wing and Gong's, with Lowe's memory of what has been tried
(https://www.cs.ox.ac.uk/people/gavin.lowe/LinearizabiltyTesting/paper.pdf): next comes any operation that began before the first answer
among those that are left; it changes the state of the key as S3 says, and its answer must be the one that this state gives.

The state of a key is its versions, newest first. Without versioning there is one at most.

When the manifest is lost and recovered, some of what everybody could see may be undone: what was not acknowledged, and what was not in the
journal yet and need not be. Other puts that were not acknowledged may come back, and among older versions: their labels tell when they
began. So beside the state the search keeps what a recovery would have to bring back, and what it may: see `Held`. The answer of a recovery
is what it brought back, and it must be one of those.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from tests.fault.machine.history import Entry, Event, Refused, Tags

State = tuple[Entry, ...]
EMPTY: State = ()


class Held(NamedTuple):
    """What a recovery brings back: in a bucket with versions, one of several; in one without, one of the things that may be there.

    `body` is None for a delete marker and, without versions, for no object. Of its `tags`, any may come back.
    """

    id: str | None
    body: str | None
    tags: frozenset[Tags] = frozenset({()})
    optional: bool = False  # with versions: it may be gone
    floating: bool = False  # with versions: it may lie beneath newer ones, where its label says

    def agrees(self, entry: Entry) -> bool:
        known = self.body == entry.body and self.id in {None, entry.id}
        return known and (entry.is_marker or entry.tags in self.tags)


Recoverable = tuple[Held, ...]
NOTHING = Held(None, None)
MAX_STATES = 200_000  # some seconds, and some 100 MiB


class Undecided(Exception):
    """There may be such an order or not: too many operations without an answer overlap. Of a thousand histories it is one or none."""


def explain(events: Sequence[Event], *, versioned: bool) -> str:
    """Return "" if there is such an order, else what cannot be explained. Raises `Undecided` after `MAX_STATES`."""
    in_order = sorted(events, key=lambda event: event.began)
    with suppress(Undecided):
        if _Search(_without_unseen(in_order), versioned=versioned).run():
            return ""  # most of the time, and after a small part of the steps
    search = _Search(in_order, versioned=versioned)
    return "" if search.run() else search.complaint()


def _without_unseen(events: Sequence[Event]) -> list[Event]:
    """Leave out the puts that have no answer and that nobody has seen: they need not have happened."""
    told = " ".join(str(event.answer) for event in events)
    return [event for event in events if event.answered or event.kind != "put" or repr(event.body) in told]


class _Search:
    def __init__(self, events: Sequence[Event], *, versioned: bool) -> None:
        self._events = events
        self._versioned = versioned
        self._is_recovered = any(event.kind == "recovery" for event in events)
        self._best: tuple[int, State] = (0, EMPTY)  # what was explained when most was

    def run(self) -> bool:
        tried: set[tuple[int, State, Recoverable]] = set()
        stack = [(0, EMPTY, recoverable(EMPTY, versioned=self._versioned))]
        while stack:
            done, state, held = stack.pop()
            if (done, state, held) in tried:
                continue
            tried.add((done, state, held))
            if len(tried) > MAX_STATES:
                raise Undecided
            if self._answered(done) > self._answered(self._best[0]):
                self._best = done, state
            if all(done >> number & 1 or not event.answered for number, event in enumerate(self._events)):
                return True
            for number, event in self._next(done):
                stack += [(done | 1 << number, *after) for after in self._outcomes(state, held, event)]
        return False

    def _outcomes(self, state: State, held: Recoverable, event: Event) -> list[tuple[State, Recoverable]]:
        if event.kind == "recovery":
            told = event.answer if isinstance(event.answer, tuple) else EMPTY
            return [(told, recoverable(told, versioned=self._versioned))] if brings_back(held, told, versioned=self._versioned) else []
        after = outcomes(state, event, versioned=self._versioned)
        if not self._is_recovered:
            return [(one, held) for one in after]
        return [(one, keep(held, state, one, event, versioned=self._versioned)) for one in after]

    def complaint(self) -> str:
        done, state = self._best
        left = [str(event) for number, event in enumerate(self._events) if not done >> number & 1 and event.answered]
        lines = [f"{'x' if done >> number & 1 else ' '} {event}" for number, event in enumerate(self._events)]
        return "\n".join((f"no order explains {left[0]}", f"after those marked x, with {state}:", *lines))

    def _next(self, done: int) -> Iterator[tuple[int, Event]]:
        left = [(number, event) for number, event in enumerate(self._events) if not done >> number & 1]
        first_answer = min(event.ended for _, event in left)
        # The last one is tried first: what was answered first has most likely happened first, and what was not answered perhaps never.
        left.sort(key=lambda one: -one[1].ended)
        yield from ((number, event) for number, event in left if event.began < first_answer)

    def _answered(self, done: int) -> int:
        return sum(event.answered for number, event in enumerate(self._events) if done >> number & 1)


def outcomes(state: State, event: Event, *, versioned: bool) -> list[State]:
    """Return the states that an operation may leave, given what it answered: none if it cannot have answered that."""
    match event.kind:
        case "put":
            return _put(state, event, versioned=versioned)
        case "delete":
            return _delete(state, event, versioned=versioned)
        case "delete version":
            return _delete_version(state, event)
        case "tag":
            return _tag(state, event)
        case "get":
            return _get(state, event)
        case "see":
            return _see(state, event)
        case "list":
            return _list(state, event)
        case "recovery":
            raise AssertionError("what comes back does not follow from the state alone")


def _put(state: State, event: Event, *, versioned: bool) -> list[State]:
    latest = state[0] if state and not state[0].is_marker else None
    holds = not (event.if_absent and latest) and (event.if_body is None or (latest is not None and latest.body == event.if_body))
    if event.answered and holds == isinstance(event.answer, Refused):
        return []
    if not holds:
        return [state]
    added = Entry(str(event.answer) if event.answered else None, event.body, event.tags)
    return [(added, *state) if versioned else (added,)]


def _delete(state: State, event: Event, *, versioned: bool) -> list[State]:
    if not versioned:
        return [EMPTY]
    return [(Entry(str(event.answer) if event.answered else None, None), *state)]


def _delete_version(state: State, event: Event) -> list[State]:
    left = tuple(entry for entry in state if entry.id != event.version_id)
    if event.answered and (left == state) != isinstance(event.answer, Refused):
        return []
    return [left]


def _tag(state: State, event: Event) -> list[State]:
    exists = bool(state) and not state[0].is_marker
    if event.answered and exists == isinstance(event.answer, Refused):
        return []
    return [(state[0]._replace(tags=event.tags), *state[1:])] if exists else [state]


def _get(state: State, event: Event) -> list[State]:
    found = next((number for number, entry in enumerate(state) if event.version_id in {None, entry.id}), None)
    if isinstance(event.answer, Refused):
        return [state] if found is None or state[found].is_marker else []
    if found is None or not isinstance(event.answer, Entry) or not _agree(state[found], event.answer):
        return []
    return [(*state[:found], event.answer, *state[found + 1 :])]


def _see(state: State, event: Event) -> list[State]:
    if state and not state[0].is_marker and isinstance(event.answer, Entry):
        event = replace(event, answer=event.answer._replace(id=state[0].id, tags=state[0].tags))  # which a listing does not tell
    return _get(state, event)


def _list(state: State, event: Event) -> list[State]:
    told = event.answer
    if not isinstance(told, tuple) or len(told) != len(state):
        return []
    if not all(_agree(entry, seen._replace(tags=entry.tags)) for entry, seen in zip(state, told, strict=True)):
        return []
    return [tuple(seen._replace(tags=entry.tags) for entry, seen in zip(state, told, strict=True))]


def _agree(entry: Entry, seen: Entry) -> bool:
    """Tell whether what was seen is this version. The id of one whose answer got lost is learnt from whoever sees it."""
    return (entry.body, entry.tags) == (seen.body, seen.tags) and entry.id in {None, seen.id}


def recoverable(state: State, *, versioned: bool) -> Recoverable:
    """Return what comes back of a state that the stores know in full."""
    held = tuple(Held(entry.id, entry.body, frozenset({entry.tags})) for entry in state)
    return held if versioned else held or (NOTHING,)


def keep(held: Recoverable, before: State, after: State, event: Event, *, versioned: bool) -> Recoverable:
    """Return what a recovery brings back once an operation has changed the state from what was before."""
    if after == before:
        return held
    if event.kind in {"get", "see", "list"}:
        return _keep_learnt(held, before, after) if versioned else held
    if event.kind == "tag":
        return _keep_tags(held, before[0], event)
    if event.kind == "delete version":
        (gone,) = [entry for entry in before if entry not in after]
        return _keep_without(held, gone, event)
    if not versioned:
        alternative = Held(after[0].id, after[0].body, frozenset({event.tags})) if after else NOTHING
        return (*held, alternative) if event.undoable else (alternative,)
    tags = frozenset({event.tags}) if event.kind == "put" else NOTHING.tags
    return (Held(after[0].id, after[0].body, tags, event.undoable, event.undoable and event.kind == "put"), *held)


def _keep_learnt(held: Recoverable, before: State, after: State) -> Recoverable:
    """Somebody saw the id of what was put or deleted without an answer. Those without an id are in the order of the state."""
    for old, new in zip(before, after, strict=True):
        if old.id is None and new.id is not None:
            rank = sum(entry.id is None and entry.body == old.body for entry in before[: before.index(old)])
            nameless = [place for place, one in enumerate(held) if one.id is None and one.body == old.body]
            place = nameless[rank]
            held = (*held[:place], held[place]._replace(id=new.id), *held[place + 1 :])
            before = tuple(new if entry is old else entry for entry in before)
    return held


def _keep_tags(held: Recoverable, tagged: Entry, event: Event) -> Recoverable:
    new = frozenset({event.tags})
    return tuple(one._replace(tags=one.tags | new if event.undoable else new) if _is_same(one, tagged) else one for one in held)


def _keep_without(held: Recoverable, gone: Entry, event: Event) -> Recoverable:
    if event.undoable:
        return tuple(one._replace(optional=True) if _is_same(one, gone) else one for one in held)
    return tuple(one for one in held if not _is_same(one, gone))


def _is_same(held: Held, entry: Entry) -> bool:
    return held.body == entry.body and (held.id is None or entry.id is None or held.id == entry.id)


def brings_back(held: Recoverable, told: State, *, versioned: bool) -> bool:
    """Tell whether a recovery may have brought back this."""
    if not versioned:
        return any(one.agrees(told[0]) if told else one == NOTHING for one in held)
    return _match(tuple(one for one in held if not one.floating), tuple(one for one in held if one.floating), told)


def _match(firm: Recoverable, floating: Recoverable, told: State) -> bool:
    if not told:
        return all(one.optional for one in firm)
    if firm and firm[0].agrees(told[0]) and _match(firm[1:], floating, told[1:]):
        return True
    if firm and firm[0].optional and _match(firm[1:], floating, told):
        return True
    return any(
        one.agrees(told[0]) and _match(firm, (*floating[:place], *floating[place + 1 :]), told[1:]) for place, one in enumerate(floating)
    )
