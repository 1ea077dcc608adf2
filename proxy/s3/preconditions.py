"""Conditional reads and copies: may this version be answered with, or copied from?

The order is RFC 9110's (section 13.2.2), and AWS's tables come to the same: an entity-tag condition that is present makes
the date condition beside it void.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import formatdate, parsedate_to_datetime
from typing import NamedTuple

from proxy.s3.errors import S3Error

# S3 also takes a tag without its quotes.
_ENTITY_TAG = re.compile(r'(W/)?("[^"]*"|[^",\s]+)')


class ReadConditions(NamedTuple):
    """The conditions of a read, or of a copy's source, as their headers have them."""

    if_match: str | None = None
    if_none_match: str | None = None
    if_modified_since: datetime | None = None
    if_unmodified_since: datetime | None = None


def check_read(conditions: ReadConditions, *, etag: str, modified_ms: int, now_ms: int) -> None:
    """Raise PreconditionFailed or NotModified if a GET or HEAD of this version is not to be answered with it.

    `etag` may come with or without quotes.
    """
    _check_required(conditions, "", etag, modified_ms)
    if _unwanted(conditions, etag, modified_ms, now_ms) is not None:
        headers = {"ETag": f'"{_bare(etag)}"', "Last-Modified": formatdate(modified_ms // 1000, usegmt=True)}
        raise S3Error("NotModified", headers=headers)


def check_copy_source(conditions: ReadConditions, *, etag: str, modified_ms: int, now_ms: int) -> None:
    """Raise PreconditionFailed if this version is not to be copied. There is nothing to be "not modified" in a copy."""
    prefix = "x-amz-copy-source-"
    _check_required(conditions, prefix, etag, modified_ms)
    failed = _unwanted(conditions, etag, modified_ms, now_ms)
    if failed is not None:
        raise S3Error("PreconditionFailed", Condition=prefix + failed)


def range_still_holds(if_range: str | None, etag: str, modified_ms: int) -> bool:
    """Say whether a Range header counts beside this If-Range: only if the object is what the client has a part of.

    The comparison is strong, and a date must be the very Last-Modified. Source: RFC 9110, section 13.1.5.
    """
    if if_range is None:
        return True
    validator = if_range.strip()
    if validator.startswith(('"', "W/")):
        return validator == f'"{_bare(etag)}"'
    try:
        return _seconds(parsedate_to_datetime(validator)) == modified_ms // 1000
    except (ValueError, OverflowError):
        return validator == _bare(etag)  # S3 also takes a tag without its quotes


def matches(condition: str, etag: str, *, weak: bool = False) -> bool:
    """Say whether an If-Match (strong) or If-None-Match (weak) header names this entity tag."""
    if condition.strip() == "*":
        return True
    bare = _bare(etag)
    return any(_bare(tag) == bare and (weak or not mark) for mark, tag in _ENTITY_TAG.findall(condition))


def _check_required(conditions: ReadConditions, prefix: str, etag: str, modified_ms: int) -> None:
    since = conditions.if_unmodified_since
    if conditions.if_match is not None:
        if not matches(conditions.if_match, etag):
            raise S3Error("PreconditionFailed", Condition=f"{prefix}If-Match")
    elif since is not None and modified_ms // 1000 > _seconds(since):
        raise S3Error("PreconditionFailed", Condition=f"{prefix}If-Unmodified-Since")


def _unwanted(conditions: ReadConditions, etag: str, modified_ms: int, now_ms: int) -> str | None:
    """Return the condition by which the client does not want this version, if any. S3 passes over an If-Modified-Since yet to come."""
    if conditions.if_none_match is not None:
        return "If-None-Match" if matches(conditions.if_none_match, etag, weak=True) else None
    since = conditions.if_modified_since
    if since is not None and modified_ms // 1000 <= _seconds(since) <= now_ms / 1000:
        return "If-Modified-Since"
    return None


def _seconds(moment: datetime) -> float:
    # Whole seconds on our side: the Last-Modified that the client gives back has no fraction.
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _bare(etag: str) -> str:
    return etag.strip('"')
