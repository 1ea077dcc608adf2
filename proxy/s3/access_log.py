"""Access logs: a bucket's requests as lines, in AWS's format, and where the lines of a bucket go.

Sources: S3 User Guide, "Amazon S3 server access log format", "Enabling server access logging"; S3 API reference, "PutBucketLogging".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal, NamedTuple
from urllib.parse import quote

from proxy.s3.errors import S3Error
from proxy.s3.naming import check_bucket_name, climbs

SETTING = "logging"  # its name among the bucket's settings
MAX_PREFIX_CHARACTERS = 800  # a key has 1,024, and what follows the prefix takes some 200
_MAX_FIELD_CHARACTERS = 2048
# What the resource is called where it is not the object or the bucket itself.
_RESOURCES = {
    "AbortMultipartUpload": "UPLOAD",
    "CompleteMultipartUpload": "UPLOAD",
    "CopyObject": "OBJECT",
    "CreateMultipartUpload": "UPLOADS",
    "DeleteObjects": "MULTI_OBJECT_DELETE",
    "GetBucketLocation": "LOCATION",
    "GetObjectAttributes": "OBJECT_ATTRIBUTES",
    "ListBuckets": "SERVICE",
    "ListMultipartUploads": "UPLOADS",
    "ListObjectVersions": "BUCKETVERSIONS",
    "ListParts": "UPLOAD",
    "PostObject": "OBJECT",
    "UploadPart": "PART",
    "UploadPartCopy": "PART",
}
_VERBS = ("Get", "Put", "Delete", "List")
_SETTINGS = {
    "BucketAccelerateConfiguration": "ACCELERATE",
    "BucketAcl": "ACL",
    "BucketCors": "CORS",
    "BucketEncryption": "ENCRYPTION",
    "BucketInventoryConfiguration": "INVENTORY",
    "BucketLifecycle": "LIFECYCLE",
    "BucketLifecycleConfiguration": "LIFECYCLE",
    "BucketLogging": "LOGGING_STATUS",
    "BucketNotificationConfiguration": "NOTIFICATION",
    "BucketOwnershipControls": "OWNERSHIP_CONTROLS",
    "BucketPolicy": "BUCKETPOLICY",
    "BucketPolicyStatus": "POLICY_STATUS",
    "BucketReplication": "REPLICATION",
    "BucketRequestPayment": "REQUEST_PAYMENT",
    "BucketTagging": "TAGGING",
    "BucketVersioning": "VERSIONING",
    "BucketWebsite": "WEBSITE",
    "ObjectAcl": "ACL",
    "ObjectLegalHold": "OBJECT_LEGAL_HOLD",
    "ObjectLockConfiguration": "OBJECT_LOCK_CONFIGURATION",
    "ObjectRetention": "OBJECT_RETENTION",
    "ObjectTagging": "OBJECT_TAGGING",
    "PublicAccessBlock": "PUBLIC_ACCESS_BLOCK",
}


class LogTarget(NamedTuple):
    """Where the lines of a bucket go: keys of another bucket that begin with a prefix, dated by event or by delivery if `partition`."""

    bucket: str
    prefix: str = ""
    partition: Literal["", "EventTime", "DeliveryTime"] = ""


class Entry(NamedTuple):
    """One request, as its line tells it. None and "" are written as a hyphen."""

    owner: str
    bucket: str
    at_ms: int
    remote: str
    requester: str
    request_id: str
    operation: str
    key: str | None
    request_uri: str
    status: int
    error_code: str
    sent_bytes: int
    object_size: int | None
    milliseconds: int
    referer: str
    user_agent: str
    version_id: str
    host_id: str
    signature_version: str
    cipher_suite: str
    authentication: str
    host: str
    tls_version: str


def check_logging(document: Mapping[str, object]) -> LogTarget | None:
    """Return where a bucket's lines are to go, out of a BucketLoggingStatus; None: nowhere. MalformedXML, InvalidArgument."""
    enabled = document.get("LoggingEnabled")
    if not isinstance(enabled, Mapping):
        return None
    bucket, prefix = enabled.get("TargetBucket"), enabled.get("TargetPrefix", "")
    if not isinstance(bucket, str) or not isinstance(prefix, str):
        raise S3Error("MalformedXML")
    check_bucket_name(bucket)
    if climbs(prefix):
        raise S3Error("InvalidArgument", "A TargetPrefix must not lead out of its bucket", ArgumentName="TargetPrefix")
    if len(prefix.encode()) > MAX_PREFIX_CHARACTERS:
        raise S3Error("InvalidArgument", f"A TargetPrefix has at most {MAX_PREFIX_CHARACTERS} characters", ArgumentName="TargetPrefix")
    if enabled.get("TargetGrants"):
        raise S3Error("InvalidArgument", "TargetGrants are not served: set the rights to the logs on their bucket")
    return LogTarget(bucket, prefix, _partition(enabled.get("TargetObjectKeyFormat")))


