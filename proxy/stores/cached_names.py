"""Opening files whose names the kernel has at hand, without ever waiting for the disk.

The problem. To open a file takes three microseconds if its name was used lately, and to have a thread do it fifty. But where the folder has
to be read first, a disk that hangs would hold up the event loop, and everybody with it.

The idea. Since 5.12 Linux opens a file only if its cache of names leads there, if asked so (openat2 with RESOLVE_CACHED); whatever was
written or read lately is in that cache. Python has no such call, nor has the C library: it is made by its number, which is the same on all
the machines that are asked for here, and tried once before it is relied on. The same call refuses symbolic links, and whatever would lead
out of the folder.

What has such a name may still be no file: to open a pipe is to wait for whoever writes into it. And a file that another program holds a
lease of, as file servers do, opens only once that has been given up. With O_NONBLOCK neither is waited for.

It is for local file systems. One that asks a server may wait for that after the name was found: see `kept_files` for who is asked.

https://man7.org/linux/man-pages/man2/openat2.2.html
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Callable
from functools import cache

OpenCached = Callable[[int, str], int | None]  # folder, path below it: a descriptor, which is the caller's
_OPENAT2 = 437  # https://github.com/torvalds/linux/blob/master/include/uapi/asm-generic/unistd.h; so in x86's table of 64 bits
_MACHINES = frozenset({"x86_64", "aarch64", "riscv64"})
_NO_SYMLINKS, _BENEATH, _CACHED = 0x04, 0x08, 0x20  # include/uapi/linux/openat2.h


class _How(ctypes.Structure):
    """How to open: `struct open_how` of include/uapi/linux/openat2.h."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


@cache
def find_open_cached() -> OpenCached | None:
    """Return what opens a file for reading if its name is at hand, and else returns None; None if this kernel cannot."""
    if sys.platform != "linux" or platform.machine() not in _MACHINES:
        return None
    # Not CDLL: it lets go of the interpreter, and gets it back only after whoever waits for it. This call never waits.
    call = ctypes.PyDLL(None).syscall
    call.restype = ctypes.c_long
    call.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)
    how = _How(os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0, _NO_SYMLINKS | _BENEATH | _CACHED)

    def open_cached(folder: int, path: str) -> int | None:
        descriptor: int = call(_OPENAT2, folder, path.encode(), ctypes.byref(how), ctypes.sizeof(how))
        return None if descriptor < 0 else descriptor

    return open_cached if _works(open_cached) else None


def _works(open_cached: OpenCached) -> bool:
    """Open the root of all files, whose name is always at hand. A kernel may be too old, and a sandbox may refuse the call."""
    root = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        descriptor = open_cached(root, ".")
        if descriptor is not None:
            os.close(descriptor)
        return descriptor is not None
    finally:
        os.close(root)
