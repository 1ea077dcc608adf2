"""The verbs of buckets."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from proxy.engine.verbs.base import Verbs
from proxy.manifest.events import Event
from proxy.manifest.records import Bucket, BucketName, Tenant, TenantId, Versioning


class BucketVerbs(Verbs):
    """Makes, finds, changes and removes buckets."""

    async def create_bucket(self, bucket: Bucket) -> Bucket:
        """Make a bucket, and return it with its id. Raises `BucketExists`."""
        return await self._manifest.create_bucket(bucket)

    async def find_bucket(self, name: BucketName) -> Bucket | None:
        return await self._manifest.find_bucket(name)

    async def list_buckets(self, owner: Tenant, *, prefix: str, after: str, limit: int) -> tuple[Bucket, ...]:
        """Return a tenant's buckets by name, from behind `after`."""
        return await self._manifest.list_buckets(owner.id, prefix=prefix, after=after, limit=limit)

    async def set_versioning(self, bucket: Bucket, versioning: Versioning) -> None:
        """Switch versioning. Raises `BucketLocked` where object lock needs it."""
        await self._manifest.set_versioning(bucket.id, versioning)

    async def put_bucket_setting(self, bucket: Bucket, setting: str, document: str | None, *, because_of: Iterable[str] = ()) -> None:
        """Keep a sub-resource with the bucket; None removes it. Raises `BucketLocked` for object lock without versioning.

        `because_of` are the settings of `bucket` that this one was made or checked by. Raises `SettingChanged` where one of them is another
        by now: the caller's reason is gone.
        """
        seen = tuple((name, bucket.settings.get(name)) for name in because_of)
        await self._manifest.put_bucket_setting(bucket.id, setting, document, seen=seen)

    async def announce(self, event: Event, targets: Iterable[str]) -> None:
        """Tell targets of an event that no step on an object makes."""
        await self._manifest.add_event(event, [(target, "") for target in targets])

    async def delete_bucket(self, bucket: Bucket) -> None:
        """Remove an empty bucket; its uploads are aborted. Raises `BucketNotEmpty`."""
        await self._manifest.delete_bucket(bucket.id)

    async def find_accounts(self, canonical_ids: Collection[str], emails: Collection[str] = ()) -> tuple[Tenant, ...]:
        """Return the tenants that have one of these ids or e-mail addresses; an address may be of several."""
        return await self._manifest.find_accounts(canonical_ids, emails)

    async def find_tenant(self, tenant_id: TenantId) -> Tenant | None:
        """Return a tenant by its id: who began an upload need not own the bucket."""
        return await self._manifest.find_tenant(tenant_id)

    async def find_account(self, account: str) -> Tenant | None:
        """Return a tenant by its account id or canonical id."""
        return await self._manifest.find_account(account)

    async def has_role(self, tenant: Tenant, name: str) -> bool:
        return await self._manifest.find_role(tenant.id, name) is not None

    async def has_user(self, tenant: Tenant, name: str) -> bool:
        """Tell whether a key of the tenant stands for a user of this name."""
        return any(key.user == name for key in await self._manifest.list_access_keys(tenant.id))
