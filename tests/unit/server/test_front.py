"""The front door: what it takes, what it leaves to aiohttp, and that nobody can tell the difference."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import cast

import pytest

from proxy.manifest.records import Version
from proxy.s3.shape import Head
from proxy.server.connection import Endpoint
from proxy.server.dispatch import Dispatcher
from proxy.server.shapes import Known, Shapes
from proxy.server.wire.heads import MAX_HEAD_SIZE
from proxy.server.wire.inlet import Inlet
from proxy.server.wire.request import Request
from proxy.server.wire.response import Response
from proxy.server.wire.soon import Soon
from tests.patience import PATIENCE_SECONDS
from tests.wire import Wire, cut

GET = b"GET /b/k HTTP/1.1\r\nHost: h\r\n\r\n"
PUT = b"PUT /b/k HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"


class Desk:
    """Stands for the dispatcher: tells what it was asked; of the key "k" only when it may."""

    idle_seconds = 30.0
    shapes = Shapes()

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.asked: list[tuple[str, str, bytes]] = []
        self.fault: Exception | None = None

    async def answer(self, request: Request) -> Response:
        inlet, body = Inlet(request, idle_seconds=10), b""
        while piece := await inlet.read():
            body += piece
        self.asked.append((request.method, request.raw_path, body))
        if request.raw_path == "/b/k":
            await self.open.wait()
        if self.fault is not None:
            raise self.fault
        return Response(body=b"<" + body + b">")


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
async def endpoint(desk: Desk) -> AsyncIterator[Endpoint]:
    endpoint = Endpoint(cast(Dispatcher, desk), limit=10)
    yield endpoint
    desk.open.set()
    endpoint.pre_shutdown()  # idle connections are not waited for
    await endpoint.shutdown(1)


async def connected(endpoint: Endpoint) -> Wire:
    wire = Wire(endpoint)
    while not wire.is_quiet:  # aiohttp's task for the connection begins a step later
        await asyncio.sleep(0)
    return wire


@pytest.mark.parametrize(
    "sent",
    [
        GET,
        PUT,
        GET.replace(b"GET", b"HEAD"),
        GET.replace(b"GET", b"DELETE"),
        PUT.replace(b"PUT", b"POST"),
        PUT.replace(b": 5", b": 12000").replace(b"hello", b"x" * 12000),
    ],
)
@pytest.mark.parametrize("places", [[], [1], [20, 40, 60], range(100)])
async def test_a_plain_request_is_answered_without_aiohttp(endpoint: Endpoint, desk: Desk, sent: bytes, places: list[int]) -> None:
    wire = await connected(endpoint)
    head, end, body = sent.partition(b"\r\n\r\n")
    *begun, last = cut(head, places)
    for number in range(1, 4):
        await wire.give([*begun, last + end + body])
        assert (await wire.settled()).count(b"HTTP/1.1 200 OK\r\n") == number
    assert desk.asked == [(sent.split()[0].decode(), "/b/k", sent.partition(b"\r\n\r\n")[2])] * 3
    assert endpoint.requests_count == 0  # aiohttp's own


@pytest.mark.parametrize(
    "sent",
    [
        PUT.replace(b"Host", b"Expect: 100-continue\r\nHost"),
        b"PUT /b/k HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        PUT.replace(b"1.1", b"1.0"),
        PUT.replace(b"1.1", b"1.0").replace(b"Host", b"Connection: keep-alive\r\nHost"),
        PUT.replace(b"Host", b"Connection: upgrade\r\nUpgrade: h2c\r\nHost"),
        PUT.replace(b"Host", b"Connection: close\r\nHost"),
        PUT.replace(b"PUT", b"PATCH"),
        PUT + GET,
    ],
)
async def test_whatever_is_unusual_is_left_to_aiohttp(endpoint: Endpoint, desk: Desk, sent: bytes) -> None:
    wire = await connected(endpoint)
    await wire.give([sent])
    answers = await wire.settled()
    assert desk.asked[0][2] == b"hello"
    assert endpoint.requests_count == len(desk.asked) == answers.count(b" 200 OK\r\n")


async def test_a_body_that_is_still_to_come_is_left_to_aiohttp(endpoint: Endpoint, desk: Desk) -> None:
    wire = await connected(endpoint)
    body = bytes(100_000)
    await wire.give([PUT.replace(b": 5", b": 100000").replace(b"hello", body)])
    await wire.settled()
    assert desk.asked == [("PUT", "/b/k", body)]
    assert endpoint.requests_count == 1


async def test_what_comes_while_a_request_is_answered_waits_and_is_not_read_on(endpoint: Endpoint, desk: Desk) -> None:
    wire = await connected(endpoint)
    desk.open.clear()
    await wire.give([GET])
    sending = asyncio.create_task(wire.give([PUT.replace(b"/b/k", b"/b/n") * 1000]))
    for _ in range(100):
        await asyncio.sleep(0)
    assert [path for _, path, _ in desk.asked] == ["/b/k"]
    assert wire.is_paused
    assert len(wire.connection._front._held) <= MAX_HEAD_SIZE
    assert not wire.sent
    desk.open.set()
    await sending
    answers = await wire.settled()
    assert [method for method, _, _ in desk.asked] == ["GET"] + ["PUT"] * 1000
    assert answers.count(b"HTTP/1.1 200 OK\r\n") == answers.count(b"\r\n\r\n<") == 1001


async def test_what_comes_while_aiohttp_answers_is_answered_behind_it(endpoint: Endpoint, desk: Desk) -> None:
    wire = await connected(endpoint)
    desk.open.clear()
    await wire.give([b"PUT /b/k HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"])
    await _turns()
    await wire.give([GET.replace(b"/b/k", b"/b/n")])
    await _turns()
    assert [path for _, path, _ in desk.asked] == ["/b/k"]
    assert not wire.sent
    desk.open.set()
    answers = await wire.settled()
    assert [path for _, path, _ in desk.asked] == ["/b/k", "/b/n"]
    assert answers.index(b"<hello>") < answers.index(b"<>")


@pytest.mark.parametrize("split", range(1, len(GET)))
async def test_half_a_request_behind_another_is_answered_when_it_is_whole(endpoint: Endpoint, desk: Desk, split: int) -> None:
    wire = await connected(endpoint)
    await wire.give([PUT + GET[:split]])
    await wire.give([GET[split:]])
    assert (await wire.settled()).count(b"HTTP/1.1 200 OK\r\n") == 2
    assert [method for method, _, _ in desk.asked] == ["PUT", "GET"]


@pytest.mark.parametrize("following", [b"", GET])
async def test_an_answer_that_ends_the_connection_ends_it(
    endpoint: Endpoint, desk: Desk, following: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def closing(_request: Request) -> Response:
        await desk.open.wait()
        response = Response(body=b"bye")
        response.closes = True
        return response

    monkeypatch.setattr(desk, "answer", closing)
    wire = await connected(endpoint)
    desk.open.clear()
    await wire.give([GET])
    await wire.give([following])
    desk.open.set()
    answers = await wire.settled()
    assert wire.is_closing()
    assert answers.count(b"HTTP/1.1 ") == 1
    assert b"Connection: close\r\n" in answers


async def test_a_fault_of_ours_ends_the_connection_and_is_logged(endpoint: Endpoint, desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.fault = ZeroDivisionError("a fault of ours")
    wire = await connected(endpoint)
    await wire.give([GET])
    assert await wire.settled() == b""
    assert wire.is_closing()
    assert "a fault of ours" in caplog.text


async def test_a_client_that_has_gone_is_no_fault(endpoint: Endpoint, desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    wire = await connected(endpoint)
    desk.open.clear()
    await wire.give([GET])
    await asyncio.sleep(0)
    wire.end()
    desk.open.set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while wire.connection.is_busy or endpoint.connections:
            await asyncio.sleep(0)
    assert not wire.sent
    assert not caplog.records


async def test_an_answer_at_once_that_the_client_does_not_take_is_waited_for(
    endpoint: Endpoint, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = cast(Known, SimpleNamespace(is_plain=True, shape=SimpleNamespace(method="GET")))
    monkeypatch.setattr(desk, "shapes", SimpleNamespace(find=lambda _head: (known, Head("/b/k", {}))))
    monkeypatch.setattr(desk, "answer_at_once", lambda _request: Response(body=b"<at once>"), raising=False)
    wire = await connected(endpoint)
    wire.protocol.pause_writing()
    await wire.give([GET])
    await _turns()
    assert wire.sent.endswith(b"\r\n\r\n<>"), "while it takes nothing, nothing is answered at once"
    assert wire.connection.is_busy
    wire.protocol.resume_writing()
    await wire.settled()
    monkeypatch.setattr(Wire, "write", _fill)
    await wire.give([GET])
    await _turns()
    assert wire.sent.endswith(b"<at once>")
    assert wire.connection.is_busy
    wire.protocol.resume_writing()
    assert (await wire.settled()).count(b"HTTP/1.1 200 OK") == 2


async def _turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def _fill(wire: Wire, data: bytes) -> None:
    """Take the bytes, and say that this is enough."""
    wire.sent += bytes(data)
    wire.protocol.pause_writing()


async def test_a_stop_waits_for_an_answer_at_once(endpoint: Endpoint, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    known = cast(Known, SimpleNamespace(is_plain=True, shape=SimpleNamespace(method="GET")))
    monkeypatch.setattr(desk, "shapes", SimpleNamespace(find=lambda _head: (known, Head("/b/k", {}))))
    monkeypatch.setattr(desk, "answer_at_once", lambda _request: None, raising=False)
    wire = await connected(endpoint)
    room = wire.protocol.get_buffer(-1)  # type: ignore[attr-defined]
    room[: len(GET)] = GET
    wire.protocol.buffer_updated(len(GET))  # type: ignore[attr-defined]
    assert not desk.asked
    endpoint.pre_shutdown()
    await endpoint.shutdown(30)
    assert wire.sent.startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.fixture
async def waited_for(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> asyncio.Future[Version]:
    """What the answers of the desk wait for, without a task."""
    outcome: asyncio.Future[Version] = asyncio.get_running_loop().create_future()
    known = cast(Known, SimpleNamespace(is_plain=True, shape=SimpleNamespace(method="GET")))

    def answer() -> Response:
        return Response(body=outcome.result().etag.encode())

    monkeypatch.setattr(desk, "shapes", SimpleNamespace(find=lambda _head: (known, Head("/b/k", {}))))
    monkeypatch.setattr(desk, "answer_at_once", lambda _request: Soon(outcome, answer), raising=False)
    return outcome


async def test_an_answer_that_waits_for_one_thing_comes_when_that_is_there(
    endpoint: Endpoint, desk: Desk, waited_for: asyncio.Future[Version]
) -> None:
    wire = await connected(endpoint)
    await wire.give([GET])
    await _turns()
    assert wire.connection.is_busy
    assert not wire.sent
    waited_for.set_result(cast(Version, SimpleNamespace(etag="<soon>")))
    assert (await wire.settled()).endswith(b"\r\n\r\n<soon>")
    await wire.give([GET])
    assert (await wire.settled()).count(b"<soon>") == 2
    assert not desk.asked


async def test_a_fault_behind_the_wait_ends_the_connection_and_is_logged(
    endpoint: Endpoint, waited_for: asyncio.Future[Version], caplog: pytest.LogCaptureFixture
) -> None:
    wire = await connected(endpoint)
    await wire.give([GET])
    waited_for.set_exception(ZeroDivisionError("a fault of ours"))
    assert await wire.settled() == b""
    assert wire.is_closing()
    assert "a fault of ours" in caplog.text


async def test_a_client_that_goes_away_while_its_answer_is_waited_for_is_no_fault(
    endpoint: Endpoint, waited_for: asyncio.Future[Version], caplog: pytest.LogCaptureFixture
) -> None:
    wire = await connected(endpoint)
    await wire.give([GET])
    await _turns()
    wire.end()
    waited_for.set_result(cast(Version, SimpleNamespace(etag="<soon>")))
    await _turns()
    assert not wire.connection.is_busy
    assert not wire.sent
    assert not caplog.records


async def test_a_stop_waits_for_what_an_answer_waits_for(endpoint: Endpoint, waited_for: asyncio.Future[Version]) -> None:
    wire = await connected(endpoint)
    await wire.give([GET])
    endpoint.pre_shutdown()
    stopping = asyncio.ensure_future(endpoint.shutdown(PATIENCE_SECONDS))
    await _turns()
    assert not stopping.done()
    waited_for.set_result(cast(Version, SimpleNamespace(etag="<soon>")))
    await stopping
    assert wire.sent.endswith(b"<soon>")


async def test_a_stop_does_not_wait_for_ever(endpoint: Endpoint, waited_for: asyncio.Future[Version]) -> None:
    wire = await connected(endpoint)
    await wire.give([GET])
    endpoint.pre_shutdown()
    await endpoint.shutdown(0)
    await _turns()
    assert waited_for.cancelled()
    assert wire.is_closing()
    assert not wire.sent


async def test_a_connection_in_use_is_not_idle(endpoint: Endpoint, desk: Desk) -> None:
    wire = await connected(endpoint)
    desk.open.clear()
    await wire.give([GET])
    expire(wire)
    assert not wire.is_closing()
    desk.open.set()
    await wire.settled()
    wire.connection._process_keepalive()  # the time begins anew with the answer
    assert not wire.is_closing()
    expire(wire)
    assert wire.is_closing()


def expire(wire: Wire) -> None:
    wire.connection._next_keepalive_close_time = 0.0
    wire.connection._process_keepalive()


async def test_a_stop_waits_for_the_answer(endpoint: Endpoint, desk: Desk) -> None:
    wire = await connected(endpoint)
    desk.open.clear()
    await wire.give([GET])
    await asyncio.sleep(0)
    endpoint.pre_shutdown()
    stopping = asyncio.create_task(endpoint.shutdown(30))
    await asyncio.sleep(0)
    desk.open.set()
    await stopping
    assert wire.sent.startswith(b"HTTP/1.1 200 OK\r\n")
    assert wire.is_closing()


@pytest.mark.parametrize(
    "sent",
    [GET, PUT, GET.replace(b"Host", b"Connection: close\r\nHost"), PUT.replace(b": 5", b": 100000").replace(b"hello", bytes(100_000))],
)
async def test_who_has_sent_all_of_a_request_and_ends_his_side_gets_its_answer(endpoint: Endpoint, desk: Desk, sent: bytes) -> None:
    wire = await connected(endpoint)
    desk.open.clear()
    await wire.give([sent])
    for _ in range(5):
        await asyncio.sleep(0)
    assert wire.protocol.eof_received(), "the connection stays open"
    desk.open.set()
    assert (await wire.settled()).startswith(b"HTTP/1.1 200 OK\r\n")
    while not wire.is_closing():
        await asyncio.sleep(0)


@pytest.mark.parametrize("sent", [b"", GET[:20], PUT[:-2], PUT.replace(b": 5", b": 100000"), GET + GET[:20]])
async def test_who_leaves_a_request_half_sent_is_gone(endpoint: Endpoint, desk: Desk, sent: bytes) -> None:
    wire = await connected(endpoint)
    await wire.give([sent] if sent else [])
    if sent.startswith(GET):
        await wire.settled()
    assert not wire.protocol.eof_received()
    wire.end()


async def test_a_stop_waits_no_longer_than_it_may(endpoint: Endpoint, desk: Desk) -> None:
    wire = await connected(endpoint)
    desk.open.clear()
    await wire.give([GET])
    await asyncio.sleep(0)
    await endpoint.shutdown(0.01)
    assert not wire.sent
    assert wire.is_closing()


async def test_a_connection_in_use_is_never_closed_for_a_new_one(desk: Desk) -> None:
    endpoint = Endpoint(cast(Dispatcher, desk), limit=2)
    busy = [await connected(endpoint) for _ in range(2)]
    desk.open.clear()
    for wire in busy:
        await wire.give([GET])
    assert Wire(endpoint).is_closing()
    desk.open.set()
    for wire in busy:
        assert (await wire.settled()).endswith(b"<>")
    Wire(endpoint)
    assert sorted(wire.is_closing() for wire in busy) == [False, True]  # now one of them gives way
    endpoint.pre_shutdown()  # idle connections are not waited for
    await endpoint.shutdown(1)
