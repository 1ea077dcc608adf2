"""What the manifest does with stores, tenants, keys and buckets."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from proxy.manifest.records import (
    AccessKey,
    AccessKeyId,
    Bucket,
    BucketId,
    BucketName,
    Caller,
    KmsKey,
    KmsKeyId,
    Look,
    Role,
    Tenant,
    TenantId,
    Versioning,
)  # fmt: skip
from proxy.manifest.sqlite import accounts, buckets, stores, uploads
from proxy.manifest.sqlite.adapter.runner import StepRunner


class Accounts(StepRunner):
    """See the protocol."""

    # Stores

    async def known_stores(self) -> frozenset[str]:
        return await self._read(stores.known_stores)

    async def know_stores(self, names: Iterable[str]) -> None:
        await self._write(stores.know_stores, tuple(names))

    # Tenants and keys

    async def add_tenant(self, tenant: Tenant) -> None:
        await self._write(accounts.add_tenant, tenant)

    async def find_tenant(self, tenant_id: TenantId) -> Tenant | None:
        return await self._glance(accounts.find_tenant, tenant_id)

    async def find_tenant_by_name(self, name: str) -> Tenant | None:
        return await self._read(accounts.find_tenant_by_name, name)

    async def find_account(self, account: str) -> Tenant | None:
        return await self._read(accounts.find_account, account)

    async def find_accounts(self, canonical_ids: Collection[str], emails: Collection[str]) -> tuple[Tenant, ...]:
        ask = self._list if emails else self._read
        return await ask(accounts.find_accounts, canonical_ids, emails)

    async def list_tenants(self) -> tuple[Tenant, ...]:
        return await self._list(accounts.list_tenants)

    async def set_tenant_enabled(self, tenant_id: TenantId, enabled: bool) -> None:  # noqa: FBT001 - the new state
        await self._write(accounts.set_tenant_enabled, tenant_id, enabled=enabled)

    async def remove_tenant(self, tenant_id: TenantId) -> None:
        await self._write(accounts.remove_tenant, tenant_id)

    async def add_access_key(self, key: AccessKey) -> None:
        await self._write(accounts.add_access_key, key)

    async def find_caller(self, access_key: AccessKeyId | None, bucket: BucketName | None, look: Look | None = None) -> Caller:
        head = self._glances.log_head()
        if head is not None and (caller := self._callers.recall(head, access_key, bucket, look)) is not None:
            return caller
        return await self._glance(self._callers.find, access_key, bucket, look, head=head)

    def recall_caller(self, access_key: AccessKeyId, bucket: BucketName, look: Look | None) -> Caller | None:
        head = self._glances.log_head()
        known = None if head is None else self._callers.recall(head, access_key, bucket, look)
        return known or self._glances.ask_at_once(self._callers.find, access_key, bucket, look, head=head)

    async def list_access_keys(self, tenant_id: TenantId) -> tuple[AccessKey, ...]:
        return await self._list(accounts.list_access_keys, tenant_id)

    async def remove_access_key(self, access_key: AccessKeyId) -> bool:
        return await self._write(accounts.remove_access_key, access_key)

    async def put_role(self, role: Role) -> None:
        await self._write(accounts.put_role, role)

    async def find_role(self, tenant_id: TenantId, name: str) -> Role | None:
        return await self._glance(accounts.find_role, tenant_id, name)

    async def list_roles(self, tenant_id: TenantId) -> tuple[Role, ...]:
        return await self._list(accounts.list_roles, tenant_id)

    async def remove_role(self, tenant_id: TenantId, name: str) -> bool:
        return await self._write(accounts.remove_role, tenant_id, name)

    async def add_kms_key(self, key: KmsKey) -> None:
        await self._write(accounts.add_kms_key, key)

    async def find_kms_key(self, key_id: KmsKeyId) -> KmsKey | None:
        return await self._glance(accounts.find_kms_key, key_id)

    async def find_kms_key_by_alias(self, tenant_id: TenantId, alias: str) -> KmsKey | None:
        return await self._read(accounts.find_kms_key_by_alias, tenant_id, alias)

    async def list_kms_keys(self, tenant_id: TenantId | None = None) -> tuple[KmsKey, ...]:
        return await self._list(accounts.list_kms_keys, tenant_id)

    async def set_kms_key_enabled(self, key_id: KmsKeyId, enabled: bool) -> None:  # noqa: FBT001 - the new state
        await self._write(accounts.set_kms_key_enabled, key_id, enabled=enabled)

    # Buckets

    async def create_bucket(self, bucket: Bucket) -> Bucket:
        return await self._write(buckets.create_bucket, bucket, self._clock.instant())

    async def find_bucket(self, name: BucketName) -> Bucket | None:
        return await self._read(buckets.find_bucket, name)

    async def list_buckets(self, tenant_id: TenantId, *, prefix: str = "", after: str = "", limit: int = 10_000) -> tuple[Bucket, ...]:
        return await self._list(buckets.list_buckets, tenant_id, prefix, after, limit)

    async def set_versioning(self, bucket_id: BucketId, versioning: Versioning) -> None:
        await self._write(buckets.set_versioning, bucket_id, versioning)

    async def put_bucket_setting(
        self, bucket_id: BucketId, setting: str, document: str | None, *, seen: Iterable[tuple[str, str | None]] = ()
    ) -> None:
        await self._write(buckets.put_bucket_setting, bucket_id, setting, document, seen, self._clock.instant())

    async def delete_bucket(self, bucket_id: BucketId) -> None:
        await self._write(uploads.delete_bucket, bucket_id, self._clock.now_ms())
