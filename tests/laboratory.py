"""A whole engine in the test's own process, over faulty stores and a clock that is moved by hand."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import msgspec

from proxy.clock import ManualClock
from proxy.codec.format import is_shard_name
from proxy.config import Config, JournalConfig, LimitsConfig, PacksConfig, load_config
from proxy.engine.workers import Progress, Runner, Worker
from proxy.engine.writing.body import Digests
from proxy.errors import ProxyError
from proxy.manifest.records import Bucket, BucketName, Extent, ObjectAttributes, ObjectKey, Segment, Tenant, Version
from proxy.services import Services, open_services
from proxy.stores.convoy import boards
from proxy.stores.directory import DirectoryStore
from proxy.tenancy import add_tenant
from tests.faulty_store import FaultyStore
from tests.patience import PATIENCE_SECONDS

ROOT = Path(__file__).parent.parent


class BytesBody:
    """A body from memory."""

    def __init__(self, data: bytes, *, chunk: int = 100_000) -> None:
        self._data = data
        self._chunk = chunk
        self._md5 = hashlib.md5()
        self.size_bytes = len(data)

    def memory_to_fill(self, size_bytes: int) -> int:
        return 0

    async def chunks(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._data), self._chunk):
            yield self._data[start : start + self._chunk]

    def digest(self, data: bytes) -> None:
        self._md5.update(data)

    def finish(self) -> Digests:
        return Digests(md5=self._md5.digest())


@dataclass
class Laboratory:
    """Services, the faulty stores by name, and one bucket to play with."""

    services: Services
    stores: dict[str, FaultyStore]
    clock: ManualClock
    tenant: Tenant
    bucket: Bucket

    async def put(self, key: str, data: bytes) -> Version:
        """Put an object and wait for its late shards, too: only a fault leaves one missing, never a busy machine."""
        version = await self.put_promptly(key, data)
        await self.settled()
        return version

    async def put_promptly(self, key: str, data: bytes) -> Version:
        """Put an object; return when its tenant would be answered."""
        return await self.services.engine.put_object(self.bucket, self.tenant, ObjectKey(key), BytesBody(data), ObjectAttributes())

    async def settled(self) -> None:
        """Wait for what goes on in the background of requests: late shards, reports of damage."""
        await self.services.parts.tasks.drain(PATIENCE_SECONDS)

    async def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        version = await self.services.manifest.find_version(self.bucket.id, ObjectKey(key))
        assert version is not None
        wanted = version.size - start if length is None else length
        pieces = await self.services.engine.open_read(version, self.tenant, start, wanted)
        return b"".join([bytes(piece) async for piece in pieces])

    async def shards(self) -> set[str]:
        return {name for store in self.stores.values() async for name, _ in store.list() if is_shard_name(name)}

    async def shards_but(self, absent: str) -> set[str]:
        return {
            name for store in self.stores.values() if store.info.name != absent async for name, _ in store.list() if is_shard_name(name)
        }

    async def collect(self) -> None:
        """Let every lease of others and every delay run out, then collect. The first run is late, and leaves the leases alone."""
        self.clock.advance(100_000)
        await self.run_collector()
        await self.run_collector()

    async def run_collector(self) -> Progress:
        """Let the collector work until there is no more to do. What the journal does not have is not deleted, so that is stored first."""
        if self.services.journal is not None:
            with suppress(ProxyError):  # the stores are down
                await self.services.journal.flusher.flush()
        return await self.run_collector_alone()

    async def run_collector_alone(self) -> Progress:
        """Let the collector work on what the journal has."""
        while True:
            progress = await self.worker("collect").step()
            if progress.idle:
                return progress

    @contextmanager
    def no_time_for_the_journal(self) -> Iterator[None]:
        """Who waits for the journal gives up soon: it will not be stored."""
        assert self.services.journal is not None
        flusher = self.services.journal.flusher
        usual, flusher._wait_seconds = flusher._wait_seconds, 0.2
        yield
        flusher._wait_seconds = usual

    def worker(self, name: str) -> Worker:
        return next(worker for worker in self.services.workers if worker.name == name)

    async def garbage(self) -> int:
        return sum((await self.services.manifest.count_garbage()).values())


NO_JOURNAL = JournalConfig(enabled=False)


async def stored(lab: Laboratory, key: str = "k") -> tuple[Extent, Segment]:
    """Return the first extent of an object, and its first segment, as they are on record."""
    version = await lab.services.manifest.find_version(lab.bucket.id, ObjectKey(key))
    assert version is not None
    (extent,) = await lab.services.manifest.load_extents([ref.id for ref in version.extents])
    return extent, extent.layout.segments[0]


def laboratory_config(data: Path, *, journal: JournalConfig = NO_JOURNAL, packs: bool = False, **limits: object) -> Config:
    config = load_config(ROOT / "config/bench.toml", {"SHARDGATE_DATA": str(data)})
    settings = {
        "straggler_grace_seconds": 0.05,
        "put_timeout_seconds": 30.0,
        "get_timeout_seconds": 30.0,
        "collect_after_seconds": 0.0,
        **limits,
    }
    below = PacksConfig(below_kib=128 if packs else 0)
    return msgspec.structs.replace(config, limits=msgspec.convert(settings, LimitsConfig), journal=journal, packs=below)


@asynccontextmanager
async def _open(config: Config, clock: ManualClock) -> AsyncIterator[Services]:
    """Open services whose workers work only when they are told to: by themselves they would begin once a test has taken some seconds.

    Stores make the folders that shards need: all 1,536, as a server makes them, take four times as long as the rest of a usual test.
    """
    async with AsyncExitStack() as opened:
        with patch.object(Runner, "_keep_going", _rest), patch.object(DirectoryStore, "_tidy", _leave_untidy):
            services = await opened.enter_async_context(open_services(config, clock=clock, serving=True))
        yield services


async def _rest(runner: Runner, worker: Worker) -> None:
    """Take no turn."""


def _leave_untidy(store: DirectoryStore) -> None:
    """Make no folder, and look for nothing that a crash has left."""


@asynccontextmanager
async def laboratory(
    data: Path,
    *,
    now_ms: int = 1_750_000_000_000,
    journal: JournalConfig = NO_JOURNAL,
    packs: bool = False,
    adjust: Callable[[Config], Config] = lambda config: config,
    **limits: object,
) -> AsyncIterator[Laboratory]:
    """With a journal its interval should be long: the clock of the interval stands still, but a worker looks for much that is noted.

    Without `packs`, small objects are segments of their own, and there are as many shards as one would count. `adjust` makes another
    configuration of the usual one.
    """
    clock = ManualClock(now_ms)
    async with _open(adjust(laboratory_config(data, journal=journal, packs=packs, **limits)), clock) as services:
        stores: dict[str, FaultyStore] = {}
        for name, observed in services.fleet.stores.items():
            limited = observed._inner  # the faults go below limits and health, where a provider is
            stores[name] = limited._inner = FaultyStore(limited._inner)  # type: ignore[attr-defined]
            observed._read_at_once = stores[name].read_at_once
            observed._board = boards(stores[name])  # none: each call meets its faults
        manifest = services.manifest
        if not await manifest.list_tenants():
            await add_tenant(manifest, services.keyring, clock, "t")
            tenant = (await manifest.list_tenants())[0]
            await manifest.create_bucket(
                Bucket(name=BucketName("bucket"), tenant_id=tenant.id, policy="standard", created_ms=clock.now_ms())
            )
        bucket = await manifest.find_bucket(BucketName("bucket"))
        assert bucket is not None
        yield Laboratory(services, stores, clock, (await manifest.list_tenants())[0], bucket)
