"""What every manifest adapter promises: the durable knowledge of what lies where, named by intent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from proxy.manifest.records import (
    AccessKey,
    AccessKeyId,
    Bucket,
    BucketId,
    BucketName,
    Caller,
    Checksum,
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
    ListedVersion,
    ObjectAttributes,
    ObjectKey,
    Part,
    PartSummary,
    Readable,
    Record,
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


class Conditions(Record, frozen=True, kw_only=True, omit_defaults=True):
    """If-Match and If-None-Match of a write, checked inside the commit against the current version of the key.

    `if_match` is an ETag without quotes or "*"; unmet when there is no current object (none, or a delete marker): then
    `PreconditionUnmet(missing=True)` so the caller can answer 404. `if_none_match` is only ever "*" on writes.
    """

    if_match: str | None = None
    if_none_match: str | None = None


NO_CONDITIONS = Conditions()


class VersionDraft(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A version about to be committed. `new_layouts` become extents; `shared_extents` are referenced once more.

    Exactly one of the two is used (an empty object has neither). `id` is drawn for this attempt. The commit keeps it where versioning is
    enabled at that instant; elsewhere it makes the null version, and an older null one is replaced and its extents dereferenced: a
    versioning enabled while the body was on its way must not cost the version before. `sequence` and `is_latest` are decided there, too.

    The label of an object's last segment carries the draft, sealed before the commit. From a label alone recovery takes `versioning`, what
    the writer saw, to tell whether the version became the null one or kept `id`; the journal's record of versioning tells where a commit
    saw another. In doubt the id drawn is right: one version too many loses nothing.
    """

    bucket_id: BucketId
    key: ObjectKey
    id: VersionId
    versioning: Versioning = "Unversioned"
    is_delete_marker: bool = False
    size: int = 0
    etag: str = ""
    modified_ms: int
    attributes: ObjectAttributes = ObjectAttributes()
    checksum: Checksum | None = None
    parts: tuple[PartSummary, ...] = ()
    new_layouts: tuple[Layout, ...] = ()
    shared_extents: tuple[ExtentId, ...] = ()


