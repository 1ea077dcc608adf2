"""What x-amz-copy-source names: a bucket, a key, and perhaps a version."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from proxy.s3.errors import S3Error
from proxy.s3.naming import climbs, is_bucket_name

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class CopySource(NamedTuple):
    """The object, or the version of it, that a copy reads."""

    bucket: str
    key: str
    version_id: str | None


def parse_copy_source(text: str) -> CopySource:
    """Read `[/]bucket/key[?versionId=id]`. As on S3 it is encoded as a form is: a "+" is a space, and the first slash may be escaped."""
    path, mark, query = text.partition("?versionId=")
    try:
        bucket, _, key = _decode(path).removeprefix("/").partition("/")
    except UnicodeError:  # of the escapes, or of the header itself
        bucket, key = "", ""
    if not bucket or not key:
        raise _bad("Copy Source must mention the source bucket and key: sourcebucket/sourcekey", text)
    if not is_bucket_name(bucket):
        raise _bad("Invalid copy source bucket name", text)
    if climbs(key):
        raise _bad("Invalid copy source object key", text)
    return CopySource(bucket, key, query if mark else None)


def _bad(message: str, text: str) -> S3Error:
    return S3Error("InvalidArgument", message, ArgumentName="x-amz-copy-source", ArgumentValue=text)


def _decode(path: str) -> str:
    if _BAD_ESCAPE.search(path):
        message = "The x-amz-copy-source header must be URL-encoded"
        raise S3Error("InvalidArgument", message, ArgumentName="x-amz-copy-source", ArgumentValue=path)
    return unquote_to_bytes(path.replace("+", " ")).decode("utf-8")
