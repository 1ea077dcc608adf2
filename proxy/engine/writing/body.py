"""The body of a write, as the engine sees it: plaintext in, digests out, and every claim about it checked before anything is visible."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

import msgspec

from proxy.manifest.records import Checksum


class Digests(msgspec.Struct, frozen=True, kw_only=True):
    """What was computed over a whole body."""

    md5: bytes
    checksum: Checksum | None = None
    claimed: Checksum | None = None  # what the client claimed, and was found right, if that is another


class Body(Protocol):
    """One pass over the bytes of an object or part."""

    @property
    def size_bytes(self) -> int:
        """Exactly how many bytes `chunks` yields; fewer or more is the body's own `ProxyError` to raise."""
        ...

    def memory_to_fill(self, size_bytes: int) -> int:
        """Return how many bytes of memory `chunks` takes while it yields the next `size_bytes`: 0 where they come from a client, who may
        take its time."""
        ...

    def chunks(self) -> AsyncIterator[bytes | memoryview]:
        """Yield the plaintext in pieces of any size, which nobody changes afterwards."""
        ...

    def digest(self, data: bytes | memoryview) -> None:
        """Hash the next bytes. Called in order with all the plaintext, one call at a time, perhaps in a worker thread."""
        ...

    def finish(self) -> Digests:
        """After the last byte: compare with everything the client claimed. Raises what the body's own side calls it."""
        ...


class HereAlready:
    """What a `Body` is besides if all of it may be here before it is asked for, as with a small request that came in one piece.

    No abstract class, nor is `OpenEnded` one: those take a microsecond to recognize, and each small body is asked.
    """

    def take_at_once(self) -> bytes | None:
        """Return what `chunks` would yield, if nothing has to be waited for; else None, and nothing is taken. Not after `chunks`."""
        raise NotImplementedError

    def gather(self) -> bool:
        """Tell whether the first bytes are here. If so, `chunks` yields them together with what comes next, and not by themselves.

        Before `chunks`, by whoever takes memory for the body first.
        """
        return False


class OpenEnded:
    """What a `Body` is besides if its end is known only nearly, as that of a form's file: `size_bytes` is the most it may have at first."""

    @property
    def sure_bytes(self) -> int:
        """How many bytes it has at least."""
        raise NotImplementedError

    async def settle(self) -> None:
        """Find the end. Awaited when the sure bytes were taken, before any more are: `size_bytes` is exact from then on."""
        raise NotImplementedError
