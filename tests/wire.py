"""A wire: a connection of the server without a socket, so that a test says which bytes come in which piece, and sees each that goes out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from itertools import pairwise

from proxy.server.connection import Connection, Endpoint
from tests.patience import PATIENCE_SECONDS

PEER = ("127.0.0.1", 50_000)


class Wire(asyncio.Transport):
    """Takes what a connection writes, and gives it what a client sends, as an event loop would."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__()
        self.sent = b""
        self.is_paused = False
        self._closed = False
        self.protocol = endpoint()
        assert isinstance(self.protocol, asyncio.BufferedProtocol)
        self.protocol.connection_made(self)

    @property
    def connection(self) -> Connection:
        connection: Connection = self.protocol._connection  # type: ignore[attr-defined]  # the protocol stands before it
        return connection

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is being answered, and nothing will be until more comes."""
        return self._closed or (self.connection.is_idle and not self.connection.is_busy)

    async def give(self, pieces: Iterable[bytes]) -> None:
        """Let the bytes come in these pieces, each when the connection reads on."""
        for piece in pieces:
            rest = piece
            while rest and not self._closed:
                await asyncio.sleep(0)
                if not self.is_paused:
                    rest = self._read(rest)

    def _read(self, data: bytes) -> bytes:
        """Let the connection read what it has room for; return the rest."""
        room = self.protocol.get_buffer(-1)  # type: ignore[attr-defined]
        size = min(len(room), len(data))
        room[:size] = data[:size]
        self.protocol.buffer_updated(size)  # type: ignore[attr-defined]
        return data[size:]

    async def settled(self) -> bytes:
        """Return all that was sent, when nothing is being answered any more."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not self.is_quiet:
                await asyncio.sleep(0.001)
        return self.sent

    def end(self) -> None:
        """Let the client go away."""
        if not self._closed:
            self._closed = True
            self.protocol.connection_lost(None)

    # What asyncio asks of a transport.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += bytes(data)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """All is taken at once."""

    def get_extra_info(self, name: str, default: object = None) -> object:
        return PEER if name == "peername" else default

    def is_closing(self) -> bool:
        return self._closed

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def write_eof(self) -> None:
        """The client hears that no more will come, and goes."""
        asyncio.get_running_loop().call_soon(self.end)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self.protocol.connection_lost, None)  # a descriptor is closed a step later

    def abort(self) -> None:
        self.close()


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """Cut bytes at these places, wherever they lie."""
    at = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(at)]
