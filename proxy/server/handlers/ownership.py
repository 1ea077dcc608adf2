"""Whose bucket it is: a tenant reaches its own buckets and no others."""

from __future__ import annotations

from proxy.manifest.records import Bucket, BucketName, Tenant
from proxy.s3.errors import S3Error
from proxy.server.call import Call


async def own_bucket(call: Call) -> Bucket:
    """Return the bucket of the request. NoSuchBucket, AccessDenied."""
    _check_expected_owner(call, "x-amz-expected-bucket-owner")
    return await _find(call, call.bucket)


async def own_source_bucket(call: Call, name: str) -> Bucket:
    """Return the bucket a copy reads from. NoSuchBucket, AccessDenied."""
    _check_expected_owner(call, "x-amz-source-expected-bucket-owner")
    return await _find(call, BucketName(name))


def owner_of(tenant: Tenant) -> dict[str, object]:
    """Return S3's Owner element."""
    return {"ID": tenant.canonical_id, "DisplayName": tenant.display_name}


async def _find(call: Call, name: BucketName) -> Bucket:
    bucket = await call.services.manifest.find_bucket(name)
    if bucket is None:
        raise S3Error("NoSuchBucket", BucketName=name)
    if bucket.tenant_id != call.tenant.id:
        raise S3Error("AccessDenied")
    return bucket


def _check_expected_owner(call: Call, header: str) -> None:
    """Every reachable bucket is the caller's own, so the expected owner must be the caller, by either of its ids."""
    expected = call.headers.get(header)
    if expected is not None and expected not in {call.tenant.id, call.tenant.canonical_id}:
        raise S3Error("AccessDenied")
