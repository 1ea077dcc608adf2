"""Object ownership: whether a bucket has ACLs at all, and whose an object is that another account wrote.

A bucket without the setting is as AWS makes new ones: ACLs are off. One whose setting was removed is as buckets were before there was
any: the writer owns the object.
Source: Amazon S3 User Guide, "Controlling ownership of objects and disabling ACLs for your bucket".
"""

from __future__ import annotations

from typing import Literal

from proxy.s3.errors import S3Error

OWNERSHIP = "ownership"  # its name among the bucket's settings
Ownership = Literal["BucketOwnerEnforced", "BucketOwnerPreferred", "ObjectWriter"]
_OWNERSHIPS: dict[object, Ownership] = {
    "BucketOwnerEnforced": "BucketOwnerEnforced",
    "BucketOwnerPreferred": "BucketOwnerPreferred",
    "ObjectWriter": "ObjectWriter",
}
REMOVED = "removed"  # what the setting keeps once it was removed


def ownership_of(setting: str | None) -> Ownership:
    """Return what holds for a bucket with this setting."""
    if setting is None:
        return "BucketOwnerEnforced"
    return _OWNERSHIPS.get(setting, "ObjectWriter")


def parse_ownership(value: object) -> Ownership | None:
    """Return what a request names; None for what is none of the three."""
    return _OWNERSHIPS.get(value)


def ownership_header(value: str) -> Ownership:
    """Read x-amz-object-ownership. InvalidArgument."""
    found = parse_ownership(value.strip())
    if found is None:
        message = f"Invalid x-amz-object-ownership header: {value}"
        raise S3Error("InvalidArgument", message, ArgumentName="x-amz-object-ownership", ArgumentValue=value)
    return found
