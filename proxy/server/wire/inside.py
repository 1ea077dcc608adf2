"""The inside of aiohttp's connection: all that is used here of what aiohttp promises nobody.

aiohttp's version is pinned. Before another one is taken, `tests/unit/server/test_inside.py` says which of its functions have changed: read
them beside this module, which relies on no more than what its own functions say.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.http import HttpRequestParser

if TYPE_CHECKING:
    from proxy.server.wire.heads import BoundedParser


class Inside(web.RequestHandler):
    """aiohttp's connection, with words for what it knows of itself."""

    __slots__ = ("remote",)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
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

    def forget_drain(self) -> None:
        """Let the next one wait for the client anew: aiohttp keeps one future for that, also when whoever waited was cancelled."""
        if self._drain_waiter is not None and self._drain_waiter.cancelled():
            self._drain_waiter = None

    def _process_keepalive(self) -> None:
        """Close the connection if nobody has used it for long. aiohttp sees its own requests alone, and asks this when the time is over."""
        if self.is_busy:
            self.put_off_closing()
        super()._process_keepalive()

    @property
    def is_busy(self) -> bool:
        """Whether a request is being answered that aiohttp does not know of."""
        return False
