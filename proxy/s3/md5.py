"""MD5, which S3's ETag and Content-MD5 are."""

from __future__ import annotations

import hashlib

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes

from proxy.s3.checksums import Hasher

FAST_MD5_SIZE = 1024 * 1024


def new_md5(*, size_bytes: int) -> Hasher:
    """Start an MD5 of as many bytes. `cryptography` brings a faster one than Python's, but it takes longer to start."""
    if size_bytes < FAST_MD5_SIZE:
        return hashlib.md5(usedforsecurity=False)
    try:
        return _FastMd5()
    except UnsupportedAlgorithm:  # an OpenSSL that knows only what FIPS 140 allows; Python's own need not be that
        return hashlib.md5(usedforsecurity=False)


class _FastMd5:
    """OpenSSL's MD5: 5 % less CPU than Python's at a megabyte, 0.5 us more at its start."""

    def __init__(self) -> None:
        self._hash = hashes.Hash(hashes.MD5())  # noqa: S303 - an ETag is one, by S3's definition
        self.update = self._hash.update

    def digest(self) -> bytes:
        return self._hash.copy().finalize()
