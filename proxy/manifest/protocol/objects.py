"""What the manifest promises about versions and uploads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

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
    GarbageSegment,
    Intent,
    IntentId,
    Layout,
    ObjectKey,
    Part,
    PartSummary,
    Readable,
    SegmentId,
    Settlement,
    Upload,
    UploadId,
    Version,
    VersionId,
)  # fmt: skip
from proxy.s3.policy.acl import Acl


class Objects(Protocol):
    """See `Manifest`."""

    # Writing
    async def lease_segments(self, *, owner: str, segment_ids: Sequence[SegmentId], expires_ms: int) -> Intent: ...
    async def renew_intents(self, *, owner: str, expires_ms: int) -> frozenset[IntentId]: ...

    """Extend every intent of this owner that has not been revoked, and return them. The ids of any other must not be used any more."""

    async def settle(self, settlements: Sequence[Settlement], garbage: Sequence[GarbageSegment], *, now_ms: int) -> None: ...

    """Settle ids of abandoned attempts and queue their shards, but for ids settled before. Never raises for a revoked intent: its ids are
    queued once more, for a shard may have come after they were collected. May be called twice."""

    async def revoke_expired_intents(self, *, now_ms: int) -> int: ...

    """Revoke intents past expiry; queue their unsettled ids as garbage with unknown placement; return how many ids. A day later those still
    unsettled are queued a second time, and the intents forgotten: puts of a worker that was suspended may have come late."""

    async def commit_version(
        self, draft: VersionDraft, *, conditions: Conditions = NO_CONDITIONS, settlements: Sequence[Settlement] = ()
    ) -> Version: ...

    """Make the version visible. BucketMissing, PreconditionUnmet, IntentRevoked (any settlement's intent was revoked), ExtentMissing (of
    those shared). Under versioning it adds a version; elsewhere it replaces the null one. Intents whose ids are all settled are dropped."""

    # Reading
    async def find_version(self, bucket_id: BucketId, key: ObjectKey, version_id: VersionId | None = None) -> Version | None: ...

    """The latest (delete markers included), or the one named."""

    async def find_readable(self, bucket_id: BucketId, key: ObjectKey, version_id: VersionId | None = None) -> Readable | None: ...

    """As `find_version`, with the extents it had at that instant where they are no more than 32: then no overwrite comes between."""

    async def load_parts(self, bucket_id: BucketId, version: Version) -> tuple[PartSummary, ...]: ...

    """The parts of this very version, in order; none of one not made by multipart. ExtentMissing if it was replaced or deleted."""

    async def load_extents(self, ids: Sequence[ExtentId]) -> tuple[Extent, ...]: ...  # in the order asked; ExtentMissing
    async def list_objects(self, bucket_id: BucketId, *, prefix: str, delimiter: str, after: str, limit: int) -> ObjectPage: ...

    """Latest versions that are not delete markers, keys > `after`. A common prefix <= `after` (or which `after` begins with) is skipped
    whole, and is not returned again. Cost follows the answer: one index seek per common prefix."""

    async def list_versions(
        self, bucket_id: BucketId, *, prefix: str, delimiter: str, after_key: str, after_version: str, limit: int
    ) -> VersionPage: ...

    """All versions and markers: keys ascending, newest first in a key. With `after_version` "" everything of `after_key` is skipped;
    otherwise listing resumes in `after_key` behind that version."""

    async def walk_versions(
        self, bucket_id: BucketId, *, prefix: str, after: tuple[str, int], limit: int
    ) -> tuple[Version, ...]: ...  # fmt: skip

    """All versions and markers, whole: keys ascending, newest first in a key, from behind (key, negated sequence)."""

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
    ) -> Version: ...

    """Change attributes of one version (the latest if None) in one step. VersionMissing (also for a delete marker), VersionLocked. `now_ms`
    is of the event that a cause makes."""

    async def delete_version(
        self,
        bucket_id: BucketId,
        key: ObjectKey,
        version_id: VersionId,
        *,
        now_ms: int,
        bypass_governance: bool = False,
        cause: Cause | None = None,
    ) -> Version | None: ...

    """Remove one version for good; the next newest becomes latest. Return what was removed, None if it was not there. VersionLocked."""

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
    ) -> Version | None: ...

    """S3's DELETE without a version id. The bucket's versioning at this instant decides: Unversioned removes the null version and returns
    None; Enabled adds a delete marker with `marker_id`; Suspended replaces the null version by a null delete marker.
    The marker is the bucket owner's, unless `owner` says whose. Returns the marker added; it is copied to other buckets as their rules want
    if it `replicates`, as what clients delete does."""

    def begin_delete_latest(
        self, bucket_id: BucketId, key: ObjectKey, *, marker_id: VersionId, now_ms: int
    ) -> Begun[Version | None] | None: ...

    """Begin what `delete_latest` does, if it waits for nothing but its commit; else None, and nothing has been begun."""

    # Multipart
    async def begin_upload(self, upload: Upload) -> None: ...  # BucketMissing
    async def find_upload(self, bucket_id: BucketId, key: ObjectKey, upload_id: UploadId) -> Upload | None: ...
    async def commit_part(
        self, upload_id: UploadId, part: Part, *, new_layouts: Sequence[Layout] = (), shared_extents: Sequence[ExtentRef] = (),
        settlements: Sequence[Settlement] = ()
    ) -> Part: ...  # fmt: skip

    """Add or replace a part. UploadMissing, IntentRevoked, ExtentMissing, PolicyMoved. The returned part carries its extents."""

    async def list_parts(self, upload_id: UploadId, *, after: int = 0, limit: int = 10_000) -> tuple[Part, ...]: ...
    async def complete_upload(
        self, upload_id: UploadId, parts: Sequence[CompletedPart], draft: VersionDraft, *, conditions: Conditions = NO_CONDITIONS
    ) -> Version: ...

    """Turn the parts, in this order, into the version (their extents become the version's; parts not named become garbage) and end the
    upload, in one step. `draft` has everything but the extents. UploadMissing, PartInvalid, PreconditionUnmet, BucketMissing.
    Repeating a completion that succeeded returns what `find_completed` does."""

    async def find_completed(self, upload_id: UploadId, parts: Sequence[CompletedPart], bucket_id: BucketId, key: ObjectKey) -> Version: ...

    """The version that a completion with the same parts made within the last day, while it still exists. UploadMissing."""

    async def abort_upload(self, upload_id: UploadId, *, now_ms: int) -> None: ...  # UploadMissing
    async def list_uploads(
        self, bucket_id: BucketId, *, prefix: str, delimiter: str, after_key: str, after_upload: str, limit: int
    ) -> UploadPage: ...

    """With `after_upload` "" everything of `after_key` is skipped; otherwise resume in `after_key` behind that upload."""
