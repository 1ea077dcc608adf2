"""What a caller hands to the manifest and gets from its listings, beside the records that are stored."""

from __future__ import annotations

from typing import NamedTuple

from msgspec import UNSET, UnsetType

from proxy.manifest.events import Cause
from proxy.manifest.records import (
    BucketId,
    Checksum,
    ExtentRef,
    Layout,
    ListedVersion,
    ObjectAttributes,
    ObjectKey,
    PartSummary,
    Record,
    Retention,
    Upload,
    VersionId,
    Versioning,
)  # fmt: skip
from proxy.s3.object_lock import HoldStatus
from proxy.s3.policy.acl import Acl
from proxy.s3.replication import ReplicationStatus


class Conditions(Record, frozen=True, kw_only=True, omit_defaults=True):
    """The conditions of a write or deletion, checked inside the commit against the current version of the key.

    `if_match` is an ETag without quotes or "*"; unmet when there is no current object (none, or a delete marker): then
    `PreconditionUnmet(missing=True)` so the caller can answer 404. `if_none_match` is only ever "*" on writes. The others are of deletions,
    and hold where there is no object: `if_modified_at` is the second in which it was modified, `if_size` its bytes.
    """

    if_match: str | None = None
    if_none_match: str | None = None
    if_modified_at: int | None = None
    if_size: int | None = None


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
    conditional: bool = False  # its commit could refuse it: a label alone does not tell whether that happened
    written: int = 0  # rises from write to write: tells labels of one millisecond apart
    size: int = 0
    etag: str = ""
    modified_ms: int
    attributes: ObjectAttributes = ObjectAttributes()
    checksum: Checksum | None = None
    parts: tuple[PartSummary, ...] = ()
    customer_salt: bytes = b""  # of its new layout: a label tells it by this alone
    new_layouts: tuple[Layout, ...] = ()
    shared_extents: tuple[ExtentRef, ...] = ()
    default_lock: bool = False  # its retention is that of the bucket's configuration
    cause: Cause | None = None  # set for the commit alone: what those who listen are told


class PackedDraft(NamedTuple):
    """A version about to be committed whose bytes are a slot of a pack. Its draft has no layouts and no conditions."""

    draft: VersionDraft
    offset: int


class AttributeChange(Record, frozen=True, kw_only=True, omit_defaults=True):
    """What to change of what a stored version says about itself. What is UNSET stays as it is."""

    tags: dict[str, str] | UnsetType = UNSET
    acl: Acl | UnsetType | None = UNSET
    retention: Retention | UnsetType | None = UNSET  # None takes it away
    legal_hold: HoldStatus | UnsetType = UNSET
    replication: ReplicationStatus | UnsetType = UNSET
    bypass_governance: bool = False  # whoever asks may shorten or take away a retention in governance mode

    @property
    def is_copied(self) -> bool:
        """Tell whether the copies of a version in other buckets are to be changed, too."""
        return self.replication is UNSET

    @property
    def changes_lock(self) -> bool:
        return self.retention is not UNSET or self.legal_hold is not UNSET


class CompletedPart(Record, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a CompleteMultipartUpload request, already in ascending order."""

    number: int
    etag: str


class ObjectPage(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A page of a listing. `next_key` is the last key or common prefix of the page: the next page starts after it (and, where it is a
    common prefix, after everything beneath it). Entries and prefixes count together towards the limit, in one UTF-8 byte order."""

    lines: bytes  # of the entries, each behind its key: see `proxy.s3.lines`
    count: int  # of the entries
    prefixes: tuple[str, ...]
    truncated: bool
    next_key: str = ""


class VersionPage(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A page of a listing of all versions; see `ObjectPage`."""

    versions: tuple[ListedVersion, ...]
    prefixes: tuple[str, ...]
    truncated: bool
    next_key: str = ""
    next_version: str = ""  # the version id of the last entry, "" after a prefix


class UploadPage(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A page of uploads, ordered by key then by initiation then by id."""

    uploads: tuple[Upload, ...]
    prefixes: tuple[str, ...]
    truncated: bool
    next_key: str = ""
    next_upload: str = ""
