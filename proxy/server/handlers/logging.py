"""Access logs: whether a bucket's requests are written down, and where."""

from __future__ import annotations

import json

from proxy.manifest.records import BucketName
from proxy.s3.access_log import SETTING, check_logging
from proxy.s3.errors import S3Error
from proxy.s3.policy.actions import Action
from proxy.server.call import Call


async def get_bucket_logging(call: Call) -> dict[str, object]:
    document = call.bucket.settings.get(SETTING)
    return {} if document is None else json.loads(document)


async def put_bucket_logging(call: Call) -> dict[str, object]:
    """Name the bucket that lines go to, which must have the same owner; a document without one turns logging off."""
    document = call.document("BucketLoggingStatus")
    target = check_logging(document)
    if target is not None:
        call.guard.check_elsewhere(Action("s3:PutObject"), target.bucket, target.prefix)
        found = await call.services.engine.find_bucket(BucketName(target.bucket))
        if found is None or found.tenant_id != call.owner.id:
            message = "The target bucket for logging does not exist, or its owner is not that of the bucket to be logged"
            raise S3Error("InvalidTargetBucketForLogging", message, TargetBucket=target.bucket)
    await call.services.engine.put_bucket_setting(call.bucket, SETTING, None if target is None else json.dumps(document))
    return {}
