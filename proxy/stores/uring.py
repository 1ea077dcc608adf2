"""io_uring: small files written and read by the kernel, without a thread of ours and without letting go of the interpreter lock.

The problem. A small PUT is six files of a few system calls each. In threads, every one of these calls lets go of the interpreter lock
and takes it again: some 200 futex calls a PUT, which cost more than the files (measured: 0.9 ms of CPU in threads, 0.4 here, 0.37 for the
bare calls one after the other).

The idea. All that happens to one file is a **chain** of linked entries in the kernel's submission queue (open, write, fsync, close,
rename). The chains of one turn of the event loop are submitted by one system call, and an eventfd wakes the loop when some have ended.
An entry that would block is taken over by a thread of the kernel's. There are enough of these for every directory's share of chains, so
a directory that hangs holds up itself alone.

The ring is a fast way, never the only one: a chain that fails in any way says only that it failed. Its caller does the same again in a
thread, and reports what it meets there. Where the kernel has no io_uring (before Linux 5.19), a sandbox forbids it, or the processor is no
x86-64, there is no ring.

Layouts and numbers: io_uring(7), io_uring_setup(2), io_uring_enter(2), io_uring_register(2).
"""

from __future__ import annotations

import asyncio
import ctypes
import mmap
import os
import platform
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

MAX_SIZE = 128 * 1024  # what is larger is copied by a thread: the loop would stand still meanwhile
SHARE = 16  # chains of one directory at once
_RETRY_SECONDS = 0.01  # when the kernel has no memory for what is submitted
_CLOSE_SECONDS = 2.0  # for chains under way at the end; those of a directory that hangs are left behind
_ENTRIES = 1024  # of the submission queue
_COMPLETIONS = 4096  # of the completion queue: all chains at once, the longest of 8 entries
_CHAINS = 512  # at once, each with a slot in the kernel's table of files

_SETUP, _ENTER, _REGISTER = 425, 426, 427  # the same system calls on every architecture
_SETUP_CQSIZE = 1 << 3
_REGISTER_EVENTFD, _REGISTER_FILES2, _REGISTER_WORKERS = 4, 13, 19
_FILES_SPARSE = 1
_SQES_OFFSET = 0x10000000
_FSYNC, _OPENAT, _CLOSE, _READ, _WRITE, _RENAMEAT = 3, 18, 19, 22, 23, 35
_FIXED_FILE, _LINK = 1, 4
_AT_FDCWD = -100
# opcode, flags, priority, fd, offset, address, length, operation's flags, user data, buffer, personality, file slot, 16 bytes unused
_Entry = struct.Struct("<BBHiQQIIQHHi16x")
_Completion = struct.Struct("<Qi4x")  # user data, result, flags


class _SubmissionOffsets(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_uint32) for name in ("head", "tail", "mask", "entries", "flags", "dropped", "array", "reserved")),
        ("user_address", ctypes.c_uint64),
    ]


class _CompletionOffsets(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_uint32) for name in ("head", "tail", "mask", "entries", "overflow", "completions", "flags", "reserved")),
        ("user_address", ctypes.c_uint64),
    ]


class _Parameters(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_uint32) for name in ("submissions", "completions", "flags", "cpu", "idle", "features", "workers_fd")),
        ("reserved", ctypes.c_uint32 * 3),
        ("sq", _SubmissionOffsets),
        ("cq", _CompletionOffsets),
    ]


@dataclass(slots=True)
class _Chain:
    """One file's entries under way. `buffers` are what the kernel reads and writes: they live as long as it may."""

    done: asyncio.Future[bool]
    files: RingFiles
    slot: int
    left: int
    buffers: object
    failed: bool = False


Entry = tuple[int, int, int, int, int, int, int, int]  # opcode, flags, fd, offset, address, length, operation's flags, file slot


