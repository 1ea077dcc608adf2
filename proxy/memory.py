"""Memory: the C allocator, the garbage collector and the pages, tuned for a server that codes megabytes a second.

Stripes and cells are allocated anew, one after the other, and so are PyECLib's fragments. glibc gives such memory back to the kernel at
once by default, and each call faults it in again: PyECLib encoded a 256 KiB stripe at 0.9 GB/s. Told to keep some, it did 15 to 19 GB/s.
And one arena, not one a thread: cells are made in one thread and freed in another, and every arena keeps what it once held. With one, 64
uploads at once took 40 MiB less, and a PUT a tenth less CPU.

The garbage collector looks through all objects there are, modules and models included, again and again: a fourteenth of a small PUT.
Nearly all that a request makes is freed by its reference counts.

A small request touches some thousand objects of the interpreter's, far apart. The processor remembers where a few pages lie, and looks any
other one up in several steps, in a virtual machine in many. Of pages of 2 MiB it remembers all that are used.
"""

from __future__ import annotations

import ctypes
import gc
import platform
from collections.abc import Iterator
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
PAGE_SIZE = 4096  # no disk asks for more
LARGE_PAGE_SIZE = 2 * 1024 * 1024
MADV_COLLAPSE = 25  # since Linux 6.1: https://man7.org/linux/man-pages/man2/madvise.2.html
_IN_USE = 3 / 4  # of a large page, before it is made of small ones: a thread's stack has one or two
_new_bytearray = ctypes.pythonapi.PyByteArray_FromStringAndSize
_new_bytearray.argtypes = (ctypes.c_char_p, ctypes.c_ssize_t)
_new_bytearray.restype = ctypes.py_object


@cache  # to know which C library this is, the interpreter's file is read
def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None


def tune_allocator() -> None:
    """Set glibc's thresholds; elsewhere do nothing. To be called before threads are started."""
    if (libc := _glibc()) is None:
        return
    libc.mallopt(M_TRIM_THRESHOLD, 64 * 1024 * 1024)
    libc.mallopt(M_MMAP_THRESHOLD, 32 * 1024 * 1024)  # the highest glibc takes
    libc.mallopt(M_ARENA_MAX, 1)


def tune_collector() -> None:
    """Leave out what is there by now, and look for cycles among the rest seldom. To be called when the server is ready."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def give_back() -> None:
    """Give the kernel what starting took and is free by now: 5 MiB of a process. To be called when the server is ready."""
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


def use_large_pages() -> None:
    """Have the kernel put what is in memory into large pages, where that takes hardly more. To be called when the server is ready.

    Where the kernel cannot, has no such memory, or does not say what is where, all stays as it was.
    """
    if (libc := _glibc()) is None:
        return
    for address in crowded_large_pages():
        libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(LARGE_PAGE_SIZE), MADV_COLLAPSE)


def crowded_large_pages() -> Iterator[int]:
    """Yield the addresses where a large page would be mostly in use. What lies there may be gone by then."""
    libc, pages = ctypes.CDLL(None), LARGE_PAGE_SIZE // PAGE_SIZE
    resident = ctypes.create_string_buffer(pages)
    for start, end in _own_memory():
        for address in range(start + -start % LARGE_PAGE_SIZE, end - LARGE_PAGE_SIZE + 1, LARGE_PAGE_SIZE):
            failed = libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(LARGE_PAGE_SIZE), resident)
            if not failed and resident.raw.count(1) >= pages * _IN_USE:
                yield address


def _own_memory() -> list[tuple[int, int]]:
    """Return where memory lies that is written to and is no file's: the heap, and what has no name."""
    try:
        with open("/proc/self/maps", "rb") as maps:  # a file's name may be of any bytes
            lines = [line.split() for line in maps]
    except OSError:  # in a container, it may be closed to us
        return []
    own = [fields[0].split(b"-") for fields in lines if fields[1] == b"rw-p" and fields[5:] in ([], [b"[heap]"])]
    return [(int(start, 16), int(end, 16)) for start, end in own]


def unset(size_bytes: int) -> memoryview:
    """Return memory with whatever lies in it, to be filled before anybody reads it: clearing a large one takes as long as sealing it."""
    return memoryview(bytearray(size_bytes) if size_bytes <= PAGE_SIZE else _new_bytearray(None, size_bytes))


def unset_pages(size_bytes: int) -> memoryview:
    """As `unset`, from the beginning of a page on, so that a disk can take it as it lies."""
    memory = unset(size_bytes + PAGE_SIZE)
    start = -address_of(memory) % PAGE_SIZE
    return memory[start : start + size_bytes]


def address_of(memory: memoryview) -> int:
    """Return where it lies. It has to be writable."""
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))
