"""The state machine: what may happen next, for hypothesis to choose from.

Safety is promised whatever stores do for a time, and whatever one store does for good: so any of them may fail in ways that pass, and one,
the unreliable store, may lose what it has acknowledged. Which one is drawn for each example.
"""

from __future__ import annotations

import sys
from collections.abc import Coroutine
from random import Random
from typing import Any, NamedTuple

from hypothesis import currently_in_test_context, note
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from proxy.codec.format import segment_prefix
from tests.fault.machine.clients import PARTS, Clients
from tests.fault.machine.history import Entry, Place
from tests.fault.machine.judge import DAY_MS, Judge
from tests.fault.machine.manifest_file import Copy
from tests.fault.machine.operations import OperatorRules
from tests.fault.machine.providers import PASSING, mend
from tests.fault.machine.setting import PLACES, PLAIN, STORES, VERSIONED, Acknowledge
from tests.fault.machine.world import World, fresh_installation

MOST_PROCESSES = 2
OPENING_TURNS = 100  # more than a process needs to open
LOG_LINES = 60  # of the last turns, shown with a failure

places = st.sampled_from(PLACES)
sizes = st.sampled_from((0, 10, 1000, 70_000, 300_000, 1_100_000))
tags = st.sampled_from(((), (("colour", "green"),), (("colour", "red"), ("form", "round"))))
stores = st.sampled_from(STORES)
turns = st.integers(0, 40)
seeds = st.integers(0, 2**32 - 1)
acknowledges: st.SearchStrategy[Acknowledge] = st.sampled_from(("needed", "all"))
fractions = st.floats(0, 1)
versioned_places = places.filter(lambda place: place.bucket == VERSIONED)


class Act(NamedTuple):
    """What a client is to do: a method of `Clients`, and what it is told."""

    verb: str
    told: dict[str, Any]

    def __call__(self, clients: Clients) -> Coroutine[object, object, object]:
        return getattr(clients, self.verb)(**self.told)


def act(verb: str, **told: st.SearchStrategy[Any]) -> st.SearchStrategy[Act]:
    return st.builds(Act, st.just(verb), st.fixed_dictionaries(told))


def acts_at(place: st.SearchStrategy[Place]) -> st.SearchStrategy[list[Act]]:
    """Return what clients may do at once, at one key each."""
    a_put = act("put", place=place, size=sizes, tags=tags, storage_class=st.sampled_from(("STANDARD", "REDUCED_REDUNDANCY")))
    a_get = act("get", place=place, part=st.just((0.0, 1.0)) | st.tuples(fractions, fractions))
    one = st.one_of(
        a_put,
        a_put,
        a_put,
        act("put", place=place, size=sizes, if_absent=st.just(True)),
        act(
            "upload",
            place=place,
            sizes=st.lists(st.sampled_from((1, 70_000, 1_100_000)), min_size=1, max_size=3),
            replaced=st.none() | st.just(1),
            aborted=st.booleans(),
        ),
        act("copy", source=places, target=place),
        act("delete", place=place),
        act("tag", place=place, tags=tags),
        a_get,
        a_get,
    )
    return st.lists(one, min_size=2, max_size=8)


a_change = st.one_of(act("put", place=places, size=sizes), act("delete", place=places))