class RingFiles:
    """The files of one directory, by the ring: at most `SHARE` chains at once, so that one which hangs leaves the ring to the others.

    Both verbs do nothing at all where the share is used up.
    """

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self.under_way = 0

    @property
    def share_is_used_up(self) -> bool:
        return self.under_way >= SHARE

    def write(
        self, temporary: str, path: str, body: Sequence[bytes | bytearray | memoryview], *, fsync_folder: str | None
    ) -> asyncio.Future[bool]:
        """Write a new file and rename it into place, durably if its folder is given; return whether all of that was done.

        If it was not, `temporary` may be left. Cancelled, it goes on to its end, and nobody hears how it ended.
        """
        names = [os.fsencode(name) for name in (temporary, path, fsync_folder or "")]
        buffer = b"\0".join((*names, b"".join(body)))  # one address to be found instead of four
        new_at = _address(buffer)
        final_at = new_at + len(names[0]) + 1
        folder_at = final_at + len(names[1]) + 1
        data_at = folder_at + len(names[2]) + 1
        opened = (_OPENAT, 0, _AT_FDCWD, 0, new_at, 0o600, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 1)
        written = (_WRITE, _FIXED_FILE, 0, 0, data_at, len(buffer) - (data_at - new_at), 0, 0)
        renamed = (_RENAMEAT, 0, _AT_FDCWD, final_at, new_at, _AT_FDCWD & 0xFFFFFFFF, 0, 0)
        if fsync_folder is None:
            return self._ring.run(self, (opened, written, _CLOSED, renamed), buffer)
        folder_opened = (_OPENAT, 0, _AT_FDCWD, 0, folder_at, 0, os.O_RDONLY | os.O_DIRECTORY, 1)
        return self._ring.run(self, (opened, written, _SYNCED, _CLOSED, renamed, folder_opened, _SYNCED, _CLOSED), buffer)

    async def read(self, path: str, start: int, length: int) -> bytearray | None:
        """Return exactly `length` bytes from `start`, or None if that could not be done."""
        name, data = os.fsencode(path), bytearray(length)
        buffer = (ctypes.c_char * length).from_buffer(data)
        opened = (_OPENAT, 0, _AT_FDCWD, 0, _address(name), 0, os.O_RDONLY, 1)
        filled = (_READ, _FIXED_FILE, 0, start, ctypes.addressof(buffer), length, 0, 0)
        return data if await self._ring.run(self, (opened, filled, _CLOSED), (name, buffer)) else None


class Ring:
    """Chains of file operations for one event loop. Made by `open_ring`."""

    def __init__(self, queues: _Queues) -> None:
        self._queues = queues
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(queues.eventfd, self._collect)
        self._chains: dict[int, _Chain] = {}
        self._slots = list(range(_CHAINS))
        self._count = 0
        self._flush_pending = False
        self._closed = False

    def run(self, files: RingFiles, entries: Sequence[Entry], buffers: object) -> asyncio.Future[bool]:
        """Queue a chain. A short read or write breaks it, like any failure: what follows is cancelled."""
        done: asyncio.Future[bool] = self._loop.create_future()
        if self._closed or not self._slots or files.share_is_used_up or not self._has_room(len(entries)):
            done.set_result(False)
            return done
        slot = self._slots.pop()
        files.under_way += 1
        self._count += 1
        self._chains[self._count] = _Chain(done, files, slot, len(entries), buffers)
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
                _Entry, opcode, flags if number == last else flags | _LINK, 0, slot if flags & _FIXED_FILE else fd,
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
        chain.files.under_way -= 1
        # Of a broken chain the slot may hold an open file: opening the next one in it closes that, as does the end of the ring.
        self._slots.append(chain.slot)
        if not chain.done.done():
            chain.done.set_result(not chain.failed)


_CLOSED: Entry = (_CLOSE, 0, 0, 0, 0, 0, 0, 1)
_SYNCED: Entry = (_FSYNC, _FIXED_FILE, 0, 0, 0, 0, 0, 0)
# Rings whose chains hang: the kernel may still write into their buffers, so these are kept until the process ends.
_abandoned: list[Ring] = []


