"""Keys of a segment: from the data key to one key a shard, and the commitment that ties a header to its data key."""

from __future__ import annotations

import hmac

from proxy.codec.format import COMMITMENT_SIZE, FORMAT_VERSION

DATA_KEY_SIZE = 32


def shard_key(data_key: bytes, segment_id: bytes, shard_index: int) -> bytes:
    """Derive the AES-256 key of one shard's cells: HKDF-SHA256 (RFC 5869) without salt; one block of output is all of it."""
    info = b"shardgate shard v%d " % FORMAT_VERSION + segment_id + bytes([shard_index])
    return _expand(_extract(data_key), info)


def shard_keys(data_key: bytes, segment_id: bytes, count: int) -> list[bytes]:
    """Derive the keys of shards 0 .. count-1; the extraction is shared."""
    extracted = _extract(data_key)
    info = b"shardgate shard v%d " % FORMAT_VERSION + segment_id
    return [_expand(extracted, info + bytes([index])) for index in range(count)]


def key_commitment(data_key: bytes, segment_id: bytes) -> bytes:
    """Return 16 bytes that no other data key yields for this segment: AES-GCM alone does not commit to its key."""
    return _expand(_extract(data_key), b"shardgate commitment v%d " % FORMAT_VERSION + segment_id)[:COMMITMENT_SIZE]


def _extract(data_key: bytes) -> bytes:
    return hmac.digest(bytes(32), data_key, "sha256")


def _expand(extracted: bytes, info: bytes) -> bytes:
    return hmac.digest(extracted, info + b"\x01", "sha256")
