"""The outlet: where the answer to one request goes, whole or by pieces.

Head and body are written to the connection's transport by one call, so that a small answer is one system call and one packet. Whatever
comes from a record may stand in a header, but nothing that would end it: that is checked here once more, for the head as a whole.
"""

from __future__ import annotations

import re
from asyncio import Transport, get_running_loop
from collections.abc import Sequence
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from time import time
from typing import Protocol

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpVersion, HttpVersion10, HttpVersion11, StreamWriter

from proxy.server.wire.response import Response

JOINED_SIZE = 128 * 1024  # up to here, copying the body behind its head beats handing over two buffers
_BODILESS = frozenset({204, 304})  # RFC 9110, section 6.4.1
_REASONS = {status.value: status.phrase for status in HTTPStatus}
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class Line(Protocol):
    """A connection, as far as it is written to: aiohttp's has it."""

    @property
    def transport(self) -> Transport | None: ...
    @property
    def writing_paused(self) -> bool: ...


class Outlet:
    """Takes one response. Raises ConnectionError where the client has gone.

    `sent_bytes`: how much of its body the connection has taken.
    """

    __slots__ = ("_is_chunked", "_keep_alive", "_line", "_method", "_owed_bytes", "_version", "sent_bytes")

    def __init__(self, line: Line, method: str, version: HttpVersion, *, keep_alive: bool) -> None:
        self._line = line
        self._method = method
        self._version = version
        self._keep_alive = keep_alive
        self._is_chunked = False
        self._owed_bytes = 0  # of the body, that were written and may lie here still
        self.sent_bytes = 0

    async def send(self, response: Response) -> None:
        """Send a response whole, unless it was sent already, and wait until the connection takes more."""
        if not response.is_begun:
            self.put(response)
        if self._line.writing_paused:
            await self.drain()
        else:
            self._taken()

    def put(self, response: Response) -> None:
        """Hand a response to the connection, whole."""
        transport = self._transport()
        head = self._head(response, _length_of(response, self._method))
        body = response.body
        response.is_begun, response.body = True, b""  # aiohttp keeps a response until the next request, which may never come
        if not body or self._method == "HEAD" or response.status in _BODILESS:
            transport.write(head)
            return
        self._owed_bytes = len(body)
        if len(body) <= JOINED_SIZE:
            transport.write(head + body)
        else:
            transport.writelines((head, body))

    def begin(self, response: Response, *, length_bytes: int | None) -> None:
        """Send the head of a response whose body follows by pieces, of unknown length if that is None."""
        transport = self._transport()
        self._is_chunked = length_bytes is None and self._version >= HttpVersion11
        if length_bytes is None and not self._is_chunked:
            response.closes = True  # only its end tells an HTTP/1.0 client how long the body is
        response.is_begun = True
        framing = ("Transfer-Encoding", "chunked") if self._is_chunked else ("Content-Length", str(length_bytes))
        # What the connection does not take stays in memory, and all of a write with its last byte: no second one before the first is gone.
        # Not 0: asyncio's TLS would pause a connection that has sent all, and nothing would come to resume it.
        transport.set_write_buffer_limits(high=1)
        transport.write(self._head(response, () if length_bytes is None and not self._is_chunked else (framing,)))

    def pass_on(self, pieces: Sequence[bytes | memoryview]) -> bool:
        """Send pieces of a body of known length, without a copy; tell whether the connection has taken them already."""
        transport = self._transport()
        transport.writelines(pieces)
        self._owed_bytes += sum(map(len, pieces))
        if transport.get_write_buffer_size():
            return False
        self._taken()
        return True

    async def write(self, data: bytes) -> None:
        """Send a piece of a body, and wait until the connection takes more."""
        self._transport().write(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)
        self._owed_bytes += len(data)
        await self.drain()

    async def end(self) -> None:
        """End a body that was sent by pieces."""
        if self._is_chunked:
            self._transport().write(b"0\r\n\r\n")
        await self.drain()

    async def drain(self) -> None:
        """Wait until the connection takes more."""
        line = self._line
        assert isinstance(line, BaseProtocol)
        await StreamWriter(line, get_running_loop()).drain()
        self._taken()

    def cut(self) -> None:
        """End the connection at once: what was sent is not whole, and must not look as if it were."""
        if (transport := self._line.transport) is not None:
            self._owed_bytes = max(self._owed_bytes - transport.get_write_buffer_size(), 0)
            self._taken()
            transport.abort()

    def _taken(self) -> None:
        self.sent_bytes, self._owed_bytes = self.sent_bytes + self._owed_bytes, 0

    def _transport(self) -> Transport:
        transport = self._line.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has gone")
        return transport

    def _head(self, response: Response, framing: Sequence[tuple[str, str]]) -> bytes:
        """Return the bytes before the body, and settle whether the connection goes on."""
        lines = response.lines or header_lines([*response.headers, *framing])
        response.closes = response.closes or not self._keep_alive
        connection = b""
        if response.closes and self._version == HttpVersion11:
            connection = b"Connection: close\r\n"
        elif not response.closes and self._version == HttpVersion10:
            connection = b"Connection: keep-alive\r\n"
        return b"%b%b%b\r\n" % (_opening(self._version, response.status, int(time())), lines, connection)


def header_lines(headers: Sequence[tuple[str, str]]) -> bytes:
    """Return headers as they are sent. Raises ValueError for one that would be more than one, or none."""
    text = "".join([f"{name}: {value}\r\n" for name, value in headers])
    if text.count("\r\n") != len(headers) or not text.replace("\r\n", "").isprintable():
        _check(headers)
    return text.encode()


def _length_of(response: Response, method: str) -> Sequence[tuple[str, str]]:
    """RFC 9110, section 8.6: a 204 or 304 tells none here; to HEAD it is told if it is what GET would have sent."""
    told = response.told_bytes
    if response.status in _BODILESS or (told is None and method == "HEAD" and not response.body):
        return ()
    return (("Content-Length", str(len(response.body) if told is None else told)),)


def _check(headers: Sequence[tuple[str, str]]) -> None:
    """Raise ValueError for a header that would be more than one, or none."""
    for name, value in headers:
        if _CONTROL.search(name) or _CONTROL.search(value):
            raise ValueError(f"a control character in the header {name!r}")


@lru_cache(maxsize=256)
def _opening(version: HttpVersion, status: int, second: int) -> bytes:
    """Return what a response begins with: it is the same for all of a second."""
    line = f"HTTP/{version.major}.{version.minor} {status} {_REASONS.get(status, '')}"
    return f"{line}\r\nDate: {formatdate(second, usegmt=True)}\r\nServer: Shardgate\r\n".encode()
