"""How a body is cut into segments: full ones, then the rest.

A segment's size is sealed into each of its cells, so it must be known before the first of them. Where the end of a body is known only
nearly, what it has surely is cut as if it were all; the few bytes beyond it become a segment of their own. Rejected: to keep
the last segment's plaintext until the end is found, which takes 16 MiB more of the budget for every browser's upload.
"""

from __future__ import annotations

from proxy.engine.writing.body import Body, OpenEnded


class Cut:
    """The cut of one body. `number` and `offset` are those of the next segment; `ended` once all are filled."""

    def __init__(self, body: Body, segment_size: int) -> None:
        self._body = body
        self._open = body if isinstance(body, OpenEnded) else None
        self._size = body.size_bytes if self._open is None else self._open.sure_bytes
        self._segment_size = segment_size
        self.number = 0
        self.offset = 0
        self.ended = False

    async def next_size(self) -> int:
        """Return the size of the next segment, 0 if there is none."""
        await self._look()
        return min(self._size - self.offset, self._segment_size)

    async def took(self, size_bytes: int) -> None:
        """Go on behind a segment that is filled."""
        self.number += 1
        self.offset += size_bytes
        await self._look()

    async def _look(self) -> None:
        if self._open is not None and self.offset == self._size:
            await self._open.settle()
            self._size, self._open = self._body.size_bytes, None
        self.ended = self.offset == self._size
