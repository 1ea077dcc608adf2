"""Cells: sealing and opening, one AES-256-GCM message each.

The nonce is the stripe's number and a flag on the last one (the STREAM construction): under one shard key it never repeats, and a shard
cannot be cut short or reordered unnoticed. The associated data is the shard's fixed part, which the reader makes itself, with the
commitment to the key it has: a cell opens under no other data key, and as part of no other segment. So a reader that has the manifest needs
no footer.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from proxy.codec.format import TAG_SIZE
from proxy.errors import CellForged


class CellCipher:
    """Seals and opens the cells of one shard."""

    __slots__ = ("_aead", "_last_stripe", "fixed_part")

    def __init__(self, key: bytes, *, fixed_part: bytes, stripe_count: int) -> None:
        self._aead = AESGCM(key)
        self.fixed_part = fixed_part
        self._last_stripe = stripe_count - 1

    def seal(self, stripe: int, cell: bytes | memoryview) -> bytes:
        """Return the sealed cell, 16 bytes longer than `cell`."""
        return self._aead.encrypt(self._nonce(stripe), cell, self.fixed_part)

    def open(self, stripe: int, sealed: bytes | memoryview) -> bytes:
        """Return the cell. Raises `CellForged`."""
        if len(sealed) < TAG_SIZE:
            raise CellForged(f"the cell of stripe {stripe} is cut short")
        try:
            return self._aead.decrypt(self._nonce(stripe), sealed, self.fixed_part)
        except InvalidTag:
            raise CellForged(f"the cell of stripe {stripe} does not open") from None

    def _nonce(self, stripe: int) -> bytes:
        return stripe.to_bytes(11, "big") + (b"\x01" if stripe == self._last_stripe else b"\x00")
