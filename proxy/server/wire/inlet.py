"""The inlet: a request's bytes as they come over the connection, each wait for them bounded, and the pace of all together."""

from __future__ import annotations

import asyncio
from functools import cached_property

from aiohttp import web

from proxy.s3.errors import S3Error
from proxy.server.wire.inflow import Inflow
from proxy.server.wire.request import Request

_DRAIN_SIZE = 256 * 1024  # a rejected body of this size is cheaper to read than a new connection
_DRAIN_SECONDS = 1.0


class Pace:
    """A client's pace, averaged over windows of waiting for it. Time in which nobody waits does not count."""

    def __init__(self, *, window_seconds: float, min_bytes_per_second: float) -> None:
        self._window_seconds = window_seconds
        self._min_bytes = window_seconds * min_bytes_per_second
        self._waited_seconds = 0.0
        self._received_bytes = 0

    @property
    def left_seconds(self) -> float:
        """How long the window still is."""
        return max(self._window_seconds - self._waited_seconds, 0)

    def add(self, received_bytes: int, waited_seconds: float = 0.0) -> None:
        """Note what came after a wait. RequestTimeout if the window is over and too little has come in it."""
        self._received_bytes += received_bytes
        self._waited_seconds += waited_seconds
        if self._waited_seconds >= self._window_seconds:
            if self._received_bytes < self._min_bytes:
                raise S3Error("RequestTimeout")
            self._waited_seconds, self._received_bytes = 0.0, 0


class Inlet:
    """The raw bytes of one request as they come in. A client may be silent for `idle_seconds`, which is also the window of its pace."""

    def __init__(self, request: Request, *, idle_seconds: float, min_bytes_per_second: float = 0.0) -> None:
        self._request = request
        self._content = request.content
        self._idle_seconds = idle_seconds
        self._min_bytes_per_second = min_bytes_per_second
        self.received_bytes = 0
        self._expecting = "expect" in request.headers and request.headers["expect"].lower() == "100-continue"

    @cached_property
    def _pace(self) -> Pace:
        """Of whoever sends a body: most requests have none."""
        return Pace(window_seconds=self._idle_seconds, min_bytes_per_second=self._min_bytes_per_second)

    async def read(self) -> bytes | memoryview:
        """Return the next bytes, none at the end. The first call tells a waiting client to continue."""
        if self._expecting:
            self._continue()
        data = await self._read()
        self.received_bytes += len(data)
        return data

    def read_at_once(self) -> bytes | memoryview | None:
        """Return all the bytes to the end, if they are here, and nobody has to be told to send them; else None, and nothing is read."""
        content = self._content
        if self._expecting or not content.is_eof() or content.exception() is not None:
            return None
        data = content.read_nowait()
        self.received_bytes += len(data)
        return data

    def gather(self) -> bool:
        """Tell whether the first bytes are here, and have them read together with what comes next. Before anything is read."""
        return isinstance(self._content, Inflow) and self._content.gather()

    @property
    def has_all(self) -> bool:
        """Whether all of the request has come."""
        return self._content.is_eof()

    async def spent(self) -> bool:
        """Tell whether another request can follow on this connection, reading on a little if that settles it."""
        if self.has_all:
            return True
        if self._expecting:  # the client will not send this body, or will not know that we do not read it
            return False
        drained = 0
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                while drained < _DRAIN_SIZE and not self._content.is_eof():
                    drained += len(await self._content.readany())
        except (TimeoutError, web.RequestPayloadError, OSError, RuntimeError) as error:
            error.with_traceback(None)  # as below
            return False
        return self._content.is_eof()

    async def _read(self) -> bytes | memoryview:
        try:
            data = self._content.read_nowait()
            if data or self._content.at_eof():
                self._pace.add(len(data))
                return data
            return await self._wait()
        except TimeoutError:
            raise S3Error("RequestTimeout") from None
        except (web.RequestPayloadError, OSError, RuntimeError) as error:  # aiohttp's RuntimeError: read after the connection closed
            # The connection keeps its error. With the traceback it would keep these frames, and they the connection.
            raise S3Error("IncompleteBody") from error.with_traceback(None)

    async def _wait(self) -> bytes | memoryview:
        """Return the next bytes. Only a wait is worth a timer: most small bodies came with their headers."""
        now = asyncio.get_running_loop().time
        began = now()
        silent_until = began + self._idle_seconds
        data: bytes | memoryview | None = None
        while data is None:
            try:
                async with asyncio.timeout_at(min(began + self._pace.left_seconds, silent_until)):
                    data = await self._content.readany()
            except TimeoutError:
                if now() >= silent_until:
                    raise
            began, waited = now(), now() - began
            self._pace.add(len(data or b""), waited)
        return data

    def _continue(self) -> None:
        self._expecting = False
        if self._request.transport is not None:
            self._request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
