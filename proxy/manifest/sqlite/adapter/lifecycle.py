"""What the manifest does for lifecycle rules."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.manifest.events import Cause
from proxy.manifest.lifecycle import DuePage, DueUploads, DueVersion, Outcome, Place, UploadPlace
from proxy.manifest.records import Bucket, BucketId, UploadId, VersionId
from proxy.manifest.sqlite import due as due_versions
from proxy.manifest.sqlite import due_uploads, lifecycle
from proxy.manifest.sqlite.adapter.runner import StepRunner


class Lifecycle(StepRunner):
    """See the protocol."""

    async def next_bucket_with(self, setting: str, *, after: BucketId) -> Bucket | None:
        return await self._list(due_versions.next_bucket_with, setting, after)

    async def walk_due(self, bucket_id: BucketId, *, after: Place, now_ms: int, moves: bool, max_rows: int, max_due: int) -> DuePage:
        return await self._list(due_versions.walk_due, bucket_id, after, now_ms, max_rows, max_due, moves=moves)

    async def carry_out(
        self, bucket_id: BucketId, due: Sequence[DueVersion], *, marker_ids: Sequence[VersionId], now_ms: int, cause: Cause | None = None
    ) -> tuple[Outcome, ...]:
        return await self._write(lifecycle.carry_out, bucket_id, due, marker_ids, now_ms, self._clock.instant(), cause)

    async def change_class(
        self, bucket_id: BucketId, due: DueVersion, *, policy: str, k: int, m: int, now_ms: int, cause: Cause | None = None
    ) -> Outcome:
        return await self._write(lifecycle.change_class, bucket_id, due, policy, k, m, now_ms, cause)

    async def walk_uploads(self, bucket_id: BucketId, *, after: UploadPlace, now_ms: int, max_rows: int) -> DueUploads:
        return await self._list(due_uploads.walk_uploads, bucket_id, after, now_ms, max_rows)

    async def abort_due(self, bucket_id: BucketId, upload_ids: Sequence[UploadId], *, now_ms: int) -> int:
        return await self._write(due_uploads.abort_due, bucket_id, upload_ids, now_ms)
