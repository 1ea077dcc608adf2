"""A disk whose power may be cut: what it has of a manifest is what was synced, and any part of what was written since."""

from __future__ import annotations

import os
import random
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.manifest.sqlite.database import find_descriptor
from tests.patience import PATIENCE_SECONDS


class Disk:
    """What is on the disk under a database's log: what it held when it was last synced. It may hang, and fail."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._path = path
        self._sync = os.fdatasync
        self._rests = threading.Event()
        self.log = b""
        self.syncs = 0
        self.hanging: set[int] = set()  # descriptors
        self.hung = threading.Event()
        self.fails = False
        self.meanwhile: Callable[[], object] = lambda: None  # what happens between the disk's work and its answer
        monkeypatch.setattr(os, "fdatasync", self._fdatasync)

    def let_go(self) -> None:
        self.hanging.clear()
        self._rests.set()

    def after_power_cut(self, folder: Path, chance: random.Random) -> sqlite3.Connection:
        """Open a copy of what is there then. Of what was written after the last sync, any part may be there."""
        folder.mkdir()
        log = bytearray(self._path.with_name(f"{self._path.name}-wal").read_bytes())
        for start in range(0, len(log), 512):
            if log[start : start + 512] != self.log[start : start + 512] and chance.random() < 0.5:
                log[start : start + 512] = self.log[start : start + 512].ljust(512, b"\0")[: len(log) - start]
        (folder / "m.sqlite-wal").write_bytes(log)
        database = find_descriptor(self._path)  # to open the file, and close it again, would drop the locks
        assert database is not None
        (folder / "m.sqlite").write_bytes(os.pread(database, os.fstat(database).st_size, 0))
        return sqlite3.connect(folder / "m.sqlite")

    def _fdatasync(self, descriptor: int) -> None:
        if descriptor in self.hanging:
            self.hung.set()
            self._rests.wait(PATIENCE_SECONDS)
        if self.fails:
            raise OSError(5, "Input/output error")
        self.syncs += 1
        self.log = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        self._sync(descriptor)
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
