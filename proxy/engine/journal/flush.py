"""Flushing: what the manifest has noted becomes the next journal segment. All that wait for it share one flush.

The order, and what a crash leaves:

1. The changed rows are read at one instant, with number and digest of the segment they follow. *Crash: nothing.*
2. They are sealed and put under the next number, and an id drawn for this attempt. *Crash: shards of an attempt that the manifest does not
   know. The next attempt has the same number and holds the same changes, or more; the next checkpoint removes the former.*
3. Its number is looked for in a store: if another manifest has written it, too, this one is fenced, and nothing is acknowledged (see
   `proxy.engine.journal.lookout`). *Crash: as before.*
4. The manifest records the segment, and forgets the notes that it covers, in one step. It refuses, if the journal has gone on meanwhile.
   *Crash: it happened or it did not.*
5. Those who wait are answered. So whatever was acknowledged is in a segment that the manifest has recorded, and the one that comes next
   follows that one: no later attempt can be without it.

Among processes, one flushes at a time, and its flush serves them all: the others wait for the turn, and find their changes stored. The turn
only saves work. That two segments never follow the same one is up to step 4.

**A backlog.** While the stores are away, notes pile up, and who waits has to wait for all of them. No waiter can be served first: a segment
holds rows as they are now. If a later step has changed a row, too, it would come without the other rows of that step. A manifest that is
recovered from that might have a version without its extent, or count one reference too few, and delete what is alive. So only what brings
the whole backlog into the journal is an acknowledgement. What is right, then:

* What one flush takes is bounded, so that the worker can tell how far it is. While there is more, it goes on at once. Far behind, segments
  are larger: a distant store costs a round trip for each.
* A backlog that cannot be stored while a client waits is no reason to let it wait. It is told to slow down: before anything is done if it
  is certain by then that the step has to wait, and otherwise as soon as the step is made.
* Far beyond that, every client's change is refused: it would take its place on the manifest's disk, and be lost with it.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from proxy.clock import Clock
from proxy.engine.epoch import REMEDY
from proxy.engine.journal.lookout import Lookout
from proxy.engine.journal.store import put_segment
from proxy.engine.journal.writing import CopyWriter
from proxy.engine.tasks import BackgroundTasks
from proxy.errors import JournalBusy, JournalUnavailable, ManifestConflict, ManifestFenced, ProxyError
from proxy.manifest.journal import Changes, JournalPosition, JournalSegment, StoredSegment
from proxy.manifest.protocol import Manifest
from proxy.notice import Notice

logger = logging.getLogger(__name__)

SEGMENT_BYTES = 1024 * 1024  # of rows; many more take as long to put as a round trip, and memory that nobody has granted
BEHIND_BYTES = 4 * 1024 * 1024  # in the segments behind one that could not take all
SEGMENTS = 8  # in one flush
MANY_NOTES = 100_000  # some 10 segments of that size, and 2 s of CPU: with distant stores, what can be stored while a client waits
MOST_NOTES = 5_000_000  # some 300 MB of the manifest's disk, and minutes
TURN_SECONDS = 0.01  # until another process's flush is looked at again
RETRY_SECONDS = 0.25  # after a failure, while somebody waits


@dataclass(slots=True)
class Flushed:
    """What has been flushed by this process since it was asked last."""

    rows: int = 0
    requests: int = 0
    size_bytes: int = 0


class Flusher:
    """Writes the journal on behalf of this process. Without a `lookout`, nobody else can be writing it."""

    def __init__(
        self,
        manifest: Manifest,
        writer: CopyWriter,
        clock: Clock,
        tasks: BackgroundTasks,
        *,
        wait_seconds: float,
        lookout: Lookout | None,
    ) -> None:
        self._manifest = manifest
        self._writer = writer
        self._clock = clock
        self._tasks = tasks
        self._lookout = lookout
        self._wait_seconds = wait_seconds
        self._flush: asyncio.Task[None] | None = None
        self._marking = False
        self._sequence = 0  # up to which everything is known to be stored
        self._backlog = 0  # notes that no segment has, as far as this process knows
        self._done = Flushed()
        self._fenced = ""  # why the last flush found that the manifest must not be written
        self.trouble = ""  # why the last flush failed; "" if it did not
        self._failing_since: float | None = None
        self._notice = Notice()
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

    def admit(self, *, waits: bool) -> None:
        """Raise `JournalBusy` before a step is made, if too much is to be stored first. `waits`: it is known to need `stored`."""
        if self._backlog > (MANY_NOTES if waits else MOST_NOTES):
            raise JournalBusy(f"nothing was done: {self._busy()}")

    async def look(self) -> JournalPosition:
        """Ask the manifest where the journal stands, and remember how much is to be stored."""
        position = await self._manifest.journal_position()
        self._backlog = position.backlog
        return position

    async def stored(self) -> None:
        """Return when everything that the manifest has noted by now is stored.

        Raises `JournalUnavailable` after a bounded time, and at once `JournalBusy` if that would not be enough, or `ManifestFenced`.
        """
        noted = (await self.look()).noted
        if self._backlog > MANY_NOTES:
            raise JournalBusy(f"this has been done, but it is not in the journal yet: {self._busy()}")
        try:
            async with asyncio.timeout(self._wait_seconds):
                while self._sequence < noted:
                    await self.flush()
                    if self._fenced and self._sequence < noted:
                        raise ManifestFenced(self._fenced)
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
        self._fenced = ""
        try:
            with self._manifest.journal_turn() as mine:
                if mine:
                    await self._flush_all()
                else:
                    await asyncio.sleep(TURN_SECONDS)
            position = await self.look()
            others, self._sequence = position.sequence > self._sequence, position.sequence
        except ManifestConflict as error:  # another process was faster, and has perhaps stored what we wait for
            logger.debug("%s", error)
        except ManifestFenced as error:
            self._fenced = str(error)
            self._failed(error)
        except ProxyError as error:
            self._failed(error)
            await asyncio.sleep(RETRY_SECONDS)
        else:
            if mine or others or not position.rows:
                self._succeeded()

    async def _flush_all(self) -> None:
        """Store what there is, but no more than some segments: who waits for more comes again."""
        limit_bytes = SEGMENT_BYTES
        for _ in range(SEGMENTS):
            changes = await self._manifest.read_changes(limit_bytes=limit_bytes)
            if not (changes.due or self._marking):
                return
            await self._store(changes)
            if changes.whole:
                self._marking = False
                return
            limit_bytes = BEHIND_BYTES

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
        await self._stop_if_another_writes(segment.identity, stored)
        await self._manifest.record_segment(stored, previous=changes.previous)
        self._done.rows += len(changes.rows)
        self._done.requests += self._writer.policy.scheme.n + (self._lookout is not None)
        self._done.size_bytes += stored.size_bytes

    async def _stop_if_another_writes(self, identity: str, stored: StoredSegment) -> None:
        """Raise `ManifestFenced`: what was put is not recorded then, so nothing in it is acknowledged."""
        reason = await self._lookout.reason(identity, stored) if self._lookout is not None else ""
        if reason:
            reason = f"{reason}; {REMEDY}"
            logger.error("%s", reason)
            await self._manifest.fence(reason)
            raise ManifestFenced(reason)

    def _busy(self) -> str:
        why = f"; it fails: {self.trouble}" if self.trouble else ""
        return f"{self._backlog:,} changes are to be stored in the journal first{why}; ask again in a minute"

    def _failed(self, error: ProxyError) -> None:
        now = self._clock.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        if isinstance(error, ManifestFenced):  # which was said when it was found
            self._notice.was_said(1)
        elif (more := self._notice.meets(1, now)) is not None:
            logger.warning("the journal cannot be stored, and is tried again: %s%s", error, more)
        self.trouble = str(error)

    def _succeeded(self) -> None:
        if self._notice.ends():
            logger.warning("the journal is stored again, after %.0f s", self.failing_seconds)
        self._failing_since, self.trouble = None, ""
        self._caught_up_at = self._clock.monotonic()
