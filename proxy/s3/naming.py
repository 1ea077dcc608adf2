"""Names of buckets and keys: what S3 allows, and how listings encode them."""

from __future__ import annotations

import re
from urllib.parse import quote_plus

from proxy.s3.errors import S3Error

MAX_KEY_BYTES = 1024
BUCKET_ARN = "arn:aws:s3:::"  # and its name
# Amazon S3 User Guide, "General purpose bucket naming rules": 3-63 of these, no "..", no IP address, none of what is reserved.
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PLAIN = re.compile(r"[A-Za-z0-9_.~/*-]*")  # of a key what encoding leaves as it is
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")
_RESERVED_PREFIXES = ("xn--", "sthree-", "amzn-s3-demo-")
_RESERVED_SUFFIXES = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")


def check_bucket_name(name: str) -> None:
    """Raise InvalidBucketName for a name no bucket may have."""
    if not is_bucket_name(name):
        raise S3Error("InvalidBucketName", BucketName=name)


def is_bucket_name(name: str) -> bool:
    """Tell whether a bucket may have this name."""
    reserved = name.startswith(_RESERVED_PREFIXES) or name.endswith(_RESERVED_SUFFIXES)
    return _BUCKET.fullmatch(name) is not None and ".." not in name and _ADDRESS.fullmatch(name) is None and not reserved


def bucket_of_arn(arn: str) -> str:
    """Return the name in a bucket's ARN, "" if that is none."""
    return arn.removeprefix(BUCKET_ARN) if arn.startswith(BUCKET_ARN) and "/" not in arn else ""


def check_key(key: str) -> None:
    """Raise KeyTooLongError over 1,024 UTF-8 bytes, InvalidURI for one that climbs above the bucket, InvalidArgument for no key at all."""
    if not key:
        raise S3Error("InvalidArgument", "The key must not be empty", ArgumentName="Key", ArgumentValue="")
    size = len(key) if key.isascii() else len(key.encode())
    if size > MAX_KEY_BYTES:
        raise S3Error("KeyTooLongError", Size=size, MaxSizeAllowed=MAX_KEY_BYTES)
    if ".." in key and climbs(key):
        raise S3Error("InvalidURI", URI=key)


def climbs(key: str) -> bool:
    """Tell whether a key, read as a path, leads out of the bucket anywhere on its way. `a/../b` does not.

    Source: Amazon S3 User Guide, "Naming Amazon S3 objects": read from the left, there must never be more ".." than other elements.
    """
    depth = 0
    for element in key.split("/"):
        if element == "..":
            depth -= 1
        elif element:
            depth += 1
        if depth < 0:
            return True
    return False


def url_encode_key(text: str) -> str:
    """Encode as encoding-type=url does: a form's encoding, that leaves "/" and "*" as they are."""
    return text if is_plain_key(text) else quote_plus(text, safe="/*")


def is_plain_key(text: str) -> bool:
    """Tell whether `url_encode_key` leaves text as it is. It has nothing that XML must escape, either."""
    return _PLAIN.fullmatch(text) is not None
