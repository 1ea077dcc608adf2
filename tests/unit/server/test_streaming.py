"""An object on its way to a client: what cannot be sent whole is never taken for whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import cast

import pytest

from proxy.engine.reading.read import Reading
from proxy.errors import IntegrityError, NotEnoughShards
from proxy.server.call import Download
from proxy.server.connection import Endpoint
from proxy.server.dispatch import Dispatcher
from proxy.server.shapes import Shapes
from proxy.server.streaming import send_download
from proxy.server.wire.outlet import JOINED_SIZE, Outlet
from proxy.server.wire.request import Request
from proxy.server.wire.response import Response
from tests.patience import PATIENCE_SECONDS

LARGE = 4 * JOINED_SIZE
FAILURE = NotEnoughShards(needed=4, found=3, segment="ab")


class Pieces:
    """Stands for a `Reading`: gives out pieces, and raises the errors among them."""

    def __init__(self, pieces: Sequence[bytes | Exception]) -> None:
        self._pieces = iter(pieces)
        self.closed = False

    async def whole(self) -> bytes:
        pieces = []
        while group := await self.group():
            pieces += group
        return b"".join(pieces)

    async def group(self) -> list[bytes]:
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            return [piece]
        return []

    @asynccontextmanager
    async def passing(self) -> AsyncIterator[None]:
        yield

    async def aclose(self) -> None:
        self.closed = True


class Sending:
    """A download that is sent, and what came of it here. Stands for the dispatcher."""

    idle_seconds = 30
    shapes = Shapes()

    def __init__(self, length: int, *pieces: bytes | Exception) -> None:
        self.pieces = Pieces(pieces)
        self.download = Download(status=200, headers=[], length=length, chunks=cast(Reading, self.pieces))
        self.raised: Exception | None = None

    async def answer(self, request: Request) -> Response:
        try:
            return await send_download(request.outlet, self.download, [], idle_seconds=30)
        except Exception as error:
            self.raised = error
            refusal = Response(503)
            refusal.closes = True
            return refusal

    async def received(self) -> bytes:
        """Return all that a client gets until the server closes the connection."""
        endpoint = Endpoint(cast(Dispatcher, self), limit=10)
        server = await asyncio.get_running_loop().create_server(endpoint, "127.0.0.1", 0)
        try:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
            writer.write(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            with suppress(ConnectionError):
                async with asyncio.timeout(PATIENCE_SECONDS):
                    return await reader.read()
            return b""
        finally:
            writer.close()
            server.close()
            await endpoint.shutdown(0.1)


@pytest.mark.parametrize("ends", [(), (FAILURE,), (ZeroDivisionError("a fault of ours"),)])
async def test_what_breaks_off_in_the_middle_ends_the_connection(ends: tuple[Exception, ...]) -> None:
    sending = Sending(LARGE, bytes(LARGE // 2), *ends)
    assert len(await sending.received()) < LARGE
    assert sending.download.failure == "ShortRead"
    assert sending.pieces.closed


async def test_what_fails_before_its_first_byte_is_not_begun() -> None:
    sending = Sending(LARGE, FAILURE)
    assert (await sending.received()).startswith(b"HTTP/1.1 503 ")
    assert sending.raised is FAILURE
    assert sending.pieces.closed


@pytest.mark.parametrize("pieces", [(b"half",), (b"half", FAILURE), (FAILURE,)])
async def test_what_is_sent_at_once_is_whole_or_not_begun(pieces: tuple[bytes | Exception, ...]) -> None:
    sending = Sending(1000, *pieces)
    assert (await sending.received()).startswith(b"HTTP/1.1 503 ")
    assert isinstance(sending.raised, IntegrityError | NotEnoughShards)
    assert sending.pieces.closed


class Watched(Pieces):
    """Notes how much of what was given out before is still to be sent when more is asked for."""

    outlet: Outlet

    def __init__(self, pieces: Sequence[bytes | Exception]) -> None:
        super().__init__(pieces)
        self.unsent_bytes: list[int] = []

    async def group(self) -> list[bytes]:
        transport = self.outlet._transport()
        self.unsent_bytes.append(transport.get_write_buffer_size())
        return await super().group()


class WatchedSending(Sending):
    def __init__(self, length: int, *pieces: bytes | Exception) -> None:
        super().__init__(length)
        self.pieces = self.watched = Watched(pieces)
        self.download = Download(status=200, headers=[], length=length, chunks=cast(Reading, self.pieces))

    async def answer(self, request: Request) -> Response:
        self.watched.outlet = request.outlet
        return await super().answer(request)


async def test_nothing_is_fetched_for_a_client_that_has_not_taken_what_was_written() -> None:
    count = 16 * 1024**2 // LARGE  # more than the kernel takes at once
    sending = WatchedSending(count * LARGE, *[bytes(LARGE)] * count)
    assert len(await sending.received()) > count * LARGE
    assert sending.watched.unsent_bytes == [0] * (count + 1)
