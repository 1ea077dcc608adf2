"""A body's bytes, in the lengths that stripes and segments ask for."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

Admit = Callable[[int], Awaitable[None]]


class Plaintext:
    """Regroups a body's chunks into the lengths asked for."""

    def __init__(self, chunks: AsyncIterator[bytes | memoryview]) -> None:
        self._chunks = chunks
        self._rest: memoryview = memoryview(b"")

    async def ready(self) -> None:
        """Wait for the next byte; the body raises if it ends before."""
        while not self._rest:
            self._rest = memoryview(await anext(self._chunks))

    async def take(self, size: int, admit: Admit) -> list[memoryview]:
        """Return exactly `size` bytes, in pieces; the body raises if it ends before.

        `admit` is awaited before a piece is kept, with its size.
        """
        pieces: list[memoryview] = []
        while size > 0:
            await self.ready()
            piece = self._rest[:size]
            self._rest = self._rest[len(piece) :]
            size -= len(piece)
            await admit(len(piece))
            pieces.append(piece)
        return pieces

    async def end(self) -> None:
        """Read to the end, where trailers are; the body raises if more bytes follow than it announced."""
        async for extra in self._chunks:
            if extra:
                raise ValueError("the body is longer than its size")

    async def close(self) -> None:
        """Let go of what the body reads from: left to the garbage collector, a copy's requests to stores would go on."""
        if isinstance(self._chunks, AsyncGenerator):
            await self._chunks.aclose()
