"""White space: what keeps a client waiting while a copy or a completion takes long.

Such an answer can take longer than a client waits for its first byte (boto3: 60 s). As on S3, the status 200 and the beginning of the
document are then sent before the outcome is known, and white space after them; an error is told by the document that follows.

Source: Amazon S3 API Reference, CompleteMultipartUpload and CopyObject.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType

from proxy.server.wire.outlet import Outlet
from proxy.server.wire.response import Response

PROLOG = b'<?xml version="1.0" encoding="UTF-8"?>\n'  # it must come first of all: white space before it is no XML


class WhiteSpace:
    """Runs beside the work on an answer. If that takes longer than `seconds`, the answer is begun, and goes on by a space each so often."""

    def __init__(
        self, outlet: Outlet, headers: list[tuple[str, str]], early: Mapping[str, str], *, seconds: float, idle_seconds: float
    ) -> None:
        """Answer with the headers, and with what the work on the answer has put into `early` by then."""
        self._outlet = outlet
        self._headers = headers
        self._early = early
        self._seconds = seconds
        self._idle_seconds = idle_seconds
        self._over = asyncio.Event()
        self._response: Response | None = None
        self._gone = False

    async def __aenter__(self) -> WhiteSpace:
        self._sending = asyncio.create_task(self._send())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._sending.cancel()
        await asyncio.gather(self._sending, return_exceptions=True)

    async def end(self) -> bool:
        """Stop when the work is done; tell whether the answer was begun, so that `finish` is how to end it."""
        self._over.set()
        await self._sending
        return self._response is not None

    async def finish(self, document: bytes) -> Response:
        """Send the rest of the answer. The client may be gone: the work was done all the same."""
        response = self._response
        assert response is not None
        try:
            if not self._gone:
                async with asyncio.timeout(self._idle_seconds):
                    await self._outlet.write(document.removeprefix(PROLOG))
                    await self._outlet.end()
        except (ConnectionError, TimeoutError):
            response.closes = True
        return response

    async def _send(self) -> None:
        try:
            while not await self._done_within(self._seconds):
                async with asyncio.timeout(self._idle_seconds):
                    if self._response is None:
                        self._response = Response(headers=[*self._headers, *self._early.items()])
                        self._outlet.begin(self._response, length_bytes=None)
                        await self._outlet.write(PROLOG)
                    else:
                        await self._outlet.write(b" ")
        except (ConnectionError, TimeoutError):
            self._gone = True

    async def _done_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._over.wait()
        except TimeoutError:
            return False
