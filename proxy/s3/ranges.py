"""Byte ranges of a GET and of a copied part.

Source: RFC 9110 section 14; docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html, API_UploadPartCopy.html
"""

from __future__ import annotations

import re
from typing import NamedTuple

from proxy.s3.errors import S3Error

# 64 digits are more than any object has bytes; without a bound Python's own limit on digits would raise.
_RANGE = re.compile(r"bytes=([0-9]{0,64})-([0-9]{0,64})", re.IGNORECASE)
_COPY_RANGE = re.compile(r"bytes=([0-9]{1,64})-([0-9]{1,64})")


class ByteRange(NamedTuple):
    """A non-empty run of an object's bytes."""

    start: int
    end_inclusive: int

    @property
    def length(self) -> int:
        """Return the number of bytes."""
        return self.end_inclusive - self.start + 1

    def content_range(self, size_bytes: int) -> str:
        """Return the Content-Range header for an object of this size."""
        return f"bytes {self.start}-{self.end_inclusive}/{size_bytes}"


def parse_range(header: str | None, size: int) -> ByteRange | None:
    """Return the bytes a Range header asks for, cut to an object of `size` bytes; None for the whole object.

    S3 answers several ranges, and anything it cannot read, with the whole object. Raises InvalidRange if none of the
    bytes asked for exist.
    """
    match = None if header is None else _RANGE.fullmatch(header.strip())
    if header is None or match is None:
        return None
    first, last = match.groups()
    if first:
        return _from_start(header, int(first), int(last) if last else None, size)
    if last:
        return _suffix(header, int(last), size)
    return None


def parse_copy_source_range(header: str | None, size: int) -> ByteRange | None:
    """Return the bytes of a source of `size` bytes that x-amz-copy-source-range names; None if there is no such header."""
    if header is None:
        return None
    match = _COPY_RANGE.fullmatch(header.strip())
    if match is None or int(match[1]) > int(match[2]):
        message = (
            "The x-amz-copy-source-range value must be of the form bytes=first-last "
            "where first and last are the zero-based offsets of the first and last bytes to copy"
        )
        raise _bad_copy_range(message, header)
    wanted = ByteRange(int(match[1]), int(match[2]))
    if wanted.end_inclusive >= size:
        raise _bad_copy_range(f"Range specified is not valid for source object of size: {size}", header)
    return wanted


def _from_start(header: str, first: int, last: int | None, size: int) -> ByteRange | None:
    if last is not None and last < first:
        return None
    if first >= size:
        raise _unsatisfiable(header, size)
    return ByteRange(first, size - 1 if last is None else min(last, size - 1))


def _suffix(header: str, length: int, size: int) -> ByteRange | None:
    if length == 0:
        raise _unsatisfiable(header, size)
    if size == 0:  # the last bytes of nothing are nothing, and no 206 can say so: readers of footers begin like this
        return None
    return ByteRange(max(0, size - length), size - 1)


def _unsatisfiable(header: str, size: int) -> S3Error:
    return S3Error("InvalidRange", headers={"Content-Range": f"bytes */{size}"}, RangeRequested=header, ActualObjectSize=size)


def _bad_copy_range(message: str, header: str) -> S3Error:
    return S3Error("InvalidArgument", message, ArgumentName="x-amz-copy-source-range", ArgumentValue=header)
