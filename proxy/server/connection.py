"""Connections: aiohttp's, except that a request that cannot be read gets S3's answer, too.

What a client sends before anybody waits for it lies in memory that no budget counts. So a connection reads no more at a time than a head
may have. It reads more only of a body that somebody waits for.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from aiohttp import web
from aiohttp.http import HttpProcessingError, HttpRequestParser, HttpVersion11
from aiohttp.http_exceptions import LineTooLong

from proxy.s3.errors import S3Error
from proxy.server.dispatch import Dispatcher
from proxy.server.front import FrontDoor
from proxy.server.wire.admission import BoundedServer
from proxy.server.wire.balance import Share
from proxy.server.wire.heads import MAX_HEAD_SIZE, MAX_HEADERS_SIZE, BoundedParser, HeadTooLarge
from proxy.server.wire.inflow import Inflow
from proxy.server.wire.inside import Inside
from proxy.server.wire.outlet import Outlet
from proxy.server.wire.request import Request, request_of
from proxy.server.wire.response import Response
from proxy.server.wire.soon import Soon

KEEPALIVE_SECONDS = 75.0
LINGER_SECONDS = 5.0  # reading on after an early answer, so that it is not lost to a reset
REFUSED_SECONDS = 1.0  # the same, where no request could be made of what came
READ_BUFFER_SIZE = MAX_HEAD_SIZE // 2  # reading pauses at more than twice this while nobody waits for a body: not within one read
READ_SIZE = 256 * 1024  # at a time, of a body that is waited for and comes slowly
QUEUED_REQUESTS = 2  # of one connection, sent before the last is answered; no S3 client does that
MAX_HEADERS = MAX_HEAD_SIZE // 3  # more than fit: their size is bounded


class Endpoint(BoundedServer):
    """Makes a connection of each that is accepted. Without `front_door`, all requests take aiohttp's."""

    def __init__(self, dispatcher: Dispatcher, *, limit: int, front_door: bool = True, share: Share | None = None) -> None:
        """Count the connections in this worker's share, if it is one of several."""
        super().__init__(self._serve, limit=limit)
        self.dispatcher = dispatcher
        self.share = share or Share.alone()
        self._front_door = front_door
        self._buffer = memoryview(bytearray(READ_SIZE))  # of all connections: what is read is copied out at once

    def __call__(self) -> asyncio.BaseProtocol:  # type: ignore[override]  # aiohttp says which one
        reading = _Reading(Connection(self, self.dispatcher, front_door=self._front_door), self._buffer, self.share)
        self.share.enter(reading)
        return reading

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, Connection)
        ours = request_of(request, connection)
        return _Passed(await self.dispatcher.answer(ours), ours.outlet)


class _Passed(web.StreamResponse):
    """Stands for a response of ours where aiohttp takes one of its own."""

    def __init__(self, response: Response, outlet: Outlet) -> None:
        super().__init__(status=response.status)
        self._response = response
        self._outlet = outlet

    @property
    def keep_alive(self) -> bool:
        return not self._response.closes

    async def prepare(self, request: web.BaseRequest) -> None:
        """Leave it to the outlet."""

    async def write_eof(self, data: bytes = b"") -> None:  # noqa: ARG002 - aiohttp's
        await self._outlet.send(self._response)


