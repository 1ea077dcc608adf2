"""Flushing: what the manifest has noted becomes the next journal segment. All that wait for it share one flush.

The order, and what a crash leaves:

1. The changed rows are read at one instant, with number and digest of the segment they follow. *Crash: nothing.*
2. They are sealed and put under the next number, and an id drawn for this attempt. *Crash: shards of an attempt that the manifest does not
   know. The next attempt has the same number and holds the same changes, or more; the next checkpoint removes the former.*
3. The manifest records the segment, and forgets the notes that it covers, in one step. It refuses, if the journal has gone on meanwhile.
   *Crash: it happened or it did not.*
4. Those who wait are answered. So whatever was acknowledged is in a segment that the manifest has recorded, and the one that comes next
   follows that one: no later attempt can be without it.

Among processes, one flushes at a time, and its flush serves them all: the others wait for the turn, and find their changes stored. The turn
only saves work. That two segments never follow the same one is up to step 3.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from proxy.clock import Clock
from proxy.engine.journal.store import put_segment
from proxy.engine.journal.writing import CopyWriter
from proxy.engine.tasks import BackgroundTasks
from proxy.errors import JournalUnavailable, ManifestConflict, ManifestFenced, ProxyError
from proxy.manifest.journal import Changes, JournalSegment
from proxy.manifest.protocol import Manifest

logger = logging.getLogger(__name__)

SEGMENT_BYTES = 1024 * 1024  # of rows; many more take as long to put as a round trip, and memory that nobody has granted
TURN_SECONDS = 0.01  # until another process's flush is looked at again
RETRY_SECONDS = 0.25  # after a failure, while somebody waits


@dataclass(slots=True)
class Flushed:
    """What has been flushed by this process since it was asked last."""

    rows: int = 0
    requests: int = 0
    size_bytes: int = 0


class Flusher:
    """Writes the journal on behalf of this process."""

    def __init__(self, manifest: Manifest, writer: CopyWriter, clock: Clock, tasks: BackgroundTasks, *, wait_seconds: float) -> None:
        self._manifest = manifest
        self._writer = writer
        self._clock = clock
        self._tasks = tasks
        self._wait_seconds = wait_seconds
        self._flush: asyncio.Task[None] | None = None
        self._marking = False
        self._sequence = 0  # up to which everything is known to be stored
        self._done = Flushed()
        self.trouble = ""  # why the last flush failed; "" if it did not
        self._failing_since: float | None = None
        self._caught_up_at = clock.monotonic()

    @property
    def behind_seconds(self) -> float:
        """How long ago everything was stored."""
        return self._clock.monotonic() - self._caught_up_at

    @property
    def sequence(self) -> int:
        """Up to which change everything is known to be stored."""
        return self._sequence

    @property
    def failing_seconds(self) -> float:
        """For how long every flush has failed."""
        return 0.0 if self._failing_since is None else self._clock.monotonic() - self._failing_since

    async def stored(self) -> None:
        """Return when everything that the manifest has noted by now is stored. Raises `JournalUnavailable`, after a bounded time."""
        noted = (await self._manifest.journal_position()).noted
        try:
            async with asyncio.timeout(self._wait_seconds):
                while self._sequence < noted:
                    await self.flush()
        except TimeoutError:
            raise JournalUnavailable(
                f"this has been done, but it is not in the journal yet, which could not be stored within {self._wait_seconds:g} s: "
                f"{self.trouble or 'its stores are slow, or much else is to be stored first'}; ask again"
            ) from None

    async def flush(self) -> None:
        """Store what is noted; whoever comes while that is under way waits for the end of it. What fails is told in `trouble`."""
        if self._flush is None or self._flush.done():
            self._flush = self._tasks.start(self._flush_in_turn())
        await asyncio.shield(self._flush)

    async def mark(self) -> None:
        """Store a segment even if nothing has changed: a checkpoint is to follow one that no other follows."""
        self._marking = True
        await self.flush()

    def take_done(self) -> Flushed:
        """Return what has been done since this was called last."""
        done, self._done = self._done, Flushed()
        return done

    async def _flush_in_turn(self) -> None:
        try:
            with self._manifest.journal_turn() as mine:
                if mine:
                    await self._flush_all()
                else:
                    await asyncio.sleep(TURN_SECONDS)
            position = await self._manifest.journal_position()
            self._sequence = position.sequence
        except ManifestConflict as error:  # another process was faster, and has perhaps stored what we wait for
            logger.debug("%s", error)
        except ProxyError as error:
            self._failed(error)
            await asyncio.sleep(RETRY_SECONDS)
        else:
            if mine or not position.rows:
                self._succeeded()

    async def _flush_all(self) -> None:
        whole = False
        while not whole:
            changes = await self._manifest.read_changes(limit_bytes=SEGMENT_BYTES)
            if not (changes.due or self._marking):
                return
            self._marking = False
            await self._store(changes)
            whole = changes.whole

    async def _store(self, changes: Changes) -> None:
        segment = JournalSegment(
            number=changes.number,
            identity=changes.identity,
            epoch=changes.epoch,
            previous=changes.previous,
            sequence=changes.sequence,
            whole=changes.whole,
            made_ms=self._clock.now_ms(),
            rows=changes.rows,
        )
        stored = await put_segment(self._writer, segment)
        await self._manifest.record_segment(stored, previous=changes.previous)
        self._done.rows += len(changes.rows)
        self._done.requests += self._writer.policy.scheme.n
        self._done.size_bytes += stored.size_bytes

    def _failed(self, error: ProxyError) -> None:
        if self._failing_since is None:
            self._failing_since = self._clock.monotonic()
            if not isinstance(error, ManifestFenced):  # which was said when it was found
                logger.warning("the journal cannot be stored, and is tried again: %s", error)
        self.trouble = str(error)

    def _succeeded(self) -> None:
        if self._failing_since is not None:
            logger.warning("the journal is stored again, after %.0f s", self.failing_seconds)
        self._failing_since, self.trouble = None, ""
        self._caught_up_at = self._clock.monotonic()
