"""The footer: what stands behind a shard's cells, and what a reader without the manifest begins with.

A reader knows a shard's name and size from a listing, and finds everything from the end: `footer_length` of the last 8 bytes says how many
to fetch. It refuses whatever it does not know. What it reads is only what a store says, until a cell, a share or the label has opened.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from proxy.codec.format import (
    CELL_SIZE,
    CODE_ISA_L_RS_CAUCHY,
    END,
    FIXED,
    FIXED_PART_SIZE,
    FOOTER_BASE_SIZE,
    FORMAT_VERSION,
    INDEX_AT,
    LABEL_STEP,
    MAGIC,
    MAX_SEGMENT_SIZE,
    SHARE_SIZE,
    TAG_SIZE,
    shard_name,
)  # fmt: skip
from proxy.codec.geometry import Scheme, SegmentGeometry
from proxy.errors import ShardMismatch


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedPart:
    """What a shard's cells and its share are bound to."""

    segment_id: bytes
    shard_index: int
    scheme: Scheme
    segment_size: int
    tenant_key_id: str
    commitment: bytes

    @property
    def geometry(self) -> SegmentGeometry:
        return SegmentGeometry(self.scheme, self.segment_size)

    def pack(self) -> bytes:
        """Return the 88 bytes as stored."""
        return FIXED.pack(
            MAGIC,
            FORMAT_VERSION,
            CODE_ISA_L_RS_CAUCHY,
            self.scheme.k,
            self.scheme.m,
            self.segment_id,
            self.shard_index,
            bytes(3),
            CELL_SIZE,
            self.segment_size,
            bytes.fromhex(self.tenant_key_id.replace("-", "")),  # a seventh of the time of `UUID`, at every read
            self.commitment,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Footer:
    """A whole footer."""

    sealed_label: bytes
    wrapped_share: bytes
    fixed: FixedPart
    generation: int

    @property
    def shard_name(self) -> str:
        """The upstream name of the shard that this footer belongs to."""
        return shard_name(self.fixed.segment_id, self.fixed.shard_index, self.generation)

    def pack(self) -> bytes:
        """Return the footer as stored."""
        return pack_footer(self.sealed_label, self.wrapped_share, self.fixed.pack(), generation=self.generation)


def with_index(fixed_part: bytes, shard_index: int) -> bytes:
    """Return the packed fixed part of another shard of the same segment."""
    return fixed_part[:INDEX_AT] + bytes((shard_index,)) + fixed_part[INDEX_AT + 1 :]


def pack_footer(sealed_label: bytes, wrapped_share: bytes, fixed_part: bytes, *, generation: int) -> bytes:
    """Return the footer as stored."""
    return b"".join((sealed_label, wrapped_share, fixed_part, END.pack(generation, len(sealed_label))))


def footer_length(end: bytes | memoryview) -> int:
    """Return the footer's length, from a shard's last bytes (8 are enough). Raises `ShardMismatch`."""
    if len(end) < END.size:
        raise ShardMismatch(f"a shard of {len(end)} bytes has no footer")
    _, label_size = END.unpack_from(end, len(end) - END.size)
    return FOOTER_BASE_SIZE + int(label_size)


def parse_footer(end: bytes | memoryview, *, name: str, size_bytes: int) -> Footer:
    """Read the footer at the end of the shard that is listed as `name` with `size_bytes`; `end` holds it all, and may hold more before it.

    Raises `ShardMismatch` on whatever is not a footer of this format, of this size, under this name.
    """
    length = footer_length(end)
    if len(end) < length:
        raise ShardMismatch(f"a footer of {length} bytes does not fit the {len(end)} at the end of shard {name}: {_NOT_OURS}")
    generation, label_size = END.unpack_from(end, len(end) - END.size)
    label_at = len(end) - length
    share_at = label_at + label_size
    fixed = _parse_fixed_part(bytes(end[share_at + SHARE_SIZE : share_at + SHARE_SIZE + FIXED_PART_SIZE]), name)
    footer = Footer(
        sealed_label=bytes(end[label_at:share_at]),
        wrapped_share=bytes(end[share_at : share_at + SHARE_SIZE]),
        fixed=fixed,
        generation=generation,
    )
    if label_size < LABEL_STEP + TAG_SIZE or (label_size - TAG_SIZE) % LABEL_STEP:
        raise ShardMismatch(f"shard {name}: a sealed label has no {label_size} bytes")
    if fixed.geometry.cells_size + length != size_bytes:
        raise ShardMismatch(f"shard {name} has {size_bytes} bytes; its footer tells of {fixed.geometry.cells_size + length}")
    if footer.shard_name != name:
        raise ShardMismatch(f"shard {name} has the footer of {footer.shard_name}")
    return footer


_NOT_OURS = f"it is damaged, or written in a layout that was given up before format {FORMAT_VERSION} was final"


def _parse_fixed_part(packed: bytes, name: str) -> FixedPart:
    magic, version, code, k, m, segment_id, index, zero, cell_size, segment_size, tenant, commitment = FIXED.unpack(packed)
    if magic != MAGIC:
        raise ShardMismatch(f"shard {name} does not end with a footer: {_NOT_OURS}")
    if (version, code, cell_size, zero) != (FORMAT_VERSION, CODE_ISA_L_RS_CAUCHY, CELL_SIZE, bytes(3)):
        raise ShardMismatch(f"shard {name} is of another format: version {version}, code {code}, cell {cell_size}, reserved {zero.hex()}")
    try:
        scheme = Scheme(k, m)
    except ValueError as error:
        raise ShardMismatch(f"shard {name}: {error}") from error
    if index >= scheme.n or not 0 < segment_size <= MAX_SEGMENT_SIZE:
        raise ShardMismatch(f"shard {name}: no shard {index} of a {scheme} segment of {segment_size} bytes")
    return FixedPart(
        segment_id=segment_id,
        shard_index=index,
        scheme=scheme,
        segment_size=segment_size,
        tenant_key_id=str(UUID(bytes=tenant)),
        commitment=commitment,
    )
