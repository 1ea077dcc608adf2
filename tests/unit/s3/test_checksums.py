"""Checksums against published values, the standard library, and each other."""

from __future__ import annotations

import base64
import hashlib
import zlib

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from hypothesis import given
from hypothesis import strategies as st

from proxy.s3 import checksums
from proxy.s3.checksums import ChecksumAlgorithm
from proxy.s3.errors import S3Error
from proxy.s3.md5 import FAST_MD5_SIZE, new_md5

CRCS: list[ChecksumAlgorithm] = ["CRC32", "CRC32C", "CRC64NVME"]


def digest_of(algorithm: ChecksumAlgorithm, data: bytes) -> bytes:
    hasher = checksums.new_hasher(algorithm)
    hasher.update(data)
    return hasher.digest()


# The check values of "123456789" in the CRC catalogue (reveng.sourceforge.io/crc-catalogue), FIPS 180's and RFC 1321's of "abc", and what
# `xxhsum` prints of it. S3 takes xxHash's canonical form, which is big-endian.
@pytest.mark.parametrize(
    ("algorithm", "data", "expected"),
    [
        ("CRC32", b"123456789", "cbf43926"),
        ("CRC32C", b"123456789", "e3069283"),
        ("CRC64NVME", b"123456789", "ae8b14860a799888"),
        ("SHA1", b"abc", "a9993e364706816aba3e25717850c26c9cd0d89d"),
        ("SHA256", b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            "SHA512",
            b"abc",
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        ),
        ("MD5", b"abc", "900150983cd24fb0d6963f7d28e17f72"),
        ("XXHASH64", b"", "ef46db3751d8e999"),
        ("XXHASH64", b"abc", "44bc2cf5ad770999"),
        ("XXHASH3", b"", "2d06800538d394c2"),
        ("XXHASH3", b"abc", "78af5f94892f3950"),
        ("XXHASH128", b"", "99aa06d3014798d86001c324468d497f"),
        ("XXHASH128", b"abc", "06b05ab6733a618578af5f94892f3950"),
    ],
)
def test_published_values(algorithm: ChecksumAlgorithm, data: bytes, expected: str) -> None:
    assert digest_of(algorithm, data).hex() == expected


def test_all_algorithms_are_offered() -> None:
    model = ServiceModel(Loader().load_service_model("s3", "service-2"))
    assert set(checksums.ALGORITHMS) == set(model.shape_for("ChecksumAlgorithm").enum)


@pytest.mark.parametrize("algorithm", checksums.ALGORITHMS)
@given(data=st.binary(max_size=500), cut=st.integers(0, 500))
def test_any_split_and_any_buffer_give_the_same_digest(algorithm: ChecksumAlgorithm, data: bytes, cut: int) -> None:
    hasher = checksums.new_hasher(algorithm)
    hasher.update(bytearray(data[:cut]))
    hasher.update(memoryview(data)[cut:])

    assert hasher.digest() == digest_of(algorithm, data)


@given(data=st.binary(max_size=500))
def test_crc32_is_zlibs(data: bytes) -> None:
    assert checksums.encode(digest_of("CRC32", data)) == base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


@pytest.mark.parametrize("algorithm", CRCS)
@given(parts=st.lists(st.binary(max_size=200), max_size=6))
def test_combined_parts_are_the_whole(algorithm: ChecksumAlgorithm, parts: list[bytes]) -> None:
    combined = checksums.combine_full_object(algorithm, [(digest_of(algorithm, part), len(part)) for part in parts])

    assert combined == checksums.encode(digest_of(algorithm, b"".join(parts)))


@pytest.mark.parametrize("algorithm", CRCS)
def test_parts_beyond_four_gib_combine(algorithm: ChecksumAlgorithm) -> None:
    # 5 GiB of zeros, made by doubling instead of hashing: each half appended to itself.
    zero, size = digest_of(algorithm, b"\0" * 1024), 1024
    for _ in range(20):
        zero, size = base64.b64decode(checksums.combine_full_object(algorithm, [(zero, size)] * 2)), size * 2
    part = (zero, size)

    five = checksums.combine_full_object(algorithm, [part] * 5)
    four = base64.b64decode(checksums.combine_full_object(algorithm, [part] * 4))

    assert size == 1 << 30
    assert five == checksums.combine_full_object(algorithm, [part, (four, 4 * size)])


@pytest.mark.parametrize("algorithm", sorted(set(checksums.ALGORITHMS) - set(CRCS)))
def test_hashes_do_not_combine(algorithm: ChecksumAlgorithm) -> None:
    with pytest.raises(ValueError, match="cannot be combined"):
        checksums.combine_full_object(algorithm, [])


def test_composite_is_the_checksum_of_checksums() -> None:
    parts = [digest_of("SHA256", b"one"), digest_of("SHA256", b"two")]

    expected = base64.b64encode(hashlib.sha256(parts[0] + parts[1]).digest()).decode()

    assert checksums.composite("SHA256", iter(parts)) == f"{expected}-2"


