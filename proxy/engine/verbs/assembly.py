"""Assembly: what a completed multipart object is, worked out purely from its parts and the client's list."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from proxy.errors import ChecksumMismatch, ObjectTooLarge, PartInvalid, PartsOutOfOrder, PartTooSmall, PartUnchecked, SizeMismatch
from proxy.manifest.drafts import CompletedPart
from proxy.manifest.records import Checksum, Part, PartSummary, Upload
from proxy.s3 import checksums
from proxy.s3.checksums import ChecksumAlgorithm

MIN_PART_SIZE = 5 * 1024 * 1024  # S3's limit, for all parts but the last
MAX_OBJECT_SIZE = 5 * 1024**4  # S3's limit of one object


class PartClaim(NamedTuple):
    """A checksum that a completion claims of a part, in base64."""

    algorithm: ChecksumAlgorithm
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """The object the parts make."""

    size: int
    etag: str
    checksum: Checksum | None
    parts: tuple[PartSummary, ...]


def assemble(
    upload: Upload,
    uploaded: Sequence[Part],
    listed: Sequence[CompletedPart],
    *,
    part_claims: Mapping[int, PartClaim],
    claimed_checksum: str | None,
    claimed_size: int | None,
) -> Assembled:
    """Check the list, of at least one part, against what was uploaded. Raises `PartInvalid` or a kind of `CompletionRefused`."""
    parts = _chosen(uploaded, listed, part_claims)
    for part in parts[:-1]:
        if part.size < MIN_PART_SIZE:
            raise PartTooSmall(number=part.number, etag=part.etag, size=part.size, minimum=MIN_PART_SIZE)
    size = sum(part.size for part in parts)
    if size > MAX_OBJECT_SIZE:
        raise ObjectTooLarge(size=size, maximum=MAX_OBJECT_SIZE)
    if claimed_size is not None and claimed_size != size:
        raise SizeMismatch(claimed=claimed_size, computed=size)
    checksum = _checksum(upload, parts)
    if claimed_checksum is not None and (checksum is None or claimed_checksum.partition("-")[0] != checksum.value.partition("-")[0]):
        raise ChecksumMismatch(f"{claimed_checksum} was claimed, and {checksum} computed")
    joined = hashlib.md5(b"".join(bytes.fromhex(part.etag) for part in parts), usedforsecurity=False)
    return Assembled(
        size=size,
        etag=f"{joined.hexdigest()}-{len(parts)}",
        checksum=checksum,
        parts=tuple(PartSummary(number=part.number, size=part.size, checksum=part.checksum, etag=part.etag) for part in parts),
    )


def _chosen(uploaded: Sequence[Part], listed: Sequence[CompletedPart], part_claims: Mapping[int, PartClaim]) -> list[Part]:
    for before, entry in pairwise(listed):
        if entry.number <= before.number:
            raise PartsOutOfOrder(f"part {entry.number} is listed after part {before.number}")
    by_number = {part.number: part for part in uploaded}
    parts = []
    for entry in listed:
        part = by_number.get(entry.number)
        if part is None or part.etag != entry.etag or not _is_as_claimed(part, part_claims.get(entry.number)):
            message = f"part {entry.number} was not uploaded, or has another ETag or checksum"
            raise PartInvalid(message, number=entry.number, etag=entry.etag)
        parts.append(part)
    return parts


def _is_as_claimed(part: Part, claim: PartClaim | None) -> bool:
    """Tell whether a claim holds. `PartUnchecked` for a checksum of an algorithm that the part was not uploaded with."""
    if claim is None:
        return True
    known = [checksum.value for checksum in (part.checksum, part.claimed) if checksum is not None and checksum.algorithm == claim.algorithm]
    if not known:
        raise PartUnchecked(number=part.number, algorithm=claim.algorithm)
    return known[0] == claim.value


def _checksum(upload: Upload, parts: Sequence[Part]) -> Checksum | None:
    """Parts that share what is stored have their source's algorithm: if all have the same one, so has the object."""
    algorithm, kind = upload.checksum_algorithm, upload.checksum_type
    if kind == "FULL_OBJECT" and len(shared := {part.checksum.algorithm for part in parts if part.checksum is not None}) == 1:
        algorithm = shared.pop()
    if algorithm is None or any(part.checksum is None or part.checksum.algorithm != algorithm for part in parts):
        return None
    digests = [(checksums.decode(algorithm, part.checksum.value), part.size) for part in parts if part.checksum is not None]
    if kind == "FULL_OBJECT":
        return Checksum(algorithm=algorithm, type="FULL_OBJECT", value=checksums.combine_full_object(algorithm, digests))
    return Checksum(algorithm=algorithm, type="COMPOSITE", value=checksums.composite(algorithm, [digest for digest, _ in digests]))
