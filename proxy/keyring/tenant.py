"""A tenant's key at work: wrapping data keys, sealing labels and secrets. Each use has a key of its own, derived by HKDF-SHA256."""

from __future__ import annotations

import hmac
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from proxy.errors import KeyUnavailable

KEY_SIZE = 32
NONCE_SIZE = 12


class TenantCipher:
    """What can be done with one tenant key. `key_id` is the tenant's id, a UUID."""

    __slots__ = ("_data_keys", "_labels", "_secrets", "key_id")

    def __init__(self, key_id: str, key: bytes) -> None:
        self.key_id = key_id
        extracted = hmac.digest(bytes(KEY_SIZE), key, "sha256")
        self._data_keys, self._labels, self._secrets = (
            AESGCM(hmac.digest(extracted, b"shardgate tenant " + use + b" v1\x01", "sha256"))
            for use in (b"data keys", b"labels", b"secrets")
        )

    def new_data_key(self) -> tuple[bytes, bytes]:
        """Return a fresh data key and its wrapped form, 60 bytes."""
        key = secrets.token_bytes(KEY_SIZE)
        return key, self._seal(self._data_keys, key)

    def unwrap(self, wrapped: bytes) -> bytes:
        return self._open(self._data_keys, wrapped, "data key")

    def seal_label(self, label: bytes) -> bytes:
        """Return the label sealed, 28 bytes longer."""
        return self._seal(self._labels, label)

    def open_label(self, sealed: bytes) -> bytes:
        return self._open(self._labels, sealed, "label")

    def seal_secret(self, secret: str) -> bytes:
        return self._seal(self._secrets, secret.encode())

    def open_secret(self, sealed: bytes) -> str:
        return self._open(self._secrets, sealed, "secret").decode()

    def _seal(self, aead: AESGCM, data: bytes) -> bytes:
        nonce = secrets.token_bytes(NONCE_SIZE)
        return nonce + aead.encrypt(nonce, data, self.key_id.encode())

    def _open(self, aead: AESGCM, sealed: bytes, what: str) -> bytes:
        try:
            return aead.decrypt(sealed[:NONCE_SIZE], sealed[NONCE_SIZE:], self.key_id.encode())
        except (InvalidTag, ValueError):  # ValueError: too short to hold a nonce
            raise KeyUnavailable(f"the key of tenant {self.key_id} does not open this {what}") from None
