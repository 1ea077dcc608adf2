"""The world of one example: providers, files, time, processes and their clients."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random

from proxy.clock import Instant
from proxy.codec.format import is_shard_name
from proxy.engine.epoch import parse_marker
from proxy.manifest.records import Bucket, BucketName, SegmentId, Tenant
from proxy.services import Services
from proxy.stores.build import store_info
from proxy.stores.protocol import ShardName
from proxy.tenancy import add_tenant
from tests.fault.machine.clients import Clients, Contents
from tests.fault.machine.history import History
from tests.fault.machine.loop import SimulatedLoop
from tests.fault.machine.manifest_file import Copy, ManifestFile
from tests.fault.machine.network import LATEST_SECONDS, MemoryStore
from tests.fault.machine.process import Process, Recovery, simulated
from tests.fault.machine.providers import Watch, mend
from tests.fault.machine.setting import PLACES, PLAIN, VERSIONED, Acknowledge, simulated_config
from tests.fault.machine.turns import Turns
from tests.faulty_store import FaultyStore

SHARED_MEMORY = Path("/dev/shm")  # a commit need not wait for a disk: power cuts are not simulated
ENOUGH = 200_000  # turns: whoever is not done by then never will be


class SimulatedClock:
    """The wall clock, which may be set, and the monotonic one, which only time itself moves."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop
        self._set_by_ms = 0
        self._farthest_ms = 0

    def set(self, by_ms: int) -> None:
        self._set_by_ms += by_ms
        self._farthest_ms = max(self._farthest_ms, self._set_by_ms)

    def put_right(self) -> None:
        """Show no time that was shown before."""
        self._set_by_ms = self._farthest_ms

    def now_ms(self) -> int:
        return 1_750_000_000_000 + int(self._loop.time() * 1000) + self._set_by_ms

    def monotonic(self) -> float:
        return self._loop.time()

    def instant(self) -> Instant:
        return Instant(self.now_ms(), int(self._loop.time() * 1000), "1")


