"""What a server's processes use: CPU seconds and resident memory of the whole tree, children included."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import psutil

SAMPLE_SECONDS = 0.1  # a sample walks the page tables: 2 ms


class ProcessTree:
    """A process and its descendants."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)

    def cpu_seconds(self) -> float:
        """Return user and system time of the tree; a child that has ended counts through its parent."""
        total = 0.0
        for process in self._members():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total

    def resident_bytes(self) -> int:
        """Return what the members have in memory together: a page two of them share counts once (Linux's proportional set size)."""
        total = 0
        for process in self._members():
            with contextlib.suppress(psutil.Error):
                total += process.memory_full_info().pss
        return total

    def _members(self) -> list[psutil.Process]:
        try:
            return [self._root, *self._root.children(recursive=True)]
        except psutil.Error:
            return []


class PeakMemory:
    """Samples a tree's resident memory in a thread and keeps the highest value."""

    def __init__(self, tree: ProcessTree) -> None:
        self._tree = tree
        self._stop = threading.Event()
        self.peak_bytes = tree.resident_bytes()

    @contextlib.contextmanager
    def watch(self) -> Iterator[PeakMemory]:
        thread = threading.Thread(target=self._sample, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self.peak_bytes = max(self.peak_bytes, self._tree.resident_bytes())
