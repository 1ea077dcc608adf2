"""What a client says about an object besides its bytes: system headers, user metadata, tags, storage class."""

from __future__ import annotations

from collections.abc import Mapping

from proxy.manifest.plans.locks import OBJECT_LOCK
from proxy.manifest.records import Encryption, ObjectAttributes, Retention
from proxy.s3.errors import S3Error
from proxy.s3.metadata import check_metadata
from proxy.s3.object_lock import NO_LOCK, WantedLock, asks_for_lock, decode_default, read_lock_headers
from proxy.s3.policy.acl import Acl
from proxy.s3.tagging import parse_tagging_header
from proxy.server.call import Call

MAX_REDIRECT_BYTES = 2048  # S3 User Guide, "Configuring a webpage redirect"
DEFAULT_CONTENT_TYPE = "binary/octet-stream"  # what S3 gives an object that came with none
_SYSTEM_HEADERS = {
    "cache-control": "CacheControl",
    "content-disposition": "ContentDisposition",
    "content-language": "ContentLanguage",
    "expires": "Expires",
    "x-amz-website-redirect-location": "WebsiteRedirectLocation",
}
_TAGS, _STORAGE_CLASS = "x-amz-tagging", "x-amz-storage-class"
ATTRIBUTE_HEADERS = frozenset({*_SYSTEM_HEADERS, "content-encoding", _TAGS, _STORAGE_CLASS})  # beside its type and its metadata


def object_attributes(call: Call, acl: Acl | None, encryption: Encryption | None) -> ObjectAttributes:
    """Return everything a write says of the object. MetadataTooLarge, InvalidTag, InvalidStorageClass, InvalidArgument."""
    lock = object_lock(call)
    return ObjectAttributes(
        headers=system_headers(call.headers),
        metadata=user_metadata(call),
        tags=object_tags(call),
        storage_class=storage_class(call),
        acl=acl,
        retention=retention_of(lock),
        legal_hold=lock.hold,
        encryption=encryption,
    )


def system_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the system headers by boto3's names, values as sent."""
    kept = {"ContentType": content_type(headers)}
    if (encoding := _content_encoding(headers)) is not None:
        kept["ContentEncoding"] = encoding
    for name, member in _SYSTEM_HEADERS.items():
        if (value := headers.get(name)) is not None:
            kept[member] = value
    if (redirect := kept.get("WebsiteRedirectLocation")) is not None:
        _check_redirect(redirect)
    return kept


def content_type(headers: Mapping[str, str]) -> str:
    """Return the type that an object has of which these headers tell."""
    return headers.get("content-type") or DEFAULT_CONTENT_TYPE


def _check_redirect(location: str) -> None:
    if not location.startswith(("/", "http://", "https://")):
        raise S3Error("InvalidRedirectLocation")
    if len(location.encode()) > MAX_REDIRECT_BYTES:
        raise S3Error("InvalidRedirectLocation", f"The length of website redirect location cannot exceed {MAX_REDIRECT_BYTES} characters.")


def user_metadata(call: Call) -> dict[str, str]:
    metadata = call.params.get("Metadata")
    return check_metadata(metadata) if isinstance(metadata, dict) else {}


def object_tags(call: Call) -> dict[str, str]:
    value = call.headers.get(_TAGS)
    return {} if value is None else parse_tagging_header(value)


def storage_class(call: Call) -> str:
    """Return the storage class asked for: one of the bucket's policy, or STANDARD."""
    name = call.headers.get(_STORAGE_CLASS, "STANDARD")
    policy = call.services.policies.get(call.bucket.policy)
    if name != "STANDARD" and (policy is None or name not in policy.storage_classes):
        raise S3Error("InvalidStorageClass", StorageClassRequested=name)
    return name


def object_lock(call: Call) -> WantedLock:
    """Return the lock asked for. InvalidRequest in a bucket without object lock."""
    if not asks_for_lock(call.headers):
        return NO_LOCK
    if OBJECT_LOCK not in call.bucket.settings:
        raise S3Error("InvalidRequest", "Bucket is missing Object Lock Configuration")
    return read_lock_headers(call.headers, now_ms=call.services.clock.now_ms())


def retention_of(lock: WantedLock) -> Retention | None:
    return None if lock.mode is None else Retention(mode=lock.mode, until_ms=lock.until_ms)


def is_locked_by(call: Call) -> bool:
    """Tell whether what a write makes will have a lock: its own, or that of the bucket."""
    setting = call.bucket.settings.get(OBJECT_LOCK)
    return setting is not None and (asks_for_lock(call.headers) or decode_default(setting) is not None)


def _content_encoding(headers: Mapping[str, str]) -> str | None:
    """Return Content-Encoding without aws-chunked, which is of the request and not of the object."""
    value = headers.get("content-encoding")
    if value is None or "aws-chunked" not in value:
        return value
    rest = [coding.strip() for coding in value.split(",") if coding.strip() != "aws-chunked"]
    return ",".join(rest) or None