class CompletedPart(Record, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a CompleteMultipartUpload request, already in ascending order."""

    number: int
    etag: str


class ObjectPage(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A page of a listing. `next_key` is the last key or common prefix of the page: the next page starts after it (and, where it is a
    common prefix, after everything beneath it). Entries and prefixes count together towards the limit, in one UTF-8 byte order."""

    versions: tuple[ListedVersion, ...]
    prefixes: tuple[str, ...]
    truncated: bool
    next_key: str = ""
    next_version: str = ""  # list_versions only: the version id of the last entry, "" after a prefix


class UploadPage(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A page of uploads, ordered by key then by initiation then by id."""

    uploads: tuple[Upload, ...]
    prefixes: tuple[str, ...]
    truncated: bool
    next_key: str = ""
    next_upload: str = ""


class Manifest(Protocol):
    """Obligations: each method is one atomic, durable, serialisable step, and returns only after it is on disk; what one process
    committed, every other sees at its next call. A raised error means nothing changed. Any call may be cancelled: it then either
    happened whole or not at all. Extents no longer referenced by any version or part are queued as garbage by the same step.

    A bucket is looked up by its name once, and then referred to by its id: while a request is under way its bucket may be deleted, and the
    name taken by another tenant. An id is never given again; once its bucket is gone, writes raise BucketMissing and reads find nothing.
    """

    @property
    def trouble(self) -> str: ...  # why this process can write nothing, in one line; empty while it can, as far as is known

    # Tenants and keys
    async def known_stores(self) -> frozenset[str]: ...
    async def know_stores(self, names: Iterable[str]) -> None: ...  # for good: a known one that is not there is missing, not new
    async def add_tenant(self, tenant: Tenant) -> None: ...  # TenantExists
    async def find_tenant(self, tenant_id: TenantId) -> Tenant | None: ...
    async def find_tenant_by_name(self, name: str) -> Tenant | None: ...
    async def list_tenants(self) -> tuple[Tenant, ...]: ...
    async def set_tenant_enabled(self, tenant_id: TenantId, enabled: bool) -> None: ...  # noqa: FBT001 - the new state; TenantMissing
    async def remove_tenant(self, tenant_id: TenantId) -> None: ...  # TenantMissing, TenantNotEmpty; its keys go with it
    async def add_access_key(self, key: AccessKey) -> None: ...  # TenantMissing, TenantExists
    async def find_caller(self, access_key: AccessKeyId | None, bucket: BucketName | None) -> Caller: ...

    """The key with its tenant, and the bucket with its owner, in one read. What is not asked for, or not there, is None."""

    async def list_access_keys(self, tenant_id: TenantId) -> tuple[AccessKey, ...]: ...
    async def remove_access_key(self, access_key: AccessKeyId) -> bool: ...

    # Buckets
    async def create_bucket(self, bucket: Bucket) -> Bucket: ...  # with its id; BucketExists, TenantMissing
    async def find_bucket(self, name: BucketName) -> Bucket | None: ...
    async def list_buckets(self, tenant_id: TenantId, *, prefix: str = "", after: str = "", limit: int = 10_000) -> tuple[Bucket, ...]: ...
    async def set_versioning(self, bucket_id: BucketId, versioning: Versioning) -> None: ...  # never back to Unversioned; BucketMissing
    async def put_bucket_setting(self, bucket_id: BucketId, setting: str, document: str | None) -> None: ...  # None removes; BucketMissing
    async def delete_bucket(self, bucket_id: BucketId) -> None: ...  # BucketMissing, BucketNotEmpty; uploads in progress are aborted

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

    async def record_shard(self, extent_id: ExtentId, segment_id: SegmentId, shard_index: int) -> None: ...

    """A straggler arrived: take the index out of the segment's `missing`. No error if the extent is gone meanwhile."""

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
    ) -> ObjectPage: ...

    """All versions and markers: keys ascending, newest first in a key. With `after_version` "" everything of `after_key` is skipped;
    otherwise listing resumes in `after_key` behind that version."""

    # Changing and deleting
    async def set_tags(self, bucket_id: BucketId, key: ObjectKey, version_id: VersionId | None, tags: Mapping[str, str]) -> Version: ...

    """Replace the tags of one version (the latest if None). VersionMissing (also for a delete marker)."""

    async def delete_version(self, bucket_id: BucketId, key: ObjectKey, version_id: VersionId, *, now_ms: int) -> Version | None: ...

    """Remove one version for good; the next newest becomes latest. Return what was removed, None if it was not there."""

    async def delete_latest(
        self, bucket_id: BucketId, key: ObjectKey, *, marker_id: VersionId, now_ms: int, conditions: Conditions = NO_CONDITIONS
    ) -> Version | None: ...

    """S3's DELETE without a version id. The bucket's versioning at this instant decides: Unversioned removes the null version and returns
    None; Enabled adds a delete marker with `marker_id`; Suspended replaces the null version by a null delete marker.
    Returns the marker added."""

    # Multipart
    async def begin_upload(self, upload: Upload) -> None: ...  # BucketMissing
    async def find_upload(self, bucket_id: BucketId, key: ObjectKey, upload_id: UploadId) -> Upload | None: ...
    async def commit_part(
        self, upload_id: UploadId, part: Part, *, new_layouts: Sequence[Layout] = (), shared_extents: Sequence[ExtentId] = (),
        settlements: Sequence[Settlement] = ()
    ) -> Part: ...  # fmt: skip

    """Add or replace a part. UploadMissing, IntentRevoked, ExtentMissing. The returned part carries its extents."""

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

    # Collecting
    async def release_unused(self, settlements: Sequence[Settlement]) -> None: ...

    """Settle ids under which nothing was ever put: there is nothing to collect of them."""

    async def spread_garbage(self, configured: Iterable[str], *, limit: int) -> int: ...

    """Turn the oldest garbage of unknown placement into a search of every store, those known and those configured; return how many."""

    async def due_garbage(self, store: str, *, before_ms: int, limit: int) -> tuple[Garbage, ...]: ...

    """What is due in one store, oldest first. Nothing is claimed: deleting twice is harmless, and one job collects at a time."""

    async def finish_garbage(self, gone: Sequence[Garbage], *, put_off: Sequence[Garbage] = (), due_ms: int = 0) -> None: ...

    """Forget what is deleted, and put what could not be at a later place in its store's queue."""

    async def count_garbage(self, *, limit: int = 1_000_000) -> Mapping[str, int]: ...

    """What is queued by store, "" for what may lie in any; of each, no more than `limit` are counted, so that asking costs little."""

    # Background jobs: what a turn does is in `proxy.manifest.jobs`
    async def list_jobs(self) -> tuple[Job, ...]: ...
    async def find_job(self, name: str) -> Job: ...  # a new one if it has never run
    async def take_job(self, name: str, holder: str, *, now_ms: int, lease_ms: int) -> Job | None: ...  # None: not now
    async def extend_job(self, name: str, holder: str, *, now_ms: int, lease_ms: int) -> Job | None: ...  # None: somebody else's
    async def finish_job(self, name: str, holder: str, report: JobReport, *, now_ms: int) -> Job | None: ...  # None: somebody else's
    async def report_job(self, name: str, report: JobReport, *, now_ms: int) -> None: ...  # of one that every process runs
    async def give_job_back(self, name: str, holder: str) -> None: ...
    async def pause_job(self, name: str, paused: bool) -> None: ...  # noqa: FBT001 - the new state

    # The epoch: see `proxy.engine.epoch`
    @property
    def changed_ms(self) -> int: ...  # when this process last asked for a change that a copy of the manifest would miss; 0: never

    async def find_epoch(self) -> Epoch: ...
    async def move_epoch(self, *, now_ms: int) -> Epoch: ...  # to the next number

    async def fence(self, reason: str) -> None: ...

    """From now on every change, by whatever process, raises `ManifestFenced` with the reason."""

    async def accept_epoch(self, *, above: int, now_ms: int) -> Epoch: ...

    """Lift the fence: the number becomes higher than any before and than `above`, and live leases are forgotten, none of their ids
    queued. A commit under one of them raises `IntentRevoked`."""

    # Counting
    async def count_missing_shards(self, *, limit: int = 1_000_000) -> int: ...  # counted no further than this: some 40 ms
    async def find_missing_shards(self, *, limit: int) -> tuple[tuple[ExtentId, Segment, int], ...]: ...

    """Shards recorded as missing at commit and not arrived since: (extent, segment, shard index)."""
