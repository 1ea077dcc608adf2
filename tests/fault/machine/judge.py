"""The end of an example: what must be true then, whatever has happened."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Collection, Coroutine
from contextlib import closing
from typing import TypeVar

import msgspec
from hypothesis import event as note

from proxy.engine.scrub.findings import to_repair
from proxy.engine.scrub.once import compare_once, open_once
from proxy.engine.scrub.orphans import Quarantine
from proxy.manifest.campaigns import Campaign
from proxy.upkeep import comparing, inspector
from tests.fault.machine.audit import audit, extents
from tests.fault.machine.history import Entry, Place
from tests.fault.machine.linearizable import Undecided, explain
from tests.fault.machine.process import Process
from tests.fault.machine.providers import PASSING, mend
from tests.fault.machine.setting import PLACES, PLAIN, VERSIONED
from tests.fault.machine.world import World

WORST = ("down", "rejects", "truncates", "flips bits", "answers with another")
Result = TypeVar("Result")
COLLECTED_SECONDS = 150.0  # in which each worker has two turns: whoever comes late leaves the leases of others alone in the first
DAY_MS = 24 * 3600 * 1000


class Judge:
    """Judges a world. `unreliable` is the one store that has lost what it acknowledged, if there is any. Of `unknown`, collection could not
    know what they held: they listed late, or a recovery has left in them what it could not make use of."""

    def __init__(self, world: World, *, unreliable: str | None, unknown: Collection[str]) -> None:
        self._world = world
        self._unreliable = unreliable
        self._unknown = unknown

    def judge(self) -> None:
        """Mend what can be mended, let all come to its end and be collected, then look at everything. Raises `AssertionError`."""
        world = self._world
        for store in world.stores.values():
            mend(store)
        world.until_answered()
        for process in world.alive():
            world.stop(process)
        world.clear_the_wire()
        world.clock.put_right()
        process = world.started()
        self._collect()
        self._read_all(process, despite=self._unreliable or world.chance.choice(sorted(world.stores)))
        self._check_histories()
        self._check_books(unknown=self._unknown, unreliable=self._unreliable)
        process = self._make_whole(process)
        self._collect()
        self._check_campaigns()
        self._check_books(unknown=(), unreliable=None)
        self._check_wholeness()
        self._read_all(process, despite=world.chance.choice(sorted(world.stores)))
        world.stop(process)
        self._check_histories()
        faults = [*world.faults, *world.watch.found, *world.loop.surprises]
        assert not faults, "\n".join(faults)

    def _collect(self) -> None:
        """Let days pass, so that leases end and nothing that is on its way comes later, and collect."""
        for _ in range(2):
            self._world.clock.set(2 * DAY_MS)
            self._world.pass_time(COLLECTED_SECONDS)

    def _make_whole(self, process: Process) -> Process:
        """Let scrub find what is damaged or does not belong, and let that be repaired and collected: an orphan must be seen twice."""
        for _ in range(3):
            self._world.stop(process)
            self._world.clock.set(8 * DAY_MS)
            process = self._world.started()  # soon after a start everybody looks what there is to do
            self._look_at_all(process)
            self._world.pass_time(COLLECTED_SECONDS)
        return process

    def _look_at_all(self, process: Process) -> None:
        """Do as `shardgate scrub --now --deep` and `shardgate fsck --apply` do."""
        assert process.services is not None
        parts = process.services.parts
        report = to_repair(parts.manifest, parts.clock)
        self._done(process, open_once(parts.manifest, parts.clock, inspector(parts), parts.fleet, report, lambda done: None))
        quarantine = Quarantine(parts.manifest, parts.clock, parts.fleet.stores.keys(), days=parts.config.fsck.quarantine_days)
        comparison = compare_once(comparing(parts, report), lambda done: None, everything=True, after_slice=quarantine.after_slice)
        self._done(process, quarantine.judge(self._done(process, comparison)))

    def _done(self, process: Process, call: Coroutine[object, object, Result]) -> Result:
        task = self._world.loop.create_task(call, context=process.context)
        self._world.until(task.done)
        return task.result()

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
            try:
                complaint = explain(self._world.history.at(place), versioned=place.bucket == VERSIONED)
            except Undecided:
                note("a history that cannot be judged")  # counted in hypothesis's statistics
                continue
            if complaint:
                self._world.wrong(f"{place.bucket}/{place.key}: {complaint}")

    def _check_wholeness(self) -> None:
        """No shard is missing any more, none is where nobody knows of it, and none is still to be deleted."""
        with closing(sqlite3.connect(self._world.manifest.path)) as connection:
            if queued := connection.execute("SELECT store, name FROM garbage").fetchall():
                self._world.wrong(f"still to be deleted: {queued}")
            for extent, _ in extents(connection):
                for segment in extent.layout.segments:
                    if segment.missing or segment.strays:
                        self._world.wrong(f"segment {segment.id.hex()} is not whole: missing {segment.missing}, strays {segment.strays}")

    def _check_campaigns(self) -> None:
        """What was begun has come to its end, and a store that was left holds nothing any more that the manifest needs."""
        with closing(sqlite3.connect(self._world.manifest.path)) as connection:
            campaigns = [msgspec.msgpack.decode(record, type=Campaign) for (record,) in connection.execute("SELECT record FROM campaign")]
            used = {store for extent, _ in extents(connection) for segment in extent.layout.segments for store in segment.stores}
        for campaign in campaigns:
            if campaign.state == "running":
                self._world.wrong(f"{campaign.id} has not come to its end: {campaign.trouble}")
            elif campaign.leaves and campaign.state == "done" and campaign.store in used:
                self._world.wrong(f"{campaign.id} is done, and {campaign.store} is still used")

    def _check_books(self, *, unknown: Collection[str], unreliable: str | None) -> None:
        found = audit(self._world.manifest.path, {name: set(store.objects) for name, store in self._world.held.items()})
        for store, name in sorted(found.orphans):
            if store not in unknown:
                self._world.wrong(f"orphan: {name} in {store}")
        for store, name in sorted(found.missing):
            if store != unreliable:
                self._world.wrong(f"missing: {name} in {store}")
        self._world.faults += found.miscounted
