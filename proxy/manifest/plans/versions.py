"""What a step does to the versions of one key: which is added, which go, and which is the latest.

The order of a key's versions is that of their commits, whatever the clocks say: each bears a number, one above that of the newest. Once the
newest is deleted its number may come again, so nothing refers to a version by it.

`written` tells the same where there are only labels. A clock that was set back before a restart, or another process's counter, may give a
write a lower one than what it replaces has. The manifest then raises it; the label cannot, so such a write must wait for the journal. So it
is with what was deleted before, until the journal has the deletion: if that were lost with the manifest, the two labels would be compared.
"""

from __future__ import annotations

from msgspec import UNSET
from msgspec.structs import replace

from proxy.errors import VersionMissing
from proxy.manifest.conditions import check_conditions
from proxy.manifest.drafts import AttributeChange, Conditions, VersionDraft
from proxy.manifest.plans.locks import refuse_lighter_retention, refuse_locked
from proxy.manifest.records import NULL_VERSION, Bucket, ExtentRef, ObjectAttributes, ObjectKey, Part, Record, UploadId, Version, VersionId
from proxy.s3.policy.acl import Acl


class VersionChange(Record, frozen=True, kw_only=True, omit_defaults=True):
    """The rows of one key to change, in this order."""

    removed: tuple[Version, ...] = ()
    demoted: Version | None = None  # stays, and is no longer the latest
    added: Version | None = None  # the latest from now on; without its extents, which come from its draft or its parts
    promotes: bool = False  # the newest that remains becomes the latest

    @property
    def released(self) -> tuple[ExtentRef, ...]:
        """Return the uses of extents that end."""
        return tuple(ref for version in self.removed for ref in version.extents)


NO_CHANGE = VersionChange()


def replaces_null_version(bucket: Bucket) -> bool:
    """Tell whether a commit makes the null version, so that a plan must be told of the one before, wherever it stands in the order."""
    return bucket.versioning != "Enabled"


def plan_commit(
    bucket: Bucket,
    newest: Version | None,
    null: Version | None,
    draft: VersionDraft,
    conditions: Conditions,
    *,
    gone: int = -1,
    upload_id: UploadId | None = None,
) -> VersionChange:
    """Put a version above the newest of its key; `upload_id` is of the upload that it completes. PreconditionUnmet.

    `gone`: the number of what was deleted of this key, if the journal may not have that yet.
    """
    check_conditions(newest, conditions)
    return _on_top(bucket, newest, null, draft, upload_id, gone=gone)


def plan_delete_latest(
    bucket: Bucket,
    newest: Version | None,
    null: Version | None,
    key: ObjectKey,
    *,
    marker_id: VersionId,
    now_ms: int,
    conditions: Conditions,
    owner: Acl | None = None,
) -> VersionChange:
    """Delete a key as S3 does without a version id: by a marker on top, except where there was never any versioning. PreconditionUnmet.

    `owner` says whose the marker is, if it is not the bucket owner's.
    """
    check_conditions(newest, conditions)
    if bucket.versioning == "Unversioned":  # there is one version at most, the null one
        if newest is not None:
            refuse_locked(newest, trusted_ms=0)
        return NO_CHANGE if newest is None else VersionChange(removed=(newest,))
    attributes = ObjectAttributes(acl=owner)
    draft = VersionDraft(bucket_id=bucket.id, key=key, id=marker_id, is_delete_marker=True, modified_ms=now_ms, attributes=attributes)
    return _on_top(bucket, newest, null, draft, None)


def plan_delete_version(version: Version | None, *, trusted_ms: int, bypass_governance: bool = False) -> VersionChange:
    """Remove one version for good, if it is there. VersionLocked."""
    if version is None:
        return NO_CHANGE
    refuse_locked(version, trusted_ms=trusted_ms, bypass_governance=bypass_governance)
    return VersionChange(removed=(version,), promotes=version.is_latest)


def plan_attributes(version: Version | None, change: AttributeChange, *, trusted_ms: int) -> Version:
    """Return the version with other attributes. VersionMissing, also of a delete marker; VersionLocked."""
    if version is None or version.is_delete_marker:
        raise VersionMissing("there is no such version to change")
    attributes = version.attributes
    if change.tags is not UNSET:
        attributes = replace(attributes, tags=change.tags)
    if change.acl is not UNSET:
        attributes = replace(attributes, acl=change.acl)
    if change.legal_hold is not UNSET:
        attributes = replace(attributes, legal_hold=change.legal_hold)
    if change.retention is not UNSET:
        refuse_lighter_retention(attributes, change.retention, trusted_ms=trusted_ms, bypass_governance=change.bypass_governance)
        attributes = replace(attributes, retention=change.retention)
    if change.replication is not UNSET:
        attributes = replace(attributes, replication=change.replication)
    return replace(version, attributes=attributes)


def is_same(stored: Version | None, found: Version) -> bool:
    """Tell whether what is stored now is the version found before: attributes may have changed, data moved, others come above it."""
    return stored is not None and found == replace(stored, attributes=found.attributes, is_latest=found.is_latest, extents=found.extents)


def _on_top(
    bucket: Bucket, newest: Version | None, null: Version | None, draft: VersionDraft, upload_id: UploadId | None, *, gone: int = -1
) -> VersionChange:
    version_id = NULL_VERSION if replaces_null_version(bucket) else draft.id
    removed = tuple(version for version in (newest, null) if version is not None and version.id == version_id)
    for version in removed:  # where locks are, versioning is, and nothing is replaced: whatever the time may be
        refuse_locked(version, trusted_ms=0)
    draft = replace(draft, written=written_above(draft, newest, null, gone=gone))
    return VersionChange(
        removed=removed[:1],  # the newest may be the null one
        demoted=newest if newest not in removed else None,
        added=version_of(draft, version_id, sequence=1 if newest is None else newest.sequence + 1, is_latest=True, upload_id=upload_id),
    )


def order_of(written: Version | VersionDraft | Part) -> int:
    """Return a number that tells which of two writes came last. A delete marker has the time alone."""
    return written.written or written.modified_ms << 20


def written_above(new: VersionDraft | Part, *before: Version | Part | None, gone: int = -1) -> int:
    """Return what `written` must be for a write to come after others, and after what is `gone`: its own, if that does."""
    highest = max((order_of(one) for one in before if one is not None), default=-1)
    highest = max(highest, gone)
    return new.written if order_of(new) > highest else highest + 1


def version_of(draft: VersionDraft, version_id: VersionId, *, sequence: int, is_latest: bool, upload_id: UploadId | None = None) -> Version:
    """Return what a draft becomes, without its extents."""
    return Version(
        key=draft.key,
        id=version_id,
        sequence=sequence,
        is_latest=is_latest,
        is_delete_marker=draft.is_delete_marker,
        size=draft.size,
        etag=draft.etag,
        modified_ms=draft.modified_ms,
        written=draft.written,
        attributes=draft.attributes,
        checksum=draft.checksum,
        parts_count=len(draft.parts),
        upload_id=upload_id,
    )
