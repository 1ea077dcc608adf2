"""The SQLite manifest: WAL, `synchronous=FULL`, one writer thread a process, any number of processes on one file.

Point reads run where they are asked for: some 10 us from the page cache, less than handing them to a thread. Listings run in threads.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from proxy.clock import Clock
from proxy.errors import ConfigError, ManifestUnavailable, ProxyError
from proxy.manifest.protocol import NO_CONDITIONS, CompletedPart, Conditions, Manifest, ObjectPage, UploadPage, VersionDraft
from proxy.manifest.records import (
    AccessKey,
    AccessKeyId,
    Bucket,
    BucketId,
    BucketName,
    Extent,
    ExtentId,
    Garbage,
    GarbageSegment,
    Intent,
    IntentId,
    Layout,
    ObjectKey,
    Part,
    Segment,
    SegmentId,
    Settlement,
    Tenant,
    TenantId,
    Upload,
    UploadId,
    Version,
    VersionId,
    Versioning,
)  # fmt: skip
from proxy.manifest.sqlite import accounts, buckets, extents, ledger, listing, stores, uploads, versions
from proxy.manifest.sqlite.group_commit import GroupCommitter
from proxy.manifest.sqlite.schema import migrate

P = ParamSpec("P")
Result = TypeVar("Result")
READ_AT_ONCE = 32  # point reads; more, as for an object of many parts, would hold up everybody else
BUSY_SECONDS = 10.0  # another process's group commit takes milliseconds; longer means trouble


@asynccontextmanager
async def open_sqlite(path: Path, clock: Clock) -> AsyncIterator[Manifest]:
    """Open the manifest at `path`, made if it is not there. `ConfigError`, or `ManifestUnavailable` while another program locks it."""
    try:
        connection = _make(path)
    except (OSError, sqlite3.Error) as error:
        raise _not_opened(path, error) from error
    manifest = SqliteManifest(path, connection, clock)
    try:
        yield manifest
    finally:
        await manifest.close()


def _make(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)  # it names every object: nobody else's business
    connection = _connect(path)
    try:
        migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _not_opened(path: Path, error: OSError | sqlite3.Error) -> ProxyError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without what SQLite adds in its extended codes
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return ManifestUnavailable(f"the manifest {path} is locked: end what else has it open, such as a backup or a shell, or try again")
    if code in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}:
        return ConfigError(f"manifest.path: {path} is no manifest, or a damaged one ({error}): name another, or restore it from a backup")
    return ConfigError(f"manifest.path: cannot open {path}: {error}; it must be a file that Shardgate may write, in a folder it may write")


def _identity(path: Path) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _connect(path: Path) -> sqlite3.Connection:
    """Open the file, which must be there: one that is gone must not come back empty."""
    name = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(name, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256)
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "cache_size = -16384", "mmap_size = 268435456", "temp_store = MEMORY"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


class SqliteManifest:
    """See the protocol for what each method promises."""

    def __init__(self, path: Path, reader: sqlite3.Connection, clock: Clock) -> None:
        self._reader = reader
        self._clock = clock
        self._path = path
        self._identity = _identity(path)
        self._committer = GroupCommitter(lambda: _connect(path), check=self._check_still_there)
        self._local = threading.local()
        self._listers = ThreadPoolExecutor(2, thread_name_prefix="manifest-list")

    @property
    def healthy(self) -> bool:
        try:
            self._check_still_there()
        except (OSError, ManifestUnavailable):
            return False
        return self._committer.healthy

    async def close(self) -> None:
        await self._committer.close()
        self._listers.shutdown()
        self._reader.close()

    def _check_still_there(self) -> None:
        """A file that was moved away or replaced can still be written to, and what is written is lost."""
        if _identity(self._path) != self._identity:
            raise ManifestUnavailable(f"{self._path} is another file than was opened: put that back, or start anew")

    async def _write(self, step: Callable[Concatenate[sqlite3.Connection, P], Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        return await self._committer.run(lambda connection: step(connection, *args, **kwargs))

    def _read(self, step: Callable[Concatenate[sqlite3.Connection, P], Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        try:
            return step(self._reader, *args, **kwargs)
        except sqlite3.Error as error:
            raise ManifestUnavailable(f"the manifest cannot be read: {error}") from error

    async def _list(self, step: Callable[[sqlite3.Connection], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._listers, partial(self._list_in_thread, step))

    def _list_in_thread(self, step: Callable[[sqlite3.Connection], Result]) -> Result:
        try:
            connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._local.connection = _connect(self._path)
            return step(connection)
        except sqlite3.Error as error:
            raise ManifestUnavailable(f"the manifest cannot be read: {error}") from error

    # Stores

    async def known_stores(self) -> frozenset[str]:
        return self._read(stores.known_stores)

    async def know_stores(self, names: Iterable[str]) -> None:
        await self._write(stores.know_stores, tuple(names))

    # Tenants and keys

    async def add_tenant(self, tenant: Tenant) -> None:
        await self._write(accounts.add_tenant, tenant)

    async def find_tenant(self, tenant_id: TenantId) -> Tenant | None:
        return self._read(accounts.find_tenant, tenant_id)

    async def find_tenant_by_name(self, name: str) -> Tenant | None:
        return self._read(accounts.find_tenant_by_name, name)

    async def list_tenants(self) -> tuple[Tenant, ...]:
        return self._read(accounts.list_tenants)

    async def set_tenant_enabled(self, tenant_id: TenantId, enabled: bool) -> None:  # noqa: FBT001 - the new state
        await self._write(accounts.set_tenant_enabled, tenant_id, enabled=enabled)

    async def remove_tenant(self, tenant_id: TenantId) -> None:
        await self._write(accounts.remove_tenant, tenant_id)

    async def add_access_key(self, key: AccessKey) -> None:
        await self._write(accounts.add_access_key, key)

    async def find_access_key(self, access_key: AccessKeyId) -> tuple[AccessKey, Tenant] | None:
        return self._read(accounts.find_access_key, access_key)

    async def list_access_keys(self, tenant_id: TenantId) -> tuple[AccessKey, ...]:
        return self._read(accounts.list_access_keys, tenant_id)

    async def remove_access_key(self, access_key: AccessKeyId) -> bool:
        return await self._write(accounts.remove_access_key, access_key)

    # Buckets

    async def create_bucket(self, bucket: Bucket) -> Bucket:
        return await self._write(buckets.create_bucket, bucket)

    async def find_bucket(self, name: BucketName) -> Bucket | None:
        return self._read(buckets.find_bucket, name)

    async def list_buckets(self, tenant_id: TenantId, *, prefix: str = "", after: str = "", limit: int = 10_000) -> tuple[Bucket, ...]:
        return self._read(buckets.list_buckets, tenant_id, prefix, after, limit)

    async def set_versioning(self, bucket_id: BucketId, versioning: Versioning) -> None:
        await self._write(buckets.set_versioning, bucket_id, versioning)

    async def put_bucket_setting(self, bucket_id: BucketId, setting: str, document: str | None) -> None:
        await self._write(buckets.put_bucket_setting, bucket_id, setting, document)

    async def delete_bucket(self, bucket_id: BucketId) -> None:
        await self._write(uploads.delete_bucket, bucket_id, self._clock.now_ms())

    # Writing

    async def lease_segments(self, *, owner: str, segment_ids: Sequence[SegmentId], expires_ms: int) -> Intent:
        return await self._write(ledger.lease_segments, owner, segment_ids, expires_ms)

    async def renew_intents(self, *, owner: str, expires_ms: int) -> frozenset[IntentId]:
        return await self._write(ledger.renew_intents, owner, expires_ms)

    async def settle(self, settlements: Sequence[Settlement], garbage: Sequence[GarbageSegment], *, now_ms: int) -> None:
        await self._write(ledger.settle_abandoned, settlements, garbage, now_ms)

    async def revoke_expired_intents(self, *, now_ms: int) -> int:
        return await self._write(ledger.revoke_expired_intents, now_ms)

    async def commit_version(
        self, draft: VersionDraft, *, conditions: Conditions = NO_CONDITIONS, settlements: Sequence[Settlement] = ()
    ) -> Version:
        return await self._write(versions.commit_version, draft, conditions, settlements)

    async def record_shard(self, extent_id: ExtentId, segment_id: SegmentId, shard_index: int) -> None:
        await self._write(extents.record_shard, extent_id, segment_id, shard_index)

    # Reading

    async def find_version(self, bucket_id: BucketId, key: ObjectKey, version_id: VersionId | None = None) -> Version | None:
        return self._read(versions.find_version, bucket_id, key, version_id)

    async def load_extents(self, ids: Sequence[ExtentId]) -> tuple[Extent, ...]:
        if len(ids) <= READ_AT_ONCE:
            return self._read(extents.load_extents, ids)
        return await self._list(partial(extents.load_extents, ids=ids))

    async def list_objects(self, bucket_id: BucketId, *, prefix: str, delimiter: str, after: str, limit: int) -> ObjectPage:
        return await self._list(
            partial(listing.list_objects, bucket_id=bucket_id, prefix=prefix, delimiter=delimiter, after=after, limit=limit)
        )

    async def list_versions(
        self, bucket_id: BucketId, *, prefix: str, delimiter: str, after_key: str, after_version: str, limit: int
    ) -> ObjectPage:
        step = partial(
            listing.list_versions,
            bucket_id=bucket_id,
            prefix=prefix,
            delimiter=delimiter,
            after_key=after_key,
            after_version=after_version,
            limit=limit,
        )
        return await self._list(step)

    # Changing and deleting

    async def set_tags(self, bucket_id: BucketId, key: ObjectKey, version_id: VersionId | None, tags: Mapping[str, str]) -> Version:
        return await self._write(versions.set_tags, bucket_id, key, version_id, tags)

    async def delete_version(self, bucket_id: BucketId, key: ObjectKey, version_id: VersionId, *, now_ms: int) -> Version | None:
        return await self._write(versions.delete_version, bucket_id, key, version_id, now_ms)

    async def delete_latest(
        self, bucket_id: BucketId, key: ObjectKey, *, marker_id: VersionId, now_ms: int, conditions: Conditions = NO_CONDITIONS
    ) -> Version | None:
        return await self._write(versions.delete_latest, bucket_id, key, marker_id, now_ms, conditions)

    # Multipart

    async def begin_upload(self, upload: Upload) -> None:
        await self._write(uploads.begin_upload, upload)

    async def find_upload(self, bucket_id: BucketId, key: ObjectKey, upload_id: UploadId) -> Upload | None:
        return self._read(uploads.find_upload, bucket_id, key, upload_id)

    async def commit_part(
        self,
        upload_id: UploadId,
        part: Part,
        *,
        new_layouts: Sequence[Layout] = (),
        shared_extents: Sequence[ExtentId] = (),
        settlements: Sequence[Settlement] = (),
    ) -> Part:
        return await self._write(uploads.commit_part, upload_id, part, new_layouts, shared_extents, settlements)

    async def list_parts(self, upload_id: UploadId, *, after: int = 0, limit: int = 10_000) -> tuple[Part, ...]:
        return self._read(uploads.list_parts, upload_id, after, limit)

    async def complete_upload(
        self, upload_id: UploadId, parts: Sequence[CompletedPart], draft: VersionDraft, *, conditions: Conditions = NO_CONDITIONS
    ) -> Version:
        return await self._write(uploads.complete_upload, upload_id, parts, draft, conditions)

    async def find_completed(self, upload_id: UploadId, parts: Sequence[CompletedPart], bucket_id: BucketId, key: ObjectKey) -> Version:
        return self._read(uploads.find_completed, upload_id, parts, bucket_id, key)

    async def abort_upload(self, upload_id: UploadId, *, now_ms: int) -> None:
        await self._write(uploads.abort_upload, upload_id, now_ms)

    async def list_uploads(
        self, bucket_id: BucketId, *, prefix: str, delimiter: str, after_key: str, after_upload: str, limit: int
    ) -> UploadPage:
        step = partial(
            listing.list_uploads,
            bucket_id=bucket_id,
            prefix=prefix,
            delimiter=delimiter,
            after_key=after_key,
            after_upload=after_upload,
            limit=limit,
        )
        return await self._list(step)

    # Collecting

    async def claim_garbage(self, *, queued_before_ms: int, now_ms: int, lease_ms: int, limit: int) -> tuple[Garbage, ...]:
        return await self._write(ledger.claim_garbage, queued_before_ms, now_ms, lease_ms, limit)

    async def finish_garbage(self, ids: Sequence[int]) -> None:
        await self._write(ledger.finish_garbage, ids)

    async def count_garbage(self) -> int:
        return self._read(ledger.count_garbage)

    async def count_missing_shards(self) -> int:
        return self._read(extents.count_missing_shards)

    async def find_missing_shards(self, *, limit: int) -> tuple[tuple[ExtentId, Segment, int], ...]:
        return self._read(extents.find_missing_shards, limit)
