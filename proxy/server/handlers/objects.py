"""Objects: writing, reading, and asking about them."""

from __future__ import annotations

from collections.abc import Awaitable

from msgspec.structs import replace

from proxy.manifest.drafts import NO_CONDITIONS, Conditions
from proxy.manifest.records import ObjectAttributes, PartSummary, Version
from proxy.s3.errors import S3Error
from proxy.s3.metadata import encode_metadata
from proxy.s3.preconditions import check_read
from proxy.s3.rendering import object_headers, one_line
from proxy.server.call import Call, Download, moment
from proxy.server.handlers.attributes import is_locked_by, object_attributes
from proxy.server.handlers.conditions import read_conditions, write_conditions
from proxy.server.handlers.encryption import (
    AS_EVERY_OBJECT,
    NewEncryption,
    begun_fields,
    encryption_fields,
    new_encryption,
    read_key,
    refuse_strangers,
)
from proxy.server.handlers.grants import acl_of_write
from proxy.server.handlers.integrity import has_integrity_header
from proxy.server.handlers.lifecycle import expiration
from proxy.server.handlers.listing import page_limit, part_marker
from proxy.server.handlers.locking import lock_fields
from proxy.server.handlers.plain_writes import is_plain_write, plain_attributes
from proxy.server.handlers.selection import Selection, select
from proxy.server.handlers.versions import (
    again_if_replaced,
    checksum_fields,
    find_object,
    find_readable,
    shown_id,
    version_fields,
    written_fields,
)

_OVERRIDES = {
    "ResponseCacheControl": "CacheControl",
    "ResponseContentDisposition": "ContentDisposition",
    "ResponseContentEncoding": "ContentEncoding",
    "ResponseContentLanguage": "ContentLanguage",
    "ResponseContentType": "ContentType",
    "ResponseExpires": "Expires",
}
_TOLD_BY_304 = frozenset({"etag", "last-modified", "cache-control", "expires", "vary", "x-amz-version-id"})
_ATTRIBUTES = ("ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize")


def put_object(call: Call) -> Awaitable[dict[str, object]]:
    """Store an object; the answer follows its commit."""
    return _store(call, "ObjectCreated:Put")


def post_object(call: Call) -> Awaitable[dict[str, object]]:
    """Store what a browser's form brings: its fields are the call's headers."""
    return _store(call, "ObjectCreated:Post")


async def _store(call: Call, event: str) -> dict[str, object]:
    if is_plain_write(call):
        return await _put(call, event, AS_EVERY_OBJECT, plain_attributes(call.headers), NO_CONDITIONS)
    new = await new_encryption(call)
    attributes = object_attributes(call, await acl_of_write(call), new.encryption)
    if is_locked_by(call) and not has_integrity_header(call.headers):
        message = "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters"
        raise S3Error("InvalidRequest", message)
    return await _put(call, event, new, attributes, write_conditions(call))


async def _put(call: Call, event: str, new: NewEncryption, attributes: ObjectAttributes, conditions: Conditions) -> dict[str, object]:
    version = await call.services.engine.put_object(
        call.bucket,
        call.owner,
        call.key,
        call.body,
        attributes,
        customer_key=new.customer_key,
        conditions=conditions,
        cause=call.cause(event),
    )
    return written_fields(version, begun_fields(call, new.encryption), expiration(call, version))


@again_if_replaced
async def get_object(call: Call) -> Download:
    """Send an object, or the range or part of it asked for."""
    found = await find_readable(call)
    version, key = found.version, read_key(call, found.version)
    selection = await _select(call, version)
    headers = await _headers(call, version, selection)
    refuse_strangers(call, version)
    chunks = await call.services.engine.open_read(
        version, call.owner, selection.start, selection.length, extents=found.extents, customer_key=key
    )
    return Download(status=selection.status, headers=headers, length=selection.length, chunks=chunks, version=version)


@again_if_replaced
async def head_object(call: Call) -> Download:
    """Answer as GetObject would, without the bytes."""
    version = (await find_readable(call)).version
    read_key(call, version)
    selection = await _select(call, version)
    return Download(status=selection.status, headers=await _headers(call, version, selection), length=selection.length, version=version)


@again_if_replaced
async def get_object_attributes(call: Call) -> dict[str, object]:
    """Tell the attributes asked for by name."""
    wanted = _wanted_attributes(call)
    version = await find_object(call, call.bucket, key=call.key, version_id=call.text("VersionId"))
    read_key(call, version)
    known: dict[str, object] = {
        "ETag": version.etag,  # here, and only here, without quotes
        "Checksum": _checksum(version),
        "ObjectParts": await _object_parts(call, version) if "ObjectParts" in wanted else None,
        "StorageClass": version.attributes.storage_class,
        "ObjectSize": version.size,
    }
    described = {name: known[name] for name in wanted}
    return {"LastModified": moment(version.modified_ms), "VersionId": shown_id(call.bucket, version), **described}


