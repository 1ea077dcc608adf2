"""Connections: aiohttp's, but that S3 answers, too, where aiohttp's parser could make no request of what came."""

from __future__ import annotations

import asyncio

from aiohttp import web
from aiohttp.http import HttpProcessingError, HttpVersion11
from aiohttp.http_exceptions import LineTooLong

from proxy.s3.errors import S3Error
from proxy.server.admission import BoundedServer
from proxy.server.dispatch import Dispatcher

KEEPALIVE_SECONDS = 75.0
LINGER_SECONDS = 5.0  # reading on after an early answer, so that it is not lost to a reset
READ_BUFFER_SIZE = 64 * 1024  # reading pauses at twice this; hundreds of uploads may wait for memory, each with its buffer full
MAX_REQUEST_LINE = 32 * 1024  # a key of 1,024 bytes is 3 KiB escaped; a presigned URL has a token, too
MAX_HEADER = 16 * 1024
MAX_HEADERS = 512  # S3 bounds their size alone: 8 KiB, which is 480 of the shortest x-amz-meta-* there are


class Endpoint(BoundedServer):
    """Makes a connection of each that is accepted."""

    def __init__(self, dispatcher: Dispatcher, *, limit: int) -> None:
        super().__init__(dispatcher, limit=limit)
        self._dispatcher = dispatcher

    def __call__(self) -> web.RequestHandler:
        return Connection(self, self._dispatcher)


class Connection(web.RequestHandler):
    """One client's connection."""

    __slots__ = ("_dispatcher",)

    def __init__(self, endpoint: Endpoint, dispatcher: Dispatcher) -> None:
        super().__init__(
            endpoint,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # aiohttp takes it for "none"
            auto_decompress=False,  # Content-Encoding belongs to the object
            keepalive_timeout=KEEPALIVE_SECONDS,
            lingering_time=LINGER_SECONDS,
            read_bufsize=READ_BUFFER_SIZE,
            max_line_size=MAX_REQUEST_LINE,
            max_field_size=MAX_HEADER,
            max_headers=MAX_HEADERS,
        )
        self._dispatcher = dispatcher

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer for what was no request: there are clients that only know what S3 says, and scanners that are worth no traceback."""
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        request._version = HttpVersion11  # its stand-in claims 1.0, and so would the answer
        return self._dispatcher.refuse_unreadable(request, _refusal(exc))


def _refusal(error: HttpProcessingError) -> S3Error:
    if isinstance(error, LineTooLong):
        return S3Error("RequestHeaderSectionTooLarge")
    return S3Error("BadRequest", "An error occurred when parsing the HTTP request.")
