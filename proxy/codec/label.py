"""The label: which bucket, key, version and part a segment belongs to, sealed into every shard's footer.

The label of an object's last segment carries the whole version record, so that the buckets alone can bring the object back.

It is sealed once, with a key that is derived from the data key for this segment and seals nothing else: one nonce is enough. Its
associated data is the fixed part of shard 0, so all shards of a segment carry the same bytes, and no other segment's label opens in
their place. Repair copies it as it is.
"""

from __future__ import annotations

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from proxy.codec.format import LABEL_LENGTH_SIZE, LABEL_STEP
from proxy.codec.keys import ONLY_NONCE
from proxy.errors import ShardMismatch


class Label(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Plaintext of a label; stored as MessagePack."""

    bucket: str
    key: str
    version_id: str = ""  # empty for a part
    upload_id: str = ""  # empty for a version
    part_number: int = 0
    segment: int  # 0, 1, ... within the version or part
    offset: int  # of its first byte within the version or part
    record: bytes = b""  # MessagePack of the version or part record, in the last segment only
    table_offset: int = 0  # of a pack: where the slot with its table begins. Bucket and key are "" then
    table_size: int = 0  # of a pack: the table's plaintext bytes; 0: it is none
    stored_anew: int = 0  # of what was stored before: 1 + the number of the journal's last segment then; 0: a first write, or no journal


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Label)


def encode_label(label: Label) -> bytes:
    return _encoder.encode(label)


def decode_label(data: bytes) -> Label:
    """Read a label's plaintext. Raises msgspec.DecodeError."""
    return _decoder.decode(data)


class LabelCipher:
    """Seals and opens one segment's label."""

    __slots__ = ("_aead", "_fixed_part")

    def __init__(self, key: bytes, *, first_fixed_part: bytes) -> None:
        self._aead = AESGCM(key)
        self._fixed_part = first_fixed_part

    def seal(self, label: bytes) -> bytes:
        """Return the label sealed, padded to a step. Once a segment."""
        return self._aead.encrypt(ONLY_NONCE, _pad(label), self._fixed_part)

    def open(self, sealed: bytes) -> bytes:
        """Return the label. Raises `ShardMismatch`."""
        try:
            padded = self._aead.decrypt(ONLY_NONCE, sealed, self._fixed_part)
        except InvalidTag:
            raise ShardMismatch("the label does not open: it is forged, or another segment's") from None
        return _unpad(padded)


def _pad(label: bytes) -> bytes:
    size = LABEL_LENGTH_SIZE + len(label)
    return (len(label).to_bytes(LABEL_LENGTH_SIZE, "big") + label).ljust(-(-size // LABEL_STEP) * LABEL_STEP, b"\0")


def _unpad(padded: bytes) -> bytes:
    end = LABEL_LENGTH_SIZE + int.from_bytes(padded[:LABEL_LENGTH_SIZE], "big")
    label = padded[LABEL_LENGTH_SIZE:end]
    if padded != _pad(label):
        raise ShardMismatch(f"the label is padded to {len(padded)} bytes in a way this version does not know")
    return label