class World:
    """Begins with a bucket that keeps versions and one that does not, both empty, and with no process."""

    def __init__(
        self, chance: Random, installation: Installation | None = None, *, acknowledge: Acknowledge = "needed", packs: bool = False
    ) -> None:
        self.chance = chance
        self.loop = SimulatedLoop()
        self.turns = Turns(self.loop)
        self.clock = SimulatedClock(self.loop)
        self.history = History()
        self.contents = Contents()
        self.data = Path(tempfile.mkdtemp(prefix="shardgate-world-", dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None))
        self.config = simulated_config(self.data, acknowledge=acknowledge, packs=packs)
        self.manifest = ManifestFile(Path(self.config.manifest.path))
        self.held = {name: MemoryStore(store_info(name, store)) for name, store in self.config.stores.items()}
        self.stores = {name: FaultyStore(store) for name, store in self.held.items()}
        self.watch = Watch({name: store.objects for name, store in self.held.items()}, {n: s.info for n, s in self.held.items()})
        for store in self.held.values():
            store.watch = self.watch.look
        self.processes: list[Process] = []
        self.faults: list[str] = []  # promises that were broken, as far as it is known
        self.notes: list[str] = []
        self._counts: Counter[str] = Counter()
        self._clients: dict[asyncio.Task[object], Process] = {}
        self._patches = ExitStack()
        self._patches.enter_context(simulated(chance))
        if installation is not None:
            self._take_up(installation)

    def end(self) -> None:
        """Leave nothing behind."""
        self.turns.send_home(lambda: asyncio.all_tasks(self.loop))
        for process in self.processes:
            process.close_files()
        self._patches.close()
        self.loop.close()
        shutil.rmtree(self.data)

    # Processes

    def start(self) -> Process:
        """Start a process; it opens as turns are given."""
        process = Process(self, f"process {self._next('process')}")
        self.processes.append(process)
        return process

    def started(self) -> Process:
        """Start a process, and return once it serves."""
        process = self.start()
        self.until(lambda: process.services is not None or process.ended)
        if process.services is None:
            raise AssertionError(f"{process.life.name} does not start: {process.refusal}")
        return process

    def stop(self, process: Process) -> None:
        """End a process in order: its clients are answered first."""
        self.until(lambda: process not in self._waiting_on())
        process.stop()
        self.until(lambda: process.ended)
        if process.services is not None and (held := process.services.budget.held_bytes):
            self.wrong(f"{process.life.name} held {held} bytes of its budget when it ended")

    def alive(self) -> list[Process]:
        return [process for process in self.processes if not process.life.dead and not process.ended]

    def serving(self) -> list[Process]:
        return [process for process in self.alive() if process.serves]

    def end_processes(self) -> None:
        """Kill all, and let nothing come of them any more."""
        for process in self.alive():
            process.kill()
        for store in self.stores.values():
            mend(store)
        self.turns.lose_strays()

    # The manifest is lost, or an older copy of it is put back

    def look_at_the_journal(self) -> None:
        """Know from when on all that has happened so far can be recovered."""
        if self.manifest.is_in_the_journal():
            self.history.prove()

    def lose_the_manifest(self, copy: Copy | None = None, *, kills: Sequence[int] = ()) -> None:
        """Let all processes die, and the manifest be lost, or an older one in its place. Then recover it, killed after so many turns."""
        for process in self.alive():
            process.kill()
        if self.config.journal.acknowledge == "all":
            self.history.prove()
        self.history.lose()
        events = [self.history.begin(place, "recovery") for place in PLACES]
        self.manifest.delete()
        if copy is not None:
            self.manifest.put_back(copy)
            self._serve_while_it_is_behind()
        self._recover(resume=copy is not None, kills=kills)
        for event in events:
            versions = self.manifest.versions(*event.place)
            self.history.end(event, tuple(self.contents.entry(version) for version in versions))

    def unacknowledged_segments(self) -> set[SegmentId]:
        """Return what belongs to writes that nobody was promised. A recovery may have found k shards of one, and no more."""
        put = {event.body for event in self.history.events if event.kind == "put" and event.answered}
        versions = [version for place in PLACES for version in self.manifest.versions(*place)]
        unknown = [version for version in versions if self.contents.entry(version).body not in put]
        return {segment for version in unknown for segment in self.manifest.segments_of(version)}

    def _serve_while_it_is_behind(self) -> None:
        """A proxy that is started notices, and says so."""
        process = self.started()
        if not self.manifest.is_fenced():
            self.wrong("an older copy of the manifest was taken for the newest")
        process.kill()

    def _recover(self, *, resume: bool, kills: Sequence[int]) -> None:
        for turns in kills:
            recovery = self._start_recovery(resume=resume)
            self.run(turns, haste=0.0)
            if recovery.ended:
                break
            recovery.kill()
        else:
            recovery = self._start_recovery(resume=resume)
        self.until(lambda: recovery.ended)
        recovery.task.result()
        if recovery.refusal is not None and not self.manifest.is_recovered():  # whoever was killed may have been at the very end
            raise AssertionError(f"the manifest is not recovered: {recovery.refusal}")

    def _start_recovery(self, *, resume: bool) -> Recovery:
        recovery = Recovery(self, f"recovery {self._next('recovery')}", resume=resume)
        self.processes.append(recovery)
        return recovery

    def stores_are_ahead_of(self, copy: Copy) -> bool:
        """Tell whether a copy can be told from the newest by the epochs that the stores know of."""
        known = (parse_marker(name) for store in self.held.values() for name in store.objects)
        return any(marker is not None and marker.number > copy.epoch for marker in known)

    # Clients

    def ask(self, process: Process, act: Callable[[Clients], Coroutine[object, object, object]]) -> asyncio.Task[object]:
        """Let a client of a process do something, from now on."""
        return self.begin(process, act(Clients(self, process)))

    def begin(self, process: Process, call: Coroutine[object, object, object]) -> asyncio.Task[object]:
        """Let something be done by a process, for whoever waits for an answer."""
        task = self.loop.create_task(call, context=process.context)
        self._clients[task] = process
        return task

    def until_answered(self) -> None:
        """Give turns until each client of a process that lives has its answer."""
        self.until(lambda: not self._waiting_on())

    def _waiting_on(self) -> set[Process]:
        """Return the processes that have clients who wait. What surprised a client is raised."""
        for task in [task for task in self._clients if task.done()]:
            del self._clients[task]
            if error := task.exception():
                raise error
        return {process for process in self._clients.values() if not process.life.dead}

    def new_name(self, stem: str) -> str:
        return f"{stem} #{self._next('body')}"

    # Time and chance

    def run(self, steps: int, *, haste: float = 0.05) -> None:
        """Give turns, or let time pass, as chance will have it."""
        self.turns.run(self.chance, steps, haste=haste)
        self._waiting_on()

    def until(self, done: Callable[[], bool]) -> None:
        """Give turns, without haste, until it is done."""
        if not self.turns.run_until(done, self.chance, steps=ENOUGH):
            raise AssertionError("somebody waits for ever")

    def pass_time(self, seconds: float) -> None:
        """Let time pass, everybody going on as it does."""
        end = self.loop.time() + seconds
        self.loop.call_at(end, lambda: None)
        self.until(lambda: self.loop.time() >= end)

    def clear_the_wire(self) -> None:
        """Let whatever is on its way come to its end, or be lost."""
        self.pass_time(2 * LATEST_SECONDS)
        self.until(lambda: self.turns.idle)

    def look_at_a_delete(self, store: str, name: ShardName) -> None:
        """To be called before each: what the manifest points to is not deleted, not even for a moment."""
        if is_shard_name(name) and self.manifest.points_to(store, name):
            self.wrong(f"{name} is deleted in {store}, where the manifest points to it")

    def wrong(self, fault: str) -> None:
        self.faults.append(fault)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def _take_up(self, installation: Installation) -> None:
        for name, content in installation.files.items():
            (self.data / name).touch(mode=0o600)
            (self.data / name).write_bytes(content)
        for name, objects in installation.stores.items():
            self.held[name].objects.update(objects)
        self.tenant = installation.tenant

    def _next(self, what: str) -> int:
        self._counts[what] += 1
        return self._counts[what]


