"""The CORS configuration of a bucket."""

from __future__ import annotations

import json

from proxy.s3.cors import cors_document
from proxy.s3.errors import S3Error
from proxy.server.browsers.cross_origin import CORS
from proxy.server.call import Call, rows
from proxy.server.handlers.integrity import need_integrity_header


async def get_bucket_cors(call: Call) -> dict[str, object]:
    document = call.bucket.settings.get(CORS)
    if document is None:
        raise S3Error("NoSuchCORSConfiguration", BucketName=call.bucket.name)
    return {"CORSRules": json.loads(document)}


async def put_bucket_cors(call: Call) -> dict[str, object]:
    need_integrity_header(call.headers)
    document = cors_document(rows(call.document("CORSConfiguration"), "CORSRules"))
    await call.services.engine.put_bucket_setting(call.bucket, CORS, document)
    return {}


async def delete_bucket_cors(call: Call) -> dict[str, object]:
    await call.services.engine.put_bucket_setting(call.bucket, CORS, None)
    return {}
