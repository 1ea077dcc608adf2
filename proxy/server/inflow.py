"""Inflow: a body of known length, on its way past HTTP's parser.

The problem: each byte of a body was copied four times on its way to the erasure code, and each copy costs as much as sealing it.

The idea: once its head is parsed, a body of known length needs no parser. All that comes is of the body, as long as it owes bytes. If a
client sends fast, its bytes are read into memory of their own, and passed on without a copy: a room of half a mebibyte at a time, not each
read, and no later than a moment after its first byte. Rooms end where stripes do, so that these are coded where they lie. What comes slowly
is read into a buffer that all connections share, and copied: memory of its own would be mostly empty.

Nothing is read unless somebody waits for it. So the kernel, and not this process, keeps what comes meanwhile.

This is the one module that uses the inside of aiohttp's `StreamReader`. The version of aiohttp is pinned.
"""

from __future__ import annotations

import asyncio

from aiohttp.streams import StreamReader

from proxy.memory import unset_pages

ROOM_SIZE = 512 * 1024  # at a time: 1 MiB costs as much CPU, and 64 uploads at once 40 MiB more memory; 256 KiB cost 2 % more CPU
FILLING_SECONDS = 0.01  # whoever sends so slowly that half a room takes longer gets none


class Inflow(StreamReader):
    """Takes the place of the reader that HTTP's parser made for a body."""

    __slots__ = ("_due", "_filled", "_is_fast", "_room", "owed_bytes")

    def __init__(self, begun: StreamReader, *, size_bytes: int) -> None:
        """Go on with a body of which the parser has read something, which lies in `begun`."""
        super().__init__(begun._protocol, 0, loop=begun._loop)  # 0: whatever is fed pauses reading, and to take it does not resume it
        self._is_fast = False
        self._room = memoryview(b"")
        self._filled = 0  # bytes of the room
        self._due: asyncio.TimerHandle | None = None  # when the room is passed on as it is
        self.owed_bytes = size_bytes
        self.feed_data(b"".join(begun._buffer))

    def room(self, shared: memoryview) -> memoryview | None:
        """Return where to read what comes next, if somebody waits for it: in `shared` or in memory of its own."""
        if self._waiter is None:
            self._pass_on()
            return None
        if not self._filled:
            self._room = unset_pages(self._room_size()) if self._is_fast else shared[: self.owed_bytes]
        return self._room[self._filled :]

    def filled(self, size_bytes: int) -> None:
        """Take what was read into the room. What is read into the shared one is passed on at once."""
        self._filled += size_bytes
        if self._is_fast and self._filled < len(self._room):
            self._due = self._due or self._loop.call_later(FILLING_SECONDS, self._pass_on)
        else:
            self._pass_on()

    def feed_data(self, data: bytes | memoryview, size: int = 0) -> bool:
        """Take the next bytes, at most as many as are owed."""
        self.owed_bytes -= len(data)
        super().feed_data(data, size)  # type: ignore[arg-type]  # it only keeps them and joins them
        if not self.owed_bytes:
            self.feed_eof()  # and read on: what comes next is of the next request
        return False

    async def _wait(self, func_name: str) -> None:
        self._protocol.resume_reading(resume_parser=False)  # the parser has no part in this
        await super()._wait(func_name)

    def _room_size(self) -> int:
        """Return how much to read at a time: no more than has come so far, and to the end of a room at most."""
        return min(self.total_bytes, self.owed_bytes, ROOM_SIZE - self.total_bytes % ROOM_SIZE)

    def _pass_on(self) -> None:
        """Pass on what is in the room. One that is mostly empty is given up: few bytes would keep much memory."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        data, room_size, was_fast = self._room[: self._filled], len(self._room), self._is_fast
        self._room, self._filled = memoryview(b""), 0
        if data and self._protocol.connected:
            self._is_fast = len(data) > room_size // 2
            self.feed_data(data if was_fast and self._is_fast else bytes(data))
