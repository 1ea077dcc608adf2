"""What a recovery is composed of. It is no service: nothing is served, and no worker runs, while a manifest is being recovered."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from proxy.clock import Clock, SystemClock
from proxy.config import Config
from proxy.engine.epoch import EpochKeeper
from proxy.engine.journal.flush import Flusher
from proxy.engine.journal.writing import CopyWriter
from proxy.engine.memory.budget import Budget
from proxy.engine.placing.fleet import Fleet
from proxy.engine.placing.placement import Policy
from proxy.engine.recover.notes import Tell, open_notes
from proxy.engine.recover.recovery import Parts, Recovery, has_begun
from proxy.engine.recover.report import Report
from proxy.engine.tasks import BackgroundTasks
from proxy.engine.writing.quorum import ShardPutter
from proxy.errors import JournalBroken, RecoveryRefused
from proxy.keyring import Keyring
from proxy.keyring.file import open_root_key_file
from proxy.lanes import Pool
from proxy.manifest.sqlite import open_sqlite
from proxy.manifest.sqlite.notebook import Notebook
from proxy.openings import open_present_fleet
from proxy.policies import make_policies

logger = logging.getLogger(__name__)

THREADS = 2  # that join and open: the loop reads meanwhile


async def recover(
    config: Config, tell: Tell, *, identity: str = "", resume: bool = False, clock: Clock | None = None, fleet: Fleet | None = None
) -> Report:
    """Recover the manifest of a configuration from its stores and the root key. A `fleet` that is given is used, and not closed.

    Raises `RecoveryRefused`, `JournalBroken` or `ConfigError`; then nothing was changed. A recovery that was killed goes on.
    """
    clock = clock or SystemClock()
    policies = make_policies(config)
    keyring = Keyring(open_root_key_file(Path(config.root_key.path), create=False))
    seconds = config.limits.manifest_timeout_seconds
    with _alone(Path(config.manifest.path).parent):
        async with open_notes(notebook_path(config)) as notes, _stores(config, clock, fleet) as stores:
            async with open_sqlite(Path(config.manifest.path), clock, timeout_seconds=seconds) as manifest:
                with Pool(THREADS, thread_name_prefix="recover") as threads:
                    tasks = BackgroundTasks()
                    writer = _writer(config, policies, keyring, stores, tasks, threads)
                    flusher = Flusher(manifest, writer, clock, tasks, wait_seconds=config.journal.acknowledge_seconds, lookout=None)
                    parts = Parts(
                        manifest=manifest,
                        keyring=keyring,
                        fleet=stores,
                        policies=policies,
                        writer=writer,
                        flusher=flusher if config.journal.enabled else None,
                        epoch=EpochKeeper(manifest, stores.stores, keyring, clock, timeout_seconds=config.limits.store_open_seconds),
                        clock=clock,
                        notes=notes,
                        threads=threads,
                        tell=tell,
                    )
                    try:
                        report = await Recovery(parts).run(identity=identity, resume=resume)
                    except (RecoveryRefused, JournalBroken):
                        if not await has_begun(notes):  # whoever mends the stores and comes again is to see them as they are then
                            await notes.run(Notebook.remove)
                        raise
                    finally:
                        await tasks.drain(config.limits.put_timeout_seconds)
            await notes.run(Notebook.remove)
            return report


def _writer(
    config: Config, policies: Mapping[str, Policy], keyring: Keyring, fleet: Fleet, tasks: BackgroundTasks, threads: Executor
) -> CopyWriter:
    """Return what writes copies of the manifest, whether the configuration goes on with that or not."""
    budget = Budget(config.limits.memory_mib * 1024 * 1024, wait_seconds=config.limits.memory_wait_seconds)
    putter = ShardPutter(fleet, max_grace_seconds=config.limits.straggler_grace_seconds, tasks=tasks, budget=budget)
    policy = policies[config.journal.policy or config.default_policy]
    return CopyWriter(putter, policy, keyring.journal_cipher(), tasks, threads)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Refuse to run beside another recovery: one that is over says that the server may be started, and the other would still replay."""
    folder.mkdir(parents=True, exist_ok=True)
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # the folder: no file is left behind, and none is swapped
    try:
        _lock(held, folder)
        yield
    finally:
        os.close(held)


def _lock(held: int, folder: Path) -> None:
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RecoveryRefused(f"another recovery is under way in {folder}: wait for it, or end it; nothing was changed") from None
    except OSError as error:  # a file system without locks
        logger.warning("%s cannot be locked (%s): see to it that no other recovery runs there", folder, error.strerror)


def notebook_path(config: Config) -> Path:
    """Return where a recovery keeps what it has found, until it is over."""
    path = Path(config.manifest.path)
    return path.with_name(f"{path.name}-recovery")


@asynccontextmanager
async def _stores(config: Config, clock: Clock, fleet: Fleet | None) -> AsyncIterator[Fleet]:
    if fleet is not None:
        yield fleet
        return
    opened = await open_present_fleet(config, clock)
    try:
        yield opened
    finally:
        await opened.close()
