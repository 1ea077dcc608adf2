"""Deleting objects: one version for good, or the latest by S3's rules of versioning; one key or a thousand."""

from __future__ import annotations

import asyncio

from proxy.errors import ProxyError
from proxy.manifest.protocol import NO_CONDITIONS, Conditions
from proxy.manifest.records import Bucket, ObjectKey, Version, VersionId
from proxy.s3.errors import S3Error
from proxy.s3.naming import check_key
from proxy.s3.parsing import Params
from proxy.server.call import Call, rows
from proxy.server.errors import translate
from proxy.server.handlers.ownership import own_bucket
from proxy.server.handlers.versions import check_version_id, is_version_id

MAX_KEYS = 1000
AT_ONCE = 64  # the manifest groups commits that wait together


async def delete_object(call: Call) -> dict[str, object]:
    """Remove the version named for good; without one, remove or hide the latest."""
    bucket = await own_bucket(call)
    named = call.text("VersionId")
    version_id = None if named is None else check_version_id(named)
    if_match = call.headers.get("if-match")
    conditions = NO_CONDITIONS if if_match is None else Conditions(if_match=if_match.strip().strip('"'))
    changed = await _delete(call, bucket, call.key, version_id, conditions)
    if version_id is not None:
        marker = changed is not None and changed.is_delete_marker
        return {"VersionId": version_id, "DeleteMarker": marker or None}
    return {} if changed is None else {"VersionId": changed.id, "DeleteMarker": True}


async def delete_objects(call: Call) -> dict[str, object]:
    """Delete up to 1,000 keys, each on its own: one that fails does not stop the rest."""
    _check_integrity_header(call)
    bucket = await own_bucket(call)
    document = call.document("Delete")
    wanted = rows(document, "Objects")
    if not 1 <= len(wanted) <= MAX_KEYS:
        raise S3Error("MalformedXML")
    outcomes = await _delete_each(call, bucket, wanted)
    errors = [outcome for outcome in outcomes if "Code" in outcome]
    deleted = [] if document.get("Quiet") is True else [outcome for outcome in outcomes if "Code" not in outcome]
    return {"Deleted": deleted, "Errors": errors}


async def _delete_each(call: Call, bucket: Bucket, wanted: list[Params]) -> list[dict[str, object]]:
    turn = asyncio.Semaphore(AT_ONCE)

    async def delete(entry: Params) -> dict[str, object]:
        async with turn:
            return await _delete_entry(call, bucket, entry)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(delete(entry)) for entry in wanted]
    return [task.result() for task in tasks]


async def _delete_entry(call: Call, bucket: Bucket, entry: Params) -> dict[str, object]:
    """Return an element of Deleted or, with a Code, of Errors."""
    key, version_id = str(entry.get("Key", "")), entry.get("VersionId")
    named = {"Key": key, "VersionId": version_id}
    try:
        check_key(key)
        wanted = None if version_id is None else _listed_version(key, str(version_id))
        changed = await _delete(call, bucket, ObjectKey(key), wanted, _conditions(entry))
    except ProxyError as error:
        answer = translate(error, writing=True)
        return {**named, "Code": answer.code, "Message": answer.message}
    if changed is None or not changed.is_delete_marker:
        return named
    return {**named, "DeleteMarker": True, "DeleteMarkerVersionId": changed.id}


async def _delete(call: Call, bucket: Bucket, key: ObjectKey, version_id: VersionId | None, conditions: Conditions) -> Version | None:
    """Return the version removed or, without a version id, the delete marker added."""
    services = call.services
    now_ms = services.clock.now_ms()
    if version_id is not None:
        _check_unconditional(conditions)
        return await services.manifest.delete_version(bucket.id, key, version_id, now_ms=now_ms)
    marker_id = services.engine.new_version_id()
    return await services.manifest.delete_latest(bucket.id, key, marker_id=marker_id, now_ms=now_ms, conditions=conditions)


def _check_unconditional(conditions: Conditions) -> None:
    """S3 User Guide, "How to perform conditional deletes": a condition is one on the current version; with another named it answers 501."""
    if conditions != NO_CONDITIONS:
        raise S3Error("NotImplemented", Header="If-Match")


def _listed_version(key: str, text: str) -> VersionId:
    """In a list S3 calls an id that never was one a version that does not exist."""
    if not is_version_id(text):
        raise S3Error("NoSuchVersion", Key=key, VersionId=text)
    return VersionId(text)


def _conditions(entry: Params) -> Conditions:
    if "LastModifiedTime" in entry or "Size" in entry:
        raise S3Error("NotImplemented", "Conditional deletes by time or size are not served")
    etag = entry.get("ETag")
    return NO_CONDITIONS if etag is None else Conditions(if_match=str(etag).strip('"'))


def _check_integrity_header(call: Call) -> None:
    """S3 deletes many keys only if the list itself is vouched for."""
    names = call.headers
    if "content-md5" not in names and "x-amz-trailer" not in names and not any(name.startswith("x-amz-checksum-") for name in names):
        raise S3Error("InvalidRequest", "Missing required header for this request: Content-MD5 OR x-amz-checksum-*")
