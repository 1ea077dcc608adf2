"""The machine, made alike for each server, and as it is once it has run for a while.

*Memory.* None is free, all of it is file cache. A virtual machine's kernel gives free memory back to its host, and the first touch of a
page then costs ten times what a server does with it (seen: 0.4 GB/s into new pages of the file cache, 5 GB/s into old ones). So the cache
is filled once, before anything is measured.

*Disk.* ext4 steps around the inodes of files deleted in the last minutes, so that a server which deletes makes the next one's puts slow
(seen: 370 us to create a file, instead of 17). So each server's folder gets block groups of its own.
"""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from proxy.stores.apart import set_folders_apart

BLOCK_BYTES = 8 * 1024 * 1024


def fill_file_cache(folder: Path) -> None:
    """Read a file of holes as large as the free memory. It is deleted with the folder, not before: that would free the memory again."""
    path = folder / "holes"
    path.touch()
    os.truncate(path, psutil.virtual_memory().free)
    block = bytearray(BLOCK_BYTES)
    with path.open("rb", buffering=0) as file:
        while file.readinto(block):
            pass


def spread_folders(folder: Path) -> None:
    """Have the folders made in this one spread over the disk, as ext4 does with those at its root; other file systems do as they do."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        set_folders_apart(descriptor)
    finally:
        os.close(descriptor)
