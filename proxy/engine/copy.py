"""Copies: shared extents where they may be, read and written anew where they must."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

from proxy.engine.body import Digests
from proxy.manifest.records import Checksum, ChecksumAlgorithm
from proxy.s3.checksums import Hasher, encode, new_hasher


class CopyBody:
    """A stored range as the body of a new write: already authenticated, so there is nothing to compare."""

    def __init__(self, chunks: AsyncIterator[memoryview], size_bytes: int, checksum_algorithm: ChecksumAlgorithm | None) -> None:
        self.size_bytes = size_bytes
        self._chunks = chunks
        self._algorithm = checksum_algorithm
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._hasher: Hasher | None = new_hasher(checksum_algorithm) if checksum_algorithm else None

    async def chunks(self) -> AsyncIterator[bytes]:
        async for piece in self._chunks:
            yield bytes(piece)

    def digest(self, data: bytes) -> None:
        self._md5.update(data)
        if self._hasher is not None:
            self._hasher.update(data)

    def finish(self) -> Digests:
        checksum = None
        if self._hasher is not None and self._algorithm is not None:
            checksum = Checksum(algorithm=self._algorithm, type="FULL_OBJECT", value=encode(self._hasher.digest()))
        return Digests(md5=self._md5.digest(), checksum=checksum)
