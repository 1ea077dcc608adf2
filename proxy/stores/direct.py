"""Direct writes: a large shard goes to its disk from where it lies, past the page cache.

The problem. Through the page cache a write is copied into fresh pages, which are found, filled, tagged and written back one by one: 2.5 s
of CPU for each GiB, and more when the cache is full. Nobody reads a shard right after it was written, so the cache gains nothing.

The idea. With O_DIRECT the disk takes the bytes from our own memory, 0.06 s a GiB. It wants addresses, lengths and offsets that are whole
blocks. So cells are sealed into runs of whole pages (`codec/column`), and these are written by one call; the end of a shard, less than
a page and the footer, is written as usual. What lies otherwise, or where the file system refuses, goes through the page cache.

A direct write waits for its disk, and a thread that waits has to be woken, and to get the interpreter back. Where nothing need be durable,
a shard of a quarter of a mebibyte is better copied: the kernel writes it back later, many together. Rejected: to have it written back at
once, and its pages freed (RWF_DONTCACHE). The disk, and the threads of the kernel that serve it, are then busy while clients wait, and so
are the syncs of the manifest's log: PUTs of 1 MiB were a quarter slower.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice

from proxy.memory import PAGE_SIZE, address_of

DIRECT_SIZE = 256 * 1024  # from here on it pays: below, the round trip to the disk takes longer than the copy
UNSYNCED_DIRECT_SIZE = 512 * 1024  # without fsync: below, the copy costs less than a thread that waits for the disk
O_DIRECT: int = getattr(os, "O_DIRECT", 0)  # Linux
_IOV_MAX = 1024  # Linux's limit of buffers in one writev

Piece = bytes | bytearray | memoryview
Body = Sequence[Piece]


def split_pages(body: Body) -> tuple[list[memoryview], Body]:
    """Return what of a body lies in whole pages, from its beginning on, and the rest."""
    pages: list[memoryview] = []
    for number, piece in enumerate(body):
        if not isinstance(piece, memoryview) or piece.readonly or not piece or address_of(piece) % PAGE_SIZE:
            return pages, body[number:]
        if rest := len(piece) % PAGE_SIZE:
            whole = [piece[:-rest]] if len(piece) > rest else []
            return pages + whole, [piece[-rest:], *body[number + 1 :]]
        pages.append(piece)
    return pages, []


def write_direct(descriptor: int, pages: Iterable[memoryview], rest: Body) -> None:
    """Write a body, split in two, to a new file that was opened with O_DIRECT."""
    pending: deque[Piece] = deque(pages)
    try:
        _write(descriptor, pending)
    except OSError as error:
        # The blocks of this disk are larger, or it wrote a part of one: what is left goes the usual way.
        if error.errno != errno.EINVAL:
            raise
    fcntl.fcntl(descriptor, fcntl.F_SETFL, 0)  # of the flags that can be set, it was opened with no other
    pending.extend(rest)
    _write(descriptor, pending)


def write_all(descriptor: int, body: Body) -> None:
    """Write all pieces, however many system calls that takes."""
    _write(descriptor, deque(body))


def _write(descriptor: int, pending: deque[Piece]) -> None:
    """Write all pieces, and take off what is written."""
    while pending:
        written = os.writev(descriptor, tuple(islice(pending, _IOV_MAX)))
        while pending and written >= len(pending[0]):
            written -= len(pending.popleft())
        if written:
            pending[0] = memoryview(pending[0])[written:]
