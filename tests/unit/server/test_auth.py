"""What a presigned URL carries besides its signature."""

from __future__ import annotations

from proxy.server.auth import hoisted_headers


def test_hoisted_parameters_become_headers_but_the_signature_does_not() -> None:
    query = [("X-Amz-Signature", "s"), ("X-Amz-Checksum-Mode", "ENABLED"), ("x-amz-acl", "public-read"), ("prefix", "p")]
    merged = hoisted_headers(query, {"host": "h", "x-amz-acl": "private"})
    assert merged == {"host": "h", "x-amz-acl": "private", "x-amz-checksum-mode": "ENABLED"}
