"""What the cache holds, by name: sealed cells, and sealed slots of packs.

A segment's id is drawn anew for every attempt to write, and what is sealed under it never changes: whatever is under a key is right for
ever, or does not open.
"""

from __future__ import annotations

from typing import NewType

from proxy.manifest.records import SegmentId

CacheKey = NewType("CacheKey", bytes)

_SLOT = b"\xff"  # no column has this number


def cell_key(segment_id: SegmentId, column: int, stripe: int) -> CacheKey:
    """Return the key of one sealed cell of a data column."""
    return CacheKey(segment_id + bytes((column,)) + stripe.to_bytes(4, "big"))


def slot_key(segment_id: SegmentId, offset: int) -> CacheKey:
    """Return the key of one sealed slot, without the seal of the cells that it lies in."""
    return CacheKey(segment_id + _SLOT + offset.to_bytes(4, "big"))
