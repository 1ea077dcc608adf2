"""Turns: heavy work of many requests on one event loop, a slice of one of them at a time, so that nobody waits longer than for a slice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from time import perf_counter
from typing import TypeVar

from proxy.s3.documents import DocumentReader
from proxy.s3.model import Document

SLICE_SIZE = 4 * 1024  # of a document: up to 1,000 elements, about a millisecond
TURN_SECONDS = 0.004

Slice = TypeVar("Slice")


class Turns:
    """Work that takes turns. Half of the time is left to whatever else is ready; of those who do heavy work, the next in line goes on."""

    def __init__(self, *, turn_seconds: float = TURN_SECONDS) -> None:
        self._turn_seconds = turn_seconds
        self._one = asyncio.Lock()

    async def each(self, work: Iterable[Slice]) -> AsyncIterator[Slice]:
        """Yield what the work yields, which it does after each slice."""
        slices = iter(work)
        while True:
            async with self._one:
                found, is_over = self._turn(slices)
            for each in found:
                yield each
            if is_over:
                return
            await asyncio.sleep(self._turn_seconds)

    def _turn(self, slices: Iterator[Slice]) -> tuple[list[Slice], bool]:
        """Return what is done in one turn, and whether that was all."""
        until = perf_counter() + self._turn_seconds
        found: list[Slice] = []
        for each in slices:
            found.append(each)
            if perf_counter() >= until:
                return found, False
        return found, True

    async def join(self, pieces: Iterable[bytes]) -> bytes:
        """Return a document that is written by pieces."""
        return b"".join([piece async for piece in self.each(pieces)])

    async def read(self, document: Document, text: bytes) -> dict[str, object]:
        """Return the parameters that a request's document stands for. MalformedXML."""
        reader = DocumentReader(document)
        async for _ in self.each(_fed(reader, text)):
            pass
        return reader.finish()


def _fed(reader: DocumentReader, text: bytes) -> Iterator[None]:
    for start in range(0, len(text), SLICE_SIZE):
        reader.feed(text[start : start + SLICE_SIZE])
        yield
