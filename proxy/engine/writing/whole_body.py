"""A body that the proxy made itself, and has whole."""

from __future__ import annotations

from collections.abc import AsyncIterator

from proxy.engine.writing.body import Digests
from proxy.manifest.records import Checksum
from proxy.s3.checksums import encode, new_hasher
from proxy.s3.md5 import new_md5


class WholeBody:
    """Bytes as the body of a write. As on AWS, they get a CRC64NVME."""

    def __init__(self, data: bytes) -> None:
        self.size_bytes = len(data)
        self._data = data
        self._md5 = new_md5(size_bytes=len(data))
        self._hasher = new_hasher("CRC64NVME")

    def memory_to_fill(self, size_bytes: int) -> int:  # noqa: ARG002 - what there is takes no more
        return 0

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self._data

    def digest(self, data: bytes | memoryview) -> None:
        self._md5.update(data)
        self._hasher.update(data)

    def finish(self) -> Digests:
        checksum = Checksum(algorithm="CRC64NVME", type="FULL_OBJECT", value=encode(self._hasher.digest()))
        return Digests(md5=self._md5.digest(), checksum=checksum)