class Machine(OperatorRules):
    """Each rule begins something, and then gives some turns to whomever chance names."""

    world: World

    @initialize(seed=seeds, unreliable=stores, acknowledge=acknowledges, packs=st.booleans())
    def begin(self, seed: int, unreliable: str, acknowledge: Acknowledge, *, packs: bool) -> None:
        self.world = World(Random(seed), fresh_installation(), acknowledge=acknowledge, packs=packs)
        self.unreliable = unreliable
        self.has_lost = False
        self.unknown: set[str] = set()
        self.old_copies: list[Copy] = []
        for _ in range(MOST_PROCESSES):
            self.world.started()

    # Clients

    @rule(acts=acts_at(places), turns=turns)
    def ask(self, acts: list[Act], turns: int) -> None:
        """Let clients ask the processes that serve, all at once. Whoever watches over the processes starts one if there is none."""
        if not self.world.alive():
            self.world.start()
            self.world.run(OPENING_TURNS)
        self.world.look_at_the_journal()
        for act in acts:
            if serving := self.world.serving():
                self.world.ask(self.world.chance.choice(serving), act)
        self.world.run(turns)

    @rule(acts=places.flatmap(lambda place: acts_at(st.just(place))), turns=turns)
    def contend_for_one_key(self, acts: list[Act], turns: int) -> None:
        self.ask(acts, turns)

    @rule(acts=acts_at(st.sampled_from([place for place in PLACES if place.bucket == PLAIN])), turns=turns)
    def ask_where_versions_are_not_kept(self, acts: list[Act], turns: int) -> None:
        self.ask(acts, turns)

    @rule(buckets=st.lists(st.sampled_from((PLAIN, VERSIONED)), min_size=1, max_size=2), whole=st.booleans(), turns=turns)
    def look_through(self, buckets: list[str], whole: bool, turns: int) -> None:
        self.ask([Act("list" if whole else "see", {"name": bucket}) for bucket in buckets], turns)

    @rule(turns=turns)
    def read_everything(self, turns: int) -> None:
        self.ask([Act("get", {"place": place, "part": (0.0, 1.0)}) for place in PLACES for _ in range(MOST_PROCESSES)], turns)

    @rule(place=versioned_places, which=st.integers(0, 9))
    def delete_a_version(self, place: Place, which: int) -> None:
        if known := self._known_versions(place):
            self.ask([Act("delete_version", {"place": place, "version_id": known[which % len(known)]})], 0)

    @rule(place=places, size=sizes)
    def put_in_place_of_what_was_read(self, place: Place, size: int) -> None:
        if body := self._last_body(place):
            self.ask([Act("put", {"place": place, "size": size, "if_body": body})], 0)

    # Time

    @rule(turns=st.integers(1, 300))
    def go_on(self, turns: int) -> None:
        self.world.run(turns)

    @rule(seconds=st.sampled_from((1, 15, 70, 150)))
    def pass_time(self, seconds: int) -> None:
        self.world.pass_time(seconds)

    @rule(days=st.sampled_from((-1, 1)))
    def set_the_clock(self, days: int) -> None:
        """What nobody waits for does not come a day later: it is lost."""
        self.world.turns.lose_strays()
        self.world.clock.set(days * DAY_MS)

    # Stores

    @rule(store=stores, fault=st.sampled_from(sorted(PASSING)), turns=turns)
    def break_a_store(self, store: str, fault: str, turns: int) -> None:
        PASSING[fault](self.world.stores[store], self.world.chance)
        if fault == "lists late":
            self.unknown.add(store)
        self.world.run(turns)

    @rule(turns=turns)
    def make_it_lose_what_it_acknowledges(self, turns: int) -> None:
        self.world.stores[self.unreliable].loses_puts = self.has_lost = True
        self.world.run(turns)

    @rule(share=fractions)
    def lose_what_it_holds(self, share: float) -> None:
        objects = self.world.held[self.unreliable].objects
        spared = tuple(segment_prefix(segment) for segment in self.world.unacknowledged_segments())
        for name in [name for name in objects if self.world.chance.random() < share]:
            if not name.startswith(spared):
                del objects[name]
        self.has_lost = True

    @rule(store=stores)
    def mend_a_store(self, store: str) -> None:
        mend(self.world.stores[store])

    @rule()
    def mend_all_stores(self) -> None:
        for store in self.world.stores.values():
            mend(store)

    # Processes

    @precondition(lambda self: self.world.alive())
    @rule(which=st.integers(0, MOST_PROCESSES - 1))
    def kill(self, which: int) -> None:
        alive = self.world.alive()
        alive[which % len(alive)].kill()

    @precondition(lambda self: len(self.world.alive()) < MOST_PROCESSES)
    @rule(turns=turns)
    def start(self, turns: int) -> None:
        self.world.start()
        self.world.run(turns)

    @precondition(lambda self: self.world.serving())
    @rule(which=st.integers(0, MOST_PROCESSES - 1))
    def stop(self, which: int) -> None:
        serving = self.world.serving()
        self.world.stop(serving[which % len(serving)])

    @precondition(lambda self: self.world.alive())
    @rule(which=st.integers(0, MOST_PROCESSES - 1), seconds=st.sampled_from((20, 150, 400)), turns=turns)
    def suspend_a_process_for_a_while(self, which: int, seconds: int, turns: int) -> None:
        """The machine sleeps, or the process is stopped; the others go on, and may take it for dead."""
        alive = self.world.alive()
        life = alive[which % len(alive)].life
        life.suspended = True
        if len(alive) < MOST_PROCESSES:
            self.world.start()
        self.world.pass_time(seconds)
        life.suspended = False
        self.world.run(turns)

    # An old copy of the manifest

    @rule()
    def copy_the_manifest(self) -> None:
        self.old_copies.append(self.world.manifest.copy())

    @precondition(lambda self: self.old_copies)
    @rule(which=st.integers(0, 9), acts=st.lists(a_change, min_size=1, max_size=4))
    def serve_an_old_copy_for_a_while(self, which: int, acts: list[Act]) -> None:
        """Somebody puts an older copy back, and notices later. What it shows is old, but nothing that is newer may suffer."""
        world, copy = self.world, self.old_copies[which % len(self.old_copies)]
        if not world.stores_are_ahead_of(copy):
            return
        world.end_processes()
        newest = world.manifest.copy()
        world.manifest.put_back(copy)
        process = world.started()
        for act in acts:
            world.ask(process, act)
        world.until_answered()
        world.clock.set(DAY_MS)
        world.pass_time(150)
        world.end_processes()
        world.manifest.put_back(newest)
        world.started()

    # The end

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            if sys.exc_info()[0] is not None:
                return  # a rule has failed: what comes after it would hide that
            unreliable = self.unreliable if self.has_lost else None
            Judge(self.world, unreliable=unreliable, unknown=self.unknown).judge()
        except BaseException:
            if currently_in_test_context():  # a scenario is replayed without hypothesis
                note("\n".join(list(self.world.turns.log)[-LOG_LINES:]))
            raise
        finally:
            self.world.end()

    def _last_body(self, place: Place) -> str | None:
        """Return what was read last, unless it was made of parts: the ETag of its content is another than its own."""
        answers = (event.answer for event in reversed(self.world.history.at(place)) if event.kind == "get")
        body = next((answer.body for answer in answers if isinstance(answer, Entry)), None)
        return None if body is None or PARTS in body else body

    def _known_versions(self, place: Place) -> list[str]:
        events = self.world.history.at(place)
        told = {event.answer for event in events if event.kind in {"put", "delete"} and isinstance(event.answer, str)}
        return sorted(told)
