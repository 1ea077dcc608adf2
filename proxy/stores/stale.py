"""Stale files: the temporaries that crashes have left in a directory store, removed once nobody can still be writing them."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from contextlib import suppress

from proxy.stores.root import MARKER, TEMPORARY, Directory

STALE_SECONDS = 3600  # far beyond any deadline of a put: no other process is still writing it


def remove_stale(root: Directory, give_up: Callable[[], bool]) -> None:
    """Walk through all of a store, which may take long. Of several workers that start together one does."""
    with suppress(OSError), open(os.open(MARKER, os.O_RDONLY | os.O_CLOEXEC, dir_fd=root.descriptor), "rb") as marker:
        fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _walk(root, time.time() - STALE_SECONDS, give_up)


def _walk(root: Directory, oldest: float, give_up: Callable[[], bool]) -> None:
    for _, _, files, folder in os.fwalk(".", dir_fd=root.descriptor):  # it follows no symbolic link
        for file in files:
            if give_up():
                return
            if file.startswith(TEMPORARY):
                with suppress(OSError):
                    if os.stat(file, dir_fd=folder, follow_symlinks=False).st_mtime < oldest:
                        os.unlink(file, dir_fd=folder)
