"""Inflow: a body of known length, on its way past HTTP's parser.

The problem: each byte of a body was copied four times on its way to the erasure code, and each copy costs as much as sealing it.

The idea: once its head is parsed, a body of known length needs no parser. All that comes is of the body, as long as it owes bytes. If a
client sends fast, its bytes are read into memory of their own, and passed on without a copy. What comes slowly is read into a buffer that
all connections share, and copied: memory of its own would be mostly empty.

This is the one module that uses the inside of aiohttp's `StreamReader`. The version of aiohttp is pinned.
"""

from __future__ import annotations

from aiohttp.streams import StreamReader

ROOM_SIZE = 512 * 1024  # at a time: 1 MiB costs as much CPU, and 64 uploads at once 40 MiB more memory; 256 KiB cost 2 % more CPU


class Inflow(StreamReader):
    """Takes the place of the reader that HTTP's parser made for a body."""

    __slots__ = ("_is_fast", "_room", "owed_bytes")

    def __init__(self, begun: StreamReader, *, size_bytes: int) -> None:
        """Go on with a body of which the parser has read something, which lies in `begun`."""
        super().__init__(begun._protocol, begun._low_water, loop=begun._loop)
        self._is_fast = False
        self._room = memoryview(b"")
        self.owed_bytes = size_bytes
        self.feed_data(b"".join(begun._buffer))

    def room(self, shared: memoryview) -> memoryview | None:
        """Return where to read what comes next, if somebody waits for it: in `shared` or in memory of its own."""
        if self._waiter is None:
            return None
        if self._is_fast:
            self._room = memoryview(bytearray(min(self.total_bytes, self.owed_bytes, ROOM_SIZE)))
        else:
            self._room = shared[: self.owed_bytes]
        return self._room

    def filled(self, size_bytes: int) -> None:
        """Take what was read into the room. A room that is mostly empty is given up: few bytes would keep much memory."""
        room, was_fast = self._room, self._is_fast
        self._room = memoryview(b"")
        self._is_fast = size_bytes > len(room) // 2
        self.feed_data(room[:size_bytes] if was_fast and self._is_fast else bytes(room[:size_bytes]))

    def feed_data(self, data: bytes | memoryview, size: int = 0) -> bool:
        """Take the next bytes, at most as many as are owed."""
        self.owed_bytes -= len(data)
        super().feed_data(data, size)  # type: ignore[arg-type]  # it only keeps them and joins them
        if not self.owed_bytes:
            self.feed_eof()
        return False
