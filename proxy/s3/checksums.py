"""Checksums: the five algorithms, what clients claim with them, and how parts combine into objects."""

from __future__ import annotations

import hashlib
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol, get_args

from awscrt import checksums as crt

from proxy.s3.errors import S3Error

Algorithm = Literal["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"]
Kind = Literal["COMPOSITE", "FULL_OBJECT"]
ALGORITHMS: tuple[Algorithm, ...] = get_args(Algorithm)
HEADERS: dict[str, Algorithm] = {f"x-amz-checksum-{name.lower()}": name for name in ALGORITHMS}
MEMBERS: dict[Algorithm, str] = {name: f"Checksum{name}" for name in ALGORITHMS}
_SIZES: dict[Algorithm, int] = {"CRC32": 4, "CRC32C": 4, "CRC64NVME": 8, "SHA1": 20, "SHA256": 32}
_CRCS: dict[str, Callable[[bytes | bytearray | memoryview, int], int]] = {
    "CRC32": crt.crc32,
    "CRC32C": crt.crc32c,
    "CRC64NVME": crt.crc64nvme,
}
_COMBINE: dict[str, Callable[[int, int, int], int]] = {
    "CRC32": crt.combine_crc32,
    "CRC32C": crt.combine_crc32c,
    "CRC64NVME": crt.combine_crc64nvme,
}


class Hasher(Protocol):
    """As hashlib's."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None: ...
    def digest(self) -> bytes: ...


class _Crc:
    def __init__(self, algorithm: Algorithm) -> None:
        self._function = _CRCS[algorithm]
        self._size = _SIZES[algorithm]
        self._value = 0

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        self._value = self._function(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size, "big")


def new_hasher(algorithm: Algorithm) -> Hasher:
    if algorithm == "SHA1":
        return hashlib.sha1(usedforsecurity=False)
    if algorithm == "SHA256":
        return hashlib.sha256()
    return _Crc(algorithm)


def encode(digest: bytes) -> str:
    return b64encode(digest).decode()


def default_type(algorithm: Algorithm) -> Kind:
    """Return what a multipart object's checksum is unless the client says otherwise."""
    return "FULL_OBJECT" if algorithm == "CRC64NVME" else "COMPOSITE"


def check_type(algorithm: Algorithm, kind: str) -> Kind:
    """SHA checksums cannot be combined into a full object's; CRC64NVME has no composite form."""
    if (
        kind not in get_args(Kind)
        or (kind == "FULL_OBJECT" and algorithm.startswith("SHA"))
        or (kind == "COMPOSITE" and algorithm == "CRC64NVME")
    ):
        raise S3Error("InvalidRequest", f"The {kind} checksum type cannot be used with the {algorithm.lower()} checksum algorithm.")
    return "FULL_OBJECT" if kind == "FULL_OBJECT" else "COMPOSITE"


def parse_algorithm(name: str) -> Algorithm:
    for algorithm in ALGORITHMS:
        if algorithm == name.upper():
            return algorithm
    raise S3Error(
        "InvalidRequest",
        f"Checksum algorithm provided is unsupported. Please try again with any of the valid types: [{', '.join(ALGORITHMS)}]",
    )


def parse_checksum_headers(headers: Mapping[str, str]) -> tuple[Algorithm, str] | None:
    """Return the checksum a request's headers claim for its body."""
    claims = [(HEADERS[name], value) for name, value in headers.items() if name in HEADERS]
    if not claims:
        return None
    if len(claims) > 1:
        raise S3Error("InvalidRequest", "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
    algorithm, value = claims[0]
    check_value(algorithm, value)
    return algorithm, value


def announced_algorithm(headers: Mapping[str, str]) -> Algorithm | None:
    """Return the algorithm of the checksum that comes with the body, in a header or in a trailer."""
    claim = parse_checksum_headers(headers)
    trailers = [HEADERS[name] for name in parse_trailer_header(headers) if name in HEADERS]
    if claim is not None and trailers:
        raise S3Error("InvalidRequest", "Expecting a single x-amz-checksum- header")
    if "x-amz-sdk-checksum-algorithm" in headers and claim is None and not trailers:
        raise S3Error(
            "InvalidRequest",
            "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found.",
        )
    return claim[0] if claim is not None else trailers[0] if trailers else None


def parse_trailer_header(headers: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names `x-amz-trailer` announces; only checksums may travel there."""
    names = tuple(name.strip().lower() for name in headers.get("x-amz-trailer", "").split(",") if name.strip())
    if any(name not in HEADERS for name in names) or len(names) > 1:
        raise S3Error("InvalidRequest", "The value specified in the x-amz-trailer header is not supported")
    return names


def check_value(algorithm: Algorithm, value: str) -> None:
    """Refuse what cannot be a checksum of this algorithm."""
    try:
        good = len(b64decode(value, validate=True)) == _SIZES[algorithm]
    except (Base64Error, ValueError):
        good = False
    if not good:
        raise S3Error("InvalidRequest", f"Value for x-amz-checksum-{algorithm.lower()} header is invalid.")


def parse_content_md5(value: str) -> bytes:
    try:
        digest = b64decode(value, validate=True)
    except (Base64Error, ValueError):
        digest = b""
    if len(digest) != 16:
        raise S3Error("InvalidDigest", ContentMD5=value)
    return digest


def composite(algorithm: Algorithm, parts: Sequence[str]) -> str:
    """Return the checksum of the parts' checksums, with their count: "b64-N"."""
    hasher = new_hasher(algorithm)
    for part in parts:
        hasher.update(b64decode(part))
    return f"{encode(hasher.digest())}-{len(parts)}"


def full_object(algorithm: Algorithm, parts: Sequence[tuple[str, int]]) -> str:
    """Return a CRC of the whole from (CRC in base64, size in bytes) of its parts."""
    value = 0
    for checksum, size in parts:
        value = _COMBINE[algorithm](value, int.from_bytes(b64decode(checksum), "big"), size)
    return encode(value.to_bytes(_SIZES[algorithm], "big"))
