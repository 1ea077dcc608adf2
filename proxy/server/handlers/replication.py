"""Replication: which versions of a bucket are copied to other buckets."""

from __future__ import annotations

import json
import secrets

from proxy.manifest.records import BucketName
from proxy.s3.errors import S3Error
from proxy.s3.parsing import Params
from proxy.s3.policy.actions import Action
from proxy.s3.replication import SETTING, Rule, check_replication, destinations_of
from proxy.server.call import Call, rows

_READS = (Action("s3:GetObject"), Action("s3:GetObjectVersion"))
_WRITES = (Action("s3:PutObject"), Action("s3:ReplicateObject"))
_MARKS = Action("s3:DeleteObject")


async def get_bucket_replication(call: Call) -> dict[str, object]:
    document = call.bucket.settings.get(SETTING)
    if document is None:
        raise S3Error("ReplicationConfigurationNotFoundError", BucketName=call.bucket.name)
    return {"ReplicationConfiguration": json.loads(document)}


async def put_bucket_replication(call: Call) -> dict[str, object]:
    """Take rules whose buckets keep versions and have the same owner. What is there already is not copied."""
    document = call.document("ReplicationConfiguration")
    for rule in check_replication(document):
        _check_rights(call, rule)
    if call.bucket.versioning != "Enabled":
        raise S3Error("InvalidRequest", "Versioning must be 'Enabled' on the bucket to apply a replication configuration")
    for name in sorted(destinations_of(document)):
        await _check_destination(call, name)
    kept = {**document, "Rules": [_with_id(rule) for rule in rows(document, "Rules")]}
    await call.services.engine.put_bucket_setting(call.bucket, SETTING, json.dumps(kept))
    return {}


async def delete_bucket_replication(call: Call) -> dict[str, object]:
    await call.services.engine.put_bucket_setting(call.bucket, SETTING, None)
    return {}


def _check_rights(call: Call, rule: Rule) -> None:
    """AccessDenied unless who asks may read what the rule copies, and write it where it goes."""
    for action in _READS:
        call.guard.check_elsewhere(action, call.bucket.name, rule.prefix)
    for action in (*_WRITES, _MARKS) if rule.markers else _WRITES:
        call.guard.check_elsewhere(action, rule.destination, rule.prefix)


async def _check_destination(call: Call, name: str) -> None:
    bucket = await call.services.engine.find_bucket(BucketName(name))
    if bucket is None or bucket.tenant_id != call.owner.id:
        raise S3Error("InvalidRequest", "Destination bucket must exist, and have the same owner.")
    if bucket.id == call.bucket.id:
        raise S3Error("InvalidRequest", "Destination bucket cannot be the same as the source bucket.")
    if bucket.versioning != "Enabled":
        raise S3Error("InvalidRequest", "Destination bucket must have versioning enabled.")


def _with_id(rule: Params) -> Params:
    return rule if rule.get("ID") else {**rule, "ID": secrets.token_urlsafe(12)}
