"""Tags of buckets and of object versions."""

from __future__ import annotations

import json
from collections.abc import Mapping

from proxy.s3.errors import S3Error
from proxy.s3.tagging import MAX_BUCKET_TAGS, MAX_OBJECT_TAGS, check_tags
from proxy.server.call import Call, rows
from proxy.server.handlers.ownership import own_bucket
from proxy.server.handlers.versions import find_object, shown_id

TAGGING = "tagging"  # its name among the bucket's settings


async def get_bucket_tagging(call: Call) -> dict[str, object]:
    bucket = await own_bucket(call)
    document = bucket.settings.get(TAGGING)
    if document is None:
        raise S3Error("NoSuchTagSet", BucketName=bucket.name)
    return {"TagSet": _tag_set(json.loads(document))}


async def put_bucket_tagging(call: Call) -> dict[str, object]:
    bucket = await own_bucket(call)
    tags = check_tags(rows(call.document("Tagging"), "TagSet"), limit=MAX_BUCKET_TAGS)
    await call.services.manifest.put_bucket_setting(bucket.id, TAGGING, json.dumps(tags) if tags else None)
    return {}


async def delete_bucket_tagging(call: Call) -> dict[str, object]:
    bucket = await own_bucket(call)
    await call.services.manifest.put_bucket_setting(bucket.id, TAGGING, None)
    return {}


async def get_object_tagging(call: Call) -> dict[str, object]:
    bucket = await own_bucket(call)
    version = await find_object(call, bucket, key=call.key, version_id=call.text("VersionId"))
    return {"TagSet": _tag_set(version.attributes.tags), "VersionId": shown_id(bucket, version)}


async def put_object_tagging(call: Call) -> dict[str, object]:
    tags = check_tags(rows(call.document("Tagging"), "TagSet"), limit=MAX_OBJECT_TAGS)
    return await _replace(call, tags)


async def delete_object_tagging(call: Call) -> dict[str, object]:
    return await _replace(call, {})


async def _replace(call: Call, tags: Mapping[str, str]) -> dict[str, object]:
    bucket = await own_bucket(call)
    found = await find_object(call, bucket, key=call.key, version_id=call.text("VersionId"))
    version = await call.services.manifest.set_tags(bucket.id, found.key, found.id, tags)
    return {"VersionId": shown_id(bucket, version)}


def _tag_set(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]
