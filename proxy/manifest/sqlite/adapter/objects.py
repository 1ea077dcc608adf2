"""What the manifest does with versions and uploads."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.manifest.begun import Begun
from proxy.manifest.drafts import (
    NO_CONDITIONS,
    AttributeChange,
    CompletedPart,
    Conditions,
    ObjectPage,
    UploadPage,
    VersionDraft,
    VersionPage,
)
from proxy.manifest.events import Cause
from proxy.manifest.records import (
    BucketId,
    Extent,
    ExtentId,
    ExtentRef,
    Layout,
    ObjectKey,
    Part,
    PartSummary,
    Readable,
    Settlement,
    Upload,
    UploadId,
    Version,
    VersionId,
)  # fmt: skip
from proxy.manifest.sqlite import deletions, extents, listing, uploads, versions
from proxy.manifest.sqlite.adapter.runner import StepRunner, each_unless_fenced
from proxy.s3.policy.acl import Acl

_delete_each_latest = each_unless_fenced(deletions.delete_each_latest)


class Objects(StepRunner):
    """See the protocol."""

    # Writing

    async def commit_version(
        self, draft: VersionDraft, *, conditions: Conditions = NO_CONDITIONS, settlements: Sequence[Settlement] = ()
    ) -> Version:
        return await self._write(versions.commit_version, draft, conditions, settlements, self._clock.instant())

    # Reading

    async def find_version(self, bucket_id: BucketId, key: ObjectKey, version_id: VersionId | None = None) -> Version | None:
        return await self._glance(versions.find_version, bucket_id, key, version_id)

    async def find_readable(self, bucket_id: BucketId, key: ObjectKey, version_id: VersionId | None = None) -> Readable | None:
        return await self._glance(versions.find_readable, bucket_id, key, version_id)

    async def load_parts(self, bucket_id: BucketId, version: Version) -> tuple[PartSummary, ...]:
        return await self._list_early(versions.load_parts, bucket_id, version)

    async def load_extents(self, ids: Sequence[ExtentId]) -> tuple[Extent, ...]:
        if len(ids) <= versions.READ_AT_ONCE:
            return await self._glance(extents.load_extents, tuple(ids))
        return await self._list(extents.load_extents, ids)

    async def list_objects(self, bucket_id: BucketId, *, prefix: str, delimiter: str, after: str, limit: int) -> ObjectPage:
        return await self._list_early(listing.list_objects, bucket_id, prefix=prefix, delimiter=delimiter, after=after, limit=limit)

    async def list_versions(
        self, bucket_id: BucketId, *, prefix: str, delimiter: str, after_key: str, after_version: str, limit: int
    ) -> VersionPage:
        return await self._list_early(
            listing.list_versions,
            bucket_id,
            prefix=prefix,
            delimiter=delimiter,
            after_key=after_key,
            after_version=after_version,
            limit=limit,
        )

    async def walk_versions(self, bucket_id: BucketId, *, prefix: str, after: tuple[str, int], limit: int) -> tuple[Version, ...]:
        return await self._list(versions.walk_versions, bucket_id, prefix, after, limit)

    # Changing and deleting

    async def change_attributes(
        self,
        bucket_id: BucketId,
        key: ObjectKey,
        version_id: VersionId | None,
        change: AttributeChange,
        *,
        now_ms: int = 0,
        cause: Cause | None = None,
    ) -> Version:
        instant = self._clock.instant()
        return await self._write(versions.change_attributes, bucket_id, key, version_id, change, instant, now_ms, cause)

    async def delete_version(
        self,
        bucket_id: BucketId,
        key: ObjectKey,
        version_id: VersionId,
        *,
        now_ms: int,
        bypass_governance: bool = False,
        cause: Cause | None = None,
    ) -> Version | None:
        instant = self._clock.instant()
        return await self._write(deletions.delete_version, bucket_id, key, version_id, now_ms, instant, bypass_governance, cause)

    async def delete_latest(
        self,
        bucket_id: BucketId,
        key: ObjectKey,
        *,
        marker_id: VersionId,
        now_ms: int,
        conditions: Conditions = NO_CONDITIONS,
        cause: Cause | None = None,
        replicates: bool = True,
        owner: Acl | None = None,
    ) -> Version | None:
        deletion = deletions.LatestDeletion(bucket_id, key, marker_id, now_ms, conditions, cause, replicates, owner)
        return await self._write_together(_delete_each_latest, deletion)

    def begin_delete_latest(
        self, bucket_id: BucketId, key: ObjectKey, *, marker_id: VersionId, now_ms: int
    ) -> Begun[Version | None] | None:
        return self._begin_together(_delete_each_latest, deletions.LatestDeletion(bucket_id, key, marker_id, now_ms))

    # Multipart

    async def begin_upload(self, upload: Upload) -> None:
        await self._write(uploads.begin_upload, upload)

    async def find_upload(self, bucket_id: BucketId, key: ObjectKey, upload_id: UploadId) -> Upload | None:
        return await self._glance(uploads.find_upload, bucket_id, key, upload_id)

    async def commit_part(
        self,
        upload_id: UploadId,
        part: Part,
        *,
        new_layouts: Sequence[Layout] = (),
        shared_extents: Sequence[ExtentRef] = (),
        settlements: Sequence[Settlement] = (),
    ) -> Part:
        return await self._write(uploads.commit_part, upload_id, part, new_layouts, shared_extents, settlements)

    async def list_parts(self, upload_id: UploadId, *, after: int = 0, limit: int = 10_000) -> tuple[Part, ...]:
        return await self._list(uploads.list_parts, upload_id, after, limit)

    async def complete_upload(
        self, upload_id: UploadId, parts: Sequence[CompletedPart], draft: VersionDraft, *, conditions: Conditions = NO_CONDITIONS
    ) -> Version:
        return await self._write(uploads.complete_upload, upload_id, parts, draft, conditions, self._clock.instant())

    async def find_completed(self, upload_id: UploadId, parts: Sequence[CompletedPart], bucket_id: BucketId, key: ObjectKey) -> Version:
        return await self._list(uploads.find_completed, upload_id, parts, bucket_id, key)

    async def abort_upload(self, upload_id: UploadId, *, now_ms: int) -> None:
        await self._write(uploads.abort_upload, upload_id, now_ms)

    async def list_uploads(
        self, bucket_id: BucketId, *, prefix: str, delimiter: str, after_key: str, after_upload: str, limit: int
    ) -> UploadPage:
        return await self._list_early(
            listing.list_uploads,
            bucket_id,
            prefix=prefix,
            delimiter=delimiter,
            after_key=after_key,
            after_upload=after_upload,
            limit=limit,
        )
