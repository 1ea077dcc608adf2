"""The inside of aiohttp's connection, and of its reader of a body: all that is used here of what aiohttp promises nobody.

aiohttp's version is pinned. Before another one is taken, `tests/unit/server/test_inside.py` says which of its functions have changed: read
them beside this module, which relies on no more than what its own functions say. The same test holds every other module to it that it uses
nothing of the kind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.http import HttpRequestParser
from aiohttp.streams import StreamReader

if TYPE_CHECKING:
    from proxy.server.wire.heads import BoundedParser


class Inside(web.RequestHandler):
    """aiohttp's connection, with words for what it knows of itself."""

    __slots__ = ("patience_seconds", "remote")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.patience_seconds: float | None = None  # with a client that takes nothing of its answer; None: whoever sends has his own
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self.remote = str(peer[0] if isinstance(peer, (tuple, list)) else peer or "")

    def take_parser(self, parser: BoundedParser, *, queued: int) -> None:
        """Parse with this one from now on, and read no more while so many requests wait."""
        self._max_msg_queue_size, self._msg_queue_resume_size = queued, queued - 1
        self._parser = parser  # type: ignore[assignment]  # it has all that is used of it

    def new_parser(self, *, buffer_size: int, line_size: int, field_size: int, fields: int, queued: int) -> HttpRequestParser:
        return HttpRequestParser(
            self,
            self._loop,
            buffer_size,
            max_line_size=line_size,
            max_field_size=field_size,
            max_headers=fields,
            payload_exception=web.RequestPayloadError,
            auto_decompress=False,  # Content-Encoding belongs to the object
            max_msg_queue_size=queued + 1,  # it counts a request until the next is taken
        )

    @property
    def is_idle(self) -> bool:
        """Whether aiohttp has answered all requests it was given, and would take the next one at once."""
        waiter = self._waiter
        return waiter is not None and not waiter.done() and not self._messages and not self._upgraded and not self.is_ending

    @property
    def is_ending(self) -> bool:
        """Whether the connection is to be closed: aiohttp takes no further request."""
        return self._close or self._force_close

    @property
    def is_answering(self) -> bool:
        """Whether a request is being answered, or nobody waits for the first one yet."""
        return self.is_busy or self._waiter is None or self._waiter.done()

    def put_off_closing(self) -> None:
        """Wait for the next request as long as after an answer of aiohttp's."""
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout

    def read_on(self) -> None:
        """Read on after a body that filled its buffer, and of which nobody has taken enough."""
        if self._reading_paused:
            self.resume_reading()

    async def _drain_helper(self) -> None:
        """Wait until the connection takes more."""
        if self._drain_waiter is not None and self._drain_waiter.cancelled():
            self._drain_waiter = None  # aiohttp keeps one future for all who wait, also when whoever waited was cancelled
        try:
            async with asyncio.timeout(self.patience_seconds):
                await super()._drain_helper()
        except TimeoutError:
            if self.transport is not None:
                self.transport.abort()
            raise ConnectionResetError("the client takes nothing of its answer") from None
        except ConnectionError as error:
            # aiohttp's frame holds the future of this wait, and that the error: with its traceback, it would hold what was to be sent.
            raise ConnectionResetError("the client has gone") from error.with_traceback(None)

    def _process_keepalive(self) -> None:
        """Close the connection if nobody has used it for long. aiohttp sees its own requests alone, and asks this when the time is over."""
        if self.is_busy:
            self.put_off_closing()
        super()._process_keepalive()

    @property
    def is_busy(self) -> bool:
        """Whether a request is being answered that aiohttp does not know of."""
        return False


class InsideReader(StreamReader):
    """aiohttp's reader of a body, with words for what it knows of itself."""

    __slots__ = ()

    def __init__(self, begun: StreamReader) -> None:
        """Take the place of another, and nothing of what lies in it."""
        super().__init__(begun._protocol, 0, loop=begun._loop)  # 0: whatever is fed pauses reading, and to take it does not resume it

    @staticmethod
    def lying_in(reader: StreamReader) -> bytes:
        return b"".join(reader._buffer)

    @property
    def lying_bytes(self) -> int:
        """How many bytes nobody has taken yet."""
        return self._size

    @property
    def is_waited_for(self) -> bool:
        """Whether somebody waits for more."""
        return self._waiter is not None

    @property
    def is_connected(self) -> bool:
        return self._protocol.connected

    def take_back(self) -> bytes:
        """Return what lies here, all of what ever came, as if it had not come yet."""
        lying = b"".join(self._buffer)
        self._buffer.clear()
        self._size = self.total_bytes = 0
        return lying

    def call_later(self, seconds: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        return self._loop.call_later(seconds, callback)

    def begin_to_wait(self) -> None:
        """Take note that somebody is about to wait for more."""

    async def _wait(self, func_name: str) -> None:
        self.begin_to_wait()
        self._protocol.resume_reading(resume_parser=False)  # what comes goes past the parser
        await super()._wait(func_name)
