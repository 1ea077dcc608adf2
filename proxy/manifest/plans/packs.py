"""Which versions may change from one slot to another: those of which nothing has changed since the other was made for them."""

from __future__ import annotations

from proxy.manifest.packs import SlotMove
from proxy.manifest.records import Bucket, Version


def may_move(version: Version | None, bucket: Bucket | None, move: SlotMove, policy: str) -> bool:
    """Tell whether a version is still the one to be moved, uses just the slot that was read, and belongs under this policy."""
    if version is None or bucket is None:
        return False
    is_same = (version.id, version.sequence, version.extents) == (move.user.version_id, move.user.sequence, (move.old,))
    return is_same and bucket.policy == policy and version.attributes.storage_class == move.storage_class
