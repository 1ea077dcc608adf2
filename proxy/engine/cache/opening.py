"""Making the cache that the configuration asks for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from proxy.config import Config
from proxy.engine.cache.cache import RecordCache, SealedCache
from proxy.engine.cache.disk import CacheDisk
from proxy.engine.cache.folder import CacheFolder
from proxy.engine.cache.memory import SealedMemory
from proxy.engine.tasks import BackgroundTasks
from proxy.errors import ConfigError

CLOUDS = frozenset({"s3", "gcs", "azure"})
_MIB = 1024 * 1024


@asynccontextmanager
async def open_cache(config: Config, tasks: BackgroundTasks, record: RecordCache, *, workers: int) -> AsyncIterator[SealedCache | None]:
    """Make the cache of one of `workers`, if there is to be one: all share the directory, and each has its part of the memory."""
    if not _is_used(config):
        yield None
        return
    memory = SealedMemory(config.cache.memory_mib * _MIB // workers)
    if not config.cache.directory:
        yield SealedCache(memory, None, record)
        return
    disk = CacheDisk(CacheFolder(Path(config.cache.directory), capacity_bytes=config.cache.directory_mib * _MIB), tasks)
    try:
        await _begin(disk, config.cache.directory)
        yield SealedCache(memory, disk, record)
    finally:
        disk.close()


def _is_used(config: Config) -> bool:
    if config.cache.use == "clouds":
        return any(store.kind in CLOUDS for store in config.stores.values())
    return config.cache.use == "always"


async def _begin(disk: CacheDisk, directory: str) -> None:
    try:
        await disk.begin()
    except OSError as error:
        raise ConfigError(
            f"cache.directory: {directory} cannot be used: {error.strerror}; name a directory that this user may write to, or none"
        ) from error
