"""A file that events are appended to, one line each."""

from __future__ import annotations

import os
from pathlib import Path

from proxy.errors import TargetFailed
from proxy.lanes import Lanes


class LogFile:
    """Opens the file anew for each event: whoever rotates it need tell nobody."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lanes = Lanes(1, name="events-file")  # one at a time: lines are never mixed

    async def tell(self, message: bytes, *, message_id: str) -> None:  # noqa: ARG002 - a reader has the sequencer
        try:
            await self._lanes.run(lambda _: _append(self._path, message + b"\n"))
        except OSError as error:
            raise TargetFailed(f"{self._path}: {error.strerror}") from error

    async def close(self) -> None:
        self._lanes.close()


def _append(path: Path, line: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
    try:
        # A line that a full disk cut short would spoil the next one. Nothing else writes behind the end.
        size = os.fstat(descriptor).st_size
        if os.write(descriptor, line) < len(line):
            os.ftruncate(descriptor, size)
            raise OSError(28, "No space left on device")  # ENOSPC
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
