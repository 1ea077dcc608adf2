"""Preconditions of reads and copies, in the order of RFC 9110 section 13.2.2, with S3's two exceptions.

S3: If-Match true and If-Unmodified-Since false gives 200; If-None-Match false and If-Modified-Since true gives 304.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

from proxy.s3.errors import S3Error


def check_read(
    *,
    etag: str,
    modified_ms: int,
    if_match: str | None,
    if_none_match: str | None,
    if_modified_since: datetime | None,
    if_unmodified_since: datetime | None,
) -> None:
    """Raise PreconditionFailed (412) or NotModified (304)."""
    modified = datetime.fromtimestamp(modified_ms // 1000, UTC)
    if if_match is not None:
        if not etag_matches(etag, if_match):
            raise S3Error("PreconditionFailed", Condition="If-Match")
    elif if_unmodified_since is not None and modified > if_unmodified_since:
        raise S3Error("PreconditionFailed", Condition="If-Unmodified-Since")
    if if_none_match is not None:
        not_modified = etag_matches(etag, if_none_match)
    else:
        not_modified = if_modified_since is not None and modified <= if_modified_since
    if not_modified:
        raise S3Error("NotModified", headers={"ETag": f'"{etag}"', "Last-Modified": format_datetime(modified, usegmt=True)})


def check_copy_source(
    *,
    etag: str,
    modified_ms: int,
    if_match: str | None,
    if_none_match: str | None,
    if_modified_since: datetime | None,
    if_unmodified_since: datetime | None,
) -> None:
    """As `check_read`, but a copy that is not to be made is always PreconditionFailed."""
    try:
        check_read(
            etag=etag,
            modified_ms=modified_ms,
            if_match=if_match,
            if_none_match=if_none_match,
            if_modified_since=if_modified_since,
            if_unmodified_since=if_unmodified_since,
        )
    except S3Error as error:
        if error.code != "NotModified":
            raise
        condition = "x-amz-copy-source-If-None-Match" if if_none_match else "x-amz-copy-source-If-Modified-Since"
        raise S3Error("PreconditionFailed", Condition=condition) from None


def etag_matches(etag: str, header: str) -> bool:
    """Tell whether an If-Match or If-None-Match header names this ETag."""
    return any(candidate.strip().removeprefix("W/").strip('"') in {etag, "*"} for candidate in header.split(","))
