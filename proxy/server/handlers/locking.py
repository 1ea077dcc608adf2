"""Object lock: a bucket's configuration, an object's retention and legal hold."""

from __future__ import annotations

from proxy.manifest.drafts import AttributeChange
from proxy.manifest.plans.locks import OBJECT_LOCK
from proxy.manifest.records import Retention, Version
from proxy.s3.errors import S3Error
from proxy.s3.object_lock import (
    DefaultRetention,
    bypasses_governance,
    decode_default,
    encode_default,
    read_configuration,
    read_hold,
    read_retention,
)  # fmt: skip
from proxy.s3.policy.actions import Action
from proxy.server.call import Call, moment
from proxy.server.handlers.integrity import need_integrity_header
from proxy.server.handlers.versions import find_object


async def get_object_lock_configuration(call: Call) -> dict[str, object]:
    setting = call.bucket.settings.get(OBJECT_LOCK)
    if setting is None:
        raise S3Error("ObjectLockConfigurationNotFoundError", BucketName=call.bucket.name)
    configuration: dict[str, object] = {"ObjectLockEnabled": "Enabled"}
    if (default := decode_default(setting)) is not None:
        configuration["Rule"] = {"DefaultRetention": _told(default)}
    return {"ObjectLockConfiguration": configuration}


async def put_object_lock_configuration(call: Call) -> dict[str, object]:
    """Change the default retention; on a bucket without object lock, which must have versioning, it begins with this."""
    need_integrity_header(call.headers)
    default = read_configuration(call.document("ObjectLockConfiguration"))
    await call.services.engine.put_bucket_setting(call.bucket, OBJECT_LOCK, encode_default(default))
    return {}


async def get_object_retention(call: Call) -> dict[str, object]:
    retention = (await _find(call)).attributes.retention
    if retention is None:
        raise S3Error("NoSuchObjectLockConfiguration")
    return {"Retention": {"Mode": retention.mode, "RetainUntilDate": moment(retention.until_ms)}}


async def put_object_retention(call: Call) -> dict[str, object]:
    need_integrity_header(call.headers)
    _need_object_lock(call)
    wanted = read_retention(call.document("Retention"), now_ms=call.services.clock.now_ms())
    retention = None if wanted is None else Retention(mode=wanted[0], until_ms=wanted[1])
    await _change(call, AttributeChange(retention=retention, bypass_governance=bypasses_governance(call.headers)))
    return {}


async def get_object_legal_hold(call: Call) -> dict[str, object]:
    hold = (await _find(call)).attributes.legal_hold
    if hold is None:
        raise S3Error("NoSuchObjectLockConfiguration")
    return {"LegalHold": {"Status": hold}}


async def put_object_legal_hold(call: Call) -> dict[str, object]:
    need_integrity_header(call.headers)
    _need_object_lock(call)
    await _change(call, AttributeChange(legal_hold=read_hold(call.document("LegalHold"))))
    return {}


async def lock_fields(call: Call, version: Version) -> dict[str, object]:
    """Return what reading a version tells of its lock, to those who may know: as on AWS, no others are told."""
    retention, hold = version.attributes.retention, version.attributes.legal_hold
    fields: dict[str, object] = {}
    if retention is not None and await call.may(Action("s3:GetObjectRetention")):
        fields |= {"ObjectLockMode": retention.mode, "ObjectLockRetainUntilDate": moment(retention.until_ms)}
    if hold is not None and await call.may(Action("s3:GetObjectLegalHold")):
        fields["ObjectLockLegalHoldStatus"] = hold
    return fields


async def _change(call: Call, change: AttributeChange) -> None:
    found = await find_object(call, call.bucket, key=call.key, version_id=call.text("VersionId"))
    await call.services.engine.change_attributes(call.bucket, found.key, found.id, change)


async def _find(call: Call) -> Version:
    _need_object_lock(call)
    return await find_object(call, call.bucket, key=call.key, version_id=call.text("VersionId"))


def _need_object_lock(call: Call) -> None:
    if OBJECT_LOCK not in call.bucket.settings:
        raise S3Error("InvalidRequest", "Bucket is missing Object Lock Configuration")


def _told(default: DefaultRetention) -> dict[str, object]:
    return {"Mode": default.mode, "Days": default.days or None, "Years": default.years or None}
