"""The cipher of slots: each object in a pack is one AES-256-GCM message, which opens by itself.

The key is the pack's; the nonce is the slot's offset, and no two slots begin in one place. The associated data is the fixed part of
shard 0, as the label's is: a slot opens in no other pack.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from proxy.codec.format import NONCE_SIZE
from proxy.errors import SlotForged


class SlotCipher:
    """Seals and opens the slots of one pack."""

    __slots__ = ("_aead", "_fixed_part")

    def __init__(self, key: bytes, *, first_fixed_part: bytes) -> None:
        self._aead = AESGCM(key)
        self._fixed_part = first_fixed_part

    def seal(self, offset: int, plaintext: bytes | memoryview) -> bytes:
        """Return the sealed slot, 16 bytes longer. Once an offset."""
        return self._aead.encrypt(offset.to_bytes(NONCE_SIZE, "big"), plaintext, self._fixed_part)

    def open(self, offset: int, sealed: bytes | memoryview) -> bytes:
        """Return the plaintext. Raises `SlotForged`."""
        try:
            return self._aead.decrypt(offset.to_bytes(NONCE_SIZE, "big"), sealed, self._fixed_part)
        except InvalidTag:
            raise SlotForged(f"the slot at {offset} does not open") from None