@pytest.mark.parametrize(
    ("algorithm", "default", "refused"),
    [
        ("CRC32", "COMPOSITE", None),
        ("CRC32C", "COMPOSITE", None),
        ("CRC64NVME", "FULL_OBJECT", "COMPOSITE"),
        ("SHA256", "COMPOSITE", "FULL_OBJECT"),
        ("SHA512", "COMPOSITE", "FULL_OBJECT"),
        ("MD5", "COMPOSITE", "FULL_OBJECT"),
        ("XXHASH3", "COMPOSITE", "FULL_OBJECT"),
    ],
)
def test_types(algorithm: ChecksumAlgorithm, default: str, refused: checksums.ChecksumType | None) -> None:
    assert checksums.default_type(algorithm) == default
    checksums.check_type(algorithm, checksums.default_type(algorithm))
    if refused is not None:
        with pytest.raises(S3Error, match="cannot be used"):
            checksums.check_type(algorithm, refused)


@pytest.mark.parametrize("algorithm", checksums.ALGORITHMS)
def test_a_header_names_algorithm_and_value(algorithm: ChecksumAlgorithm) -> None:
    value = checksums.encode(digest_of(algorithm, b"data"))
    headers = {f"x-amz-checksum-{algorithm.lower()}": value, "x-amz-sdk-checksum-algorithm": algorithm.lower(), "x-amz-checksum-type": "X"}

    assert checksums.parse_checksum_headers(headers) == (algorithm, value)
    assert checksums.announced_algorithm(headers) == algorithm
    assert checksums.decode(algorithm, value) == digest_of(algorithm, b"data")


@pytest.mark.parametrize("headers", [{}, {"x-amz-checksum-mode": "ENABLED"}, {"x-amz-checksum-algorithm": "CRC32"}, {"content-md5": "x"}])
def test_no_checksum_is_claimed(headers: dict[str, str]) -> None:
    assert checksums.parse_checksum_headers(headers) is None
    assert checksums.announced_algorithm(headers) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"x-amz-checksum-crc32": ""},
        {"x-amz-checksum-crc32": "AAAAA"},
        {"x-amz-checksum-crc32": "AAAAAAA="},
        {"x-amz-checksum-crc32": "AAAA AA=="},
        {"x-amz-checksum-crc32": "AAAAAB=="},  # stray bits: not the one spelling of these bytes
        {"x-amz-checksum-crc32": "é"},
        {"x-amz-checksum-crc32": "\udcff"},
        {"x-amz-checksum-crc32": "AAAAAA==-2"},
        {"x-amz-checksum-sha256": "AAAAAA=="},
        {"x-amz-checksum-xxhash128": "AAAAAAAAAAA="},
        {"x-amz-checksum-md4": "AAAAAA=="},
        {"x-amz-checksum-crc32": "AAAAAA==", "x-amz-checksum-crc32c": "AAAAAA=="},
        {"x-amz-checksum-crc32": "AAAAAA==", "x-amz-sdk-checksum-algorithm": "SHA256"},
    ],
)
def test_bad_checksum_headers_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(S3Error) as caught:
        checksums.parse_checksum_headers(headers)

    assert caught.value.code == "InvalidRequest"


def test_a_trailer_is_announced() -> None:
    headers = {"x-amz-trailer": "X-Amz-Checksum-CRC64NVME", "x-amz-sdk-checksum-algorithm": "CRC64NVME"}

    assert checksums.parse_trailer_header(headers) == ("x-amz-checksum-crc64nvme",)
    assert checksums.announced_algorithm(headers) == "CRC64NVME"


@pytest.mark.parametrize(
    "headers",
    [
        {"x-amz-trailer": "x-amz-meta-late"},
        {"x-amz-trailer": "crc32"},
        {"x-amz-trailer": "x-amz-checksum-md4"},
        {"x-amz-trailer": "x-amz-checksum-crc32, x-amz-checksum-crc32c"},
        {"x-amz-trailer": "x-amz-checksum-crc32", "x-amz-sdk-checksum-algorithm": "SHA1"},
        {"x-amz-trailer": "x-amz-checksum-crc32", "x-amz-checksum-crc32": "AAAAAA=="},
        {"x-amz-sdk-checksum-algorithm": "CRC32"},
    ],
)
def test_bad_announcements_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(S3Error) as caught:
        checksums.announced_algorithm(headers)

    assert caught.value.code == "InvalidRequest"


def test_algorithms_are_named_in_any_case() -> None:
    assert checksums.parse_algorithm("crc64nvme") == "CRC64NVME"
    with pytest.raises(S3Error):
        checksums.parse_algorithm("MD4")


def test_content_md5() -> None:
    digest = hashlib.md5(b"data").digest()

    assert checksums.parse_content_md5(base64.b64encode(digest).decode()) == digest


@pytest.mark.parametrize("value", ["", "x", "AAAAAA==", hashlib.md5(b"data").hexdigest(), "é"])
def test_bad_content_md5_is_refused(value: str) -> None:
    with pytest.raises(S3Error) as caught:
        checksums.parse_content_md5(value)

    assert caught.value.code == "InvalidDigest"


@pytest.mark.parametrize("size", [0, FAST_MD5_SIZE])
def test_either_md5_is_md5(size: int) -> None:
    hasher = new_md5(size_bytes=size)
    for piece in (b"a", bytearray(b"b" * 100), memoryview(b"c")):
        hasher.update(piece)
    assert [hasher.digest(), hasher.digest()] == [hashlib.md5(b"a" + b"b" * 100 + b"c").digest()] * 2
