"""Sealed messages: each under a key of its own, derived from a long-lived key and 24 random bytes that are stored before it.

AES-GCM with random nonces bears 2^32 messages under one key: at 1,500 PUTs a second a tenant's data keys would reach that in 33 days. Here
a key seals one message, so its nonce may be fixed. Two of 2^64 messages draw the same 24 bytes with a chance of 2^-65. The idea is that of
XAES-256-GCM (C2SP), with HKDF in place of its CMAC: one derivation of keys in the format is enough.
"""

from __future__ import annotations

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from proxy.codec.format import SALT_SIZE
from proxy.codec.keys import ONLY_NONCE, Derivation
from proxy.errors import KeyUnavailable


def seal_message(key: Derivation, use: bytes, message: bytes, context: bytes) -> bytes:
    """Return the message sealed, 40 bytes longer. `use` is one of the format's infos; `context` must be given again."""
    salt = secrets.token_bytes(SALT_SIZE)
    return salt + AESGCM(key.expand(use + salt)).encrypt(ONLY_NONCE, message, context)


def open_message(key: Derivation, use: bytes, sealed: bytes, context: bytes) -> bytes:
    """Return the message. Raises `KeyUnavailable`."""
    salt = sealed[:SALT_SIZE]
    try:
        return AESGCM(key.expand(use + salt)).decrypt(ONLY_NONCE, sealed[SALT_SIZE:], context)
    except InvalidTag:
        raise KeyUnavailable("it was sealed under another key, changed, or written in an older layout") from None
