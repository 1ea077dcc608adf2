"""The front door: a request that is complete when nobody else is being answered is answered here, and aiohttp never hears of it.

The problem: aiohttp takes 50 to 60 µs for a request before and after any code of ours: a request, a response and a writer of its own, with
all that they can do, and two tasks. A small GET has 100 µs in all.

The idea: what the bytes mean is decided by one parser, aiohttp's own, which every connection has. Of what it finds, this door takes a
message that comes alone, whole and plain, while aiohttp waits for the next request. It goes down the same pipeline and out by the same
outlet as any other. Whatever is unusual (a body still to come, chunks, Expect, requests sent ahead of their answers, HTTP/1.0) is handed on
to aiohttp as it was found, as if there were no other door.

Most heads are like one that came before. Where all but a few values are the same, byte for byte, the parser need not be asked again.

While a request of this door is being answered, aiohttp would begin with the next at once. So what comes meanwhile is kept as it came, at
most one read of it, and the connection is not read on until the answer is sent.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Protocol

from aiohttp.http import HttpVersion11, RawRequestMessage
from aiohttp.streams import StreamReader

from proxy.manifest.records import Version
from proxy.s3.request import read_headers
from proxy.s3.shape import MAX_SHAPED_SIZE
from proxy.server.shapes import Shapes
from proxy.server.wire.admission import BoundedServer
from proxy.server.wire.heads import HEAD_END
from proxy.server.wire.inside import Inside
from proxy.server.wire.request import Request, Whole
from proxy.server.wire.response import Response
from proxy.server.wire.soon import Soon

logger = logging.getLogger(__name__)

_METHODS = frozenset({"GET", "HEAD", "PUT", "DELETE", "POST"})


class Serve(Protocol):
    """What answers the requests of a connection."""

    def answer_at_once(self, request: Request) -> Response | Soon | None:
        """Write the answer to a request that takes no waiting, and return it, or what it waits for; None for any other request."""
        ...

    def answer_soon(self, request: Request, soon: Soon) -> Response:
        """Write an answer that has been waited for, and return it."""
        ...

    async def answer(self, request: Request, written: Response | None) -> bool:
        """Answer a request, and wait until the client takes it; tell whether the connection goes on. `written`: the answer, if it is."""
        ...


class FrontDoor:
    """The front door of one connection."""

    __slots__ = ("_connection", "_held", "_serve", "_server", "_shapes", "_task", "is_busy")

    def __init__(self, connection: Inside, server: BoundedServer, serve: Serve, shapes: Shapes) -> None:
        self._connection = connection
        self._shapes = shapes
        self._server = server
        self._serve = serve
        self._task: asyncio.Future[None] | asyncio.Future[Version] | None = None  # what the answer waits for
        self._held = b""
        self.is_busy = False

    def recognise(self, data: bytes) -> bool:
        """Take bytes that are one request, whole and alone, and of a known shape."""
        size = data.find(HEAD_END) + len(HEAD_END)
        if size > MAX_SHAPED_SIZE or self.is_busy or not self._connection.is_idle:
            return False
        found = self._shapes.find(data[:size].decode("latin-1"))
        if found is None:
            return False
        known, head = found
        headers = head.headers
        if len(data) - size != int(headers.get("content-length", "0")):
            return False
        method = known.shape.method
        self._begin(
            Request(method=method, raw_path=head.raw_path, headers=headers, content=Whole(data[size:]), link=self._connection, known=known)
        )
        return True

    def offer(self, message: RawRequestMessage, content: StreamReader, head: bytes) -> bool:
        """Take a request that came alone, if it is of the kind for this door."""
        if self.is_busy or not self._connection.is_idle or not _is_plain(message, content):
            return False
        headers = read_headers(message.headers.items())
        self._begin(
            Request(method=message.method, raw_path=message.path, headers=headers, content=content, link=self._connection, head=head)
        )
        return True

    def _begin(self, request: Request) -> None:
        """Answer a request in the next turn of the event loop: what has come for all connections is read before."""
        self.is_busy = True
        self._server.engage(self._connection)
        if request.known is not None and request.known.is_plain:
            asyncio.get_running_loop().call_soon(self._answer_at_once, request)
        else:
            self._start(request)

    def hold(self, data: bytes) -> None:
        """Keep what comes before the answer is sent, and read no more."""
        self._held += data
        if (transport := self._connection.transport) is not None:
            transport.pause_reading()

    async def finish(self, timeout_seconds: float | None) -> None:
        """Give the request that is being answered its time, and then none."""
        if self.is_busy and self._task is None:
            await asyncio.sleep(0)  # it begins
        if (task := self._task) is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_seconds):
                    await asyncio.wait((task,))
            task.cancel()

    def _answer_at_once(self, request: Request, waited_for: Soon | None = None) -> None:
        """Answer without a task, as far as that goes. `waited_for`: what has ended by now."""
        goes_on, self._task = False, None
        try:
            found = self._serve.answer_at_once(request) if waited_for is None else self._serve.answer_soon(request, waited_for)
            if isinstance(found, Soon):
                self._task = found.outcome
                found.outcome.add_done_callback(lambda _: self._answer_at_once(request, found))
                return
            if found is None or self._connection.writing_paused:
                self._start(request, found)
                return
            goes_on = not found.closes
        except (ConnectionError, asyncio.CancelledError):
            pass  # the client has gone, and knows it; or the process ends
        except Exception:
            logger.exception("Unhandled exception")
        self.is_busy = False
        self._go_on(goes_on)

    def _start(self, request: Request, written: Response | None = None) -> None:
        self._task = asyncio.get_running_loop().create_task(self._answer(request, written))

    async def _answer(self, request: Request, written: Response | None) -> None:
        goes_on = False
        try:
            goes_on = await self._serve.answer(request, written)
        except ConnectionError:
            pass  # the client has gone, and knows it
        except Exception:
            logger.exception("Unhandled exception")
        finally:
            self._task, self.is_busy = None, False
            self._go_on(goes_on)

    def _go_on(self, goes_on: bool) -> None:  # noqa: FBT001 - the verdict of `Serve`
        """Be ready for the next request, of which something may be here already; or close the connection."""
        connection = self._connection
        held, self._held = self._held, b""
        self._server.settle(connection)
        if not goes_on or connection.is_ending:
            connection.force_close()
            return
        connection.put_off_closing()
        connection.read_on()
        if held:
            if connection.transport is not None:
                connection.transport.resume_reading()
            connection.data_received(held)


def _is_plain(message: RawRequestMessage, content: StreamReader) -> bool:
    return (
        content.is_eof()
        and message.method in _METHODS
        and message.version == HttpVersion11
        and not (message.should_close or message.upgrade or message.chunked)
        and "Expect" not in message.headers
    )
