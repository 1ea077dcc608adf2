"""The end of an example: what must be true then, whatever has happened."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from tests.fault.machine.audit import audit
from tests.fault.machine.history import Entry, Place
from tests.fault.machine.linearizable import explain
from tests.fault.machine.process import Process
from tests.fault.machine.providers import PASSING, mend
from tests.fault.machine.world import PLACES, PLAIN, VERSIONED, World

WORST = ("down", "rejects", "truncates", "flips bits", "answers with another")
DAY_MS = 24 * 3600 * 1000


class Judge:
    """Judges a world. `unreliable` is the one store that has lost what it acknowledged, if there is any. Of `late_listers`, collection
    could not know what they held."""

    def __init__(self, world: World, *, unreliable: str | None, late_listers: Collection[str]) -> None:
        self._world = world
        self._unreliable = unreliable
        self._late_listers = late_listers

    def judge(self) -> None:
        """Mend what can be mended, let all come to its end and be collected, then look at everything. Raises `AssertionError`."""
        world = self._world
        for store in world.stores.values():
            mend(store)
        world.until_answered()
        for process in world.alive():
            world.stop(process)
        world.clear_the_wire()
        process = world.started()
        self._collect(process)
        self._read_all(process, despite=self._unreliable or world.chance.choice(sorted(world.stores)))
        world.stop(process)
        self._check_histories()
        self._check_books()
        faults = [*world.faults, *world.watch.found, *world.loop.surprises]
        assert not faults, "\n".join(faults)

    def _collect(self, process: Process) -> None:
        """Let days pass, so that leases end and nothing that is on its way comes later, and collect."""
        assert process.services is not None
        worker = next(worker for worker in process.services.workers if worker.name == "collect")
        for _ in range(4):
            self._world.clock.set_by_ms += 2 * DAY_MS
            for _ in range(2):  # the first comes late, and leaves the leases of others alone
                step = self._world.loop.create_task(worker.step())
                self._world.until(step.done)
                step.result()

    def _read_all(self, process: Process, *, despite: str) -> None:
        """Every version must be read, whole, whatever any one store does."""
        world = self._world
        PASSING[world.chance.choice(WORST)](world.stores[despite], world.chance)
        for bucket in (PLAIN, VERSIONED):
            world.ask(process, lambda client, bucket=bucket: client.see(bucket))
            world.ask(process, lambda client, bucket=bucket: client.list(bucket))
        world.until_answered()
        reads = [world.ask(process, lambda client, place=place: client.get(place)) for place in PLACES]
        for event in world.history.events[-len(PLACES) * 4 :]:
            if event.kind == "list" and isinstance(event.answer, tuple):
                reads += [self._read(process, event.place, entry) for entry in event.answer if not entry.is_marker]
        world.until_answered()
        if not all(read.result() for read in reads):
            world.wrong(f"an object cannot be read: {world.notes[-1]}")
        mend(world.stores[despite])

    def _read(self, process: Process, place: Place, entry: Entry) -> asyncio.Task[object]:
        return self._world.ask(process, lambda client: client.get(place, version_id=entry.id))

    def _check_histories(self) -> None:
        for place in PLACES:
            if complaint := explain(self._world.history.at(place), versioned=place.bucket == VERSIONED):
                self._world.wrong(f"{place.bucket}/{place.key}: {complaint}")

    def _check_books(self) -> None:
        found = audit(self._world.manifest, {name: set(store.objects) for name, store in self._world.held.items()})
        for store, name in sorted(found.orphans):
            if store not in self._late_listers:
                self._world.wrong(f"orphan: {name} in {store}")
        for store, name in sorted(found.missing):
            if store != self._unreliable:
                self._world.wrong(f"missing: {name} in {store}")
        self._world.faults += found.miscounted
