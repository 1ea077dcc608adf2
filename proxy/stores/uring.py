"""io_uring: small files written and read by the kernel, without a thread of ours and without letting go of the interpreter lock.

The problem. A small PUT is six files of a few system calls each. In threads, every one of these calls lets go of the interpreter lock
and takes it again: some 200 futex calls a PUT, which cost more than the files (measured: 0.9 ms of CPU in threads, 0.4 here, 0.37 for the
bare calls one after the other).

The idea. All that happens to one file is a **chain** of linked entries in the kernel's submission queue (open, write, fsync, close,
rename). The chains of one turn of the event loop are submitted by one system call, and an eventfd wakes the loop when some have ended.
An entry that would block is taken over by a thread of the kernel's. There are enough of these for every directory's share of chains, so
a directory that hangs delays only itself.

The ring is a fast way, never the only one: a chain that fails in any way says only that it failed. Its caller does the same again in a
thread, and reports what happens there. Where the kernel has no io_uring (before Linux 5.19), a sandbox forbids it, or the processor is no
x86-64, there is no ring.
"""

from __future__ import annotations

import asyncio
import os
import platform
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from proxy.stores.uring_queues import CHAINS, Queues

SHARE = 16  # chains of one directory at once
_RETRY_SECONDS = 0.01  # when the kernel has no memory for what is submitted
_CLOSE_SECONDS = 2.0  # for chains under way at the end; those of a directory that hangs are left behind
FIXED_FILE, _LINK = 1, 4  # flags of an entry: its fd is a slot of the kernel's table; the next entry waits for it
# opcode, flags, priority, fd, offset, address, length, operation's flags, user data, buffer, personality, file slot, 16 bytes unused
_Entry = struct.Struct("<BBHiQQIIQHHi16x")


Entry = tuple[int, int, int, int, int, int, int, int]  # opcode, flags, fd, offset, address, length, operation's flags, file slot


class Share:
    """What one directory has of a ring: at most `SHARE` chains at once, so that one which hangs leaves the ring to the others."""

    def __init__(self) -> None:
        self.under_way = 0

    @property
    def is_used_up(self) -> bool:
        return self.under_way >= SHARE


@dataclass(slots=True)
class _Chain:
    """One file's entries under way. `keep` is what the kernel reads and writes: it lives as long as the kernel may use it."""

    done: asyncio.Future[bool]
    share: Share
    slot: int
    left: int
    keep: object
    failed: bool = False


class Ring:
    """Chains of file operations for one event loop. Made by `open_ring`."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(queues.eventfd, self._collect)
        self._chains: dict[int, _Chain] = {}
        self._slots = list(range(CHAINS))
        self._count = 0
        self._flush_pending = False
        self._closed = False

    def run(self, share: Share, entries: Sequence[Entry], *, keep: object) -> asyncio.Future[bool]:
        """Queue a chain, and tell in the end whether all of it was done. A short read or write breaks it, like any failure: what follows is
        cancelled. Where the share is used up nothing is done at all."""
        done: asyncio.Future[bool] = self._loop.create_future()
        if self._closed or not self._slots or share.is_used_up or not self._has_room(len(entries)):
            done.set_result(False)
            return done
        slot = self._slots.pop()
        share.under_way += 1
        self._count += 1
        self._chains[self._count] = _Chain(done, share, slot, len(entries), keep)
        self._push(entries, slot)
        return done

    async def close(self) -> None:
        """Let chains under way end, if they do in time. May be called twice."""
        if self._closed:
            return
        self._closed = True
        if self._chains:
            ends = [chain.done for chain in self._chains.values()]
            await asyncio.wait(ends, timeout=_CLOSE_SECONDS)
        self._loop.remove_reader(self._queues.eventfd)
        self._queues.close()
        if self._chains:
            _abandoned.append(self)
        for chain in self._chains.values():
            if not chain.done.done():
                chain.done.set_result(False)

    def _has_room(self, count: int) -> bool:
        if self._queues.free < count:
            self._submit()
        return self._queues.free >= count

    def _push(self, entries: Sequence[Entry], slot: int) -> None:
        last = len(entries) - 1
        for number, (opcode, flags, fd, offset, address, length, options, slotted) in enumerate(entries):
            self._queues.push(
                _Entry, opcode, flags if number == last else flags | _LINK, 0, slot if flags & FIXED_FILE else fd,
                offset, address, length, options, self._count, 0, 0, slot + 1 if slotted else 0,
            )  # fmt: skip
        if not self._flush_pending:
            self._flush_pending = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_pending = False
        if not self._queues.closed:
            self._submit()

    def _submit(self) -> None:
        try:
            self._queues.submit()
        except OSError:  # EAGAIN: what is left is pushed already, and nobody else would submit it
            if not self._flush_pending:
                self._flush_pending = True
                self._loop.call_later(_RETRY_SECONDS, self._flush)

    def _collect(self) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self._queues.eventfd)
        for number, result in self._queues.completed():
            chain = self._chains[number]
            chain.left -= 1
            chain.failed |= result < 0
            if not chain.left:
                self._end(number, chain)

    def _end(self, number: int, chain: _Chain) -> None:
        del self._chains[number]
        chain.share.under_way -= 1
        # Of a broken chain the slot may hold an open file: opening the next one in it closes that, as does the end of the ring.
        self._slots.append(chain.slot)
        if not chain.done.done():
            chain.done.set_result(not chain.failed)


# Rings whose chains hang: the kernel may still write into their buffers, so these are kept until the process ends.
_abandoned: list[Ring] = []


def open_ring(*, directories: int) -> Ring | None:
    """Return a ring of the running event loop for this many directories, or None where there is none to be had."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return None  # other processors may load a completion before the tail that announces it, and Python has no fence
    try:
        return Ring(Queues(workers=SHARE * directories))
    except (OSError, ValueError):  # ENOSYS, EPERM in a sandbox, EINVAL of an old kernel; ENOMEM of a locked-memory limit
        return None
