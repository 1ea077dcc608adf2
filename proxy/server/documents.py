"""Documents that may be large: few are made at a time, and their memory is charged, of an answer until the client has taken it.

A listing of a thousand long keys has 3 MB, and making it takes several times that. A client that reads nothing leaves it in the
connection. So such an answer is sent within the budget. If the client takes nothing and others want the memory, the connection is cut: what
the client has lost, it can ask for again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from proxy.engine.memory.budget import BLOCKED_SECONDS, SMALL_SIZE, Budget
from proxy.engine.memory.grant import Grant
from proxy.errors import BudgetExhausted
from proxy.server.wire.outlet import Outlet
from proxy.server.wire.response import Response

LISTINGS = frozenset(
    {"GetObjectAttributes", "ListBuckets", "ListMultipartUploads", "ListObjects", "ListObjectsV2", "ListObjectVersions", "ListParts"}
)
LARGE = LISTINGS | {"DeleteObjects"}
MADE_AT_ONCE = 2  # as many as the manifest lists for at once
COPIES = 2  # of a document that is sent: the answer's and the connection's
READ_COST = 4  # times the text of a request's document is what its values take


class Documents:
    """Large documents of one process."""

    def __init__(self, budget: Budget, *, wait_seconds: float, idle_seconds: float) -> None:
        self._budget = budget
        self._turns = asyncio.Semaphore(MADE_AT_ONCE)
        self._wait_seconds = wait_seconds
        self._idle_seconds = idle_seconds

    @asynccontextmanager
    async def turn(self, operation: str) -> AsyncIterator[None]:
        """The time in which a listing is made. Raises `BudgetExhausted` if it does not begin in time.

        DeleteObjects waits for no turn: the manifest commits the deletions of many at once.
        """
        if operation not in LISTINGS:
            yield
            return
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._turns.acquire()
        except TimeoutError:
            raise BudgetExhausted(f"too many listings are asked for: none began in {self._wait_seconds} s") from None
        try:
            yield
        finally:
            self._turns.release()

    async def charge(self, response: Response, *, owner: str) -> Grant:
        """Take the memory of an answer, which `send` gives back. Raises `BudgetExhausted`."""
        return await self._budget.acquire(COPIES * response.length_bytes, owner=owner)

    async def send(self, outlet: Outlet, response: Response, held: Grant) -> str:
        """Send an answer, and wait until the client has taken nearly all of it. Return why it was cut off, "" if it was not."""
        try:
            async with asyncio.timeout(self._idle_seconds), held.filling(idle_seconds=BLOCKED_SECONDS):
                await outlet.send(response)
        except ConnectionError:
            return "ClientClosed"
        except (BudgetExhausted, TimeoutError) as error:
            response.closes = True
            outlet.cut()
            return "SlowDown" if isinstance(error, BudgetExhausted) else "RequestTimeout"
        finally:
            held.release()
        return ""


@asynccontextmanager
async def document_memory(budget: Budget, size_bytes: int, *, owner: str) -> AsyncIterator[Grant]:
    """The time in which a request's document and its values are in memory: what the grant may grow to."""
    held = budget.claim(min(READ_COST * size_bytes, SMALL_SIZE), owner=owner)
    try:
        yield held
    finally:
        held.release()