class _Queues:
    """The two queues that are shared with the kernel, and the system calls that tell it of them."""

    def __init__(self, *, workers: int) -> None:
        """Set both up. `OSError` where the kernel lacks something or forbids it; then nothing is left open."""
        self._system_call = ctypes.CDLL(None, use_errno=True).syscall
        parameters = _Parameters(flags=_SETUP_CQSIZE, completions=_COMPLETIONS)
        self.closed = False
        self.eventfd = -1
        self._ring = self._call(_SETUP, _ENTRIES, ctypes.byref(parameters))
        try:
            self._map(parameters)
            self.eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self._register(workers)
        except BaseException:
            self.close()
            raise

    def _map(self, parameters: _Parameters) -> None:
        sq, cq = parameters.sq, parameters.cq
        size = max(sq.array + 4 * parameters.submissions, cq.completions + _Completion.size * parameters.completions)
        protection = mmap.PROT_READ | mmap.PROT_WRITE
        self._shared = mmap.mmap(self._ring, size, mmap.MAP_SHARED, protection)
        self._entries = mmap.mmap(self._ring, parameters.submissions * 64, mmap.MAP_SHARED, protection, offset=_SQES_OFFSET)
        self._words: memoryview[int] = memoryview(self._shared).cast("I")
        self._sq_tail, self._cq_head, self._cq_tail = sq.tail // 4, cq.head // 4, cq.tail // 4
        self._sq_mask, self._cq_mask = self._words[sq.mask // 4], self._words[cq.mask // 4]
        self._completions = cq.completions
        for number in range(parameters.submissions):  # entry n is always at place n
            self._words[sq.array // 4 + number] = number
        self._tail: int = self._words[self._sq_tail]
        self._submitted: int = self._tail

    def _register(self, workers: int) -> None:
        # struct io_uring_rsrc_register: count, flags, reserved, data, tags. Sparse tables came with Linux 5.19, after all else we use.
        files = struct.pack("<IIQQQ", _CHAINS, _FILES_SPARSE, 0, 0, 0)
        self._call(_REGISTER, self._ring, _REGISTER_FILES2, files, len(files))
        self._call(_REGISTER, self._ring, _REGISTER_EVENTFD, struct.pack("<i", self.eventfd), 1)
        self._call(_REGISTER, self._ring, _REGISTER_WORKERS, ctypes.create_string_buffer(struct.pack("<II", workers, workers), 8), 2)

    def _call(self, number: int, *arguments: object) -> int:
        result: int = self._system_call(number, *arguments)
        if result < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return result

    @property
    def free(self) -> int:
        """Entries that can be pushed before the next submission, which empties the queue."""
        return _ENTRIES - (self._tail - self._submitted)

    def push(self, entry: struct.Struct, *fields: int) -> None:
        entry.pack_into(self._entries, (self._tail & self._sq_mask) * 64, *fields)
        self._tail += 1

    def submit(self) -> None:
        """Hand all that was pushed to the kernel; the system call orders our writes before its reads."""
        self._words[self._sq_tail] = self._tail & 0xFFFFFFFF
        while self._submitted < self._tail:
            with suppress(InterruptedError):
                self._submitted += self._call(_ENTER, self._ring, self._tail - self._submitted, 0, 0, None, 0)

    def completed(self) -> list[tuple[int, int]]:
        """Take what has ended: (user data, result) of each."""
        head, tail = self._words[self._cq_head], self._words[self._cq_tail]
        ended = []
        while head != tail:
            ended.append(_Completion.unpack_from(self._shared, self._completions + (head & self._cq_mask) * _Completion.size))
            head = (head + 1) & 0xFFFFFFFF
        self._words[self._cq_head] = head
        return ended

    def close(self) -> None:
        self.closed = True
        for descriptor in (self._ring, self.eventfd):
            if descriptor >= 0:
                os.close(descriptor)


def open_ring(*, directories: int) -> Ring | None:
    """Return a ring of the running event loop for this many directories, or None where there is none to be had."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return None  # other processors may load a completion before the tail that announces it, and Python has no fence
    try:
        return Ring(_Queues(workers=SHARE * directories))
    except (OSError, ValueError):  # ENOSYS, EPERM in a sandbox, EINVAL of an old kernel; ENOMEM of a locked-memory limit
        return None


def _address(data: bytes) -> int:
    """Return where the bytes lie; whoever uses it keeps them."""
    return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0
