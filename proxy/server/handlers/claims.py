"""What a CompleteMultipartUpload claims: the checksums of its parts, and that of the whole object."""

from __future__ import annotations

from proxy.engine.verbs.assembly import PartClaim
from proxy.manifest.records import Upload
from proxy.s3.checksums import ALGORITHMS, ChecksumType, decode, find_claim, is_digest, type_mismatch
from proxy.s3.errors import S3Error
from proxy.s3.parsing import Params
from proxy.server.call import Call


def read_type(text: str) -> ChecksumType:
    """Read x-amz-checksum-type. InvalidRequest."""
    types: dict[str, ChecksumType] = {"COMPOSITE": "COMPOSITE", "FULL_OBJECT": "FULL_OBJECT"}
    if text not in types:
        raise S3Error("InvalidRequest", "Value for x-amz-checksum-type header is invalid.")
    return types[text]


def check_type_claim(call: Call, upload: Upload) -> None:
    """Raise InvalidRequest where the completion takes the upload's checksum for one of another type."""
    claimed = call.text("ChecksumType")
    if claimed is not None and upload.checksum_type is not None and read_type(claimed) != upload.checksum_type:
        message = (
            f"The upload was created using the {upload.checksum_type} checksum mode. The complete request must use the same checksum mode."
        )
        raise S3Error("InvalidRequest", message)


def object_claim(call: Call, upload: Upload, parts_count: int) -> str | None:
    """Return the value claimed for the whole object. It must be of the upload's algorithm, and name no other number of parts."""
    claim = find_claim(call.headers)
    if claim is None:
        return None
    algorithm, value = claim
    if upload.checksum_algorithm != algorithm:
        raise type_mismatch(str(upload.checksum_algorithm), algorithm)
    digest, mark, number = value.partition("-") if upload.checksum_type == "COMPOSITE" else (value, "", "")
    decode(algorithm, digest)
    if mark and not (number.isascii() and number.isdigit()):
        raise S3Error("InvalidRequest", f"Value for x-amz-checksum-{algorithm.lower()} header is invalid.")
    if mark and number != str(parts_count):
        raise S3Error("BadDigest", f"The {algorithm.lower()} you specified did not match the calculated checksum.")
    return value


def object_size_claim(call: Call) -> int | None:
    """Return the size claimed for the whole object. InvalidRequest for one below zero."""
    size = call.integer("MpuObjectSize")
    if size is not None and size < 0:
        raise S3Error("InvalidRequest", f"Value for x-amz-mp-object-size header is less than zero: '{size}'")
    return size


def part_claims(entries: list[Params], upload: Upload) -> dict[int, PartClaim]:
    """Return what is claimed of each part, by its number. Of a COMPOSITE upload, each must be claimed."""
    claims: dict[int, PartClaim] = {}
    for entry in entries:
        number, claim = entry.get("PartNumber"), _part_claim(entry)
        if claim is not None and isinstance(number, int):
            claims[number] = claim
        elif claim is None and upload.checksum_type == "COMPOSITE":
            raise _missing(str(upload.checksum_algorithm), number)
    return claims


def _part_claim(entry: Params) -> PartClaim | None:
    given = [PartClaim(algorithm, str(entry[name])) for algorithm in ALGORITHMS if (name := f"Checksum{algorithm}") in entry]
    if len(given) > 1 or not all(is_digest(claim.algorithm, claim.value) for claim in given):
        told = ";".join(f"{claim.algorithm}:{claim.value}" for claim in given)
        message = "Invalid Base64 or multiple checksums present in request"
        raise S3Error("InvalidArgument", message, ArgumentName="Checksum", ArgumentValue=told)
    return given[0] if given else None


def _missing(algorithm: str, number: object) -> S3Error:
    message = (
        f"The upload was created using a {algorithm.lower()} checksum. The complete request must include the checksum "
        f"for each part. It was missing for part {number} in the request."
    )
    return S3Error("InvalidRequest", message)
