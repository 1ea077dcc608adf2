"""Folders apart: on ext4, each folder of a store has a part of the disk of its own for what is made in it.

The problem. ext4 makes a file near its folder, and a folder near the one above it. So all files of a server lie in one part of the disk (a
block group), and whoever makes one looks there for a free inode from the beginning on. Those that were freed in the last minutes are passed
over, one by one. Where some thousands of files were deleted a moment ago, by whomever, a new file takes 400 us instead of 45, and each
object is six of them.

The idea. ext4 can be told that what is in a folder does not belong together (chattr(1), attribute T). It then spreads the folders below it
over the whole disk, and what is deleted lately over as many parts. A store's folders are of this kind: names are drawn by chance. With
eight clients and two workers, on a disk where others deleted files as well, PUTs of 1 MiB took 6.2 ms of CPU instead of 9.7.
"""

from __future__ import annotations

import fcntl
import struct
from contextlib import suppress

# Linux, include/uapi/linux/fs.h
FS_IOC_GETFLAGS, FS_IOC_SETFLAGS = 0x80086601, 0x40086602
FS_TOPDIR_FL = 0x00020000


def set_folders_apart(descriptor: int) -> None:
    """Have the folders that will be made in this open one spread over its disk. File systems that know no such thing do as they do."""
    with suppress(OSError):
        (flags,) = struct.unpack("i", fcntl.ioctl(descriptor, FS_IOC_GETFLAGS, bytes(4)))
        fcntl.ioctl(descriptor, FS_IOC_SETFLAGS, struct.pack("i", flags | FS_TOPDIR_FL))
