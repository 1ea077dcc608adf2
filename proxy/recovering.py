"""What a recovery is composed of. It is no service: nothing is served, and no worker runs, while a manifest is being recovered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

from proxy.clock import Clock, SystemClock
from proxy.config import Config
from proxy.engine.epoch import EpochKeeper
from proxy.engine.fleet import Fleet
from proxy.engine.recover.notes import Tell, open_notes
from proxy.engine.recover.recovery import Parts, Recovery, has_begun
from proxy.engine.recover.report import Report
from proxy.errors import JournalBroken, RecoveryRefused
from proxy.keyring import Keyring
from proxy.keyring.file import open_root_key_file
from proxy.manifest.sqlite import open_sqlite
from proxy.manifest.sqlite.notebook import Notebook
from proxy.openings import open_present_fleet
from proxy.policies import make_policies
from proxy.stores.direct import AlignedBuffers
from proxy.stores.directory import Shared
from proxy.stores.uring import open_ring

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
    async with open_notes(notebook_path(config)) as notes, _stores(config, clock, fleet) as stores:
        async with open_sqlite(Path(config.manifest.path), clock, timeout_seconds=seconds) as manifest:
            with ThreadPoolExecutor(THREADS, thread_name_prefix="recover") as threads:
                parts = Parts(
                    manifest=manifest,
                    keyring=keyring,
                    fleet=stores,
                    policies=policies,
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
        await notes.run(Notebook.remove)
        return report


def notebook_path(config: Config) -> Path:
    """Return where a recovery keeps what it has found, until it is over."""
    path = Path(config.manifest.path)
    return path.with_name(f"{path.name}-recovery")


@asynccontextmanager
async def _stores(config: Config, clock: Clock, fleet: Fleet | None) -> AsyncIterator[Fleet]:
    if fleet is not None:
        yield fleet
        return
    ring = open_ring(directories=sum(store.kind == "directory" for store in config.stores.values()))
    try:
        opened = await open_present_fleet(config, clock, Shared(ring, AlignedBuffers(0)))
        try:
            yield opened
        finally:
            await opened.close()
    finally:
        if ring is not None:
            await ring.close()
