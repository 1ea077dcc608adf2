"""Bodies that pass by HTTP's parser: the same bytes however they come, and no memory for what does not."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.streams import StreamReader
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.memory import PAGE_SIZE, address_of
from proxy.server.wire import inflow as inflows
from proxy.server.wire.inflow import FAST_SIZE, ROOM_SIZE, WHOLE_SIZE, Inflow
from tests.patience import PATIENCE_SECONDS

SHARED_SIZE = 64 * 1024


class Protocol(BaseProtocol):
    """Connected, and notes whether the reader wants more."""

    connected = True
    reads = True

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self, resume_parser: bool = True) -> None:
        self.reads = True


class Sender:
    """Stands for the event loop: reads into whatever room there is."""

    def __init__(self, inflow: Inflow) -> None:
        self._inflow = inflow
        self._shared = memoryview(bytearray(SHARED_SIZE))
        self.rooms: list[memoryview] = []

    async def send(self, data: bytes) -> bytes | memoryview:
        """Send at most these bytes in one piece to a reader that waits; return what it got."""
        reading = await self.wait()
        self.read(data)
        return await reading

    async def wait(self) -> asyncio.Task[bytes | memoryview]:
        """Begin to wait for what comes next."""
        reading: asyncio.Task[bytes | memoryview] = asyncio.create_task(self._inflow.readany())
        await asyncio.sleep(0)
        return reading

    def read(self, data: bytes) -> int:
        """Read at most these bytes, as they come; return how many there was room for."""
        room = self._inflow.room(self._shared)
        assert room is not None
        self.rooms.append(room)
        count = min(len(room), len(data))
        room[:count] = data[:count]
        self._inflow.filled(count)
        return count

    @property
    def owns_last(self) -> bool:
        return self.rooms[-1].obj is not self._shared.obj


def new_inflow(size: int, begun: bytes = b"", protocol: Protocol | None = None) -> Inflow:
    loop = asyncio.get_running_loop()
    reader = StreamReader(protocol or Protocol(loop), 4096, loop=loop)
    reader.feed_data(begun)
    return Inflow(reader, size_bytes=size)


@given(sizes=st.lists(st.integers(1, 300_000), min_size=1, max_size=12), begun=st.integers(0, 20_000), gathers=st.booleans())
@settings(deadline=None)
def test_a_body_is_the_same_in_any_pieces(sizes: list[int], begun: int, gathers: bool) -> None:
    body = bytes(index % 251 for index in range(begun + sum(sizes) + 1))

    async def run() -> bytes:
        inflow = new_inflow(len(body), body[:begun])
        kept = gathers and inflow.gather()
        pieces = [inflow.read_nowait()]
        assert len(pieces[0]) == (0 if kept else begun)
        sender = Sender(inflow)
        sent = begun
        if kept and sent < len(body):
            reading = await sender.wait()
            sent += sender.read(body[sent : sent + sizes[0]])
            pieces.append(await reading)
            assert len(pieces[-1]) == sent
        for size in [*sizes, *[len(body)] * 20]:
            if sent < len(body):
                pieces.append(await sender.send(body[sent : sent + size]))
                sent += len(pieces[-1])
        assert inflow.is_eof()
        return b"".join(pieces)

    assert asyncio.run(run()) == body


async def test_a_reader_that_does_not_wait_has_no_room() -> None:
    assert new_inflow(10_000_000).room(memoryview(bytearray(SHARED_SIZE))) is None


async def test_whoever_sends_a_few_bytes_at_a_time_gets_no_memory_of_its_own() -> None:
    sender = Sender(new_inflow(10_000_000))
    for _ in range(100):
        assert await sender.send(b"drip") == b"drip"
        assert not sender.owns_last


async def test_the_rooms_of_a_long_body_end_where_stripes_do() -> None:
    sender = Sender(new_inflow(10_000_000))
    received = len(await sender.send(bytes(2 * ROOM_SIZE)))
    assert received == SHARED_SIZE
    for _ in range(3):
        received += len(await sender.send(bytes(2 * ROOM_SIZE)))
        assert sender.owns_last
        assert received % ROOM_SIZE == 0
    assert received == 3 * ROOM_SIZE


@pytest.mark.parametrize(("size", "expected"), [(WHOLE_SIZE, WHOLE_SIZE), (WHOLE_SIZE + 1, ROOM_SIZE)])
async def test_what_came_with_the_head_is_the_beginning_of_the_first_room(size: int, expected: int) -> None:
    body = bytes(index % 251 for index in range(size))
    inflow = new_inflow(size, body[:FAST_SIZE])
    assert inflow.gather()
    sender = Sender(inflow)
    reading = await sender.wait()
    assert sender.read(body[FAST_SIZE:]) == expected - FAST_SIZE

    piece = await reading

    assert piece == body[:expected]
    assert isinstance(piece, memoryview)
    assert address_of(piece) % PAGE_SIZE == 0
    assert inflow.is_eof() == (size == expected)


async def test_what_came_with_the_head_is_passed_on_by_itself_if_no_more_comes() -> None:
    inflow = new_inflow(ROOM_SIZE, bytes(FAST_SIZE))
    assert inflow.gather()
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await inflow.readany() == bytes(FAST_SIZE)
    sender = Sender(inflow)
    assert await sender.send(b"drip") == b"drip"
    assert not sender.owns_last


async def test_what_came_with_the_head_comes_before_what_the_parser_passes_on() -> None:
    inflow = new_inflow(FAST_SIZE + 4, b"x" * FAST_SIZE)
    assert inflow.gather()
    inflow.feed_data(b"last")  # it was read together with the head
    assert await inflow.readany() == b"x" * FAST_SIZE + b"last"
    assert inflow.is_eof()


@pytest.mark.parametrize("begun", [0, FAST_SIZE - 1])
async def test_a_little_that_came_with_the_head_is_not_kept(begun: int) -> None:
    inflow = new_inflow(ROOM_SIZE, bytes(begun))
    assert not inflow.gather()
    assert inflow.read_nowait() == bytes(begun)


async def test_what_somebody_has_begun_to_take_is_not_kept() -> None:
    inflow = new_inflow(ROOM_SIZE, bytes(2 * FAST_SIZE))
    assert inflow.read_nowait(FAST_SIZE) == bytes(FAST_SIZE)
    assert not inflow.gather()
    assert inflow.read_nowait() == bytes(FAST_SIZE)


async def test_what_is_all_of_a_body_is_not_kept() -> None:
    inflow = new_inflow(2 * FAST_SIZE, bytes(FAST_SIZE))
    inflow.feed_data(bytes(FAST_SIZE))
    assert not inflow.gather()
    assert inflow.read_nowait() == bytes(2 * FAST_SIZE)


async def test_a_room_that_stays_empty_is_given_up() -> None:
    sender = Sender(new_inflow(10_000_000))
    for _ in range(6):
        await sender.send(bytes(ROOM_SIZE))
    assert sender.owns_last

    piece = await sender.send(b"drip")

    assert isinstance(piece, bytes)  # nothing refers to the room any more
    await sender.send(b"drip")
    assert not sender.owns_last


async def test_no_byte_of_the_next_request_is_read_into_a_room() -> None:
    inflow = new_inflow(SHARED_SIZE * 3)
    sender = Sender(inflow)
    pieces = [await sender.send(b"x" * ROOM_SIZE) for _ in range(2)]

    assert sum(map(len, pieces)) == SHARED_SIZE * 3
    assert inflow.is_eof()


async def test_a_reader_of_a_connection_that_is_lost_hears_of_it() -> None:
    inflow = new_inflow(10_000_000)
    reading = asyncio.create_task(inflow.readany())
    await asyncio.sleep(0)
    inflow.set_exception(ConnectionResetError())

    with pytest.raises(ConnectionResetError):
        await reading
    assert inflow.room(memoryview(bytearray(SHARED_SIZE))) is None


async def fast_sender(size: int, protocol: Protocol | None = None) -> Sender:
    """Return one whose bytes are read into rooms, the next of which is a whole one."""
    sender = Sender(new_inflow(size, protocol=protocol))
    received = 0
    while received < 2 * ROOM_SIZE:
        received += len(await sender.send(bytes(2 * ROOM_SIZE)))
    assert sender.owns_last
    assert received == 2 * ROOM_SIZE
    return sender


async def test_a_room_is_passed_on_when_it_is_full_however_little_each_read_brings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inflows, "FILLING_SECONDS", PATIENCE_SECONDS)  # a busy machine may take longer from one read to the next
    sender = await fast_sender(10_000_000)
    reading = await sender.wait()
    sent = 0
    while sent < ROOM_SIZE:
        await asyncio.sleep(0)
        assert not reading.done()
        sent += sender.read(bytes([sent % 251]) * 50_000)

    piece = await reading

    assert len(piece) == ROOM_SIZE
    assert [piece[at] for at in (0, 49_999, 50_000, 100_000)] == [0, 0, 50_000 % 251, 100_000 % 251]


async def test_a_room_that_does_not_become_full_is_passed_on_as_it_is() -> None:
    sender = await fast_sender(10_000_000)
    reading = await sender.wait()
    sender.read(b"some")
    sender.read(b"thing")

    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await reading == b"something"
    assert await sender.send(b"more") == b"more"


async def test_the_last_room_is_as_long_as_the_body() -> None:
    sender = await fast_sender(2 * ROOM_SIZE + 1000)
    reading = await sender.wait()
    assert sender.read(bytes(990)) == 990
    assert sender.read(bytes(ROOM_SIZE)) == 10
    assert len(await reading) == 1000


async def test_what_is_left_in_the_room_of_a_connection_that_is_lost_harms_nobody() -> None:
    protocol = Protocol(asyncio.get_running_loop())
    sender = await fast_sender(10_000_000, protocol)
    reading = await sender.wait()
    sender.read(b"some")
    reading.cancel()
    protocol.connected = False  # type: ignore[misc]  # it is a property there
    protocol.pause_reading = None  # type: ignore[assignment, method-assign]  # aiohttp's fails then
    sender._inflow._pass_on()  # as its timer does


async def test_nothing_is_read_that_nobody_waits_for() -> None:
    protocol = Protocol(asyncio.get_running_loop())
    inflow = new_inflow(10_000_000, b"begun", protocol)
    assert not protocol.reads
    assert await inflow.readany() == b"begun"
    assert not protocol.reads

    reading = asyncio.create_task(inflow.readany())
    await asyncio.sleep(0)
    assert protocol.reads
    inflow.feed_data(b"more")
    assert not protocol.reads
    assert await reading == b"more"


async def test_behind_a_body_reading_goes_on_though_nobody_took_it() -> None:
    protocol = Protocol(asyncio.get_running_loop())
    inflow = new_inflow(100, b"begun", protocol)
    inflow.feed_data(bytes(95))
    assert inflow.is_eof()
    assert protocol.reads
