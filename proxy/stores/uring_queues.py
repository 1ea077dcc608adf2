"""The two queues of io_uring that are shared with the kernel, and the system calls that tell it of them.

Layouts and numbers: io_uring(7), io_uring_setup(2), io_uring_enter(2), io_uring_register(2).
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from contextlib import suppress

CHAINS = 512  # at once, each with a slot in the kernel's table of files
_ENTRIES = 1024  # of the submission queue
_COMPLETIONS = 4096  # of the completion queue: all chains at once, the longest of 8 entries

_SETUP, _ENTER, _REGISTER = 425, 426, 427  # the same system calls on every architecture
_SETUP_CQSIZE = 1 << 3
_REGISTER_EVENTFD, _REGISTER_FILES2, _REGISTER_WORKERS = 4, 13, 19
_FILES_SPARSE = 1
_SQES_OFFSET = 0x10000000
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


class Queues:
    """One ring's queues."""

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
        files = struct.pack("<IIQQQ", CHAINS, _FILES_SPARSE, 0, 0, 0)
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
