"""The keyring: the root key wraps tenant keys, which wrap data keys, one a version or part."""

from __future__ import annotations

import secrets
from typing import Protocol

from proxy.codec.format import (
    EPOCH_NUMBER_SIZE,
    EPOCH_PROOF_SIZE,
    INFO_EPOCH,
    INFO_JOURNAL,
    INFO_STORE,
    JOURNAL_KEY_ID,
    KEY_SIZE,
    STORE_MARK_SIZE,
)
from proxy.keyring.protocol import RootKey
from proxy.keyring.tenant import TenantCipher

__all__ = ["Keyring", "RootKey", "TenantCipher"]


class KeyHolder(Protocol):
    """A tenant, as far as its key goes."""

    @property
    def id(self) -> str: ...
    @property
    def wrapped_key(self) -> bytes: ...


class Keyring:
    """Tenant keys, unwrapped at first use and kept in memory."""

    def __init__(self, root: RootKey) -> None:
        self._root = root
        self._ciphers: dict[tuple[str, bytes], TenantCipher] = {}

    def new_tenant_key(self, tenant_id: str) -> tuple[str, bytes]:
        """Return (root key id, a fresh tenant key wrapped by it)."""
        return self._root.id, self._root.wrap(secrets.token_bytes(KEY_SIZE), context=tenant_id.encode())

    def prove_epoch(self, number: int, identity: str) -> str:
        """Return 32 hex digits that only a holder of the root key can give to this epoch of this manifest."""
        return self._root.derive(INFO_EPOCH + number.to_bytes(EPOCH_NUMBER_SIZE, "big") + bytes.fromhex(identity))[:EPOCH_PROOF_SIZE].hex()

    def mark_store(self, identity: str, store: str) -> str:
        """Return 32 hex digits that stand for a store of this manifest, and tell nobody else its name."""
        return self._root.derive(INFO_STORE + bytes.fromhex(identity) + store.encode())[:STORE_MARK_SIZE].hex()

    def journal_cipher(self) -> TenantCipher:
        """Return the cipher of the manifest's copy in the stores, whose key comes from the root key alone. Raises `KeyUnavailable`."""
        return TenantCipher(JOURNAL_KEY_ID, self._root.derive(INFO_JOURNAL))

    def tenant_cipher(self, tenant: KeyHolder) -> TenantCipher:
        """Return the tenant's cipher. Raises `KeyUnavailable`."""
        cipher = self._ciphers.get((tenant.id, tenant.wrapped_key))
        if cipher is None:
            key = self._root.unwrap(tenant.wrapped_key, context=tenant.id.encode())
            cipher = self._ciphers[tenant.id, tenant.wrapped_key] = TenantCipher(tenant.id, key)
        return cipher
