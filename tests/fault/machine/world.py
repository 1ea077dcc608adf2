"""The world of one example: providers, files, time, processes and their clients."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random

from msgspec.structs import replace

from proxy.clock import Instant
from proxy.config import Config, LimitsConfig, load_config
from proxy.engine.epoch import parse_marker
from proxy.manifest.records import Bucket, BucketName, Tenant
from proxy.services import Services
from proxy.stores.build import store_info
from proxy.stores.protocol import ShardName
from proxy.tenancy import add_tenant
from tests.fault.machine.clients import KEYS, Clients, Contents
from tests.fault.machine.history import History, Place
from tests.fault.machine.loop import SimulatedLoop
from tests.fault.machine.network import LATEST_SECONDS, MemoryStore
from tests.fault.machine.process import Process, simulated
from tests.fault.machine.providers import Watch, mend
from tests.fault.machine.turns import Turns
from tests.faulty_store import FaultyStore

ROOT = Path(__file__).parents[3]
SHARED_MEMORY = Path("/dev/shm")  # a commit need not wait for a disk: power cuts are not simulated
PLAIN, VERSIONED = "plain", "versioned"
PLACES = tuple(Place(bucket, key) for bucket in (PLAIN, VERSIONED) for key in KEYS)
ENOUGH = 200_000  # turns: whoever is not done by then never will be
LIMITS = LimitsConfig(
    straggler_grace_seconds=0.5,
    put_timeout_seconds=20.0,
    get_timeout_seconds=20.0,
    collect_after_seconds=100.0,
    collect_interval_seconds=60.0,
    background_requests_per_second=1_000_000,
)


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

    def __init__(self, chance: Random, installation: Installation | None = None) -> None:
        self.chance = chance
        self.loop = SimulatedLoop()
        self.turns = Turns(self.loop)
        self.clock = SimulatedClock(self.loop)
        self.history = History()
        self.contents = Contents()
        self.data = Path(tempfile.mkdtemp(prefix="shardgate-world-", dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None))
        self.config = simulated_config(self.data)
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

    @property
    def manifest(self) -> Path:
        return Path(self.config.manifest.path)

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

    # The manifest's file, while nobody has it open

    def copy_manifest(self) -> Copy:
        with closing(sqlite3.connect(self.manifest)) as source, closing(sqlite3.connect(":memory:")) as copy:
            source.backup(copy)
            (epoch,) = copy.execute("SELECT number FROM epoch").fetchone()
            return Copy(copy.serialize(), epoch)

    def put_back(self, copy: Copy) -> None:
        for suffix in ("", "-wal", "-shm"):
            self.manifest.with_name(f"{self.manifest.name}{suffix}").unlink(missing_ok=True)
        self.manifest.touch(mode=0o600)
        self.manifest.write_bytes(copy.content)

    def stores_are_ahead_of(self, copy: Copy) -> bool:
        """Tell whether a copy can be told from the newest by the epochs that the stores know of."""
        known = (parse_marker(name) for store in self.held.values() for name in store.objects)
        return any(marker is not None and marker.number > copy.epoch for marker in known)

    # Clients

    def ask(self, process: Process, act: Callable[[Clients], Coroutine[object, object, object]]) -> asyncio.Task[object]:
        """Let a client of a process do something, from now on."""
        task = self.loop.create_task(act(Clients(self, process)), context=process.context)
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

    def bucket(self, name: str) -> Bucket:
        return self._buckets[name]

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
        self.tenant, self._buckets = installation.tenant, installation.buckets

    def _next(self, what: str) -> int:
        self._counts[what] += 1
        return self._counts[what]


@dataclass(frozen=True)
class Copy:
    """A copy of the manifest, and the epoch that it is of."""

    content: bytes
    epoch: int


@dataclass(frozen=True)
class Installation:
    """What a proxy leaves that was ended in order: files by name, and each store's objects."""

    files: Mapping[str, bytes]
    stores: Mapping[str, Mapping[ShardName, bytes]]
    tenant: Tenant
    buckets: Mapping[str, Bucket]


@lru_cache
def fresh_installation() -> Installation:
    """Make an installation with a tenant and two buckets. One is enough for all examples."""
    world = World(Random(0))
    process = world.started()
    assert process.services is not None
    made = world.loop.create_task(_make_buckets(process.services))
    world.until(made.done)
    tenant, buckets = made.result()
    world.stop(process)
    with closing(sqlite3.connect(world.manifest)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    files = {path.name: path.read_bytes() for path in world.data.iterdir() if path.name in {"manifest.sqlite", "root.key"}}
    stores = {name: dict(store.objects) for name, store in world.held.items()}
    world.end()
    return Installation(files, stores, tenant, buckets)


async def _make_buckets(services: Services) -> tuple[Tenant, dict[str, Bucket]]:
    manifest, clock = services.manifest, services.clock
    await add_tenant(manifest, services.keyring, clock, "t")
    (tenant,) = await manifest.list_tenants()
    for name in (PLAIN, VERSIONED):
        await manifest.create_bucket(Bucket(name=BucketName(name), tenant_id=tenant.id, policy="standard", created_ms=clock.now_ms()))
    await manifest.set_versioning((await _found(services, VERSIONED)).id, "Enabled")
    return tenant, {name: await _found(services, name) for name in (PLAIN, VERSIONED)}


async def _found(services: Services, name: str) -> Bucket:
    bucket = await services.manifest.find_bucket(BucketName(name))
    assert bucket is not None
    return bucket


def simulated_config(data: Path) -> Config:
    """Return the configuration of the benchmark, with stores in memory and small segments."""
    config = load_config(ROOT / "config/bench.toml", {**os.environ, "SHARDGATE_DATA": str(data)})
    return replace(
        config,
        limits=LIMITS,
        journal=replace(config.journal, interval_ms=10_000),
        stores={name: replace(store, kind="memory", path="") for name, store in config.stores.items()},
        policies={name: replace(policy, segment_mib=1) for name, policy in config.policies.items()},
    )