@lru_cache(maxsize=1024)
def target_of(setting: str) -> LogTarget | None:
    """Return where the lines go, out of a stored document, which was checked when it was put."""
    return check_logging(json.loads(setting))


def operation_name(operation: str, method: str, *, has_key: bool, of_website: bool = False) -> str:
    """Return S3's name of an operation: REST.GET.OBJECT, REST.PUT.ACL, WEBSITE.GET.OBJECT."""
    if of_website:
        return f"WEBSITE.{method}.OBJECT"
    verb = "COPY" if operation in {"CopyObject", "UploadPartCopy"} else method
    resource = _RESOURCES.get(operation)
    if resource is None:
        subject = next((operation.removeprefix(one) for one in _VERBS if operation.startswith(one)), "")
        resource = _SETTINGS.get(subject, "OBJECT" if has_key else "BUCKET")
    return f"REST.{verb}.{resource}"


def line_of(entry: Entry) -> str:
    """Return the line of a request, with its end. Whatever a client sent, it is one line, and its quoted fields end where they should."""
    at = datetime.fromtimestamp(entry.at_ms / 1000, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")
    fields = (
        entry.owner,
        entry.bucket,
        f"[{at}]",
        entry.remote,
        entry.requester,
        entry.request_id,
        entry.operation,
        None if entry.key is None else quote(entry.key, safe="/~"),
        _quoted(entry.request_uri),
        str(entry.status),
        entry.error_code,
        str(entry.sent_bytes) if entry.sent_bytes else None,
        None if entry.object_size is None else str(entry.object_size),
        str(entry.milliseconds),
        None,  # turn-around time
        _quoted(entry.referer),
        _quoted(entry.user_agent),
        entry.version_id,
        entry.host_id,
        entry.signature_version,
        entry.cipher_suite,
        entry.authentication,
        _bare(entry.host),
        entry.tls_version,
        None,  # access point
        None,  # whether an ACL was needed
    )
    return " ".join(field or "-" for field in fields) + "\n"


def object_key(target: LogTarget, *, account: str, region: str, bucket: str, at_ms: int, unique: str) -> str:
    """Return the key of an object of lines. `unique` tells it from others of the same second."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    folder = f"{account}/{region}/{bucket}/{at:%Y/%m/%d}/" if target.partition else ""
    # With EventTime an object is dated by the day of its events alone.
    clock = f"{at:%Y-%m-%d}-00-00-00" if target.partition == "EventTime" else f"{at:%Y-%m-%d-%H-%M-%S}"
    return f"{target.prefix}{folder}{clock}-{unique}"


def _partition(key_format: object) -> Literal["", "EventTime", "DeliveryTime"]:
    if not isinstance(key_format, Mapping) or "PartitionedPrefix" not in key_format:
        return ""
    if "SimplePrefix" in key_format:
        raise S3Error("MalformedXML")
    prefix = key_format["PartitionedPrefix"]
    source = prefix.get("PartitionDateSource", "DeliveryTime") if isinstance(prefix, Mapping) else None
    known: dict[object, Literal["EventTime", "DeliveryTime"]] = {"EventTime": "EventTime", "DeliveryTime": "DeliveryTime"}
    if source not in known:
        raise S3Error("MalformedXML")
    return known[source]


def _quoted(text: str) -> str:
    """Return a field in quotation marks. One in the text would end it: it is escaped, as everything that is not a plain character."""
    return f'"{quote(text[:_MAX_FIELD_CHARACTERS], safe=_PLAIN)}"' if text else "-"


def _bare(text: str) -> str:
    return quote(text[:_MAX_FIELD_CHARACTERS], safe=_PLAIN.replace(" ", ""))


_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != '"')
