"""The website configuration of a bucket."""

from __future__ import annotations

import json

from proxy.s3.errors import S3Error
from proxy.s3.website import website_document
from proxy.server.browsers.websites import WEBSITE
from proxy.server.call import Call
from proxy.server.handlers.integrity import need_integrity_header


async def get_bucket_website(call: Call) -> dict[str, object]:
    document = call.bucket.settings.get(WEBSITE)
    if document is None:
        raise S3Error("NoSuchWebsiteConfiguration", BucketName=call.bucket.name)
    configuration: dict[str, object] = json.loads(document)
    return configuration


async def put_bucket_website(call: Call) -> dict[str, object]:
    need_integrity_header(call.headers)
    document = website_document(call.document("WebsiteConfiguration"))
    await call.services.engine.put_bucket_setting(call.bucket, WEBSITE, document)
    return {}


async def delete_bucket_website(call: Call) -> dict[str, object]:
    await call.services.engine.put_bucket_setting(call.bucket, WEBSITE, None)
    return {}
