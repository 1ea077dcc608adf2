"""Inflow: a body of known length, on its way past HTTP's parser.

The problem: each byte of a body was copied four times on its way to the erasure code, and each copy costs as much as sealing it.

The idea: once its head is parsed, a body of known length needs no parser. All that comes is of the body, as long as it owes bytes. If a
client sends fast, its bytes are read into memory of their own, and passed on without a copy: a room of half a mebibyte at a time, not each
read, and no later than a moment after its first byte. Rooms end where stripes do, so that these are coded where they lie. A body of up to a
mebibyte has one room: its bytes are coded together, so that a reader would only be woken twice. What comes slowly is read into a buffer
that all connections share, and copied: memory of its own would be mostly empty.

Whoever sends much of a body with its head sends on. So a reader that has memory for it may have these bytes kept until more comes
(`gather`): they are then the first ones in the first room. Passed on by themselves, they cost a turn of their reader, and have each stripe
of a mebibyte's first half lie in two pieces.

Nothing is read unless somebody waits for it. So the kernel, and not this process, keeps what comes meanwhile.
"""

from __future__ import annotations

import asyncio

from aiohttp.streams import StreamReader

from proxy.memory import unset_pages
from proxy.server.wire.inside import InsideReader

ROOM_SIZE = 512 * 1024  # at a time: 1 MiB costs as much CPU, and 64 uploads at once 40 MiB more memory; 256 KiB cost 2 % more CPU
WHOLE_SIZE = 2 * ROOM_SIZE  # of a body that has one room
FAST_SIZE = 8 * 1024  # with the head: half of what is read at a time before anything is known of a client
FILLING_SECONDS = 0.01  # whoever sends so slowly that half a room takes longer gets none


class Inflow(InsideReader):
    """Takes the place of the reader that HTTP's parser made for a body."""

    __slots__ = ("_begun", "_due", "_filled", "_is_fast", "_room", "_room_size", "owed_bytes")

    def __init__(self, begun: StreamReader, *, size_bytes: int) -> None:
        """Go on with a body of which the parser has read something, which lies in `begun`."""
        super().__init__(begun)
        self._room = memoryview(b"")
        self._room_size = size_bytes if size_bytes <= WHOLE_SIZE else ROOM_SIZE
        self._filled = 0  # bytes of the room
        self._due: asyncio.TimerHandle | None = None  # when the room is passed on as it is
        self._is_fast = False
        self._begun = b""  # what came with the head, and is to be the beginning of the first room
        self.owed_bytes = size_bytes  # which have not come yet
        self.feed_data(self.lying_in(begun))

    def gather(self) -> bool:
        """Keep what came with the head, if it is much, until more has come, and pass on both together. Tell whether that is so.

        To be called before anything is taken, by whoever takes memory for the body before it takes anything.
        """
        lying_bytes = self.lying_bytes
        if not FAST_SIZE <= lying_bytes < self._room_size or lying_bytes != self.total_bytes or not self.owed_bytes:
            return False
        self._begun = self.take_back()
        self._is_fast = True
        return True

    def room(self, shared: memoryview) -> memoryview | None:
        """Return where to read what comes next, if somebody waits for it: in `shared` or in memory of its own."""
        if not self.is_waited_for:
            self._pass_on()
            return None
        if not self._filled:
            self._room = self._new_room() if self._is_fast else shared[: self.owed_bytes]
        return self._room[self._filled :]

    def filled(self, size_bytes: int) -> None:
        """Take what was read into the room. What is read into the shared one is passed on at once."""
        self.owed_bytes -= size_bytes
        self._filled += size_bytes
        if self._is_fast and self._filled < len(self._room):
            self._pass_on_soon()
        else:
            self._pass_on()

    def feed_data(self, data: bytes | memoryview, size: int = 0) -> bool:  # noqa: ARG002 - aiohttp's
        """Take the next bytes, at most as many as are owed."""
        self._pass_on()
        self.owed_bytes -= len(data)
        self._give(data)
        return False

    def begin_to_wait(self) -> None:
        """As `InsideReader`: what was gathered is passed on soon, whether more comes or not."""
        if self._begun:
            self._pass_on_soon()

    def _new_room(self) -> memoryview:
        """Return memory for what comes up to the end of a room, or of the body; what came with the head lies in it."""
        size, self._filled = len(self._begun) + self.owed_bytes, len(self._begun)
        room = unset_pages(min(size, self._room_size - self.total_bytes % self._room_size))
        room[: self._filled], self._begun = self._begun, b""
        return room

    def _pass_on_soon(self) -> None:
        self._due = self._due or self.call_later(FILLING_SECONDS, self._pass_on)

    def _pass_on(self) -> None:
        """Pass on what is in the room. One that is mostly empty is given up: few bytes would keep much memory."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        begun, data, room_size, was_fast = self._begun, self._room[: self._filled], len(self._room), self._is_fast
        self._begun, self._room, self._filled = b"", memoryview(b""), 0
        if begun and self.is_connected:
            self._is_fast = False
            self._give(begun)
        elif data and self.is_connected:
            self._is_fast = len(data) > room_size // 2
            self._give(data if was_fast and self._is_fast else bytes(data))

    def _give(self, data: bytes | memoryview) -> None:
        super().feed_data(data)  # type: ignore[arg-type]  # it only keeps them and joins them
        if not self.owed_bytes:
            self.feed_eof()  # and read on: what comes next is of the next request
