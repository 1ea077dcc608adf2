"""Heads of requests: whole in any pieces, and never more than a few kilobytes of an unfinished one."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import pairwise

import pytest
from aiohttp import web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpProcessingError, HttpRequestParser, RawRequestMessage
from aiohttp.streams import StreamReader
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.server.wire.heads import MAX_HEAD_SIZE, MAX_HEADERS_SIZE, BoundedParser, HeadTooLarge, Message

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
PUT = b"PUT /b HTTP/1.1\r\nHost: h\r\nContent-Length: 40000\r\n\r\n" + b"x" * 40_000
CHUNKED = b"PUT /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKS = (b"4e20\r\n" + b"y" * 20_000 + b"\r\n") * 2


class Protocol(BaseProtocol):
    """Notes nothing of what the parser asks of it."""

    def pause_reading(self) -> None: ...

    def resume_reading(self, resume_parser: bool = True) -> None: ...


@pytest.fixture
async def parser() -> BoundedParser:
    return new_parser()


def new_parser(door: Door | None = None) -> BoundedParser:
    loop = asyncio.get_running_loop()
    sizes = {"max_line_size": MAX_HEAD_SIZE, "max_field_size": MAX_HEADERS_SIZE, "max_headers": MAX_HEAD_SIZE}
    return BoundedParser(lambda: HttpRequestParser(Protocol(loop), loop, 1 << 20, payload_exception=web.RequestPayloadError, **sizes), door)


def feed(parser: BoundedParser, *pieces: bytes) -> list[Message]:
    """Return what a connection would get of these pieces."""
    return [message for piece in pieces if not parser.is_recognised(piece) for message in parser.feed_data(piece)[0]]


@given(cuts=st.lists(st.integers(0, 200_000), max_size=8))
@settings(deadline=None)
def test_requests_are_the_same_in_any_pieces(cuts: list[int]) -> None:
    sent = GET + PUT + GET + CHUNKED + CHUNKS + b"0\r\ntrailer: t\r\n\r\n" + PUT + GET
    edges = [0, *sorted(min(cut, len(sent)) for cut in cuts), len(sent)]

    async def run() -> list[tuple[str, int]]:
        messages = feed(new_parser(), *(sent[low:high] for low, high in pairwise(edges)))
        assert all(payload.is_eof() for _, payload in messages)
        return [(message.path, payload.total_bytes) for message, payload in messages]

    assert asyncio.run(run()) == [("/a", 0), ("/b", 40_000), ("/a", 0), ("/c", 40_000), ("/b", 40_000), ("/a", 0)]


@pytest.mark.parametrize("piece_size", [1, 1000, 1 << 20])
@pytest.mark.parametrize("before", [b"", GET, PUT])
@pytest.mark.parametrize("line", [b"a: b\r\n", b"long: " + b"a" * 5000 + b"\r\n"])
async def test_a_head_without_an_end_is_refused_at_its_bound(parser: BoundedParser, before: bytes, line: bytes, piece_size: int) -> None:
    feed(parser, before)
    endless = b"GET / HTTP/1.1\r\n" + line * (2 * MAX_HEAD_SIZE // len(line))
    feed(parser, endless[: MAX_HEAD_SIZE - 100])
    with pytest.raises(HeadTooLarge):
        feed(parser, *(endless[at : at + piece_size] for at in range(MAX_HEAD_SIZE - 100, len(endless), piece_size)))
    assert parser.is_refusing
    assert feed(parser, b"\r\n\r\n", GET) == []


@pytest.mark.parametrize(("size", "fits"), [(MAX_HEADERS_SIZE, True), (MAX_HEADERS_SIZE + 1, False)])
async def test_headers_are_measured_exactly(parser: BoundedParser, size: int, fits: bool) -> None:
    lines = b"Host: h\r\n" + b"".join(b"x-%d: %s\r\n" % (each, b"a" * 1000) for each in range(7))
    lines += b"y: " + b"b" * (size - len(lines) - 5) + b"\r\n"
    head = b"GET /" + b"k" * 3000 + b" HTTP/1.1\r\n" + lines + b"\r\n"
    if fits:
        assert len(feed(parser, head)) == 1
    else:
        with pytest.raises(HeadTooLarge):
            feed(parser, head)


@pytest.mark.parametrize("endless", [b"t: a\r\n", b"1;" + b"e" * 5000])
async def test_what_of_a_chunked_body_is_no_body_is_bounded(parser: BoundedParser, endless: bytes) -> None:
    ((_, payload),) = feed(parser, CHUNKED + CHUNKS)
    with pytest.raises(HeadTooLarge):
        feed(parser, b"0\r\n" if endless.startswith(b"t") else b"", endless * (2 * MAX_HEAD_SIZE // len(endless)))
    assert isinstance(payload.exception(), web.RequestPayloadError)


async def test_what_a_body_owes_is_known(parser: BoundedParser) -> None:
    feed(parser, PUT[:1000])
    assert parser.inflow is not None
    assert parser.inflow.owed_bytes == len(PUT) - 1000
    feed(parser, PUT[1000:])
    assert parser.inflow is None


async def test_chunks_of_a_few_bytes_are_refused(parser: BoundedParser) -> None:
    feed(parser, CHUNKED)

    with pytest.raises(HeadTooLarge):
        feed(parser, *[b"1\r\nx\r\n" * 1000] * 10)


async def test_a_chunked_body_of_lines_is_served(parser: BoundedParser) -> None:
    chunks = (b"20\r\n" + b"y" * 32 + b"\r\n") * 50_000

    (_, payload), _ = feed(parser, CHUNKED, chunks, b"0\r\n\r\n", GET)

    assert payload.is_eof()
    assert payload.total_bytes == 32 * 50_000


async def test_what_follows_a_body_is_a_head_like_any_other(parser: BoundedParser) -> None:
    (_, payload), _ = feed(parser, PUT[:-1], PUT[-1:], GET)
    assert payload.total_bytes == 40_000

    with pytest.raises(HeadTooLarge):
        feed(parser, PUT[:-1], PUT[-1:], *[b"GET / HTTP/1.1\r\nlong: " + b"a" * 4096] * 5)


class Door:
    """Takes what comes alone and whole, and notes at what it may have looked before the parser."""

    def __init__(self) -> None:
        self.looked_at: list[bytes] = []

    def recognise(self, data: bytes) -> bool:
        self.looked_at.append(data)
        return False

    def offer(self, message: RawRequestMessage, content: StreamReader, head: bytes) -> bool:
        return content.is_eof()


@pytest.mark.parametrize("pieces", [(GET,), (PUT[:-40_000], PUT[-40_000:]), (PUT[:-1], PUT[-1:]), (PUT[:20_000], PUT[20_000:])])
async def test_behind_any_request_of_known_length_the_next_may_be_known(pieces: tuple[bytes, ...]) -> None:
    """Many clients send a head and its body in two pieces."""
    door = Door()
    parser = new_parser(door)
    feed(parser, *pieces)
    door.looked_at.clear()
    feed(parser, GET, GET)
    assert door.looked_at == [GET, GET]


@pytest.mark.parametrize("pieces", [(GET[:-1],), (PUT[:-40_000], PUT[-40_000:] + b"G"), (PUT[:-1], PUT[-1:] + GET[:9]), (GET + b"\r\n",)])
async def test_what_is_begun_is_not_taken_for_another_request(pieces: tuple[bytes, ...]) -> None:
    door = Door()
    parser = new_parser(door)
    feed(parser, *pieces)
    door.looked_at.clear()
    with suppress(HttpProcessingError):  # together they may be none
        feed(parser, GET)
    assert door.looked_at == []
