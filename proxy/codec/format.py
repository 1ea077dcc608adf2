"""Shard format v1: every constant of what is stored, and the upstream names. `docs/FORMAT.md` describes the whole.

A shard is its sealed cells, from byte 0, and behind them the footer. In network byte order, counted from the footer's start:

    offset  size  field
         0     L  label, sealed under a key of the segment
         L    48  share of the data key, wrapped by the tenant key
      L+48    88  fixed part
     L+136     4  generation
     L+140     4  L

The fixed part:

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
        56    32  key commitment

It is known before the first cell, and it is the associated data of every cell and of the wrapped share, so neither can be moved to another
shard, segment, scheme or key. The **generation** stands outside, and no key depends on it. Repair seals a lost cell again under the same
key and nonce, and a move copies cells as they are: whatever the generation, a shard's bytes before it are the same. If it were in
the associated data, one nonce would have two tags over different data, and two such tags give away GCM's hash key.
"""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

MAGIC = b"SHGT"
FORMAT_VERSION = 1
CODE_ISA_L_RS_CAUCHY = 1

CELL_SIZE = 64 * 1024  # one cell of a full stripe: k x 64 KiB stays in a core's L2 cache while it is coded and sealed
TAG_SIZE = 16  # AES-GCM's authentication tag, behind each cell
SEALED_CELL_SIZE = CELL_SIZE + TAG_SIZE
MAX_SEGMENT_SIZE = 16 * 1024 * 1024
SEGMENT_ID_SIZE = 16
KEY_SIZE = 32  # AES-256, and one block of HKDF-SHA256
NONCE_SIZE = 12  # AES-GCM's
COMMITMENT_SIZE = 32  # two keys with one commitment take 2^128 tries to find
SHARE_SIZE = KEY_SIZE + TAG_SIZE
LABEL_STEP = 256  # labels are padded to a multiple: how long one is says little about what is in it
LABEL_LENGTH_SIZE = 4  # before the label, inside its seal
SALT_SIZE = 24  # random, of a message sealed under a key of its own: two are equal once in 2^96 messages
WRAPPED_KEY_SIZE = SALT_SIZE + KEY_SIZE + TAG_SIZE
MAX_PACK_SIZE = 4 * 1024 * 1024  # of the bodies in a pack: what one broken-off write takes with it stays small
MAX_PACK_SLOTS = 256
MAX_TABLE_SIZE = 256 * 1024  # of a pack, about: its table lies in one column, and makes all others as long
CUSTOMER_ETAG_SIZE = 16  # as an MD5
EPOCH_NUMBER_SIZE = 8
STORE_MARK_SIZE = 16
EPOCH_PROOF_SIZE = 16  # nobody but its maker checks a proof, so guessing one takes 2^127 markers

FIXED = struct.Struct(">4sBBBB16sB3sIQ16s32s")
END = struct.Struct(">II")  # generation, size of the sealed label
INDEX_AT = 24
FIXED_PART_SIZE = FIXED.size
FOOTER_BASE_SIZE = SHARE_SIZE + FIXED_PART_SIZE + END.size
MAX_GENERATION = 2**32 - 1

# What HKDF-SHA256 is told a key is for. None begins another, and what follows each has one length: no two uses give the same input.
# From a data key:
INFO_CELLS = b"shardgate v1 cells "  # + segment id + shard index
INFO_LABEL = b"shardgate v1 label "  # + segment id
INFO_COMMITMENT = b"shardgate v1 commitment "  # + segment id
INFO_SLOTS = b"shardgate v1 slots "  # + segment id
# From a tenant key:
INFO_SHARES = b"shardgate v1 shares "  # + segment id
INFO_DATA_KEY = b"shardgate v1 data key "  # + salt
INFO_SECRET = b"shardgate v1 secret "  # + salt
INFO_SESSION = b"shardgate v1 session "  # + salt
# From a customer's key:
INFO_CUSTOMER_STREAM = b"shardgate v1 customer stream "  # + salt
INFO_CUSTOMER_CHECK = b"shardgate v1 customer check "  # + salt
INFO_CUSTOMER_ETAG = b"shardgate v1 customer etag "  # + salt + MD5
# From the root key:
INFO_TENANT_KEY = b"shardgate v1 tenant key "  # + salt
INFO_STORE = b"shardgate v1 store "  # + manifest identity + name of the store
INFO_EPOCH = b"shardgate v1 epoch "  # + number + manifest identity
INFO_JOURNAL = b"shardgate v1 journal"
INFO_ROOT_KEY_ID = b"shardgate v1 root key id"

