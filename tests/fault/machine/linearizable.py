"""Linearizability: whether there is an order of a key's operations that explains all answers, each at some instant of its time.

An operation that was answered happened at one instant between its beginning and its answer. One that was not may have happened at any
instant since, or not at all. The search is Wing and Gong's, with Lowe's memory of what has been tried
(https://www.cs.ox.ac.uk/people/gavin.lowe/LinearizabiltyTesting/paper.pdf): next comes any operation that began before the first answer
among those that are left; it changes the state of the key as S3 says, and its answer must be the one that this state gives.

The state of a key is its versions, newest first. Without versioning there is one at most.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from tests.fault.machine.history import Entry, Event, Refused

State = tuple[Entry, ...]
EMPTY: State = ()


def explain(events: Sequence[Event], *, versioned: bool) -> str:
    """Return "" if there is such an order, else what cannot be explained."""
    search = _Search(sorted(events, key=lambda event: event.began), versioned=versioned)
    return "" if search.run() else search.complaint()


class _Search:
    def __init__(self, events: Sequence[Event], *, versioned: bool) -> None:
        self._events = events
        self._versioned = versioned
        self._best: tuple[int, State] = (0, EMPTY)  # what was explained when most was

    def run(self) -> bool:
        tried: set[tuple[int, State]] = set()
        stack = [(0, EMPTY)]
        while stack:
            done, state = stack.pop()
            if (done, state) in tried:
                continue
            tried.add((done, state))
            if self._answered(done) > self._answered(self._best[0]):
                self._best = done, state
            if all(done >> number & 1 or not event.answered for number, event in enumerate(self._events)):
                return True
            for number, event in self._next(done):
                stack += [(done | 1 << number, after) for after in outcomes(state, event, versioned=self._versioned)]
        return False

    def complaint(self) -> str:
        done, state = self._best
        left = [str(event) for number, event in enumerate(self._events) if not done >> number & 1 and event.answered]
        lines = [f"{'x' if done >> number & 1 else ' '} {event}" for number, event in enumerate(self._events)]
        return "\n".join((f"no order explains {left[0]}", f"after those marked x, with {state}:", *lines))

    def _next(self, done: int) -> Iterator[tuple[int, Event]]:
        left = [(number, event) for number, event in enumerate(self._events) if not done >> number & 1]
        first_answer = min(event.ended for _, event in left)
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
        event = replace(event, answer=event.answer._replace(tags=state[0].tags))  # which a listing does not tell
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
