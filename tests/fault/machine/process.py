"""One proxy of the simulation: opened on the files and stores that are there, ended in order, or killed."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from contextvars import ContextVar, copy_context
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from proxy.config import StoreConfig
from proxy.engine.recover.report import Report
from proxy.engine.throttle import Throttle
from proxy.engine.workers import Runner
from proxy.errors import ProxyError
from proxy.manifest.sqlite.log_sync import LogSync
from proxy.manifest.sqlite.notebook import Notebook
from proxy.recovering import recover
from proxy.services import Services, open_services
from proxy.stores.protocol import StoreInfo
from tests.fault.machine.loop import DEAD, SUSPENDED
from tests.fault.machine.network import Wire
from tests.fault.machine.threads import SimulatedCommitter, SimulatedLanes
from tests.fault.machine.turns import Life

if TYPE_CHECKING:
    from tests.fault.machine.world import World

LOOK_SECONDS = 10.0  # of those who look again and again: each look takes turns, and finds nothing most of the time

_opening: ContextVar[Process] = ContextVar("_opening")  # whose threads and wires are being made


class Process:
    """Runs from when it is made. `services` are there once it has opened; `refusal` says why it has not."""

    def __init__(self, world: World, name: str) -> None:
        self.life = Life(name)
        self.world = world
        self.services: Services | None = None
        self.refusal: ProxyError | None = None
        self._closers: list[Any] = []
        self._stopping = asyncio.Event()
        self.ended = False
        self.context = copy_context()
        self.context.run(_opening.set, self)
        self.context.run(SUSPENDED.set, lambda: self.life.suspended)
        self.context.run(DEAD.set, lambda: self.life.dead)
        self.task = world.loop.create_task(self._live(), context=self.context)

    @property
    def serves(self) -> bool:
        return self.services is not None and not self.life.dead and not self._stopping.is_set()

    def stop(self) -> None:
        """Let it end as upon SIGTERM."""
        self._stopping.set()

    def kill(self) -> None:
        """Let it end as upon SIGKILL: it does nothing more. The kernel closes its files."""
        self.world.turns.bury(self.life)
        self.close_files()

    def close_files(self) -> None:
        for close in self._closers:
            close()

    async def _live(self) -> None:
        try:
            async with open_services(self.world.config, clock=self.world.clock, serving=True) as services:
                self.services = services
                await self._stopping.wait()
        except ProxyError as error:
            self.refusal = error
        finally:
            self.ended = True

    def make_notebook(self, path: Path) -> Notebook:
        notebook = Notebook(path)
        self._closers.append(notebook.close)
        return notebook

    def make_committer(self, *args: Any, **options: Any) -> SimulatedCommitter:
        committer = SimulatedCommitter(self.life, self.world.turns, *args, **options)
        self._closers += [committer._close_connection, committer._turn.close]
        return committer

    def make_log_sync(self, path: Path) -> LogSync:
        log = LogSync(path)
        self._closers.append(log.close)
        return log

    def make_lanes(self, *, at_end: Any = lambda: None) -> SimulatedLanes:
        self._closers.append(at_end)
        return SimulatedLanes(self.life, self.world.turns, at_end=at_end)

    def make_wire(self, info: StoreInfo) -> Wire:
        world = self.world
        return Wire(world.stores[info.name], self.life, world.turns, world.chance, deletes=world.look_at_a_delete)


class Recovery(Process):
    """`shardgate recover`, from when it is made. `report` is there once it is over."""

    def __init__(self, world: World, name: str, *, resume: bool) -> None:
        self._resume = resume
        self.report: Report | None = None
        super().__init__(world, name)

    async def _live(self) -> None:
        try:
            self.report = await recover(self.world.config, lambda *told: None, resume=self._resume, clock=self.world.clock)
        except ProxyError as error:
            self.refusal = error
        finally:
            self.ended = True


@contextmanager
def simulated(chance: Random) -> Iterator[None]:
    """Put the simulation's threads, stores and random bytes in the place of the real ones, and let parts of uploads be small."""

    def committer(*args: Any, **options: Any) -> SimulatedCommitter:
        return _opening.get().make_committer(*args, **options)

    def lanes(count: int, *, name: str, at_end: Any = lambda: None) -> SimulatedLanes:
        return _opening.get().make_lanes(at_end=at_end)

    def bare_store(info: StoreInfo, config: StoreConfig, **options: object) -> Wire:
        return _opening.get().make_wire(info)

    with ExitStack() as patches:
        patches.enter_context(patch("proxy.manifest.sqlite.adapter.runner.GroupCommitter", committer))
        patches.enter_context(patch("proxy.manifest.sqlite.adapter.runner.LogSync", lambda path: _opening.get().make_log_sync(path)))
        for module in ("proxy.manifest.sqlite.opening", "proxy.manifest.sqlite.readers", "proxy.services", "proxy.stores.build"):
            patches.enter_context(patch(f"{module}.Lanes", lanes))
        patches.enter_context(patch("proxy.stores.build._bare_store", bare_store))
        patches.enter_context(patch("proxy.engine.recover.notes.Notebook", lambda path: _opening.get().make_notebook(path)))
        patches.enter_context(patch("proxy.recovering._alone", nullcontext))  # the kernel's locks would outlive who is killed here
        patches.enter_context(patch.object(secrets, "token_bytes", chance.randbytes))
        patches.enter_context(patch.dict(Runner.__init__.__kwdefaults__, jitter=chance.random))
        patches.enter_context(patch.dict(Throttle.__init__.__kwdefaults__, now=lambda: asyncio.get_running_loop().time()))
        patches.enter_context(patch("proxy.engine.verbs.assembly.MIN_PART_SIZE", 1))
        patches.enter_context(patch("proxy.engine.journal.worker.LOOK_SECONDS", LOOK_SECONDS))
        yield
