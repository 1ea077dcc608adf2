"""Bodies that pass by HTTP's parser: the same bytes however they come, and no memory for what does not."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.streams import StreamReader
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.server.inflow import ROOM_SIZE, Inflow

SHARED_SIZE = 64 * 1024


class Protocol(BaseProtocol):
    """Connected, and notes nothing of what the reader asks of it."""

    connected = True

    def pause_reading(self) -> None: ...

    def resume_reading(self, resume_parser: bool = True) -> None: ...


class Sender:
    """Stands for the event loop: reads into whatever room there is."""

    def __init__(self, inflow: Inflow) -> None:
        self._inflow = inflow
        self._shared = memoryview(bytearray(SHARED_SIZE))
        self.rooms: list[memoryview] = []

    async def send(self, data: bytes) -> bytes | memoryview:
        """Send at most these bytes in one piece to a reader that waits; return what it got."""
        reading = asyncio.create_task(self._inflow.readany())
        await asyncio.sleep(0)
        room = self._inflow.room(self._shared)
        assert room is not None
        self.rooms.append(room)
        count = min(len(room), len(data))
        room[:count] = data[:count]
        self._inflow.filled(count)
        return await reading

    @property
    def owns_last(self) -> bool:
        return self.rooms[-1].obj is not self._shared.obj


def new_inflow(size: int, begun: bytes = b"") -> Inflow:
    loop = asyncio.get_running_loop()
    reader = StreamReader(Protocol(loop), 4096, loop=loop)
    reader.feed_data(begun)
    return Inflow(reader, size_bytes=size)


@given(sizes=st.lists(st.integers(1, 300_000), min_size=1, max_size=12), begun=st.integers(0, 20_000))
@settings(deadline=None)
def test_a_body_is_the_same_in_any_pieces(sizes: list[int], begun: int) -> None:
    body = bytes(index % 251 for index in range(begun + sum(sizes) + 1))

    async def run() -> bytes:
        inflow = new_inflow(len(body), body[:begun])
        pieces = [inflow.read_nowait()]
        sender = Sender(inflow)
        sent = begun
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


async def test_a_room_is_no_larger_than_what_has_come_so_far() -> None:
    sender = Sender(new_inflow(10_000_000))
    received = 0
    for _ in range(10):
        piece = await sender.send(bytes(2 * ROOM_SIZE))
        assert len(piece) <= min(max(received, SHARED_SIZE), ROOM_SIZE)
        received += len(piece)
    assert sender.owns_last
    assert len(piece) == ROOM_SIZE


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
    pieces = [await sender.send(b"x" * ROOM_SIZE) for _ in range(3)]

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
