"""A column as it grows: one shard's sealed cells, each sealed where it is to lie.

The problem. Cells that are sealed into memory of their own are copied again, piece by piece, where a disk wants whole pages (O_DIRECT): a
sixth of a large PUT went into such copies, and into clearing the cells' memory before it was sealed into.

The idea. The cells lie one behind the other in runs of whole pages. Only the cell that reaches from one run into the next is sealed aside,
and copied in two. A column that is hardly longer than a run is one, as each of a body of a mebibyte at 4+2. Rejected: all of any shard in
one run. A client that sends slowly would take the memory of what it has not sent.
"""

from __future__ import annotations

from proxy.codec.cells import CellCipher
from proxy.codec.format import TAG_SIZE
from proxy.memory import unset_pages

RUN_SIZE = 252 * 1024  # with the page that is lost for its beginning, half of what a body is read into: they leave no gaps in the heap
LONGEST_RUN_SIZE = RUN_SIZE + 16 * 1024


class Column:
    """The cells of one shard, in order. `size` bytes they have in all, sealed."""

    def __init__(self, size: int) -> None:
        self.runs: list[bytes | memoryview] = []
        self._missing = size
        self._room = memoryview(b"")

    def seal(self, cipher: CellCipher, stripe: int, cell: bytes | memoryview) -> None:
        """Add a cell."""
        size = len(cell) + TAG_SIZE
        if size == self._missing and not self._room:  # the only one: of small shards there are many, and none needs pages
            self._missing = 0
            self.runs.append(cipher.seal(stripe, cell))
            return
        room = self._room or self._begin()
        if size <= len(room):
            cipher.seal_into(stripe, cell, room[:size])
            self._room = room[size:]
        else:
            self._add(memoryview(cipher.seal(stripe, cell)))

    def _add(self, sealed: memoryview) -> None:
        while sealed:
            room = self._room or self._begin()
            size = min(len(room), len(sealed))
            room[:size] = sealed[:size]
            self._room, sealed = room[size:], sealed[size:]

    def _begin(self) -> memoryview:
        run = unset_pages(self._missing if self._missing <= LONGEST_RUN_SIZE else RUN_SIZE)
        self._missing -= len(run)
        self.runs.append(run)
        return run
