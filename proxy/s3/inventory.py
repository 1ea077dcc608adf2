"""Inventories: lists of all objects of a bucket, made by schedule, as files and a manifest in AWS's layout.

Sources: S3 User Guide, "Amazon S3 Inventory", "Inventory manifest"; S3 API reference, "PutBucketInventoryConfiguration".
"""

from __future__ import annotations

import csv
import io
import json
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple
from urllib.parse import quote

from proxy.s3.errors import S3Error
from proxy.s3.naming import BUCKET_ARN, bucket_of_arn, check_key
from proxy.s3.policy.acl import GROUPS, Acl
from proxy.s3.values import value_at

SETTING = "inventory"  # its name among the bucket's settings: a map of configurations by id
MAX_CONFIGURATIONS = 100
MAX_SIZE = 8 * 1024  # bytes of one, as it is kept: a bucket's record has all of them, and is read for each request
PAGE_CONFIGURATIONS = 100
FORMAT_VERSION = "2016-11-30"
_LONGEST_BUCKET = "b" * 63
_LONGEST_REST = "/hive/dt=2026-01-01-00-00/symlink.txt"
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_OF_VERSIONS = ("VersionId", "IsLatest", "IsDeleteMarker")
# The optional fields that there are here; of the others nothing is known.
FIELDS = (
    "Size",
    "LastModifiedDate",
    "StorageClass",
    "ETag",
    "IsMultipartUploaded",
    "ReplicationStatus",
    "EncryptionStatus",
    "ObjectLockRetainUntilDate",
    "ObjectLockMode",
    "ObjectLockLegalHoldStatus",
    "BucketKeyStatus",
    "ChecksumAlgorithm",
    "ObjectAccessControlList",
    "ObjectOwner",
)
# Their types in Parquet, where that is not text.
INTEGERS, MOMENTS = frozenset({"Size"}), frozenset({"LastModifiedDate", "ObjectLockRetainUntilDate"})
BOOLEANS = frozenset({"IsLatest", "IsDeleteMarker", "IsMultipartUploaded"})


class Inventory(NamedTuple):
    """One configuration."""

    id: str
    enabled: bool
    destination: str  # a bucket's name
    prefix: str
    format: Literal["CSV", "Parquet"]
    all_versions: bool
    columns: tuple[str, ...]
    weekly: bool
    only_prefix: str  # of the keys listed


class Entry(NamedTuple):
    """One version, as its row tells it. Missing is None."""

    bucket: str
    key: str
    facts: Mapping[str, str | int | bool | datetime | None]


def check_inventory(document: Mapping[str, object], configuration_id: str) -> Inventory:
    """Return a configuration, as boto3 names its members. MalformedXML, InvalidArgument; NotImplemented for what is not made here."""
    if document.get("Id") != configuration_id or not _ID.fullmatch(configuration_id):
        raise S3Error(
            "InvalidArgument", "The Id of the configuration is not that of the request, or has other characters", ArgumentName="id"
        )
    destination = value_at(document, "Destination", "S3BucketDestination")
    if not isinstance(destination, Mapping):
        raise S3Error("MalformedXML")
    encryption = destination.get("Encryption")
    if isinstance(encryption, Mapping) and "SSEKMS" in encryption:
        raise S3Error("NotImplemented", "Encryption is that of the destination bucket: set it there")
    if len(json.dumps(document)) > MAX_SIZE:
        raise S3Error("MaxMessageLengthExceeded", MaxMessageLengthBytes=MAX_SIZE)
    inventory = read_inventory(document)
    check_key(f"{folder_of(inventory, _LONGEST_BUCKET)}{_LONGEST_REST}")
    if not inventory.destination:
        raise S3Error("InvalidS3DestinationBucket", "Invalid bucket ARN")
    if destination.get("Format") == "ORC":
        raise S3Error("NotImplemented", "Inventories are made as CSV and as Parquet here")
    if document.get("IncludedObjectVersions") not in {"All", "Current"} or destination.get("Format") not in {"CSV", "Parquet"}:
        raise S3Error("MalformedXML")
    if value_at(document, "Schedule", "Frequency") not in {"Daily", "Weekly"} or not isinstance(document.get("IsEnabled"), bool):
        raise S3Error("MalformedXML")
    unknown = [name for name in _optional(document) if name not in FIELDS]
    if unknown:
        raise S3Error("NotImplemented", f"The field {unknown[0]} is not known here; there are {', '.join(FIELDS)}")
    return inventory


