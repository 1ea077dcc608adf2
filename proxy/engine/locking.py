"""The lock that a bucket gives to new versions."""

from __future__ import annotations

from msgspec.structs import replace

from proxy.manifest.plans.locks import OBJECT_LOCK
from proxy.manifest.records import Bucket, ObjectAttributes, Retention
from proxy.s3.object_lock import decode_default


def with_default_lock(bucket: Bucket, attributes: ObjectAttributes, *, modified_ms: int, written: int) -> ObjectAttributes:
    """Return the attributes of a new version: with the retention of the bucket's configuration, if it came with none of its own.

    It counts from when the version was made. That is told twice, and the later counts: `written` does not go back with the clock.
    """
    setting = bucket.settings.get(OBJECT_LOCK)
    default = None if setting is None or attributes.retention is not None else decode_default(setting)
    if default is None:
        return attributes
    until_ms = default.until_ms(max(modified_ms, written >> 20))
    return replace(attributes, retention=Retention(mode=default.mode, until_ms=until_ms))
