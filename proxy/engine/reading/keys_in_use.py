"""The keys of segments that were read lately: to unwrap and derive them anew takes longer than to open a small object.

A pack has many objects, and each would otherwise ask for the same keys again. Who may use a key was decided before it is looked for here.
"""

from __future__ import annotations

from collections import OrderedDict

from proxy.codec.geometry import Scheme, SegmentGeometry
from proxy.codec.segment import SegmentKeys
from proxy.keyring import TenantCipher
from proxy.manifest.records import Layout, Segment, SegmentId

KEPT = 512  # segments, with a few kilobytes of ciphers each
LARGE_SIZE = 8 * 1024 * 1024  # bytes: larger segments are kept apart, or a few large objects would drive out all others
LARGE_KEPT = 64  # those of answers under way: they are read window by window


class KeysInUse:
    """Keys by segment. Those not asked for longest are forgotten."""

    def __init__(self) -> None:
        self._small = _Kept(KEPT)
        self._large = _Kept(LARGE_KEPT)

    def of(self, layout: Layout, segment: Segment, cipher: TenantCipher) -> SegmentKeys:
        """Return the keys of one segment. Raises `KeyUnavailable`."""
        kept = self._large if segment.size > LARGE_SIZE else self._small
        keys = kept.find(segment.id)
        if keys is None:
            keys = segment_keys(layout, segment, cipher)
            kept.add(segment.id, keys)
        return keys


class _Kept:
    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._keys: OrderedDict[SegmentId, SegmentKeys] = OrderedDict()

    def find(self, segment: SegmentId) -> SegmentKeys | None:
        keys = self._keys.get(segment)
        if keys is not None:
            self._keys.move_to_end(segment)
        return keys

    def add(self, segment: SegmentId, keys: SegmentKeys) -> None:
        self._keys[segment] = keys
        if len(self._keys) > self._limit:
            self._keys.popitem(last=False)


def segment_keys(layout: Layout, segment: Segment, cipher: TenantCipher) -> SegmentKeys:
    """Unwrap a layout's data key, and derive those of one segment. Raises `KeyUnavailable`."""
    geometry = SegmentGeometry(Scheme(layout.k, layout.m), segment.size)
    return SegmentKeys(geometry, segment_id=segment.id, data_key=cipher.unwrap(layout.wrapped_key), tenant_key_id=layout.tenant_key_id)
