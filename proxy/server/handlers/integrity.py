"""Requests that S3 takes only if what they carry is vouched for."""

from __future__ import annotations

from collections.abc import Mapping

from proxy.s3.errors import S3Error


def has_integrity_header(headers: Mapping[str, str]) -> bool:
    """Tell whether a body comes with an MD5 or a checksum. Names are in lower case."""
    return "content-md5" in headers or "x-amz-trailer" in headers or any(name.startswith("x-amz-checksum-") for name in headers)


def need_integrity_header(headers: Mapping[str, str]) -> None:
    """Raise InvalidRequest for a document that comes without."""
    if not has_integrity_header(headers):
        raise S3Error("InvalidRequest", "Missing required header for this request: Content-MD5 OR x-amz-checksum-*")
