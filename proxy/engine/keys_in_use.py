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
LARGEST_KEPT = 8 * 1024 * 1024  # bytes: larger segments take long enough to read, and a few large objects would drive out all others


class KeysInUse:
    """Keys by segment. Those not asked for longest are forgotten."""

    def __init__(self) -> None:
        self._kept: OrderedDict[SegmentId, SegmentKeys] = OrderedDict()

    def of(self, layout: Layout, segment: Segment, cipher: TenantCipher) -> SegmentKeys:
        """Return the keys of one segment. Raises `KeyUnavailable`."""
        keys = self._kept.get(segment.id)
        if keys is not None:
            self._kept.move_to_end(segment.id)
            return keys
        keys = segment_keys(layout, segment, cipher)
        if segment.size <= LARGEST_KEPT:
            self._kept[segment.id] = keys
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return keys


def segment_keys(layout: Layout, segment: Segment, cipher: TenantCipher) -> SegmentKeys:
    """Unwrap a layout's data key, and derive those of one segment. Raises `KeyUnavailable`."""
    geometry = SegmentGeometry(Scheme(layout.k, layout.m), segment.size)
    return SegmentKeys(geometry, segment_id=segment.id, data_key=cipher.unwrap(layout.wrapped_key), tenant_key_id=layout.tenant_key_id)