@dataclass(frozen=True)
class Installation:
    """What a proxy leaves that was ended in order: files by name, and each store's objects."""

    files: Mapping[str, bytes]
    stores: Mapping[str, Mapping[ShardName, bytes]]
    tenant: Tenant


@lru_cache
def fresh_installation() -> Installation:
    """Make an installation with a tenant and two buckets. One is enough for all examples."""
    world = World(Random(0))
    process = world.started()
    assert process.services is not None
    made = world.loop.create_task(_make_buckets(process.services))
    world.until(made.done)
    tenant = made.result()
    world.stop(process)
    with closing(sqlite3.connect(world.manifest.path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    files = {path.name: path.read_bytes() for path in world.data.iterdir() if path.name in {"manifest.sqlite", "root.key"}}
    stores = {name: dict(store.objects) for name, store in world.held.items()}
    world.end()
    return Installation(files, stores, tenant)


async def _make_buckets(services: Services) -> Tenant:
    manifest, clock = services.manifest, services.clock
    await add_tenant(manifest, services.keyring, clock, "t")
    (tenant,) = await manifest.list_tenants()
    for name in (PLAIN, VERSIONED):
        await manifest.create_bucket(Bucket(name=BucketName(name), tenant_id=tenant.id, policy="standard", created_ms=clock.now_ms()))
    bucket = await manifest.find_bucket(BucketName(VERSIONED))
    assert bucket is not None
    await manifest.set_versioning(bucket.id, "Enabled")
    return tenant
