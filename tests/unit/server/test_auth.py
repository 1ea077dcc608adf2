"""What a presigned URL carries besides its signature."""

from __future__ import annotations

import pytest

from proxy.s3.errors import S3Error
from proxy.server.auth import hoisted_headers


def test_hoisted_parameters_become_headers_but_the_signature_does_not() -> None:
    query = [("X-Amz-Signature", "s"), ("X-Amz-Checksum-Mode", "ENABLED"), ("x-amz-acl", "public-read"), ("prefix", "p")]
    merged = hoisted_headers(query, {"host": "h", "x-amz-acl": "private"})
    assert merged == {"host": "h", "x-amz-acl": "private", "x-amz-checksum-mode": "ENABLED"}


def test_a_checksum_of_the_body_is_not_taken_from_an_address() -> None:
    """The JavaScript SDK signs that of an empty body there."""
    query = [("x-amz-checksum-crc32", "AAAAAA=="), ("x-amz-sdk-checksum-algorithm", "CRC32"), ("x-amz-checksum-algorithm", "SHA256")]
    assert hoisted_headers(query, {}) == {"x-amz-checksum-algorithm": "SHA256"}


def test_version_2_signs_two_more_headers_in_the_address() -> None:
    query = [("Content-Type", "a/b"), ("content-md5", "m"), ("x-amz-meta-a", "b")]
    assert hoisted_headers(query, {}) == {"x-amz-meta-a": "b"}
    assert hoisted_headers([*query, ("AWSAccessKeyId", "a")], {}) == {"content-type": "a/b", "content-md5": "m", "x-amz-meta-a": "b"}
    assert hoisted_headers([*query, ("AWSAccessKeyId", "a")], {"content-type": "c/d"})["content-type"] == "c/d"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-amz-meta-a", "b\r\nSet-Cookie: c"),
        ("x-amz-meta-a", "b\x00"),
        ("x-amz-website-redirect-location", "/a\nb"),
        ("x-amz-meta-a b", "c"),
        ("x-amz-meta-a\n", "b"),
        ("x-amz-meta-é", "b"),
        ("x-amz-meta-a:", "b"),
    ],
)
def test_what_no_header_can_be_is_not_hoisted(name: str, value: str) -> None:
    with pytest.raises(S3Error) as caught:
        hoisted_headers([(name, value)], {})
    assert (caught.value.code, caught.value.status, caught.value.details["ArgumentName"]) == ("InvalidArgument", 400, name)
