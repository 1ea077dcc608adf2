"""The SQLite manifest: WAL, `synchronous=FULL`, one writer thread a process, any number of processes on one file.

Nothing of it runs on the event loop: a disk that hangs holds up who asks, up to the deadline, and nobody else.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from proxy.clock import Clock
from proxy.errors import ManifestUnavailable
from proxy.manifest.protocol import NO_CONDITIONS, CompletedPart, Conditions, ObjectPage, UploadPage, VersionDraft
from proxy.manifest.records import (
    AccessKey,
    AccessKeyId,
    Bucket,
    BucketId,
    BucketName,
    Caller,
    Epoch,
    Extent,
    ExtentId,
    Garbage,
    GarbageSegment,
    Intent,
    IntentId,
    Job,
    JobReport,
    Layout,
    ObjectKey,
    Part,
    PartSummary,
    Readable,
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
from proxy.manifest.sqlite import accounts, buckets, callers, epoch, extents, jobs, ledger, listing, stores, uploads, versions
from proxy.manifest.sqlite.database import BUSY_SHARE, connect, identity
from proxy.manifest.sqlite.group_commit import GroupCommitter
from proxy.manifest.sqlite.readers import Readers
from proxy.manifest.sqlite.schema import probe_writing
from proxy.manifest.sqlite.turn import Turn

P = ParamSpec("P")
Result = TypeVar("Result")
Step = Callable[Concatenate[sqlite3.Connection, P], Result]


class SqliteManifest:
    """See the protocol for what each method promises."""

    def __init__(self, path: Path, clock: Clock, *, timeout_seconds: float) -> None:
        self._clock = clock
        self._changed_ms = 0
        self._path = path
        self._identity = identity(path)
        open_connection = partial(connect, path, busy_seconds=timeout_seconds * BUSY_SHARE)
        self._points = Readers(open_connection, count=1, name="manifest-read", timeout_seconds=timeout_seconds)
        self._listings = Readers(open_connection, count=2, name="manifest-list", timeout_seconds=timeout_seconds)
        self._committer = GroupCommitter(
            open_connection, timeout_seconds=timeout_seconds, turn=Turn(path), probe=probe_writing, check=self._check_still_there
        )

    @property
    def healthy(self) -> bool:
        return not self.trouble

    @property
    def trouble(self) -> str:
        silent = not (self._points.healthy and self._listings.healthy)
        return self._committer.trouble or ("the manifest does not answer" if silent else "")

    async def close(self) -> None:
        await self._committer.close()
        await self._points.close()
        await self._listings.close()

    def _check_still_there(self) -> None:
        """A file that was moved away or replaced can still be written to, and what is written is lost."""
        if identity(self._path) != self._identity:
            raise ManifestUnavailable(f"{self._path} is another file than was opened: put that back, or start anew")

    async def _write(self, step: Step[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """Make a change that a copy of the manifest would miss."""
        try:
            return await self._note(step, *args, **kwargs)
        finally:  # past its deadline it may have happened all the same
            self._changed_ms = self._clock.now_ms()

    async def _note(self, step: Step[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """Make a change that a copy would not miss: it finds out by itself, or it is of this moment only."""

        def unless_fenced(connection: sqlite3.Connection) -> Result:
            epoch.refuse_fenced(connection)
            return step(connection, *args, **kwargs)

        return await self._committer.run(unless_fenced)

    async def _read(self, step: Step[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """Ask what takes microseconds."""
        return await self._points.ask(step, *args, **kwargs)

    async def _list(self, step: Step[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """Ask what may take milliseconds, beside those who do not."""
        return await self._listings.ask(step, *args, **kwargs)

    # Stores

    async def known_stores(self) -> frozenset[str]:
        return await self._read(stores.known_stores)

    async def know_stores(self, names: Iterable[str]) -> None:
        await self._write(stores.know_stores, tuple(names))

    # Tenants and keys

    async def add_tenant(self, tenant: Tenant) -> None:
        await self._write(accounts.add_tenant, tenant)

    async def find_tenant(self, tenant_id: TenantId) -> Tenant | None:
        return await self._read(accounts.find_tenant, tenant_id)

    async def find_tenant_by_name(self, name: str) -> Tenant | None:
        return await self._read(accounts.find_tenant_by_name, name)

    async def list_tenants(self) -> tuple[Tenant, ...]:
        return await self._list(accounts.list_tenants)

    async def set_tenant_enabled(self, tenant_id: TenantId, enabled: bool) -> None:  # noqa: FBT001 - the new state
        await self._write(accounts.set_tenant_enabled, tenant_id, enabled=enabled)

    async def remove_tenant(self, tenant_id: TenantId) -> None:
        await self._write(accounts.remove_tenant, tenant_id)

    async def add_access_key(self, key: AccessKey) -> None:
        await self._write(accounts.add_access_key, key)

    async def find_caller(self, access_key: AccessKeyId | None, bucket: BucketName | None) -> Caller:
        return await self._read(callers.find_caller, access_key, bucket)

    async def list_access_keys(self, tenant_id: TenantId) -> tuple[AccessKey, ...]:
        return await self._list(accounts.list_access_keys, tenant_id)

    async def remove_access_key(self, access_key: AccessKeyId) -> bool:
        return await self._write(accounts.remove_access_key, access_key)

    # Buckets

    async def create_bucket(self, bucket: Bucket) -> Bucket:
        return await self._write(buckets.create_bucket, bucket)

    async def find_bucket(self, name: BucketName) -> Bucket | None:
        return await self._read(buckets.find_bucket, name)

    async def list_buckets(self, tenant_id: TenantId, *, prefix: str = "", after: str = "", limit: int = 10_000) -> tuple[Bucket, ...]:
        return await self._list(buckets.list_buckets, tenant_id, prefix, after, limit)

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
        return await self._note(ledger.renew_intents, owner, expires_ms)

    async def settle(self, settlements: Sequence[Settlement], garbage: Sequence[GarbageSegment], *, now_ms: int) -> None:
        await self._write(ledger.settle_abandoned, settlements, garbage, now_ms)

    async def revoke_expired_intents(self, *, now_ms: int) -> int:
        return await self._note(ledger.revoke_expired_intents, now_ms)

    async def commit_version(
        self, draft: VersionDraft, *, conditions: Conditions = NO_CONDITIONS, settlements: Sequence[Settlement] = ()
    ) -> Version:
        return await self._write(versions.commit_version, draft, conditions, settlements)

    async def record_shard(self, extent_id: ExtentId, segment_id: SegmentId, shard_index: int) -> None:
        await self._write(extents.record_shard, extent_id, segment_id, shard_index)

    # Reading

    async def find_version(self, bucket_id: BucketId, key: ObjectKey, version_id: VersionId | None = None) -> Version | None:
        return await self._read(versions.find_version, bucket_id, key, version_id)

    async def find_readable(self, bucket_id: BucketId, key: ObjectKey, version_id: VersionId | None = None) -> Readable | None:
        return await self._read(versions.find_readable, bucket_id, key, version_id)

    async def load_parts(self, bucket_id: BucketId, version: Version) -> tuple[PartSummary, ...]:
        return await self._list(versions.load_parts, bucket_id, version)

    async def load_extents(self, ids: Sequence[ExtentId]) -> tuple[Extent, ...]:
        if len(ids) <= versions.READ_AT_ONCE:
            return await self._read(extents.load_extents, ids)
        return await self._list(extents.load_extents, ids)

    async def list_objects(self, bucket_id: BucketId, *, prefix: str, delimiter: str, after: str, limit: int) -> ObjectPage:
        return await self._list(listing.list_objects, bucket_id, prefix=prefix, delimiter=delimiter, after=after, limit=limit)

    async def list_versions(
        self, bucket_id: BucketId, *, prefix: str, delimiter: str, after_key: str, after_version: str, limit: int
    ) -> ObjectPage:
        return await self._list(
            listing.list_versions,
            bucket_id,
            prefix=prefix,
            delimiter=delimiter,
            after_key=after_key,
            after_version=after_version,
            limit=limit,
        )

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
        return await self._read(uploads.find_upload, bucket_id, key, upload_id)

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
        return await self._list(uploads.list_parts, upload_id, after, limit)

    async def complete_upload(
        self, upload_id: UploadId, parts: Sequence[CompletedPart], draft: VersionDraft, *, conditions: Conditions = NO_CONDITIONS
    ) -> Version:
        return await self._write(uploads.complete_upload, upload_id, parts, draft, conditions)

    async def find_completed(self, upload_id: UploadId, parts: Sequence[CompletedPart], bucket_id: BucketId, key: ObjectKey) -> Version:
        return await self._list(uploads.find_completed, upload_id, parts, bucket_id, key)

    async def abort_upload(self, upload_id: UploadId, *, now_ms: int) -> None:
        await self._write(uploads.abort_upload, upload_id, now_ms)

    async def list_uploads(
        self, bucket_id: BucketId, *, prefix: str, delimiter: str, after_key: str, after_upload: str, limit: int
    ) -> UploadPage:
        return await self._list(
            listing.list_uploads,
            bucket_id,
            prefix=prefix,
            delimiter=delimiter,
            after_key=after_key,
            after_upload=after_upload,
            limit=limit,
        )

    # Collecting

    async def release_unused(self, settlements: Sequence[Settlement]) -> None:
        await self._note(ledger.release_unused, settlements)

    async def spread_garbage(self, configured: Iterable[str], *, limit: int) -> int:
        return await self._note(ledger.spread_garbage, tuple(configured), limit)

    async def due_garbage(self, store: str, *, before_ms: int, limit: int) -> tuple[Garbage, ...]:
        return await self._list(ledger.due_garbage, store=store, before_ms=before_ms, limit=limit)

    async def finish_garbage(self, gone: Sequence[Garbage], *, put_off: Sequence[Garbage] = (), due_ms: int = 0) -> None:
        await self._note(ledger.finish_garbage, gone, put_off, due_ms)

    async def count_garbage(self, *, limit: int = 1_000_000) -> Mapping[str, int]:
        return await self._list(ledger.count_garbage, limit=limit)

    # Background jobs

    async def list_jobs(self) -> tuple[Job, ...]:
        return await self._read(jobs.list_jobs)

    async def find_job(self, name: str) -> Job:
        return await self._read(jobs.find_job, name=name)

    async def take_job(self, name: str, holder: str, *, now_ms: int, lease_ms: int) -> Job | None:
        return await self._note(jobs.take_job, name, holder, now_ms, lease_ms)

    async def extend_job(self, name: str, holder: str, *, now_ms: int, lease_ms: int) -> Job | None:
        return await self._note(jobs.extend_job, name, holder, now_ms, lease_ms)

    async def finish_job(self, name: str, holder: str, report: JobReport, *, now_ms: int) -> Job | None:
        return await self._note(jobs.finish_job, name, holder, report, now_ms)

    async def report_job(self, name: str, report: JobReport, *, now_ms: int) -> None:
        await self._note(jobs.report_job, name, report, now_ms)

    async def give_job_back(self, name: str, holder: str) -> None:
        await self._note(jobs.give_job_back, name, holder)

    async def pause_job(self, name: str, paused: bool) -> None:  # noqa: FBT001 - the new state
        await self._note(jobs.pause_job, name, paused=paused)

    # The epoch

    @property
    def changed_ms(self) -> int:
        return self._changed_ms

    async def find_epoch(self) -> Epoch:
        return await self._read(epoch.find_epoch)

    async def move_epoch(self, *, now_ms: int) -> Epoch:
        return await self._note(epoch.move_epoch, now_ms)

    async def fence(self, reason: str) -> None:
        await self._committer.run(lambda connection: epoch.set_fence(connection, reason))

    async def accept_epoch(self, *, above: int, now_ms: int) -> Epoch:
        return await self._committer.run(lambda connection: epoch.accept_epoch(connection, above, now_ms))

    # Counting

    async def count_missing_shards(self, *, limit: int = 1_000_000) -> int:
        return await self._list(extents.count_missing_shards, limit)

    async def find_missing_shards(self, *, limit: int) -> tuple[tuple[ExtentId, Segment, int], ...]:
        return await self._list(extents.find_missing_shards, limit)
