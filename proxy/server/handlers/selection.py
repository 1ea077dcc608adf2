"""Which of an object's bytes a GET or HEAD means: all, a range, or a part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from proxy.manifest.records import Checksum, PartSummary, Version
from proxy.s3.errors import S3Error
from proxy.s3.preconditions import range_still_holds
from proxy.s3.ranges import ByteRange, parse_range
from proxy.server.call import Call

MAX_PART_NUMBER = 10_000


class Selection(NamedTuple):
    """A run of an object's bytes, and what the answer says of it. `checksum` is that of exactly these bytes."""

    start: int
    length: int
    checksum: Checksum | None = None
    content_range: str | None = None
    parts_count: int | None = None

    @property
    def status(self) -> int:
        return 200 if self.content_range is None else 206


def select(call: Call, version: Version, parts: Sequence[PartSummary]) -> Selection:
    """Return what is asked for. `parts` are the version's, if a part is asked for. InvalidRange, InvalidPartNumber."""
    number, header = call.integer("PartNumber"), call.headers.get("range")
    if number is None and header is None:
        return Selection(0, version.size, version.checksum)
    if number is not None:
        if header is not None:
            raise S3Error("InvalidRequest", "Cannot specify both Range header and partNumber query parameter")
        return _part(version, number, parts)
    resumes = range_still_holds(call.headers.get("if-range"), version.etag, version.modified_ms)
    wanted = parse_range(header, version.size) if resumes else None
    if wanted is None:
        return Selection(0, version.size, version.checksum)
    return Selection(wanted.start, wanted.length, content_range=wanted.content_range(version.size))


def check_part_number(number: int | None) -> int:
    """Return the number of a part. InvalidArgument outside 1 .. 10,000."""
    if number is None or not 1 <= number <= MAX_PART_NUMBER:
        message = f"Part number must be an integer between 1 and {MAX_PART_NUMBER}, inclusive"
        raise S3Error("InvalidArgument", message, ArgumentName="partNumber", ArgumentValue=str(number))
    return number


def _part(version: Version, number: int, parts: Sequence[PartSummary]) -> Selection:
    """An object that was put whole is its own part 1."""
    check_part_number(number)
    parts = parts or (PartSummary(number=1, size=version.size, checksum=version.checksum),)
    start = 0
    for part in parts:
        if part.number == number:
            break
        start += part.size
    else:
        raise S3Error("InvalidPartNumber", ActualPartCount=len(parts), PartNumberRequested=number)
    shown = ByteRange(start, start + part.size - 1).content_range(version.size) if part.size else None
    return Selection(start, part.size, _as_of_object(part.checksum, version), shown, version.parts_count or None)


def _as_of_object(checksum: Checksum | None, version: Version) -> Checksum | None:
    """Return a part's checksum with the type of its object's. Of a FULL_OBJECT one made of parts, S3 keeps none for each part."""
    if checksum is None or version.checksum is None:
        return checksum
    if version.parts_count and version.checksum.type == "FULL_OBJECT":
        return None
    return replace(checksum, type=version.checksum.type)
