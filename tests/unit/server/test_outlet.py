"""The outlet: the bytes of an answer, whichever client asks."""

from __future__ import annotations

import asyncio
import re
import ssl
from pathlib import Path
from typing import cast

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpVersion, HttpVersion10, HttpVersion11

from proxy.server.wire.outlet import JOINED_SIZE, Outlet, header_lines
from proxy.server.wire.response import Response
from tests.certificates import Authority


class Line(BaseProtocol):
    """A connection that keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__(asyncio.get_running_loop())
        self.written: list[bytes] = []
        self.closing = False
        self.transport = cast(asyncio.Transport, self)

    def write(self, data: bytes) -> None:
        self.written.append(bytes(data))

    def writelines(self, pieces: list[bytes]) -> None:
        self.written += map(bytes, pieces)

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """All is taken at once."""


async def sent(
    response: Response, method: str = "GET", version: HttpVersion = HttpVersion11, *, keep_alive: bool = True
) -> tuple[bytes, list[bytes], bytes]:
    """Return status line, headers but for the date, and body of what a client gets."""
    line = Line()
    await Outlet(line, method, version, keep_alive=keep_alive).send(response)
    head, _, body = b"".join(line.written).partition(b"\r\n\r\n")
    status, *headers = head.split(b"\r\n")
    return status, [header for header in headers if not re.match(b"Date: ..., .. ... .... ..:..:.. GMT", header)], body


async def test_an_answer_tells_its_length() -> None:
    status, headers, body = await sent(Response(200, [("x", "1"), ("x", "2")], b"hello"))
    assert (status, body) == (b"HTTP/1.1 200 OK", b"hello")
    assert headers == [b"Server: Shardgate", b"x: 1", b"x: 2", b"Content-Length: 5"]


@pytest.mark.parametrize(("status", "line"), [(204, b"HTTP/1.1 204 No Content"), (304, b"HTTP/1.1 304 Not Modified")])
async def test_an_answer_that_never_has_a_body_tells_no_length(status: int, line: bytes) -> None:
    assert await sent(Response(status, length_bytes=7)) == (line, [b"Server: Shardgate"], b"")


async def test_an_answer_to_head_tells_what_get_would_send_and_sends_none() -> None:
    assert (await sent(Response(200, length_bytes=7), "HEAD"))[1:] == ([b"Server: Shardgate", b"Content-Length: 7"], b"")
    assert (await sent(Response(200, body=b"hello"), "HEAD"))[1:] == ([b"Server: Shardgate", b"Content-Length: 5"], b"")
    assert (await sent(Response(404), "HEAD"))[1:] == ([b"Server: Shardgate"], b"")


async def test_an_empty_answer_says_so() -> None:
    assert (await sent(Response(200)))[1:] == ([b"Server: Shardgate", b"Content-Length: 0"], b"")


@pytest.mark.parametrize(
    ("version", "keep_alive", "said"),
    [(HttpVersion11, True, b""), (HttpVersion11, False, b"close"), (HttpVersion10, True, b"keep-alive"), (HttpVersion10, False, b"")],
)
async def test_a_client_hears_whether_the_connection_goes_on(version: HttpVersion, keep_alive: bool, said: bytes) -> None:
    response = Response(200)
    status, headers, _ = await sent(response, version=version, keep_alive=keep_alive)
    assert status == b"HTTP/%d.%d 200 OK" % version
    assert [header for header in headers if header.startswith(b"Connection")] == ([b"Connection: " + said] if said else [])
    assert response.closes is not keep_alive


@pytest.mark.parametrize("value", ["a\r\nx: b", "a\nb", "a\rb", "a\0b", "a\x7fb"])
@pytest.mark.parametrize("is_name", [True, False])
async def test_no_header_ends_the_headers(value: str, is_name: bool) -> None:
    with pytest.raises(ValueError, match="control character"):
        await sent(Response(200, [(value, "v") if is_name else ("n", value)]))


async def test_a_header_may_have_any_letters() -> None:
    value = "\u00e4\u00a0\U0001f600\t\u2028"
    _, headers, _ = await sent(Response(200, [("n", value)]))
    assert f"n: {value}".encode() in headers


async def test_a_large_body_is_not_copied_behind_its_head() -> None:
    for size, writes in ((JOINED_SIZE, 1), (JOINED_SIZE + 1, 2)):
        line, response = Line(), Response(200, body=bytes(size))
        await Outlet(line, "GET", HttpVersion11, keep_alive=True).send(response)
        assert len(line.written) == writes
        assert not response.body  # aiohttp keeps the response


async def test_a_body_of_unknown_length_is_chunked_or_ends_with_the_connection() -> None:
    for version, framing, body in (
        (HttpVersion11, b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
        (HttpVersion10, b"", b"hello"),
    ):
        line, response = Line(), Response(200)
        outlet = Outlet(line, "PUT", version, keep_alive=True)
        outlet.begin(response, length_bytes=None)
        await outlet.write(b"hello")
        await outlet.end()
        await outlet.send(response)  # it has been sent
        head, _, rest = b"".join(line.written).partition(b"\r\n\r\n")
        assert framing in head + b"\r\n"
        assert rest == body
        assert response.closes is (version == HttpVersion10)


async def test_who_has_gone_is_sent_nothing() -> None:
    line = Line()
    outlet = Outlet(line, "GET", HttpVersion11, keep_alive=True)
    line.closing = True
    with pytest.raises(ConnectionResetError):
        await outlet.send(Response(200))
    line.transport = None
    with pytest.raises(ConnectionResetError):
        outlet.begin(Response(200), length_bytes=1)
    outlet.cut()  # there is nothing to end


async def test_over_tls_a_connection_that_has_sent_all_is_not_paused(tmp_path: Path) -> None:
    """asyncio's TLS takes a bound of 0 for "pause although nothing is left", and whoever waited then waited for good."""
    line = _RealLine()
    client, writer = await _connected_by_tls(line, tmp_path)
    outlet = Outlet(line, "GET", HttpVersion11, keep_alive=True)
    outlet.begin(Response(200), length_bytes=3)
    assert not line.writing_paused
    for piece in (b"a", b"b", b"c"):
        assert outlet.pass_on([piece])
        assert not line.writing_paused
    assert (await client.readexactly(10))[:8] == b"HTTP/1.1"
    line.transport.abort()
    writer.close()


