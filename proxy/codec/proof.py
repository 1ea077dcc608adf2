"""The proof of a whole shard: that it is what was put under its name, down to the last byte."""

from __future__ import annotations

import hmac

from proxy.codec.footer import Footer, parse_footer
from proxy.codec.format import FOOTER_BASE_SIZE, LABEL_STEP, TAG_SIZE, footer_size
from proxy.codec.geometry import SegmentGeometry
from proxy.codec.segment import SegmentKeys
from proxy.errors import ShardMismatch


def prove_shard(keys: SegmentKeys, whole: bytes | memoryview, *, name: str, shard_index: int) -> Footer:
    """Open every cell and the label of the shard that lies under `name`; return its footer, whose share is still to be opened.

    Raises `ShardMismatch` and `CellForged`. Each cell is forgotten once it has opened.
    """
    footer = parse_footer(whole, name=name, size_bytes=len(whole))
    if not hmac.compare_digest(footer.fixed.pack(), keys.fixed_part(shard_index)):
        raise ShardMismatch(f"shard {name} has a footer of another segment, scheme or key")
    view, cipher, room = memoryview(whole), keys.cipher(shard_index), memoryview(bytearray(keys.geometry.cell_size(0)))
    for stripe in range(keys.geometry.stripe_count):
        start, length = keys.geometry.cells_span(stripe, stripe)
        cipher.open_into(stripe, view[start : start + length], room)
    keys.label_cipher().open(footer.sealed_label)
    return footer


def smallest_shard_size(geometry: SegmentGeometry) -> int:
    """Return the bytes of a shard whose label takes one step: there is no smaller one of the segment."""
    return geometry.cells_size + footer_size(LABEL_STEP + TAG_SIZE)


def is_shard_size(geometry: SegmentGeometry, size_bytes: int) -> bool:
    """Tell whether a shard of such a segment may have this size: how long its label is, nobody but the shard itself remembers."""
    label = size_bytes - geometry.cells_size - FOOTER_BASE_SIZE - TAG_SIZE
    return label > 0 and label % LABEL_STEP == 0
