"""Shard format v1: the constants of what is stored, and the header that begins every shard.

The header stands before the sealed cells, in network byte order:

    offset  size  field
         0     4  magic "SHGT"
         4     1  format version (1)
         5     1  code id (1: ISA-L Reed-Solomon, Cauchy matrix)
         6     1  k, data cells of a stripe
         7     1  m, parity cells of a stripe
         8    16  segment id
        24     1  shard index, 0 .. k+m-1
        25     3  zero
        28     4  cell size in bytes of every stripe but the last (65,536)
        32     8  segment size in plaintext bytes
        40    16  tenant key id (UUID)
        56    16  key commitment
        72    60  data key, wrapped by the tenant key
       132     4  length L of the sealed label
       136     L  label, sealed by the tenant key

The first 72 bytes are the **fixed part**: they are the associated data of every cell, so a cell cannot be moved to another
shard, segment, scheme or key. The label is outside it: it is sealed after the body's hashes are known, the cells before.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from uuid import UUID

from proxy.errors import ShardMismatch

MAGIC = b"SHGT"
FORMAT_VERSION = 1
CODE_ISA_L_RS_CAUCHY = 1

CELL_SIZE = 64 * 1024  # one cell of a full stripe: k x 64 KiB stays in a core's L2 cache while it is coded and sealed
TAG_SIZE = 16  # AES-GCM's authentication tag, behind each cell
SEALED_CELL_SIZE = CELL_SIZE + TAG_SIZE
MAX_SEGMENT_SIZE = 16 * 1024 * 1024
SEGMENT_ID_SIZE = 16
COMMITMENT_SIZE = 16
WRAPPED_KEY_SIZE = 60  # 96-bit nonce, 256-bit key, 128-bit tag

_FIXED = struct.Struct(">4sBBBB16sB3xIQ16s16s")
_TAIL = struct.Struct(f">{WRAPPED_KEY_SIZE}sI")
_INDEX_AT = 24
_NAME = re.compile(r"([0-9a-f]{2})/\1[0-9a-f]{30}-[0-9a-f]{2}")
FIXED_PART_SIZE = _FIXED.size
HEADER_BASE_SIZE = FIXED_PART_SIZE + _TAIL.size


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedPart:
    """What a shard's cells are bound to: the first 72 bytes of its header."""

    segment_id: bytes
    shard_index: int
    k: int
    m: int
    segment_size: int
    tenant_key_id: str
    commitment: bytes

    def pack(self) -> bytes:
        """Return the 72 bytes as stored."""
        return _FIXED.pack(
            MAGIC,
            FORMAT_VERSION,
            CODE_ISA_L_RS_CAUCHY,
            self.k,
            self.m,
            self.segment_id,
            self.shard_index,
            CELL_SIZE,
            self.segment_size,
            bytes.fromhex(self.tenant_key_id.replace("-", "")),
            self.commitment,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A whole shard header."""

    fixed: FixedPart
    wrapped_key: bytes
    sealed_label: bytes

    @property
    def size(self) -> int:
        """Bytes before the first sealed cell."""
        return HEADER_BASE_SIZE + len(self.sealed_label)


def with_index(fixed_part: bytes, shard_index: int) -> bytes:
    """Return the packed fixed part of another shard of the same segment."""
    return fixed_part[:_INDEX_AT] + bytes((shard_index,)) + fixed_part[_INDEX_AT + 1 :]


def pack_tail(wrapped_key: bytes, sealed_label: bytes) -> bytes:
    """Return what follows the fixed part in a header, the same in all shards of a segment."""
    return _TAIL.pack(wrapped_key, len(sealed_label)) + sealed_label


def parse_header(shard: bytes | memoryview) -> Header:
    """Read the header at the start of a shard. Anything that is not a header of this format raises `ShardMismatch`."""
    if len(shard) < HEADER_BASE_SIZE:
        raise ShardMismatch(f"a shard of {len(shard)} bytes has no header")
    magic, version, code, k, m, segment_id, index, cell_size, size, tenant, commitment = _FIXED.unpack_from(shard)
    if (magic, version, code, cell_size) != (MAGIC, FORMAT_VERSION, CODE_ISA_L_RS_CAUCHY, CELL_SIZE):
        raise ShardMismatch(f"not a shard of format {FORMAT_VERSION}: magic {magic!r}, version {version}, code {code}, cell {cell_size}")
    wrapped_key, label_size = _TAIL.unpack_from(shard, FIXED_PART_SIZE)
    if len(shard) < HEADER_BASE_SIZE + label_size:
        raise ShardMismatch(f"a label of {label_size} bytes does not fit a shard of {len(shard)}")
    fixed = FixedPart(
        segment_id=segment_id,
        shard_index=index,
        k=k,
        m=m,
        segment_size=size,
        tenant_key_id=str(UUID(bytes=tenant)),
        commitment=commitment,
    )
    label = bytes(shard[HEADER_BASE_SIZE : HEADER_BASE_SIZE + label_size])
    return Header(fixed=fixed, wrapped_key=wrapped_key, sealed_label=label)


def shard_name(segment_id: bytes, shard_index: int) -> str:
    """Return the opaque upstream name: two hex digits to fan out directories, the segment id, the index."""
    text = segment_id.hex()
    return f"{text[:2]}/{text}-{shard_index:02x}"


def is_shard_name(name: str) -> bool:
    """Tell whether an upstream name is one that `shard_name` may have given."""
    return _NAME.fullmatch(name) is not None


def segment_prefix(segment_id: bytes) -> str:
    """Return what the names of all shards of a segment begin with."""
    text = segment_id.hex()
    return f"{text[:2]}/{text}-"
