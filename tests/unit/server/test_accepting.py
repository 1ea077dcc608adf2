"""Several workers that accept from one socket: all in one process here, each with a listener and a share of its own."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack

import pytest

from proxy.server.wire import accepting as module
from proxy.server.wire.accepting import Listener
from proxy.server.wire.balance import Board, Share
from proxy.server.wire.listening import bound, listen, refuse
from tests.patience import PATIENCE_SECONDS


@pytest.fixture
def sockets() -> Iterator[Sequence[socket.socket]]:
    with bound("127.0.0.1", 0) as sockets:
        listen(sockets, backlog=128)
        yield sockets


@pytest.fixture
def clients(sockets: Sequence[socket.socket]) -> Iterator[Clients]:
    with ExitStack() as opened:
        yield Clients(sockets[0].getsockname(), opened)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody takes what was left to another."""
    monkeypatch.setattr(module, "PATIENCE_SECONDS", PATIENCE_SECONDS)


class Clients:
    """Connects."""

    def __init__(self, address: tuple[str, int], opened: ExitStack) -> None:
        self._address = address
        self._opened = opened

    def connect(self, count: int = 1) -> None:
        for _ in range(count):
            self._opened.enter_context(socket.create_connection(self._address, timeout=PATIENCE_SECONDS))


class Worker:
    """Accepts, and holds what it has accepted."""

    def __init__(self, sockets: Sequence[socket.socket], board: Board, place: int) -> None:
        self.share = Share(board, place)
        self.held: list[socket.socket] = []
        self._listener = Listener([listening.dup() for listening in sockets], self.share, self._take)

    def start(self) -> None:
        self._listener.start()

    def stop(self) -> None:
        self._listener.stop()
        for connection in self.held:
            connection.close()

    def _take(self, connection: socket.socket, client: str) -> None:
        assert client == "127.0.0.1"
        self.held.append(connection)
        self.share.enter(connection)


@pytest.fixture
async def workers(sockets: Sequence[socket.socket]) -> AsyncIterator[list[Worker]]:
    board = Board.of(2)
    workers = [Worker(sockets, board, place) for place in range(2)]
    yield workers
    for worker in workers:
        worker.stop()


def _held(workers: Sequence[Worker]) -> list[int]:
    return [len(worker.held) for worker in workers]


async def _accepted(workers: Sequence[Worker], count: int) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while sum(_held(workers)) < count:
            await asyncio.sleep(0.001)


@pytest.mark.usefixtures("patient")
async def test_eight_connections_lie_four_and_four(workers: list[Worker], clients: Clients) -> None:
    for worker in workers:
        worker.start()
    for number in range(8):
        clients.connect()
        await _accepted(workers, number + 1)
    assert _held(workers) == [4, 4]


@pytest.mark.usefixtures("patient")
async def test_connections_that_come_all_at_once_are_spread_evenly(workers: list[Worker], clients: Clients) -> None:
    clients.connect(100)
    for worker in workers:
        worker.start()
    await _accepted(workers, 100)
    assert _held(workers) == [50, 50]


@pytest.mark.usefixtures("patient")
async def test_who_has_lost_connections_gets_the_next_ones(workers: list[Worker], clients: Clients) -> None:
    first, second = workers
    first.start()
    clients.connect(6)
    await _accepted(workers, 6)
    second.start()
    clients.connect(6)
    await _accepted(workers, 12)
    assert _held(workers) == [6, 6]
    for connection in first.held[:4]:
        first.share.leave(connection)
    clients.connect(4)
    await _accepted(workers, 16)
    assert _held(workers) == [10, 6]


async def test_connections_left_to_a_worker_that_does_not_come_are_taken_after_a_while(workers: list[Worker], clients: Clients) -> None:
    hangs, other = workers
    other.start()
    clients.connect()
    await _accepted(workers, 1)
    hangs.share.beat()  # it has told the time, and then it looks no more
    clients.connect(3)
    await _accepted(workers, 4)
    assert _held(workers) == [0, 4]


async def test_a_worker_that_stops_leaves_the_rest_to_the_others(workers: list[Worker], clients: Clients) -> None:
    first, second = workers
    first.start()
    clients.connect(2)
    await _accepted(workers, 2)
    second.start()
    second.stop()
    clients.connect(2)
    await _accepted(workers, 4)
    assert _held(workers) == [4, 0]


class Unable(socket.socket):
    """A listening socket of a process that has no file left."""

    number = errno.EMFILE
    asked = 0

    def accept(self) -> tuple[socket.socket, object]:
        self.asked += 1
        raise OSError(self.number, "no more")


def _unable(sockets: Sequence[socket.socket], number: int) -> Unable:
    unable = Unable(fileno=sockets[0].dup().detach())
    unable.settimeout(0)
    unable.number = number
    return unable


async def test_a_worker_without_a_free_file_leaves_connections_to_the_others(
    sockets: Sequence[socket.socket], workers: list[Worker], clients: Clients, caplog: pytest.LogCaptureFixture
) -> None:
    board = Board.of(2)
    unable, able = _unable(sockets, errno.EMFILE), Worker(sockets, board, 1)
    listener = Listener([unable], Share(board, 0), lambda *_: pytest.fail("nothing was accepted"))
    listener.start()
    clients.connect(3)
    try:
        with caplog.at_level(logging.WARNING):
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not unable.asked:
                    await asyncio.sleep(0.001)
        able.start()
        await _accepted([able], 3)
        assert able.share.has_fewest
        assert "cannot accept a connection: no more" in caplog.text
    finally:
        listener.stop()
        able.stop()


async def test_a_port_that_was_closed_for_all_is_watched_no_more(
    sockets: Sequence[socket.socket], workers: list[Worker], caplog: pytest.LogCaptureFixture
) -> None:
    workers[0].start()
    address = sockets[0].getsockname()
    with caplog.at_level(logging.WARNING):
        refuse(sockets)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=PATIENCE_SECONDS)
        for _ in range(10):
            await asyncio.sleep(0.001)
    assert caplog.text == ""
