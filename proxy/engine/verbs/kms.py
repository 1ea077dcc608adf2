"""The verbs of KMS keys."""

from __future__ import annotations

from proxy.engine.verbs.base import Verbs
from proxy.manifest.records import KmsKey, KmsKeyId, Tenant


class KmsVerbs(Verbs):
    """Finds the keys of a tenant's keyring."""

    async def find_kms_key(self, owner: Tenant, key_id: KmsKeyId) -> KmsKey | None:
        """Return a tenant's key by its id; None also for another tenant's."""
        key = await self._manifest.find_kms_key(key_id)
        return key if key is not None and key.tenant_id == owner.id else None

    async def find_kms_key_by_alias(self, owner: Tenant, alias: str) -> KmsKey | None:
        """Return a tenant's key by its alias, without "alias/"."""
        return await self._manifest.find_kms_key_by_alias(owner.id, alias)
