"""How connections are spread over the workers: the next one belongs to a worker that has the fewest.

The problem: where each worker listens for itself (SO_REUSEPORT), the kernel deals connections out by a hash. Of eight connections to two
workers, 6 or more are with one of them in 29 of 100 cases: one core idles while clients wait for the other. A worker that hangs goes on to
be dealt its share, and who dies takes along what it had not accepted yet.

The idea: all workers listen on the same sockets. A connection that comes wakes each of them, but only one that has the fewest connections
accepts it. The others leave it, look again a moment later, and take it if it still waits after some time. So nothing is handed over that
could be lost on the way, nobody holds a lock that he could take to his grave, and a connection waits for nobody in particular.

Each worker tells the others how many connections it has, and now and then the time, in memory that all share. Who has not told the time
for a second is not waited for: it hangs, has ended, or has not begun.

Open connections are counted, as other proxies do. Idle ones count, too: a client opens several at a time, and those go evenly to all.

What was rejected: passing accepted sockets on to the worker with the fewest, which has to be alive to take them; and taking turns by a
lock, where chance decides who has it when many connections come at once.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable, Hashable
from tempfile import TemporaryFile

BEAT_SECONDS = 0.25  # between two times that a worker tells
GONE_SECONDS = 1.0  # a turn of the event loop is a few milliseconds
_NUMBERS = 2  # of each worker: its connections, and when it told so last, in ns of the system's monotonic clock
_SIZE = 8


def new_memory(workers: int) -> int:
    """Return a file for what so many workers tell each other: for `Board`, in each of them."""
    size = workers * _NUMBERS * _SIZE
    try:  # unlike a file, it needs no room on a disk when it is written to
        file = os.memfd_create("shardgate-connections")
    except (AttributeError, OSError):  # not every system has it, or lets everybody use it
        with TemporaryFile() as temporary:
            file = os.dup(temporary.fileno())
    os.write(file, bytes(size))
    return file


class Board:
    """What the workers tell each other. Each writes numbers of its own, and a number is written whole."""

    def __init__(self, memory: mmap.mmap | bytearray) -> None:
        self._numbers = memoryview(memory).cast("Q")

    @classmethod
    def of(cls, workers: int) -> Board:
        """Return a board in this process's own memory."""
        return cls(bytearray(workers * _NUMBERS * _SIZE))

    @classmethod
    def shared(cls, file: int) -> Board:
        """Return the board in the file that all workers have from `new_memory`."""
        return cls(mmap.mmap(file, 0))

    @property
    def places(self) -> range:
        return range(len(self._numbers) // _NUMBERS)

    def tell(self, place: int, connections: int, told_ns: int) -> None:
        self._numbers[place * _NUMBERS] = connections
        self._numbers[place * _NUMBERS + 1] = told_ns

    def connections(self, place: int, *, since_ns: int) -> int | None:
        """Return how many connections a worker has; None if it has told nothing since then."""
        if self._numbers[place * _NUMBERS + 1] < since_ns:
            return None
        return self._numbers[place * _NUMBERS]


class Share:
    """The connections of one worker, and whether the next one is to be its."""

    def __init__(self, board: Board, place: int, *, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._board = board
        self._place = place
        self._others = [other for other in board.places if other != place]
        self._clock_ns = clock_ns
        self._connections: set[Hashable] = set()
        self._told_ns = 0
        self._tell()

    @classmethod
    def alone(cls) -> Share:
        """Return all connections: there is one process."""
        return cls(Board.of(1), 0)

    @property
    def connections(self) -> int:
        return len(self._connections)

    @property
    def place(self) -> int:
        return self._place

    @property
    def has_fewest(self) -> bool:
        """Whether no worker that lives has fewer connections."""
        if not self._others:
            return True
        since, have = self._clock_ns() - int(GONE_SECONDS * 1e9), len(self._connections)
        for other in self._others:
            has = self._board.connections(other, since_ns=since)
            if has is not None and has < have:
                return False
        return True

    def enter(self, connection: Hashable) -> None:
        """Count a connection."""
        self._connections.add(connection)
        self._tell()

    def leave(self, connection: Hashable) -> None:
        """Count a connection no more, if it is counted."""
        self._connections.discard(connection)
        self._tell()

    def beat(self) -> None:
        """Tell the time: this worker accepts connections."""
        self._told_ns = self._clock_ns()
        self._tell()

    def withdraw(self) -> None:
        """Let the others wait for this worker no more, until it tells the time again."""
        self._told_ns = 0
        self._tell()

    def _tell(self) -> None:
        self._board.tell(self._place, len(self._connections), self._told_ns)
