"""Copies: shared extents where they may be, read and written anew where they must.

A copy that moves data reads and writes at once. If reading and writing asked for memory separately, some copies would hold what they have
read and wait for a segment to write it to, others would hold a segment and wait for something to fill it with, and with enough of them none
could go on. So a copy asks once for each segment: the memory of its source comes with it. Between segments it holds nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from proxy.engine.reading.read import Source
from proxy.engine.writing.body import Digests
from proxy.manifest.records import Checksum
from proxy.s3.checksums import ChecksumAlgorithm, Hasher, encode, new_hasher
from proxy.s3.md5 import new_md5


class CopyBody:
    """A stored range as the body of a new write: already authenticated, so there is nothing to compare."""

    def __init__(self, source: Source, size_bytes: int, checksum_algorithm: ChecksumAlgorithm | None) -> None:
        self.size_bytes = size_bytes
        self._source = source
        self._algorithm = checksum_algorithm
        self._md5 = new_md5(size_bytes=size_bytes)
        self._hasher: Hasher | None = new_hasher(checksum_algorithm) if checksum_algorithm else None

    def memory_to_fill(self, size_bytes: int) -> int:
        """Return what `chunks` holds while it yields the next `size_bytes` of one segment."""
        return self._source.memory_to_fill(size_bytes)

    async def chunks(self) -> AsyncIterator[bytes | memoryview]:
        async with aclosing(self._source.pieces) as pieces:
            async for piece in pieces:
                yield piece

    def digest(self, data: bytes | memoryview) -> None:
        self._md5.update(data)
        if self._hasher is not None:
            self._hasher.update(data)

    def finish(self) -> Digests:
        checksum = None
        if self._hasher is not None and self._algorithm is not None:
            checksum = Checksum(algorithm=self._algorithm, type="FULL_OBJECT", value=encode(self._hasher.digest()))
        return Digests(md5=self._md5.digest(), checksum=checksum)
