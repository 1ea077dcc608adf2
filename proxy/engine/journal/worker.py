"""The worker that keeps the journal up to date, however few wait for it."""

from __future__ import annotations

from proxy.clock import Clock
from proxy.engine.journal.flush import Flusher
from proxy.engine.workers import Progress
from proxy.manifest.protocol import Manifest

ROWS_DUE = 2048  # notes, about a MiB, that do not wait until the interval is over
LOOK_SECONDS = 1.0  # until it is looked again whether so much is noted
LONGEST_PAUSE = 16  # looks, while the stores fail


class JournalWorker:
    """Flushes at each interval, and sooner when much has been noted.

    It runs in each process, and is not leased: a flush takes its own turn, and to look whether there is anything to do costs no write.
    """

    name = "journal"
    everywhere = True

    def __init__(self, flusher: Flusher, clock: Clock, *, interval_seconds: float) -> None:
        self._flusher = flusher
        self._clock = clock
        self._interval_seconds = interval_seconds
        self._due = 0.0
        self._pause = 1
        self.idle_seconds = min(LOOK_SECONDS, interval_seconds)

    async def step(self) -> Progress:
        position = await self._flusher.look()
        if self._clock.monotonic() >= self._due or (position.rows >= ROWS_DUE and not self._flusher.trouble):
            await self._flusher.flush()
            self._pause = min(2 * self._pause, LONGEST_PAUSE) if self._flusher.trouble else 1
            self._due = self._clock.monotonic() + self._interval_seconds * self._pause
        done = self._flusher.take_done()
        backlog = (await self._flusher.look()).backlog
        return Progress(
            idle=backlog < ROWS_DUE or bool(self._flusher.trouble),
            done=done.rows,
            remaining=backlog,
            requests=done.requests,
            size_bytes=done.size_bytes,
            trouble=self._flusher.trouble,
        )


class NoJournal:
    """Forgets what is noted where no journal is kept: otherwise the notes would pile up."""

    name = "journal"
    everywhere = True
    idle_seconds = 60.0

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest

    async def step(self) -> Progress:
        if (await self._manifest.journal_position()).rows:
            await self._manifest.forget_changes()
        return Progress(idle=True)
