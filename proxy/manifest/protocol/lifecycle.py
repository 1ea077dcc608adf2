"""What the manifest promises to those who carry out lifecycle rules: walks by index, and steps that decide anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from proxy.manifest.events import Cause
from proxy.manifest.lifecycle import DuePage, DueUploads, DueVersion, Outcome, Place, UploadPlace
from proxy.manifest.records import Bucket, BucketId, UploadId, VersionId


class Lifecycle(Protocol):
    """See `Manifest`. A walk and a step read the bucket's rules as they are then."""

    async def next_bucket_with(self, setting: str, *, after: BucketId) -> Bucket | None: ...

    """The bucket of the next higher id that has a setting of this name."""

    async def walk_due(self, bucket_id: BucketId, *, after: Place, now_ms: int, moves: bool, max_rows: int, max_due: int) -> DuePage: ...

    """Versions that the bucket's rules want something done with, in the order of keys, from behind a place: with `moves` those that go to
    another class, otherwise all others. Keys that no rule is for are not looked at. Of a version that is too young for any rule, no more is
    read than when it was made."""

    async def carry_out(
        self, bucket_id: BucketId, due: Sequence[DueVersion], *, marker_ids: Sequence[VersionId], now_ms: int, cause: Cause | None = None
    ) -> tuple[Outcome, ...]: ...

    """Expire or remove what is due, all in one step. `marker_ids`: one drawn for each. A locked version stays, and so does what the rules
    would not have now."""

    async def change_class(
        self, bucket_id: BucketId, due: DueVersion, *, policy: str, k: int, m: int, now_ms: int, cause: Cause | None = None
    ) -> Outcome: ...

    """Give a version its new storage class, if all it uses is stored under this policy and scheme."""

    async def walk_uploads(self, bucket_id: BucketId, *, after: UploadPlace, now_ms: int, max_rows: int) -> DueUploads: ...
    async def abort_due(self, bucket_id: BucketId, upload_ids: Sequence[UploadId], *, now_ms: int) -> int: ...

    """Abort those of the uploads that are due; return how many."""
