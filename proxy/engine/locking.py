"""The lock that a bucket gives to new versions."""

from __future__ import annotations

from msgspec.structs import replace

from proxy.manifest.drafts import VersionDraft
from proxy.manifest.plans.locks import OBJECT_LOCK
from proxy.manifest.records import Bucket, Retention
from proxy.s3.object_lock import decode_default


def with_default_lock(bucket: Bucket, draft: VersionDraft) -> VersionDraft:
    """Return the draft of a new version with the retention of the bucket's configuration, if it came with none of its own.

    It counts from when the version was made. The commit makes it longer if the clock is behind the trusted time.
    """
    setting = bucket.settings.get(OBJECT_LOCK)
    default = None if setting is None or draft.attributes.retention is not None else decode_default(setting)
    if default is None:
        return draft
    retention = Retention(mode=default.mode, until_ms=default.until_ms(draft.modified_ms))
    return replace(draft, attributes=replace(draft.attributes, retention=retention), default_lock=True)
