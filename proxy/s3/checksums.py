"""S3's additional checksums and Content-MD5: computing, validating, and putting parts' checksums together.

Source: docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, Protocol, get_args

from awscrt import checksums as crt

from proxy.s3.errors import S3Error

ChecksumAlgorithm = Literal["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256", "SHA512", "MD5", "XXHASH64", "XXHASH3", "XXHASH128"]
ChecksumType = Literal["COMPOSITE", "FULL_OBJECT"]
Buffer = bytes | bytearray | memoryview

DEFAULT_ALGORITHM: ChecksumAlgorithm = "CRC64NVME"  # what S3 computes when the client names none
ALGORITHMS: tuple[ChecksumAlgorithm, ...] = get_args(ChecksumAlgorithm)

_DIGEST_BYTES: dict[ChecksumAlgorithm, int] = {
    "CRC32": 4,
    "CRC32C": 4,
    "CRC64NVME": 8,
    "SHA1": 20,
    "SHA256": 32,
    "SHA512": 64,
    "MD5": 16,
    "XXHASH64": 8,
    "XXHASH3": 8,
    "XXHASH128": 16,
}
_TYPES: dict[ChecksumAlgorithm, tuple[ChecksumType, ...]] = {  # the default of a multipart upload comes first
    "CRC32": ("COMPOSITE", "FULL_OBJECT"),
    "CRC32C": ("COMPOSITE", "FULL_OBJECT"),
    "CRC64NVME": ("FULL_OBJECT",),
    # Of what is no CRC, the checksum of the whole does not follow from those of its parts.
    **dict.fromkeys(("SHA1", "SHA256", "SHA512", "MD5", "XXHASH64", "XXHASH3", "XXHASH128"), ("COMPOSITE",)),
}
_CRC: dict[ChecksumAlgorithm, Callable[[Buffer, int], int]] = {
    "CRC32": crt.crc32,
    "CRC32C": crt.crc32c,
    "CRC64NVME": crt.crc64nvme,
}
_XXHASH: dict[ChecksumAlgorithm, Callable[[], crt.XXHash]] = {
    "XXHASH64": crt.XXHash.new_xxhash64,
    "XXHASH3": crt.XXHash.new_xxhash3_64,
    "XXHASH128": crt.XXHash.new_xxhash3_128,
}
_COMBINE: dict[ChecksumAlgorithm, Callable[[int, int, int], int]] = {
    "CRC32": crt.combine_crc32,
    "CRC32C": crt.combine_crc32c,
    "CRC64NVME": crt.combine_crc64nvme,
}
_PREFIX = "x-amz-checksum-"
_BY_HEADER: dict[str, ChecksumAlgorithm] = {_PREFIX + name.lower(): name for name in ALGORITHMS}
_NOT_VALUES = frozenset({_PREFIX + "mode", _PREFIX + "type", _PREFIX + "algorithm"})


class Hasher(Protocol):
    """A checksum in the making. One thread at a time."""

    def update(self, data: Buffer, /) -> None:
        """Take the next bytes; their memory may be reused on return."""
        ...

    def digest(self) -> bytes:
        """Return the checksum of all bytes so far, big-endian."""
        ...


def new_hasher(algorithm: ChecksumAlgorithm) -> Hasher:
    """Start a checksum."""
    if algorithm in _CRC:
        return _Crc(_CRC[algorithm], _DIGEST_BYTES[algorithm])
    if algorithm in _XXHASH:
        return _XxHash(_XXHASH[algorithm]())
    return hashlib.new(algorithm.lower(), usedforsecurity=False)


def encode(digest: bytes) -> str:
    """Return a digest as S3 writes it: base64."""
    return base64.b64encode(digest).decode()


def decode(algorithm: ChecksumAlgorithm, value: str) -> bytes:
    """Return the digest of a base64 value; InvalidRequest if it is not one of this algorithm."""
    digest = _strict_base64(value)
    if digest is None or len(digest) != _DIGEST_BYTES[algorithm]:
        raise S3Error("InvalidRequest", f"Value for {_PREFIX}{algorithm.lower()} header is invalid.")
    return digest


def is_digest(algorithm: ChecksumAlgorithm, value: str) -> bool:
    """Tell whether a value is the base64 of a digest of this algorithm."""
    digest = _strict_base64(value)
    return digest is not None and len(digest) == _DIGEST_BYTES[algorithm]


def parse_checksum_headers(headers: Mapping[str, str]) -> tuple[ChecksumAlgorithm, str] | None:
    """Return the one checksum of the body that headers (or trailers) with lower-case names claim, validated."""
    claim = find_claim(headers)
    if claim is not None:
        decode(*claim)
    return claim


def claims_body(header: str) -> bool:
    """Tell whether a header with this lower-case name says what the body's checksum is, or by which algorithm it will be."""
    return header == "x-amz-sdk-checksum-algorithm" or (header.startswith(_PREFIX) and header not in _NOT_VALUES)