async def _select(call: Call, version: Version) -> Selection:
    """Hold the conditions of a read against what was found, and return which of its bytes are asked for."""
    params = call.params
    if "IfMatch" in params or "IfNoneMatch" in params or "IfModifiedSince" in params or "IfUnmodifiedSince" in params:
        try:
            _check_preconditions(call, version)
        except S3Error as refusal:
            if refusal.code == "NotModified":
                refusal.headers = _validators(call, version)
            raise
    parts = await call.services.engine.load_parts(call.bucket, version) if "PartNumber" in params else ()
    return select(call, version, parts)


def _check_preconditions(call: Call, version: Version) -> None:
    conditions = read_conditions(call)
    check_read(conditions, etag=version.etag, modified_ms=version.modified_ms, now_ms=call.services.clock.now_ms())


def _validators(call: Call, version: Version) -> dict[str, str]:
    """Return what a 304 says as the 200 would: RFC 9110, section 15.4.5, and S3's version id."""
    whole = _own_headers(call, version, Selection(0, version.size))
    return {name: value for name, value in whole if name.lower() in _TOLD_BY_304}


async def _headers(call: Call, version: Version, selection: Selection) -> list[tuple[str, str]]:
    headers = _own_headers(call, version, selection)
    if version.attributes.retention is not None or version.attributes.legal_hold is not None:
        headers += object_headers(call.operation, await lock_fields(call, version))
    return headers


def _own_headers(call: Call, version: Version, selection: Selection) -> list[tuple[str, str]]:
    result = version_fields(call.bucket, version, encryption_fields(call, version.attributes.encryption))
    _add_unusual(result, call, version, selection)
    if not _OVERRIDES.keys().isdisjoint(call.params):
        if call.principal.anonymous:
            raise S3Error("InvalidRequest", "Request specific response headers cannot be used for anonymous GET requests.")
        result |= {member: call.params[name] for name, member in _OVERRIDES.items() if name in call.params}
    expires = result.pop("Expires", None)  # as it was sent: the model would have a date
    headers = object_headers(call.operation, result)
    return headers if expires is None else [*headers, ("Expires", one_line(str(expires)))]


def _add_unusual(result: dict[str, object], call: Call, version: Version, selection: Selection) -> None:
    """Add what most answers do not tell."""
    attributes = version.attributes
    if selection.content_range is not None or selection.parts_count is not None:
        result |= {"ContentRange": selection.content_range, "PartsCount": selection.parts_count}
    if attributes.tags:
        result["TagCount"] = len(attributes.tags)
    if attributes.replication is not None:
        result["ReplicationStatus"] = attributes.replication
    if call.bucket.settings:
        result["Expiration"] = expiration(call, version)
    if attributes.storage_class != "STANDARD":
        result["StorageClass"] = attributes.storage_class
    if attributes.metadata:
        told = result["Metadata"] = encode_metadata(attributes.metadata)
        result["MissingMeta"] = len(attributes.metadata) - len(told) or None
    if call.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED":
        result |= checksum_fields(selection.checksum)


def _wanted_attributes(call: Call) -> list[str]:
    text = call.headers.get("x-amz-object-attributes", "")
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        message = "The x-amz-object-attributes header specifying the attributes to be retrieved is either missing or empty"
        raise S3Error("InvalidRequest", message)
    if any(name not in _ATTRIBUTES for name in names):
        message = "Invalid attribute name specified."
        raise S3Error("InvalidArgument", message, ArgumentName="x-amz-object-attributes", ArgumentValue=text)
    return names


def _checksum(version: Version) -> dict[str, object] | None:
    """Describe the checksum. Here, and only here, a COMPOSITE one is told without the number of its parts, as on AWS."""
    if version.checksum is None:
        return None
    return checksum_fields(replace(version.checksum, value=version.checksum.value.partition("-")[0]))


async def _object_parts(call: Call, version: Version) -> dict[str, object] | None:
    """Describe the parts of a multipart object. As on AWS they are listed one by one only if the object's checksum is made of theirs."""
    if not version.parts_count:
        return None
    if version.checksum is None or version.checksum.type != "COMPOSITE":
        return {"TotalPartsCount": version.parts_count}
    marker = part_marker(call, "x-amz-part-number-marker")
    limit = page_limit(call, "MaxParts", "x-amz-max-parts")
    later = [part for part in await call.services.engine.load_parts(call.bucket, version) if part.number > marker]
    page, more = later[:limit], 0 < limit < len(later)
    return {
        "TotalPartsCount": version.parts_count,
        "PartNumberMarker": str(marker),
        "NextPartNumberMarker": str(page[-1].number) if more else None,
        "MaxParts": limit,
        "IsTruncated": more,
        "Parts": [_part(part) for part in page],
    }


def _part(part: PartSummary) -> dict[str, object]:
    return {"PartNumber": part.number, "Size": part.size, **checksum_fields(part.checksum, with_type=False)}