def read_inventory(document: Mapping[str, object]) -> Inventory:
    """Return a configuration that was checked when it was put."""
    all_versions = document.get("IncludedObjectVersions") == "All"
    optional = tuple(name for name in FIELDS if name in _optional(document))
    return Inventory(
        id=str(document.get("Id", "")),
        enabled=document.get("IsEnabled") is True,
        destination=bucket_of_arn(str(value_at(document, "Destination", "S3BucketDestination", "Bucket") or "")),
        prefix=str(value_at(document, "Destination", "S3BucketDestination", "Prefix") or ""),
        format="Parquet" if value_at(document, "Destination", "S3BucketDestination", "Format") == "Parquet" else "CSV",
        all_versions=all_versions,
        columns=("Bucket", "Key", *(_OF_VERSIONS if all_versions else ()), *optional),
        weekly=value_at(document, "Schedule", "Frequency") == "Weekly",
        only_prefix=str(value_at(document, "Filter", "Prefix") or ""),
    )


def due_day(inventory: Inventory, now_ms: int) -> int:
    """Return the day, counted from 1970, of the last list that should be there: today's, or last Sunday's."""
    today = datetime.fromtimestamp(now_ms / 1000, UTC).date()
    day = today - timedelta(days=(today.weekday() + 1) % 7) if inventory.weekly else today
    return (day - datetime(1970, 1, 1, tzinfo=UTC).date()).days


def folder_of(inventory: Inventory, bucket: str) -> str:
    """Return what the keys of all files of an inventory begin with."""
    prefix = f"{inventory.prefix.rstrip('/')}/" if inventory.prefix else ""
    return f"{prefix}{bucket}/{inventory.id}"


def csv_of(columns: Sequence[str], entries: Iterable[Entry]) -> bytes:
    """Return rows as AWS writes them: every field in quotation marks, keys percent-encoded, no line of names."""
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([_text(column, entry) for column in columns] for entry in entries)
    return text.getvalue().encode()


def manifest_of(inventory: Inventory, bucket: str, *, created_ms: int, schema: str, files: Sequence[tuple[str, int, str]]) -> bytes:
    """Return the manifest of a list; `files` are (key, size, MD5 in hex)."""
    document = {
        "sourceBucket": bucket,
        "destinationBucket": f"{BUCKET_ARN}{inventory.destination}",
        "version": FORMAT_VERSION,
        "creationTimestamp": str(created_ms),
        "fileFormat": inventory.format,
        "fileSchema": schema,
        "files": [{"key": key, "size": size, "MD5checksum": digest} for key, size, digest in files],
    }
    return json.dumps(document, indent=2).encode()


def acl_column(acl: Acl) -> str:
    """Return an object's ACL as its column has it: JSON in base64. S3 User Guide, "Working with the Object ACL field"."""
    grants = [
        {"uri": grant.grantee, "type": "Group", "permission": grant.permission}
        if grant.grantee in GROUPS
        else {"canonicalId": grant.grantee, "type": "CanonicalUser", "permission": grant.permission}
        for grant in acl.grants
    ]
    return b64encode(json.dumps({"version": "2022-11-10", "status": "AVAILABLE", "grants": grants}).encode()).decode()


def csv_schema(columns: Sequence[str]) -> str:
    return ", ".join(columns)


def moment_name(ms: int) -> str:
    """Return how the folder of a list's manifest is called."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H-%MZ")


def value_of(column: str, entry: Entry) -> str | int | bool | datetime | None:
    return entry.bucket if column == "Bucket" else entry.key if column == "Key" else entry.facts.get(column)


def _text(column: str, entry: Entry) -> str:
    value = value_of(column, entry)
    if column == "Key":
        return quote(entry.key, safe="/")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return "" if value is None else str(value)


def _optional(document: Mapping[str, object]) -> list[str]:
    fields = document.get("OptionalFields")
    return [str(name) for name in fields] if isinstance(fields, list) else []
