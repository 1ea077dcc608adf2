"""How many connections a server holds, and which it closes."""

from __future__ import annotations

import asyncio
import logging
import resource
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from proxy.config import Config, LimitsConfig, load_config
from proxy.server.wire.admission import FEWEST, BoundedServer, connection_limit
from tests.patience import PATIENCE_SECONDS

LOCAL = Path(__file__).parents[3] / "config" / "local.toml"
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[], "asyncio.Future[Streams]"]


class Desk:
    """Answers at once, or /slow when told to go on."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.under_way = asyncio.Semaphore(0)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/slow":
            self.under_way.release()
            await self.go_on.wait()
        return web.Response(text="ok")


@pytest.fixture
def desk() -> Desk:
    return Desk()


@asynccontextmanager
async def _serving(desk: Desk, *, limit: int) -> AsyncIterator[Connect]:
    async with _open(BoundedServer(desk.answer, limit=limit)) as connect:
        yield connect


@asynccontextmanager
async def _open(server: BoundedServer) -> AsyncIterator[Connect]:
    runner = web.ServerRunner(server)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    opened: list[asyncio.StreamWriter] = []

    async def connect() -> Streams:
        reader, writer = await asyncio.open_connection(*runner.addresses[0])
        opened.append(writer)
        return reader, writer

    try:
        yield connect
    finally:
        for writer in opened:
            writer.close()
        await runner.cleanup()


async def _ask(streams: Streams, request: bytes = REQUEST) -> bytes:
    streams[1].write(request)
    return (await asyncio.wait_for(streams[0].readuntil(b"ok"), PATIENCE_SECONDS))[:15]


async def _closed(streams: Streams) -> bool:
    try:
        return await asyncio.wait_for(streams[0].read(1), PATIENCE_SECONDS) == b""
    except ConnectionResetError:
        return True


async def test_a_new_connection_must_send_a_whole_head_in_time(desk: Desk) -> None:
    server = BoundedServer(desk.answer, limit=10)
    async with _open(server) as connect:
        served = await connect()
        assert await _ask(served) == b"HTTP/1.1 200 OK"
        server._first_request_seconds = 0.05
        silent, slow = await connect(), await connect()
        slow[1].write(REQUEST[:-2])
        assert await _closed(silent)
        assert await _closed(slow)
        assert await _ask(served) == b"HTTP/1.1 200 OK"  # between requests, it may wait longer


async def test_the_connection_that_waited_longest_gives_way(desk: Desk) -> None:
    async with _serving(desk, limit=3) as connect:
        first, second, third = await connect(), await connect(), await connect()
        for streams in (first, second, third, first):  # the second has now waited longest
            assert await _ask(streams) == b"HTTP/1.1 200 OK"
        newest = await connect()
        assert await _ask(newest) == b"HTTP/1.1 200 OK"
        assert await _closed(second)
        for streams in (first, third, newest):
            assert await _ask(streams) == b"HTTP/1.1 200 OK"


async def test_silent_connections_keep_nobody_out(desk: Desk) -> None:
    async with _serving(desk, limit=3) as connect:
        for _ in range(20):
            await connect()
        assert await _ask(await connect()) == b"HTTP/1.1 200 OK"


async def test_a_request_being_answered_is_never_cut_for_a_new_connection(desk: Desk) -> None:
    async with _serving(desk, limit=2) as connect:
        busy = [await connect() for _ in range(2)]
        answers = [asyncio.create_task(_ask(streams, REQUEST.replace(b"/ ", b"/slow "))) for streams in busy]
        for _ in busy:
            await desk.under_way.acquire()
        assert await _closed(await connect())
        desk.go_on.set()
        assert await asyncio.gather(*answers) == [b"HTTP/1.1 200 OK"] * 2
        assert await _ask(await connect()) == b"HTTP/1.1 200 OK"


@pytest.fixture
def config() -> Config:
    return load_config(LOCAL, {})


def _limited(monkeypatch: pytest.MonkeyPatch, soft: int, hard: int) -> list[tuple[int, int]]:
    raised: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: raised.append(limits))
    return raised


def test_the_limit_of_open_files_is_raised(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    raised = _limited(monkeypatch, 1024, 100_000)
    few = msgspec.structs.replace(config, limits=LimitsConfig(connections=300))
    assert connection_limit(config) == config.limits.connections
    assert connection_limit(few) == 300
    assert raised == [(100_000, 100_000)] * 2


def test_few_open_files_mean_fewer_connections(config: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    _limited(monkeypatch, 256, 1024)
    with caplog.at_level(logging.WARNING):
        limit = connection_limit(config)
    assert FEWEST < limit < 1024 / 2
    assert f"only {limit} connections at once: this process may open 1024 files" in caplog.text
    _limited(monkeypatch, 100, 100)
    assert connection_limit(config) == FEWEST


def test_no_limit_of_open_files_is_no_limit_to_set(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    raised = _limited(monkeypatch, 256, resource.RLIM_INFINITY)
    assert connection_limit(config) == config.limits.connections
    assert raised[0][0] > config.limits.connections