JOURNAL_KEY_ID = "00000000-0000-4000-8000-6a6f75726e61"  # stands in footers where a tenant's id would: the key of journal and checkpoints
JOURNAL_PREFIX = "j/"  # of the names of journal segments
CHECKPOINT_PREFIX = "c/"  # of checkpoints
RUN_PREFIX = "r/"  # of the runs that checkpoints refer to
DIGEST_SIZE = 32  # SHA-256: links each journal segment to the one before

_NAME = re.compile(r"([0-9a-f]{2})/(\1[0-9a-f]{30})-([0-9a-f]{2})(?:\.([1-9a-f][0-9a-f]{0,7}))?")

_COPY_NAME = re.compile(r"([jcr]/)([0-9a-f]{32})/([0-9]{20})-([0-9a-f]{32})-([0-9a-f]{2})")


class CopyName(NamedTuple):
    """The upstream name of one shard of the manifest's copy: of a journal segment, a checkpoint or a run.

    `number` is that of the journal segment, or of the one that a checkpoint follows; a run bears that of the checkpoint it was written for.
    The manifest's identity keeps two manifests apart that share a store.
    """

    prefix: str
    identity: str
    number: int
    segment_id: bytes
    shard_index: int

    def __str__(self) -> str:
        return f"{copy_prefix(self.prefix, self.identity, self.number)}{self.segment_id.hex()}-{self.shard_index:02x}"


def copy_prefix(prefix: str, identity: str, number: int) -> str:
    """Return what the names of one number begin with."""
    return f"{prefix}{identity}/{number:020d}-"


def parse_copy_name(name: str) -> CopyName | None:
    """Read a name of the manifest's copy; None if it is something else."""
    match = _COPY_NAME.fullmatch(name)
    return CopyName(match[1], match[2], int(match[3]), bytes.fromhex(match[4]), int(match[5], 16)) if match else None


def footer_size(sealed_label_size: int) -> int:
    """Return the bytes behind a shard's cells."""
    return FOOTER_BASE_SIZE + sealed_label_size


def sealed_label_size(label_size: int) -> int:
    """Return the bytes of a sealed label of `label_size` bytes."""
    return -(-(LABEL_LENGTH_SIZE + label_size) // LABEL_STEP) * LABEL_STEP + TAG_SIZE


def shard_name(segment_id: bytes, shard_index: int, generation: int = 0) -> str:
    """Return the opaque upstream name: two hex digits to fan out directories, the segment id, the index; behind it, from the second time
    on that this shard is put, the generation in hex. No name is ever used twice, so a delete that comes late hits nothing that lives."""
    text = segment_id.hex()
    return f"{text[:2]}/{text}-{shard_index:02x}" + (f".{generation:x}" if generation else "")


class ShardPlace(NamedTuple):
    """What an upstream name says of a shard."""

    segment_id: bytes
    shard_index: int
    generation: int


def parse_shard_name(name: str) -> ShardPlace | None:
    """Read a name that `shard_name` may have given; None if it is something else."""
    match = _NAME.fullmatch(name)
    return ShardPlace(bytes.fromhex(match[2]), int(match[3], 16), int(match[4] or "0", 16)) if match else None


def is_shard_name(name: str) -> bool:
    """Tell whether an upstream name is one that `shard_name` may have given."""
    return _NAME.fullmatch(name) is not None


def segment_prefix(segment_id: bytes) -> str:
    """Return what the names of all shards of a segment begin with, whatever their generation."""
    text = segment_id.hex()
    return f"{text[:2]}/{text}-"


def parse_prefix(prefix: str) -> bytes:
    """Return the id of the segment whose prefix this is."""
    return bytes.fromhex(prefix[3:-1])
