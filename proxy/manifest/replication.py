"""Replicas: versions that are still to be copied to another bucket."""

from __future__ import annotations

from proxy.manifest.records import Bucket, BucketName, ObjectKey, Record, VersionId

LONGEST_DELAY_MS = 15 * 60 * 1000  # no replica is put off for longer


class PendingReplica(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A version that one destination is to be made the same as. `sequence` rises: of one key, the versions are copied in this order."""

    sequence: int
    bucket: Bucket | None  # the source; None: it is gone
    key: ObjectKey
    version_id: VersionId
    destination: BucketName
    storage_class: str = ""  # "": that of the source
    since_ms: int
