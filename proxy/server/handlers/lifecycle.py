"""Lifecycle: a bucket's rules, and what answers tell of them."""

from __future__ import annotations

import secrets

from proxy.manifest.records import Upload, Version
from proxy.s3.errors import S3Error
from proxy.s3.lifecycle.deciding import abort_at, expiry_header
from proxy.s3.lifecycle.reading import read_configuration
from proxy.s3.lifecycle.rules import SETTING, configuration_of, encode_configuration, told_rules
from proxy.s3.parsing import Params
from proxy.server.call import Call, moment, rows
from proxy.server.handlers.integrity import need_integrity_header
from proxy.server.handlers.versions import find_object


async def get_bucket_lifecycle_configuration(call: Call) -> dict[str, object]:
    setting = call.bucket.settings.get(SETTING)
    if setting is None:
        raise S3Error("NoSuchLifecycleConfiguration", BucketName=call.bucket.name)
    configuration = configuration_of(setting)
    return {"Rules": told_rules(configuration), "TransitionDefaultMinimumObjectSize": configuration.minimum_size}


async def put_bucket_lifecycle_configuration(call: Call) -> dict[str, object]:
    """Replace the bucket's rules. They are carried out in the background, soon, and then once a day."""
    need_integrity_header(call.headers)
    policy = call.services.policies.get(call.bucket.policy)
    configuration = read_configuration(
        _with_ids(call.document("LifecycleConfiguration")),
        minimum_size=call.text("TransitionDefaultMinimumObjectSize"),
        storage_classes=() if policy is None else policy.storage_classes.keys(),
    )
    await call.services.engine.put_bucket_setting(call.bucket, SETTING, encode_configuration(configuration))
    return {"TransitionDefaultMinimumObjectSize": configuration.minimum_size}


def _with_ids(document: Params) -> Params:
    """Return the document with an id for each rule that came without: S3 gives it one."""
    rules = rows(document, "Rules")
    return {**document, "Rules": [rule if rule.get("ID") else {**rule, "ID": secrets.token_urlsafe(36)} for rule in rules]}


async def delete_bucket_lifecycle(call: Call) -> dict[str, object]:
    await call.services.engine.put_bucket_setting(call.bucket, SETTING, None)
    return {}


async def restore_object(call: Call) -> dict[str, object]:
    """Refuse: every class here is read at once, so nothing is archived."""
    version = await find_object(call, call.bucket, key=call.key, version_id=call.text("VersionId"))
    message = "Restore is not allowed for the object's current storage class"
    raise S3Error("InvalidObjectState", message, StorageClass=version.attributes.storage_class)


def expiration(call: Call, version: Version) -> str | None:
    """Return `x-amz-expiration`: when the bucket's rules will expire a current version."""
    setting = call.bucket.settings.get(SETTING)
    if setting is None or not version.is_latest:
        return None
    attributes = version.attributes
    return expiry_header(configuration_of(setting), version.key, version.size, attributes.tags, version.modified_ms)


def abort_fields(call: Call, upload: Upload) -> dict[str, object]:
    """Return when the bucket's rules will abort an upload."""
    setting = call.bucket.settings.get(SETTING)
    found = None if setting is None else abort_at(configuration_of(setting), upload.key, upload.initiated_ms)
    return {} if found is None else {"AbortDate": moment(found[0]), "AbortRuleId": found[1]}
