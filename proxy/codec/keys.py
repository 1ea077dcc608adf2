"""Keys: each use has a key of its own, derived from a tenant key or a data key by HKDF-SHA256. Also the ciphers of all that is not a cell.

A key made here seals one message, or one message for each nonce: cells by stripe, shares by index, the label alone. So nonces are numbers
and are never drawn at random, and no key comes near the 2^32 messages that AES-GCM allows under one key with random nonces.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from proxy.codec.format import INFO_CELLS, INFO_COMMITMENT, INFO_LABEL, INFO_SHARES, INFO_SLOTS, NONCE_SIZE
from proxy.errors import ShardMismatch

ONLY_NONCE = bytes(NONCE_SIZE)  # of a key that seals one message
_EXTRACT = HMAC(bytes(SHA256.digest_size), SHA256())  # without salt; only ever copied


class Derivation:
    """HKDF-SHA256 (RFC 5869) of one key, without salt; one block of output, 32 bytes, is all of each.

    The HMACs are `cryptography`'s, copied from the extracted key: a third of the time of `hmac.digest`, which also lets go of the
    interpreter lock, and gets it back only after whoever waits for it.
    """

    __slots__ = ("_extracted",)

    def __init__(self, key: bytes) -> None:
        extract = _EXTRACT.copy()
        extract.update(key)
        self._extracted = HMAC(extract.finalize(), SHA256())

    def expand(self, info: bytes) -> bytes:
        """Return the 32 bytes for one use."""
        expand = self._extracted.copy()
        expand.update(info + b"\x01")
        return expand.finalize()


class DerivedKeys:
    """What is derived from a data key for one segment."""

    __slots__ = ("_derivation", "_segment_id")

    def __init__(self, data_key: bytes, segment_id: bytes) -> None:
        self._derivation = Derivation(data_key)
        self._segment_id = segment_id

    def shard_key(self, shard_index: int) -> bytes:
        """Return the key of one shard's cells."""
        return self._derivation.expand(INFO_CELLS + self._segment_id + bytes((shard_index,)))

    def label_key(self) -> bytes:
        """Return the key of the segment's label."""
        return self._derivation.expand(INFO_LABEL + self._segment_id)

    def slots_key(self) -> bytes:
        """Return the key of the slots, if the segment is a pack."""
        return self._derivation.expand(INFO_SLOTS + self._segment_id)

    def commitment(self) -> bytes:
        """Return 32 bytes that no other data key yields for this segment: AES-GCM alone does not commit to its key."""
        return self._derivation.expand(INFO_COMMITMENT + self._segment_id)


class ShareCipher:
    """Wraps and unwraps the shares of one segment under a tenant key. Each share is bound to its shard's fixed part."""

    __slots__ = ("_aead",)

    def __init__(self, tenant_key: Derivation, segment_id: bytes) -> None:
        self._aead = AESGCM(tenant_key.expand(INFO_SHARES + segment_id))

    def wrap(self, shard_index: int, share: bytes, fixed_part: bytes) -> bytes:
        """Return the share, 16 bytes longer. Once an index: shares made anew are another segment's."""
        return self._aead.encrypt(_index_nonce(shard_index), share, fixed_part)

    def unwrap(self, shard_index: int, wrapped: bytes, fixed_part: bytes) -> bytes:
        """Return the share. Raises `ShardMismatch`."""
        try:
            return self._aead.decrypt(_index_nonce(shard_index), wrapped, fixed_part)
        except InvalidTag:
            raise ShardMismatch(f"the share of shard {shard_index} does not open: it is forged, or another tenant's or segment's") from None


def _index_nonce(shard_index: int) -> bytes:
    return shard_index.to_bytes(NONCE_SIZE, "big")
