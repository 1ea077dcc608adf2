"""Tags: what a tag set may hold, and the header that carries one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl

from proxy.s3.errors import S3Error

MAX_OBJECT_TAGS = 10
MAX_BUCKET_TAGS = 50
# Amazon S3 User Guide, "Categorizing your storage using tags": letters, spaces and numbers of UTF-8, and + - = . _ : / @
_TAG = re.compile(r"(?:[\w+\-=.:/@]|[^\S\t-\r\x1c-\x1f\x85])*")


def parse_tagging_header(value: str) -> dict[str, str]:
    """Read `x-amz-tagging`, a query string. A key alone has an empty value; no key, or one given twice, is InvalidArgument."""
    try:
        pairs = parse_qsl(value, keep_blank_values=True, errors="strict", max_num_fields=100)
    except ValueError:
        raise _bad_header(value) from None
    keys = {key for key, _ in pairs}
    if "" in keys or len(keys) != len(pairs):
        raise _bad_header(value)
    return check_tags([{"Key": key, "Value": text} for key, text in pairs], limit=MAX_OBJECT_TAGS)


def _bad_header(value: str) -> S3Error:
    message = "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag name duplicates."
    return S3Error("InvalidArgument", message, ArgumentName="x-amz-tagging", ArgumentValue=value)


def check_tags(tags: Iterable[Mapping[str, object]], *, limit: int) -> dict[str, str]:
    """Return a tag set as a map. InvalidTag for bad or doubled keys, BadRequest over `limit`, one of the two above."""
    result: dict[str, str] = {}
    for tag in tags:
        key, value = str(tag["Key"]), str(tag["Value"])
        _check_tag(key, value)
        if key in result:
            raise S3Error("InvalidTag", "Cannot provide multiple Tags with the same key", TagKey=key)
        result[key] = value
    if len(result) > limit:
        subject = "Object" if limit == MAX_OBJECT_TAGS else "Bucket"
        raise S3Error("BadRequest", f"{subject} tags cannot be greater than {limit}")
    return result


def _check_tag(key: str, value: str) -> None:
    if not 1 <= len(key) <= 128 or not _TAG.fullmatch(key):
        raise S3Error("InvalidTag", "The TagKey you have provided is invalid", TagKey=key)
    if key.startswith("aws:"):
        raise S3Error("InvalidTag", "System tags cannot be added/updated by requester", TagKey=key)
    if len(value) > 256 or not _TAG.fullmatch(value):
        raise S3Error("InvalidTag", "The TagValue you have provided is invalid", TagKey=key, TagValue=value)
