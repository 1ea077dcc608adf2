"""The label: which bucket, key, version and part a segment belongs to, sealed into every shard's header.

The label of an object's last segment carries the whole version record, so that the buckets alone can bring the object back.
"""

from __future__ import annotations

import msgspec


class Label(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Plaintext of a label; stored as MessagePack, then sealed by the tenant key."""

    bucket: str
    key: str
    version_id: str = ""  # empty for a part
    upload_id: str = ""  # empty for a version
    part_number: int = 0
    segment: int  # 0, 1, ... within the version or part
    offset: int  # of its first byte within the version or part
    record: bytes = b""  # MessagePack of the version or part record, in the last segment only


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Label)


def encode_label(label: Label) -> bytes:
    return _encoder.encode(label)


def decode_label(data: bytes) -> Label:
    """Read a label's plaintext. Raises msgspec.DecodeError."""
    return _decoder.decode(data)
