"""Byte ranges: RFC 9110 section 14, as far as S3 goes along with it."""

from __future__ import annotations

import re
from typing import NamedTuple

from proxy.s3.errors import S3Error

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_COPY_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


class ByteRange(NamedTuple):
    """First byte and length, within the object."""

    start: int
    length: int

    def content_range(self, size: int) -> str:
        return f"bytes {self.start}-{self.start + self.length - 1}/{size}"


def parse_range(header: str | None, size: int) -> ByteRange | None:
    """Return the range asked for, or None for the whole object: as S3, what is no single byte range is ignored."""
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match[1], match[2]
    if not first:
        start, end = max(size - int(last), 0), size - 1
        satisfiable = int(last) > 0 and size > 0
    else:
        start, end = int(first), min(int(last), size - 1) if last else size - 1
        if last and int(last) < start:
            return None
        satisfiable = start < size
    if not satisfiable:
        raise S3Error("InvalidRange", headers={"Content-Range": f"bytes */{size}"}, RangeRequested=str(header), ActualObjectSize=size)
    return ByteRange(start, end - start + 1)


def parse_copy_source_range(header: str | None, size: int) -> ByteRange | None:
    """Return `x-amz-copy-source-range`, which must be explicit and lie inside the source; None for all of it."""
    if header is None:
        return None
    match = _COPY_RANGE.fullmatch(header)
    if match is None or int(match[2]) < int(match[1]):
        raise S3Error(
            "InvalidArgument",
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets "
            "of the first and last bytes to copy",
            ArgumentName="x-amz-copy-source-range",
            ArgumentValue=header,
        )
    if int(match[2]) >= size:
        raise S3Error(
            "InvalidArgument",
            f"Range specified is not valid for source object of size: {size}",
            ArgumentName="x-amz-copy-source-range",
            ArgumentValue=header,
        )
    return ByteRange(int(match[1]), int(match[2]) - int(match[1]) + 1)