class _Reading(asyncio.BufferedProtocol):
    """Stands between the event loop and a connection, and says how much to read."""

    def __init__(self, connection: Connection, buffer: memoryview, share: Share) -> None:
        self._connection = connection
        self._buffer = buffer
        self._share = share
        self._inflow: Inflow | None = None  # what the bytes that are read now are of

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connection.connection_made(transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's
        self._inflow = self._connection.inflow
        if self._inflow is not None and (room := self._inflow.room(self._buffer)) is not None:
            return room
        self._inflow = None
        return self._buffer[:MAX_HEAD_SIZE]

    def buffer_updated(self, nbytes: int) -> None:
        if self._inflow is not None:
            self._inflow.filled(nbytes)
        else:
            self._connection.data_received(bytes(self._buffer[:nbytes]))

    def eof_received(self) -> bool:
        return self._connection.sends_no_more()

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._share.leave(self)
        self._connection.connection_lost(exc)


class Connection(Inside):
    """One client's connection."""

    __slots__ = ("_bounded", "_dispatcher", "_front", "_lost", "_refusal")

    def __init__(self, endpoint: Endpoint, dispatcher: Dispatcher, *, front_door: bool) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(
            endpoint,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # aiohttp takes it for "none"
            auto_decompress=False,  # Content-Encoding belongs to the object
            keepalive_timeout=KEEPALIVE_SECONDS,
            lingering_time=LINGER_SECONDS,
            read_bufsize=READ_BUFFER_SIZE,
        )
        self._dispatcher = dispatcher
        self._lost: asyncio.Future[None] | None = None
        self._refusal: web.StreamResponse | None = None  # of a head that nobody can read: the last answer
        self._front = FrontDoor(self, endpoint, self, dispatcher.shapes)
        self._bounded = BoundedParser(self._parser_of_requests, self._front if front_door else None)
        self.take_parser(self._bounded, queued=QUEUED_REQUESTS)

    def _parser_of_requests(self) -> HttpRequestParser:
        return self.new_parser(
            buffer_size=READ_BUFFER_SIZE, line_size=MAX_HEAD_SIZE, field_size=MAX_HEADERS_SIZE, fields=MAX_HEADERS, queued=QUEUED_REQUESTS
        )

    @property
    def inflow(self) -> Inflow | None:
        """The body that is coming in past the parser."""
        return self._bounded.inflow

    @property
    def is_busy(self) -> bool:
        return self._front.is_busy

    def data_received(self, data: bytes) -> None:
        if data and self._front.is_busy:
            self._front.hold(data)
        elif not self._bounded.is_recognised(data):
            super().data_received(data)

    def sends_no_more(self) -> bool:
        """Take note that the client sends no more; tell whether to leave the connection open until the request under way is answered.

        Who has sent all of it may end his side, and wait for the answer. What was sent behind it is not begun. With TLS there are no sides.
        """
        if not (self._bounded.has_all and self.is_answering) or self.ssl_context is not None:
            return False
        self.close()
        return True

    def answer_at_once(self, request: Request) -> Response | Soon | None:
        """As the front door's `Serve`."""
        found = None if self.writing_paused else self._dispatcher.answer_at_once(request)
        if isinstance(found, Response):
            request.outlet.put(found)
        return found

    def answer_soon(self, request: Request, soon: Soon) -> Response:
        """As the front door's `Serve`."""
        response = soon.answer()
        request.outlet.put(response)
        return response

    async def answer(self, request: Request, written: Response | None) -> bool:
        """As the front door's `Serve`."""
        response = written or await self._dispatcher.answer(request)
        self.patience_seconds = self._dispatcher.idle_seconds
        try:
            await request.outlet.send(response)
        finally:
            self.patience_seconds = None
        return not response.closes

    async def shutdown(self, timeout: float | None = 15.0) -> None:
        await self._front.finish(timeout)
        await super().shutdown(timeout)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(None)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer what was no request: some clients understand only S3's errors, and a scanner is not worth a traceback."""
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        ours = request_of(request, self, version=HttpVersion11)  # its stand-in claims 1.0, and so would the answer
        self._refusal = _Passed(self._dispatcher.refuse_unreadable(ours, _refusal(exc)), ours.outlet)
        return self._refusal

    def log_exception(self, *args: object, **kw: object) -> None:
        """Log what nobody expected. That the rest of a body, read after its answer, is refused by the parser is no defect of ours."""
        if not isinstance(kw.get("exc_info"), web.RequestPayloadError):
            super().log_exception(*args, **kw)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send the answer. Who takes nothing of it for long is cut off: an answer that was made whole is in memory until it is sent.

        After a head that was refused, read on a little: a reset would take the answer from the client.
        """
        self.patience_seconds = self._dispatcher.idle_seconds
        try:
            sent = await super().finish_response(request, resp, start_time)
        finally:
            self.patience_seconds = None
        if resp is self._refusal and self.transport is not None and not sent[1]:
            self._lost = asyncio.get_running_loop().create_future()
            with suppress(TimeoutError):
                async with asyncio.timeout(REFUSED_SECONDS):
                    self.transport.write_eof()
                    await self._lost
        return sent


def _refusal(error: HttpProcessingError) -> S3Error:
    if isinstance(error, LineTooLong | HeadTooLarge):
        return S3Error("RequestHeaderSectionTooLarge")
    return S3Error("BadRequest", "An error occurred when parsing the HTTP request.")