class _SlowLine(Line):
    """A connection that takes all but the last `left` bytes."""

    left = 0

    def get_write_buffer_size(self) -> int:
        return self.left

    def abort(self) -> None:
        self.closing = True


async def test_what_was_sent_is_counted_and_not_what_was_about_to_be() -> None:
    line = _SlowLine()
    outlet = Outlet(line, "GET", HttpVersion11, keep_alive=True)
    outlet.begin(Response(200), length_bytes=1000)
    assert outlet.pass_on([b"a" * 100, b"b" * 100])
    line.left = 70
    assert not outlet.pass_on([b"c" * 100])
    assert outlet.sent_bytes == 200
    await outlet.drain()  # it was never full
    assert outlet.sent_bytes == 300
    outlet.pass_on([b"d" * 100])
    outlet.cut()
    assert outlet.sent_bytes == 330


@pytest.mark.parametrize(("method", "status", "counted"), [("GET", 200, 5), ("HEAD", 200, 0), ("GET", 304, 0)])
async def test_an_answer_that_was_sent_whole_is_counted(method: str, status: int, counted: int) -> None:
    outlet = Outlet(Line(), method, HttpVersion11, keep_alive=True)
    await outlet.send(Response(status, body=b"hello"))
    assert outlet.sent_bytes == counted


class _RealLine(BaseProtocol):
    """A connection that has a transport."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        super().__init__(asyncio.get_running_loop())
        self.made = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.made.set()


async def _connected_by_tls(line: _RealLine, folder: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Give the line a client on this machine; return its streams. It hangs up when nobody has the writer any more."""
    authority = Authority(folder)
    authority.sign().write(folder / "certificate.pem", folder / "key.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    server = await asyncio.get_running_loop().create_server(lambda: line, "127.0.0.1", 0, ssl=context)
    trusting = ssl.create_default_context(cafile=authority.path)
    streams = await asyncio.open_connection(*server.sockets[0].getsockname(), ssl=trusting)
    await line.made.wait()
    server.close()
    return streams


def test_a_header_is_found_whether_it_is_written_already_or_not() -> None:
    headers = [("x-amz-version-id", "v: 1\x85\u2028"), ("ETag", '"e"')]
    for response in (Response(200, headers), Response(200, lines=header_lines(headers))):
        assert response.header("x-amz-version-id") == "v: 1\x85\u2028"
        assert response.header("etag") == '"e"'
        assert response.header("content-range") == ""
