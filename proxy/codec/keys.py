"""Keys of a segment: from the data key to one key a shard, and the commitment that ties a header to its data key."""

from __future__ import annotations

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from proxy.codec.format import COMMITMENT_SIZE, FORMAT_VERSION


class DerivedKeys:
    """What is derived from a data key for one segment, by HKDF-SHA256 (RFC 5869) without salt; one block of output is all of each.

    The HMACs are `cryptography`'s, copied from the extracted key: a third of the time of `hmac.digest`, which also lets go of the
    interpreter lock, and gets it back only after whoever waits for it.
    """

    __slots__ = ("_extracted", "_segment_id")

    def __init__(self, data_key: bytes, segment_id: bytes) -> None:
        extract = HMAC(bytes(SHA256.digest_size), SHA256())
        extract.update(data_key)
        self._extracted = HMAC(extract.finalize(), SHA256())
        self._segment_id = segment_id

    def shard_key(self, shard_index: int) -> bytes:
        """Return the AES-256 key of one shard's cells."""
        return self._expand(b"shardgate shard v%d " % FORMAT_VERSION + self._segment_id + bytes([shard_index]))

    def commitment(self) -> bytes:
        """Return 16 bytes that no other data key yields for this segment: AES-GCM alone does not commit to its key."""
        return self._expand(b"shardgate commitment v%d " % FORMAT_VERSION + self._segment_id)[:COMMITMENT_SIZE]

    def _expand(self, info: bytes) -> bytes:
        expand = self._extracted.copy()
        expand.update(info + b"\x01")
        return expand.finalize()
