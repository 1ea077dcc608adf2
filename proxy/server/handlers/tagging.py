"""Tags of buckets and of object versions."""

from __future__ import annotations

import json
from collections.abc import Mapping

from proxy.manifest.drafts import AttributeChange
from proxy.s3.errors import S3Error
from proxy.s3.tagging import MAX_BUCKET_TAGS, MAX_OBJECT_TAGS, check_tags
from proxy.server.call import Call, rows
from proxy.server.handlers.versions import find_object, shown_id

TAGGING = "tagging"  # its name among the bucket's settings


async def get_bucket_tagging(call: Call) -> dict[str, object]:
    document = call.bucket.settings.get(TAGGING)
    if document is None:
        raise S3Error("NoSuchTagSet", BucketName=call.bucket.name)
    return {"TagSet": _tag_set(json.loads(document))}


async def put_bucket_tagging(call: Call) -> dict[str, object]:
    tags = check_tags(rows(call.document("Tagging"), "TagSet"), limit=MAX_BUCKET_TAGS)
    await call.services.engine.put_bucket_setting(call.bucket, TAGGING, json.dumps(tags) if tags else None)
    return {}


async def delete_bucket_tagging(call: Call) -> dict[str, object]:
    await call.services.engine.put_bucket_setting(call.bucket, TAGGING, None)
    return {}


async def get_object_tagging(call: Call) -> dict[str, object]:
    version = await find_object(call, call.bucket, key=call.key, version_id=call.text("VersionId"))
    return {"TagSet": _tag_set(version.attributes.tags), "VersionId": shown_id(call.bucket, version)}


async def put_object_tagging(call: Call) -> dict[str, object]:
    tags = check_tags(rows(call.document("Tagging"), "TagSet"), limit=MAX_OBJECT_TAGS)
    return await _replace(call, tags, "ObjectTagging:Put")


async def delete_object_tagging(call: Call) -> dict[str, object]:
    return await _replace(call, {}, "ObjectTagging:Delete")


async def _replace(call: Call, tags: dict[str, str], event: str) -> dict[str, object]:
    found = await find_object(call, call.bucket, key=call.key, version_id=call.text("VersionId"))
    change = AttributeChange(tags=tags)
    version = await call.services.engine.change_attributes(call.bucket, found.key, found.id, change, cause=call.cause(event))
    return {"VersionId": shown_id(call.bucket, version)}


def _tag_set(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]
