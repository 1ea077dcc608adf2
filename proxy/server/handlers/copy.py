"""Copying: an object onto a key, or a range of one into a part, without the client seeing the bytes."""

from __future__ import annotations

from proxy.engine.verbs.base import CustomerKeys
from proxy.manifest.records import Encryption, ObjectAttributes, ObjectKey, Version
from proxy.s3.checksums import parse_algorithm
from proxy.s3.encryption import WRITE_HEADERS
from proxy.s3.errors import S3Error
from proxy.s3.policy.acl import Acl
from proxy.s3.policy.actions import Action
from proxy.s3.policy.decision import Resource
from proxy.s3.preconditions import check_copy_source
from proxy.s3.ranges import parse_copy_source_range
from proxy.server.body import MAX_UPLOAD_SIZE
from proxy.server.call import Call, moment
from proxy.server.handlers.attributes import object_lock, object_tags, retention_of, storage_class, system_headers, user_metadata
from proxy.server.handlers.conditions import read_conditions, write_conditions
from proxy.server.handlers.encryption import begun_fields, encryption_fields, new_encryption, part_key, source_key
from proxy.server.handlers.grants import acl_of_write
from proxy.server.handlers.lifecycle import expiration
from proxy.server.handlers.multipart import find_own_upload
from proxy.server.handlers.selection import check_part_number
from proxy.server.handlers.versions import again_if_replaced, checksum_fields, find_object, quoted, shown_id, written_id


@again_if_replaced
async def copy_object(call: Call) -> dict[str, object]:
    """Copy a whole object, up to 5 GiB, with its description or with a new one."""
    if call.principal.anonymous:
        raise S3Error("AccessDenied", "Anonymous users cannot copy objects.  Please authenticate")
    version = await _find_source(call)
    _check_size(version.size)
    _check_changes(call)
    if version.attributes.tags and not _replaces_tags(call):
        await _check_tagging(call)
    new, key = await new_encryption(call), source_key(call, version)
    call.tell_early(begun_fields(call, new.encryption))
    attributes = _attributes(call, version, await acl_of_write(call), new.encryption)
    algorithm = call.text("ChecksumAlgorithm")
    copied = await call.services.engine.copy_object(
        version,
        call.source_bucket,
        call.source_owner,
        call.bucket,
        call.owner,
        call.key,
        attributes,
        checksum_algorithm=None if algorithm is None else parse_algorithm(algorithm),
        customer_keys=CustomerKeys(key, new.customer_key),
        conditions=write_conditions(call),
        cause=call.cause("ObjectCreated:Copy"),
    )
    outcome = {"ETag": quoted(copied.etag), "LastModified": moment(copied.modified_ms), **checksum_fields(copied.checksum)}
    return {
        "CopyObjectResult": outcome,
        "CopySourceVersionId": shown_id(call.source_bucket, version),
        "Expiration": expiration(call, copied),
        "VersionId": written_id(copied),
        **begun_fields(call, new.encryption),
    }


@again_if_replaced
async def upload_part_copy(call: Call) -> dict[str, object]:
    """Make a part of a range of an object."""
    number = check_part_number(call.integer("PartNumber"))
    upload = await find_own_upload(call)
    version = await _find_source(call)
    wanted = parse_copy_source_range(call.text("CopySourceRange"), version.size)
    start, length = (0, version.size) if wanted is None else (wanted.start, wanted.length)
    _check_size(length)
    keys = CustomerKeys(source_key(call, version), part_key(call, upload))
    encrypted = encryption_fields(call, upload.attributes.encryption)
    call.tell_early(encrypted)
    part = await call.services.engine.copy_part(
        version, call.source_bucket, call.source_owner, start, length, call.bucket, call.owner, upload, number, customer_keys=keys
    )
    outcome = {
        "ETag": quoted(part.etag),
        "LastModified": moment(part.modified_ms),
        **checksum_fields(part.checksum if upload.checksum_algorithm is not None else None, with_type=False),  # nobody asked for the others
    }
    return {"CopyPartResult": outcome, "CopySourceVersionId": shown_id(call.source_bucket, version), **encrypted}


async def _find_source(call: Call) -> Version:
    source = call.origin.source
    try:
        version = await find_object(call, call.source_bucket, key=ObjectKey(source.key), version_id=source.version_id)
    except S3Error as error:
        if error.code != "MethodNotAllowed":
            raise
        message = "The source of a copy request may not specifically refer to a delete marker by version id."
        raise S3Error("InvalidRequest", message) from error
    conditions = read_conditions(call, "CopySource")
    check_copy_source(conditions, etag=version.etag, modified_ms=version.modified_ms, now_ms=call.services.clock.now_ms())
    return version


async def _check_tagging(call: Call) -> None:
    """AccessDenied unless the asker may read the source's tags and give them to the copy: S3 User Guide, "Copying objects"."""
    source = call.origin.source
    read = "s3:GetObjectTagging" if source.version_id is None else "s3:GetObjectVersionTagging"
    await call.origin.guard.check(Action(read), Resource(source.bucket, source.key), source.version_id)
    await call.guard.check(Action("s3:PutObjectTagging"), Resource(call.bucket.name, call.key))


def _replaces_tags(call: Call) -> bool:
    return _directive(call, "TaggingDirective", "tagging") == "REPLACE"


def _check_size(size: int) -> None:
    if size > MAX_UPLOAD_SIZE:
        message = f"The specified copy source is larger than the maximum allowable size for a copy source: {MAX_UPLOAD_SIZE}"
        raise S3Error("InvalidRequest", message)


def _directive(call: Call, name: str, subject: str) -> str:
    directive = call.text(name) or "COPY"
    if directive not in {"COPY", "REPLACE"}:
        raise S3Error("InvalidArgument", f"Unknown {subject} directive.", ArgumentName=name, ArgumentValue=directive)
    return directive


def _check_changes(call: Call) -> None:
    """Refuse a copy onto itself that changes nothing. An older version copied up is a change."""
    changing = WRITE_HEADERS | {"x-amz-storage-class", "x-amz-website-redirect-location", "x-amz-checksum-algorithm"}
    source = call.origin.source
    if (
        (source.bucket, source.key) == (call.bucket.name, call.key)
        and source.version_id is None
        and _directive(call, "MetadataDirective", "metadata") == "COPY"
        and changing.isdisjoint(call.headers)
    ):
        raise S3Error(
            "InvalidRequest",
            "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, "
            "storage class, website redirect location or encryption attributes.",
        )


def _attributes(call: Call, source: Version, acl: Acl | None, encryption: Encryption | None) -> ObjectAttributes:
    """Return what the copy will say of itself. Storage class, website redirect, ACL, lock and encryption are never copied."""
    given = system_headers(call.headers)
    if _directive(call, "MetadataDirective", "metadata") == "REPLACE":
        headers, metadata = given, user_metadata(call)
    else:
        headers = {name: value for name, value in source.attributes.headers.items() if name != "WebsiteRedirectLocation"}
        headers |= {name: value for name, value in given.items() if name == "WebsiteRedirectLocation"}
        metadata = source.attributes.metadata
    tags = object_tags(call) if _replaces_tags(call) else source.attributes.tags
    lock = object_lock(call)
    return ObjectAttributes(
        headers=headers,
        metadata=metadata,
        tags=tags,
        storage_class=storage_class(call),
        acl=acl,
        retention=retention_of(lock),
        legal_hold=lock.hold,
        encryption=encryption,
    )
