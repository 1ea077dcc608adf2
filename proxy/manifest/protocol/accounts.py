"""What the manifest promises about stores, tenants, keys and buckets."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Protocol

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


class Accounts(Protocol):
    """See `Manifest`."""

    # Tenants and keys
    async def known_stores(self) -> frozenset[str]: ...
    async def know_stores(self, names: Iterable[str]) -> None: ...  # for good: a known one that is not there is missing, not new
    async def add_tenant(self, tenant: Tenant) -> None: ...  # TenantExists
    async def find_tenant(self, tenant_id: TenantId) -> Tenant | None: ...
    async def find_tenant_by_name(self, name: str) -> Tenant | None: ...
    async def find_account(self, account: str) -> Tenant | None: ...  # by account id or canonical id
    async def find_accounts(self, canonical_ids: Collection[str], emails: Collection[str]) -> tuple[Tenant, ...]: ...

    """The tenants that have one of these canonical ids or e-mail addresses. An address may be of several; its case does not matter."""

    async def list_tenants(self) -> tuple[Tenant, ...]: ...
    async def set_tenant_enabled(self, tenant_id: TenantId, enabled: bool) -> None: ...  # noqa: FBT001 - the new state; TenantMissing
    async def remove_tenant(self, tenant_id: TenantId) -> None: ...  # TenantMissing, TenantNotEmpty; its keys go with it
    async def add_access_key(self, key: AccessKey) -> None: ...  # TenantMissing, TenantExists
    async def find_caller(self, access_key: AccessKeyId | None, bucket: BucketName | None, look: Look | None = None) -> Caller: ...

    """The key with its tenant, and the bucket with its owner, in one read. What is not asked for, or not there, is None.

    The same call may look up a version in the bucket; not for an access key that there is not.
    """

    def recall_caller(self, access_key: AccessKeyId, bucket: BucketName, look: Look | None) -> Caller | None:
        """As `find_caller`, if nobody need be waited for; else None."""
        ...

    async def list_access_keys(self, tenant_id: TenantId) -> tuple[AccessKey, ...]: ...
    async def remove_access_key(self, access_key: AccessKeyId) -> bool: ...

    async def put_role(self, role: Role) -> None: ...  # takes the place of one with its name; TenantMissing
    async def find_role(self, tenant_id: TenantId, name: str) -> Role | None: ...
    async def list_roles(self, tenant_id: TenantId) -> tuple[Role, ...]: ...  # by name
    async def remove_role(self, tenant_id: TenantId, name: str) -> bool: ...
    async def add_kms_key(self, key: KmsKey) -> None: ...  # TenantMissing, KmsKeyExists
    async def find_kms_key(self, key_id: KmsKeyId) -> KmsKey | None: ...
    async def find_kms_key_by_alias(self, tenant_id: TenantId, alias: str) -> KmsKey | None: ...
    async def list_kms_keys(self, tenant_id: TenantId | None = None) -> tuple[KmsKey, ...]: ...  # None: of all tenants; the oldest first
    async def set_kms_key_enabled(self, key_id: KmsKeyId, enabled: bool) -> None: ...  # noqa: FBT001 - the new state; KmsKeyMissing

    # Buckets
    async def create_bucket(self, bucket: Bucket) -> Bucket: ...  # with its id; BucketExists, TenantMissing
    async def find_bucket(self, name: BucketName) -> Bucket | None: ...
    async def list_buckets(self, tenant_id: TenantId, *, prefix: str = "", after: str = "", limit: int = 10_000) -> tuple[Bucket, ...]: ...
    async def set_versioning(
        self, bucket_id: BucketId, versioning: Versioning
    ) -> None: ...  # never back to Unversioned; BucketMissing, BucketLocked
    async def put_bucket_setting(
        self, bucket_id: BucketId, setting: str, document: str | None, *, seen: Iterable[tuple[str, str | None]] = ()
    ) -> None: ...

    """Keep a setting; None removes it. BucketMissing; BucketLocked for object lock without versioning, or its removal.

    `seen` are the settings that this one was made by, as they were. SettingChanged where one of them is another now.
    """

    async def delete_bucket(self, bucket_id: BucketId) -> None: ...  # BucketMissing, BucketNotEmpty; uploads in progress are aborted
