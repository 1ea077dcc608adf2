"""A grant: what one request holds of the budget, and how it grows, idles and is given back.

Who may hold how much, and who has to wait, is the lender's business: see `budget`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from math import inf
from typing import Protocol

from proxy.engine.memory.claims import Claim
from proxy.errors import BudgetExhausted

IDLE_SECONDS = 1.0  # longer than a lost packet takes to come again
REVOKED = "others wait for the memory that this request holds and does not fill"


class Lender(Protocol):
    """Who lends the bytes: the budget."""

    def begin(self, grant: Grant) -> None: ...
    def end(self, grant: Grant) -> None: ...
    async def grow(self, grant: Grant, more_bytes: int) -> None: ...
    def grow_at_once(self, grant: Grant, more_bytes: int) -> bool: ...
    def take_back(self, grant: Grant, size_bytes: int) -> None: ...


class Grant:
    """Bytes that are held until they are given back, in parts or at once. They may be fewer than were asked for."""

    __slots__ = (
        "_lender",
        "_limit",
        "begun_at",
        "claim_bytes",
        "grown_at",
        "idle_seconds",
        "is_at_work",
        "is_small",
        "number",
        "owner",
        "size_bytes",
    )

    def __init__(self, lender: Lender, claim_bytes: int, *, owner: str, is_small: bool, number: int) -> None:
        self._lender = lender
        self._limit: asyncio.Timeout | _Revocation | None = None
        self.claim_bytes = claim_bytes
        self.owner = owner
        self.is_small = is_small
        self.number = number
        self.size_bytes = 0
        self.begun_at = 0.0
        self.grown_at = 0.0
        self.idle_seconds = 0.0
        self.is_at_work = False

    @property
    def missing_bytes(self) -> int:
        return self.claim_bytes - self.size_bytes

    def as_claim(self) -> Claim:
        return Claim(self.size_bytes, self.missing_bytes)

    @asynccontextmanager
    async def filling(self, *, idle_seconds: float = IDLE_SECONDS) -> AsyncIterator[None]:
        """The time in which the grant grows, or is used up, at a client's pace.

        Raises `BudgetExhausted` in the block if others need the memory. They may take it once it has been idle for `idle_seconds`.
        """
        self.idle_seconds = idle_seconds
        try:
            async with asyncio.timeout(None) as limit:
                self._limit = limit
                self._lender.begin(self)
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise BudgetExhausted(REVOKED) from None
        finally:
            self._limit = None
            self._lender.end(self)

    def lie_ready(self, when_revoked: Callable[[], None]) -> None:
        """As `filling`, for bytes that are all here and wait, until `leave_ready`; that they wait is not their client's fault.

        `when_revoked` is called, soon, if others need the memory. A coroutine in a block for each costs more than all else here.
        """
        self.idle_seconds = inf
        self._limit = _Revocation(when_revoked)
        self._lender.begin(self)

    def leave_ready(self) -> None:
        if self._limit is not None:
            self._limit = None
            self._lender.end(self)

    async def grow(self, size_bytes: int) -> None:
        """Hold as many bytes in all, or the whole claim if that is less, or the request is small. Raises `BudgetExhausted`."""
        await self._lender.grow(self, self.missing_bytes if self.is_small else min(size_bytes - self.size_bytes, self.missing_bytes))

    def grow_at_once(self) -> bool:
        """Hold the whole claim if nobody has to be waited for, and tell whether that is so."""
        return self._lender.grow_at_once(self, self.missing_bytes)

    def touch(self) -> None:
        """Say that bytes have come: it does not idle."""
        self.grown_at = asyncio.get_running_loop().time()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """The time in which it is we that its client waits for: it does not idle."""
        self.is_at_work = True
        try:
            yield
        finally:
            self.is_at_work = False
            self.touch()

    @property
    def is_revoked(self) -> bool:
        return self._limit is not None and self._limit.when() is not None

    def revoke(self) -> None:
        """Break off the filling."""
        if self._limit is not None and not self.is_revoked:
            self._limit.reschedule(asyncio.get_running_loop().time())

    def release(self, size_bytes: int | None = None) -> None:
        """Give back as many bytes, or all that are left. What was given back already is not given back again."""
        released = self.size_bytes if size_bytes is None else min(size_bytes, self.size_bytes)
        self._lender.take_back(self, released)

    def keep(self, size_bytes: int) -> None:
        """Give back what is beyond as many bytes."""
        if size_bytes < self.size_bytes:
            self.release(self.size_bytes - size_bytes)


class _Revocation:
    """Calls back once a grant is revoked: what there is of an `asyncio.Timeout` where no task is to be interrupted."""

    __slots__ = ("_call", "_when")

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._when: float | None = None

    def when(self) -> float | None:
        return self._when

    def reschedule(self, when: float) -> None:
        self._when = when
        asyncio.get_running_loop().call_soon(self._call)
