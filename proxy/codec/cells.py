"""Cells: sealing and opening, one AES-256-GCM message each.

The nonce is the stripe's number and a flag on the last one (the STREAM construction): under one shard key it never repeats, and a shard
cannot be cut short or reordered unnoticed. The associated data is the shard's fixed part, which the reader makes itself, with the
commitment to the key it has: a cell opens under no other data key, and as part of no other segment. So a reader that has the manifest needs
no footer.
"""

from __future__ import annotations

from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from proxy.codec.format import TAG_SIZE
from proxy.errors import CellForged

BLOCK_SIZE = 16  # AES's
FIRST_COUNTER = 2  # of GCM's stream: block 1 enciphers the tag (NIST SP 800-38D, 7.1)


class Counter(NamedTuple):
    """Where deciphering begins: the block of GCM's stream, and how many bytes of it come before."""

    block: bytes
    skipped: int


class CellCipher:
    """Seals and opens the cells of one shard."""

    __slots__ = ("_idle_streams", "_key", "_last_stripe", "_made", "fixed_part")

    def __init__(self, key: bytes, *, fixed_part: bytes, stripe_count: int) -> None:
        self._key = key
        self._idle_streams: list[CipherContext] = []  # to be used again: to make one takes four times as long as to use it
        self._made: AESGCM | None = None
        self.fixed_part = fixed_part
        self._last_stripe = stripe_count - 1

    def seal(self, stripe: int, cell: bytes | memoryview) -> bytes:
        """Return the sealed cell, 16 bytes longer than `cell`."""
        return self._aead.encrypt(self._nonce(stripe), cell, self.fixed_part)

    def seal_into(self, stripe: int, cell: bytes | memoryview, room: memoryview) -> None:
        """Seal a cell into `room`, which has 16 bytes more."""
        self._aead.encrypt_into(self._nonce(stripe), cell, self.fixed_part, room)

    def decipher(self, stripe: int, offset: int, data: bytes | memoryview) -> bytes:
        """Return what `data`, from `offset` on in a sealed cell, was before it was sealed. NOTHING of it is authenticated.

        It is for bytes that bear a seal of their own inside the cell: the slots of a pack.
        """
        return self.decipher_from(self.counter(stripe, offset), data)

    def counter(self, stripe: int, offset: int) -> Counter:
        """Return where `decipher` begins in a cell, for whoever deciphers the same bytes again and again."""
        block, skipped = divmod(offset, BLOCK_SIZE)
        return Counter(self._nonce(stripe) + (FIRST_COUNTER + block).to_bytes(4, "big"), skipped)

    def decipher_from(self, counter: Counter, data: bytes | memoryview) -> bytes:
        """As `decipher`. NOTHING of it is authenticated."""
        stream = self._stream(counter.block)
        if counter.skipped:
            stream.update(bytes(counter.skipped))
        deciphered = stream.update(data)
        self._idle_streams.append(stream)
        return deciphered

    def open_into(self, stripe: int, sealed: bytes | memoryview, room: memoryview) -> None:
        """Open a cell into `room`, which may be longer. Raises `CellForged`, and `room` has anything in it then.

        No new memory is made for the cell: to clear it would keep other threads of Python waiting.
        """
        if len(sealed) < TAG_SIZE:
            raise CellForged(f"the cell of stripe {stripe} is cut short")
        try:
            self._aead.decrypt_into(self._nonce(stripe), sealed, self.fixed_part, room[: len(sealed) - TAG_SIZE])
        except InvalidTag:
            raise CellForged(f"the cell of stripe {stripe} does not open") from None

    @property
    def _aead(self) -> AESGCM:
        """What seals and opens whole cells: who reads slots alone needs none, and it takes more than a kilobyte."""
        if self._made is None:
            self._made = AESGCM(self._key)
        return self._made

    def _stream(self, nonce: bytes) -> CipherContext:
        """Return one that nobody else uses: threads share this cipher."""
        try:
            stream = self._idle_streams.pop()
        except IndexError:
            return Cipher(AES(self._key), CTR(nonce)).decryptor()
        stream.reset_nonce(nonce)
        return stream

    def _nonce(self, stripe: int) -> bytes:
        return stripe.to_bytes(11, "big") + (b"\x01" if stripe == self._last_stripe else b"\x00")
