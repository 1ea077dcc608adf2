"""Keys that customers keep (SSE-C): a layer beneath the seal, so that what is stored can be kept alive by those who cannot read it.

The problem: data under a customer's key must stay unreadable without it, also for whoever has the root key, the manifest and all stores.
And yet shards of it are repaired, moved, coded anew under another scheme, and recovered from their labels, at times when no customer is
there to give a key.

The idea: what is coded and sealed, in the place of the plaintext, is the plaintext XOR a keystream: AES-256 in counter mode under a key
that is derived from the customer's key and a **salt**. All that repairs and moves works on the sealed cells, or on the enciphered bytes
between them, and needs no key. The salt lies in the layout, and in the record of the label: wherever the bytes go, it goes with them.

- **Integrity comes from the cells.** They authenticate every enciphered byte before it is deciphered. Counter mode is malleable only for
  someone who can seal cells, and that takes the data key.
- **Ranges seek.** Byte n of an extent is byte n of its keystream.
- **No keystream is ever used twice.** The salt is drawn anew for each body that is stored: for every put, every copy, every attempt to
  upload a part, whatever is known of an attempt before. Bodies stored anew under another policy are moved as they are, enciphered: the same
  bytes under the same keystream.
- **The key is never stored.** To tell a right key from a wrong one, a check value is stored, derived from the key and a salt of its own.
  It says nothing of the key, and two objects under one key do not show it. AWS keeps a salted HMAC for this, too.
- **The ETag is not the MD5 of the content**, as on AWS: it would let everyone who can list a bucket confirm a guess of what is in it. It is
  derived from that MD5, the key and the salt.

Rejected: the data key wrapped by the customer's key as well. Labels are sealed under the data key, so no recovery could tell what a shard
is; nor could repair open a cell to see whether it is whole.
"""

from __future__ import annotations

import hmac

from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from proxy.codec.format import CUSTOMER_ETAG_SIZE, INFO_CUSTOMER_CHECK, INFO_CUSTOMER_ETAG, INFO_CUSTOMER_STREAM, SALT_SIZE
from proxy.codec.keys import Derivation

_BLOCK_SIZE = 16  # AES's: the counter counts blocks


class CustomerKey:
    """A key of 32 bytes that came with a request, and goes with it."""

    __slots__ = ("_derivation",)

    def __init__(self, key: bytes) -> None:
        self._derivation = Derivation(key)

    def stream(self, salt: bytes, offset: int = 0) -> Keystream:
        """Return the keystream of a salt, from a byte on. To encipher, a salt is used for one body and never again."""
        return Keystream(self._derivation.expand(INFO_CUSTOMER_STREAM + salt), offset)

    def check_value(self, salt: bytes) -> bytes:
        """Return what is stored to know the key again: the salt, and what the key makes of it."""
        return salt + self._derivation.expand(INFO_CUSTOMER_CHECK + salt)

    def fits(self, check_value: bytes) -> bool:
        """Tell whether a check value was made with this key."""
        return hmac.compare_digest(self.check_value(check_value[:SALT_SIZE]), check_value)

    def etag(self, salt: bytes, md5: bytes) -> str:
        """Return the ETag of a body with this MD5: 32 hex digits that do not tell it."""
        return self._derivation.expand(INFO_CUSTOMER_ETAG + salt + md5)[:CUSTOMER_ETAG_SIZE].hex()


class Keystream:
    """Enciphers or deciphers a run of bytes, in order; both are the same. One thread at a time."""

    __slots__ = ("_context",)

    def __init__(self, key: bytes, offset: int) -> None:
        block, rest = divmod(offset, _BLOCK_SIZE)
        self._context: CipherContext = Cipher(AES(key), CTR(block.to_bytes(_BLOCK_SIZE, "big"))).encryptor()
        self._context.update(bytes(rest))

    def apply(self, data: bytes | memoryview) -> bytes:
        """Return the next bytes, enciphered or deciphered."""
        return self._context.update(data)
