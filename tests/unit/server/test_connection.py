"""Connections: who takes nothing of an answer does not keep it in memory."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

import pytest

from proxy.server.connection import Endpoint
from proxy.server.dispatch import Dispatcher
from proxy.server.shapes import Shapes
from proxy.server.wire.request import Request
from proxy.server.wire.response import Response

WHOLE = b"x" * 50 * 1024 * 1024  # far more than sockets hold


class Answers:
    """Stands for the dispatcher: answers every request alike."""

    idle_seconds = 0.1
    shapes = Shapes()

    def __init__(self, body: bytes = WHOLE) -> None:
        self._body = body
        self.is_over = asyncio.Event()

    async def answer(self, _request: Request) -> Response:
        task = asyncio.current_task()
        assert task is not None
        task.add_done_callback(lambda _: self.is_over.set())  # aiohttp's, which also sends what is returned
        return Response(body=self._body)


@pytest.mark.parametrize("front_door", [True, False])
async def test_who_takes_nothing_of_an_answer_made_whole_is_cut_off(front_door: bool) -> None:
    answers = Answers()
    endpoint = Endpoint(cast(Dispatcher, answers), limit=10, front_door=front_door)
    server = await asyncio.get_running_loop().create_server(endpoint, "127.0.0.1", 0)
    client = socket.create_connection(server.sockets[0].getsockname()[:2])
    client.setblocking(False)
    stream, writer = await asyncio.open_connection(sock=client, limit=1024)
    try:
        writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        await answers.is_over.wait()

        assert await _rest_of(stream) < len(WHOLE) / 2
    finally:
        writer.close()
        server.close()
        await endpoint.shutdown(0.1)


async def test_a_body_that_is_refused_after_its_answer_logs_no_error(caplog: pytest.LogCaptureFixture) -> None:
    answers = Answers(b"early")
    endpoint = Endpoint(cast(Dispatcher, answers), limit=10)
    server = await asyncio.get_running_loop().create_server(endpoint, "127.0.0.1", 0)
    stream, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
    try:
        writer.write(b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        await stream.readuntil(b"early")
        writer.write(b"1\r\nx\r\n" * 20_000)
        await _rest_of(stream)  # until the connection is closed
    finally:
        writer.close()
        server.close()
        await endpoint.shutdown(0.1)

    assert not caplog.records


async def _rest_of(stream: asyncio.StreamReader) -> int:
    size = 0
    try:
        while piece := await stream.read(65536):
            size += len(piece)
    except ConnectionError:
        return size
    return size
