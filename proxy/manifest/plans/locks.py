"""What a lock forbids: the rule of object lock, asked in the transaction that would break it.

A version with a legal hold is not deleted. Nor is one whose retention has not ended: in governance mode it may be by whoever has the right
to pass over that, in compliance mode by nobody. A retention may always be made longer. Made shorter, taken away or changed in mode it may
be as a version may be deleted. Source: Amazon S3 User Guide, "Object Lock retention modes".

`trusted_ms` is the time that retentions are held against: see `proxy.manifest.plans.trusted_time`.
"""

from __future__ import annotations

from msgspec.structs import replace

from proxy.errors import BucketLocked, VersionLocked
from proxy.manifest.drafts import VersionDraft
from proxy.manifest.records import Bucket, ObjectAttributes, Retention, Version, Versioning
from proxy.s3.object_lock import decode_default

OBJECT_LOCK = "object_lock"  # its name among a bucket's settings


def is_lockable(version: Version | None) -> bool:
    """Tell whether a version has anything that could forbid a change, so that the trusted time is needed."""
    return version is not None and (version.attributes.retention is not None or version.attributes.legal_hold == "ON")


def refuse_locked(version: Version, *, trusted_ms: int, bypass_governance: bool = False) -> None:
    """Raise VersionLocked unless the version may be deleted."""
    attributes = version.attributes
    if attributes.legal_hold == "ON":
        raise VersionLocked(f"version {version.id} of {version.key} has a legal hold")
    if _is_bound(attributes.retention, trusted_ms, bypass_governance=bypass_governance):
        raise VersionLocked(f"version {version.id} of {version.key} is retained")


def refuse_lighter_retention(attributes: ObjectAttributes, wanted: Retention | None, *, trusted_ms: int, bypass_governance: bool) -> None:
    """Raise VersionLocked unless the retention may be changed to what is wanted."""
    before = attributes.retention
    is_longer = before is not None and wanted is not None and wanted.mode == before.mode and wanted.until_ms >= before.until_ms
    if not is_longer and _is_bound(before, trusted_ms, bypass_governance=bypass_governance):
        raise VersionLocked("the retention can be made longer, not shorter, and its mode cannot be changed")


def with_trusted_start(bucket: Bucket, draft: VersionDraft, trusted_ms: int) -> VersionDraft:
    """Return a draft whose default retention counts from the trusted time at least: a clock that was set back makes it no shorter."""
    setting, given = bucket.settings.get(OBJECT_LOCK), draft.attributes.retention
    default = None if setting is None else decode_default(setting)
    if default is None or given is None or default.until_ms(trusted_ms) <= given.until_ms:
        return draft
    longer = replace(given, until_ms=default.until_ms(trusted_ms))
    return replace(draft, attributes=replace(draft.attributes, retention=longer))


def check_versioning(bucket: Bucket, wanted: Versioning) -> None:
    """BucketLocked if versioning would end where versions may be locked: the null version is overwritten."""
    if OBJECT_LOCK in bucket.settings and wanted != "Enabled":
        raise BucketLocked("An Object Lock configuration is present on this bucket, so the versioning state cannot be changed.")


def check_lock_setting(bucket: Bucket, document: str | None) -> None:
    """BucketLocked if object lock would be without versioning, or would end."""
    if document is None:
        raise BucketLocked("Object Lock cannot be disabled once it is enabled")
    if bucket.versioning != "Enabled":
        raise BucketLocked("Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration")


def _is_bound(retention: Retention | None, trusted_ms: int, *, bypass_governance: bool) -> bool:
    if retention is None or retention.until_ms <= trusted_ms:
        return False
    return retention.mode == "COMPLIANCE" or not bypass_governance
