"""The inlet: a request's bytes as they come over the connection, each wait for them bounded."""

from __future__ import annotations

import asyncio

from aiohttp import web

from proxy.s3.errors import S3Error

_DRAIN_SIZE = 256 * 1024  # a rejected body of this size is cheaper to read than a new connection
_DRAIN_SECONDS = 1.0


class Inlet:
    """The raw bytes of one request as they come in."""

    def __init__(self, request: web.BaseRequest, *, idle_seconds: float) -> None:
        self._request = request
        self._content = request.content
        self._idle_seconds = idle_seconds
        self.received_bytes = 0
        self._expecting = request.headers.get("Expect", "").lower() == "100-continue"

    async def read(self) -> bytes:
        """Return the next bytes, b"" at the end. The first call tells a waiting client to continue."""
        if self._expecting:
            self._continue()
        data = await self._read()
        self.received_bytes += len(data)
        return data

    async def spent(self) -> bool:
        """Tell whether another request can follow on this connection, reading on a little if that settles it."""
        if self._content.is_eof():
            return True
        if self._expecting:  # the client will not send this body, or will not know that we do not read it
            return False
        drained = 0
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                while drained < _DRAIN_SIZE and not self._content.is_eof():
                    drained += len(await self._content.readany())
        except (TimeoutError, web.RequestPayloadError, OSError, RuntimeError):
            return False
        return self._content.is_eof()

    async def _read(self) -> bytes:
        try:
            data = self._content.read_nowait()
            if data or self._content.at_eof():
                return data
            # Only a wait is worth a timer: most small bodies came with their headers.
            async with asyncio.timeout(self._idle_seconds):
                return await self._content.readany()
        except TimeoutError:
            raise S3Error("RequestTimeout") from None
        except (web.RequestPayloadError, OSError, RuntimeError) as error:  # aiohttp's RuntimeError: read after the connection closed
            raise S3Error("IncompleteBody") from error

    def _continue(self) -> None:
        self._expecting = False
        if self._request.transport is not None:
            self._request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
