"""What a step does to a bucket."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from proxy.errors import BucketExists, BucketNotEmpty, SettingChanged, TenantMissing
from proxy.manifest.plans.locks import OBJECT_LOCK, check_lock_setting, check_versioning
from proxy.manifest.records import Bucket, Tenant, Versioning


def check_new_bucket(bucket: Bucket, existing: Bucket | None, tenant: Tenant | None) -> None:
    """BucketExists; TenantMissing if it was removed meanwhile: nobody could ever delete the bucket."""
    if existing is not None:
        raise BucketExists(bucket.name, existing.tenant_id)
    if tenant is None:
        raise TenantMissing(f"no tenant {bucket.tenant_id}")


def with_setting(bucket: Bucket, setting: str, document: str | None, seen: Iterable[tuple[str, str | None]] = ()) -> Bucket:
    """Return the bucket with a setting changed, or without it. BucketLocked: object lock needs versioning, and does not end.

    SettingChanged where the settings in `seen`, by which the new one was made, are others by now.
    """
    for name, was in seen:
        if bucket.settings.get(name) != was:
            raise SettingChanged(f'setting "{name}" of bucket {bucket.name} was changed meanwhile')
    if setting == OBJECT_LOCK:
        check_lock_setting(bucket, document)
    settings = {name: value for name, value in bucket.settings.items() if name != setting}
    if document is not None:
        settings[setting] = document
    return replace(bucket, settings=settings)


def with_versioning(bucket: Bucket, versioning: Versioning) -> Bucket:
    """Return the bucket with versioning switched. BucketLocked."""
    check_versioning(bucket, versioning)
    return replace(bucket, versioning=versioning)


def check_empty(bucket: Bucket, *, has_versions: bool) -> None:
    """BucketNotEmpty. Uploads in progress hinder nothing: they are aborted with the bucket."""
    if has_versions:
        raise BucketNotEmpty(f"bucket {bucket.name} is not empty")
