"""Finding the version a request means, and describing it in the answer."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from email.utils import formatdate
from functools import wraps
from typing import TypeVar

from proxy.errors import ExtentMissing
from proxy.manifest.records import NULL_VERSION, Bucket, Checksum, ObjectAttributes, ObjectKey, Readable, Version, VersionId
from proxy.s3.errors import S3Error
from proxy.s3.model import Operation
from proxy.s3.rendering import Headers, http_time, object_headers
from proxy.server.call import Answer, Call
from proxy.server.handlers.attributes import DEFAULT_CONTENT_TYPE
from proxy.server.handlers.encryption import SSE_S3_FIELDS

_VERSION_ID = re.compile(r"null|[A-Za-z0-9._-]{32}")  # as the engine draws them; AWS's have dots, too

LOOKS = 10  # an overwrite must hit the same few microseconds of each

Handled = TypeVar("Handled", bound=Answer)


def again_if_replaced(handler: Callable[[Call], Awaitable[Handled]]) -> Callable[[Call], Awaitable[Handled]]:
    """Start a handler that reads anew when the version it found was replaced before it could hold on to it.

    Finding a version and loading its parts, or its extents where they are many, are two steps of the manifest. An overwrite between them
    is no reason to say that there is no such object: there was one all the time. The handler must have changed nothing by then.
    """

    @wraps(handler)
    async def looking_again(call: Call) -> Handled:
        for _ in range(LOOKS - 1):
            try:
                return await handler(call)
            except ExtentMissing:
                continue
        return await handler(call)

    return looking_again


async def find_object(call: Call, bucket: Bucket, *, key: ObjectKey, version_id: str | None) -> Version:
    """Return the version named, or the latest. NoSuchKey, NoSuchVersion; a delete marker is 404, or 405 when named itself."""
    wanted = None if version_id is None else check_version_id(version_id)
    version = await call.services.engine.find_version(bucket, key, wanted)
    if version is None:
        raise await _not_found(call, bucket, key, version_id)
    if version.is_delete_marker:
        await _refuse_marker(call, bucket, version, named=version_id is not None)
    call.confirm(bucket, version, version_id)
    return version


async def find_readable(call: Call) -> Readable:
    """As `find_object`, of the key of the request, for a version that is to be read. The first time, it may be known already."""
    version_id, bucket, key = call.text("VersionId"), call.bucket, call.key
    readable = call.ahead.pop() if call.ahead else None
    if readable is None or readable.version.key != key:
        wanted = None if version_id is None else check_version_id(version_id)
        readable = await call.services.engine.find_readable(bucket, key, wanted)
    if readable is None:
        raise await _not_found(call, bucket, key, version_id)
    if readable.version.is_delete_marker:
        await _refuse_marker(call, bucket, readable.version, named=version_id is not None)
    call.confirm(bucket, readable.version, version_id)
    return readable


def is_version_id(text: str) -> bool:
    """Tell whether this may be a version id, of this bucket or another."""
    return _VERSION_ID.fullmatch(text) is not None


def check_version_id(text: str) -> VersionId:
    """Return a version id as clients may name it. InvalidArgument for what never was one."""
    if not is_version_id(text):
        message = "Invalid version id specified" if text else "Version id cannot be the empty string"
        raise S3Error("InvalidArgument", message, ArgumentName="versionId", ArgumentValue=text)
    return VersionId(text)


async def _not_found(call: Call, bucket: Bucket, key: ObjectKey, version_id: str | None) -> S3Error:
    """As on AWS, who may not list the bucket does not learn which keys it has."""
    if not await call.may_list(bucket):
        return S3Error("AccessDenied")
    return S3Error("NoSuchKey", Key=key) if version_id is None else S3Error("NoSuchVersion", Key=key, VersionId=version_id)


async def _refuse_marker(call: Call, bucket: Bucket, version: Version, *, named: bool) -> None:
    if not named and not await call.may_list(bucket):
        raise S3Error("AccessDenied")
    headers = {"x-amz-delete-marker": "true", "x-amz-version-id": version.id}
    if not named:
        raise S3Error("NoSuchKey", headers=headers, Key=version.key)
    headers |= {"Allow": "DELETE", "Last-Modified": formatdate(version.modified_ms // 1000, usegmt=True)}
    raise S3Error("MethodNotAllowed", headers=headers, Method=call.operation.method, ResourceType="DeleteMarker")


def is_usual(bucket: Bucket, version: Version) -> bool:
    """Tell whether what a plain read is told of a version depends on nothing but the two: see `usual_headers`."""
    attributes = version.attributes
    if version.is_delete_marker or bucket.settings or "Expires" in attributes.headers:
        return False
    return attributes == ObjectAttributes(headers=attributes.headers, acl=attributes.acl)


def usual_headers(operation: Operation, bucket: Bucket, version: Version) -> Headers:
    """Return what a plain read is told of a version, if it is a usual one."""
    return object_headers(operation, version_fields(bucket, version, SSE_S3_FIELDS))


def version_fields(bucket: Bucket, version: Version, encryption: Mapping[str, object]) -> dict[str, object]:
    """Return what every answer to a read tells of a version, as members of a result. `encryption`: what it says of that."""
    return {
        "AcceptRanges": "bytes",
        "LastModified": http_time(version.modified_ms // 1000),
        "ETag": quoted(version.etag),
        **encryption,
        "ContentType": DEFAULT_CONTENT_TYPE,
        **version.attributes.headers,
        "VersionId": shown_id(bucket, version),
    }


def shown_id(bucket: Bucket, version: Version) -> str | None:
    """Return the version id to tell: none of a bucket that never had versioning."""
    return None if bucket.versioning == "Unversioned" and version.id == NULL_VERSION else version.id


def quoted(etag: str) -> str:
    return f'"{etag}"'


def checksum_fields(checksum: Checksum | None, *, with_type: bool = True) -> dict[str, object]:
    """Return a checksum as members of a result."""
    if checksum is None:
        return {}
    fields: dict[str, object] = {f"Checksum{checksum.algorithm}": checksum.value}
    if with_type:
        fields["ChecksumType"] = checksum.type
    return fields


def written_fields(version: Version, encryption: Mapping[str, object], expiration: str | None = None) -> dict[str, object]:
    """Return what the answer to a write tells, as members of a result."""
    return {
        "ETag": quoted(version.etag),
        "Expiration": expiration,
        "VersionId": written_id(version),
        **encryption,
        **checksum_fields(version.checksum),
    }


def written_id(version: Version) -> str | None:
    """Return the version id that every answer to a write tells: one of its own, but not "null"."""
    return None if version.id == NULL_VERSION else version.id