def find_claim(headers: Mapping[str, str]) -> tuple[ChecksumAlgorithm, str] | None:
    """Return the one checksum that headers claim, as it is: CompleteMultipartUpload's is of the object, and may count its parts."""
    if _PREFIX not in "\n".join(headers):  # as it is with most; name by name that takes five times as long
        return None
    claimed = [name for name in headers if name.startswith(_PREFIX) and name not in _NOT_VALUES]
    if not claimed:
        return None
    if len(claimed) > 1:
        raise S3Error("InvalidRequest", "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
    algorithm = _algorithm_of(claimed[0])
    _check_sdk_algorithm(headers, algorithm)
    return algorithm, headers[claimed[0]].strip()


def parse_trailer_header(headers: Mapping[str, str]) -> tuple[str, ...]:
    """Return the lower-case trailer names that the x-amz-trailer header announces: at most one, a checksum's."""
    names = tuple(name.strip().lower() for name in headers.get("x-amz-trailer", "").split(",") if name.strip())
    if len(names) > 1:
        raise S3Error("InvalidRequest", "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
    for name in names:
        algorithm = _BY_HEADER.get(name)
        if algorithm is None:
            raise S3Error("InvalidRequest", "The value specified in the x-amz-trailer header is not supported")
        _check_sdk_algorithm(headers, algorithm)
    return names


def announced_algorithm(headers: Mapping[str, str]) -> ChecksumAlgorithm | None:
    """Return the algorithm of the checksum that headers claim or announce as a trailer; claims in both places are refused."""
    claim = parse_checksum_headers(headers)
    trailers = parse_trailer_header(headers) if "x-amz-trailer" in headers else ()
    if claim is not None and trailers:
        raise S3Error("InvalidRequest", "Expecting a single x-amz-checksum- header")
    if claim is not None:
        return claim[0]
    if trailers:
        return _BY_HEADER[trailers[0]]
    if "x-amz-sdk-checksum-algorithm" in headers:
        message = "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found."
        raise S3Error("InvalidRequest", message)
    return None


def parse_algorithm(value: str, *, header: str = "x-amz-checksum-algorithm") -> ChecksumAlgorithm:
    """Return the algorithm a client names, in any case."""
    algorithm = _BY_HEADER.get(_PREFIX + value.lower())
    if algorithm is None:
        raise S3Error("InvalidRequest", f"Value for {header} header is invalid.")
    return algorithm


def default_type(algorithm: ChecksumAlgorithm) -> ChecksumType:
    """Return the type a multipart upload's checksum has when the client names none."""
    return _TYPES[algorithm][0]


def check_type(algorithm: ChecksumAlgorithm, checksum_type: ChecksumType) -> None:
    """Refuse a type that S3 does not offer for the algorithm."""
    if checksum_type not in _TYPES[algorithm]:
        message = f"The {checksum_type} checksum type cannot be used with the {algorithm.lower()} checksum algorithm."
        raise S3Error("InvalidRequest", message)


def type_mismatch(expected: str, actual: str | None) -> S3Error:
    """Return the error for a checksum of another algorithm than was agreed on, or for none at all."""
    told = "null" if actual is None else actual.lower()
    message = f"Checksum Type mismatch occurred, expected checksum Type: {expected.lower()}, actual checksum Type: {told}"
    return S3Error("InvalidRequest", message)


def composite(algorithm: ChecksumAlgorithm, part_digests: Iterable[bytes]) -> str:
    """Return the COMPOSITE checksum of parts, in order: the checksum of their digests, and their number."""
    digests = tuple(part_digests)
    hasher = new_hasher(algorithm)
    hasher.update(b"".join(digests))
    return f"{encode(hasher.digest())}-{len(digests)}"


def combines(algorithm: ChecksumAlgorithm) -> bool:
    """Tell whether the checksum of the whole follows from those of its parts."""
    return algorithm in _COMBINE


def combine_full_object(algorithm: ChecksumAlgorithm, parts: Iterable[tuple[bytes, int]]) -> str:
    """Return the FULL_OBJECT checksum of parts given as (digest, size in bytes), in order, without reading them again."""
    if algorithm not in _COMBINE:
        raise ValueError(f"{algorithm} of parts cannot be combined")
    combine = _COMBINE[algorithm]
    value = 0  # the CRC of no bytes
    for digest, size_bytes in parts:
        value = combine(value, int.from_bytes(digest, "big"), size_bytes)
    return encode(value.to_bytes(_DIGEST_BYTES[algorithm], "big"))


def parse_content_md5(value: str) -> bytes:
    """Return the 16 bytes of a Content-MD5 header; InvalidDigest if it is not one."""
    digest = _strict_base64(value.strip())
    if digest is None or len(digest) != 16:
        raise S3Error("InvalidDigest", headers=None, **{"Content-MD5": value})
    return digest


class _Crc:
    def __init__(self, function: Callable[[Buffer, int], int], size_bytes: int) -> None:
        self._function = function
        self._size_bytes = size_bytes
        self._value = 0

    def update(self, data: Buffer, /) -> None:
        self._value = self._function(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size_bytes, "big")


class _XxHash:
    def __init__(self, state: crt.XXHash) -> None:
        self._state = state

    def update(self, data: Buffer, /) -> None:
        self._state.update(data if isinstance(data, bytes) else bytes(data))  # it takes no memory that could be written to

    def digest(self) -> bytes:
        return bytes(self._state.finalize())


def _algorithm_of(header: str) -> ChecksumAlgorithm:
    algorithm = _BY_HEADER.get(header)
    if algorithm is None:
        raise S3Error("InvalidRequest", "The algorithm type you specified in x-amz-checksum- header is invalid.")
    return algorithm


def _check_sdk_algorithm(headers: Mapping[str, str], algorithm: ChecksumAlgorithm) -> None:
    named = headers.get("x-amz-sdk-checksum-algorithm")
    if named is not None and named.upper() != algorithm:
        raise S3Error("InvalidRequest", "Value for x-amz-sdk-checksum-algorithm header is invalid.")


def _strict_base64(value: str) -> bytes | None:
    try:
        digest = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None
    # Two spellings of one digest would make equal checksums compare unequal.
    return digest if encode(digest) == value else None
