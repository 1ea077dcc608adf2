"""The workers that carry out lifecycle rules: a pass a day over the buckets that have any, and one soon after rules were put.

A pass walks the uploads and the versions of each bucket in the order of keys, a page at a time. It finds by index what is due, and lets the
manifest decide once more as it does it: what was overwritten, retagged or locked meanwhile is left. How far it came is kept after each
page, so that a pass goes on after a restart, or in another process. What is done twice finds nothing to do.

A clock that is set forward makes everything due at once, and what is expired is gone. So a process that notices it, because its own clock
has gone on by much more than it has run, carries out nothing.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from msgspec.structs import replace

from proxy.clock import Clock
from proxy.engine.lifecycle.deeds import Deeds
from proxy.engine.lifecycle.state import LifecycleState, Pass, load_lifecycle, save_lifecycle
from proxy.engine.workers import Progress
from proxy.errors import BucketMissing
from proxy.manifest.lifecycle import Place, UploadPlace, wanted_state
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Bucket, BucketId
from proxy.s3.lifecycle.rules import DAY_MS, SETTING, configuration_of

IDLE_SECONDS = 15.0
STEP_SECONDS = 2.0
STEP_PAGES = 20  # however the time is measured
ROWS = 5000  # in a page: some 10 ms of one of the manifest's readers
DUE = 200  # versions that a page finds; in memory
REST = 3.0  # a pass takes a quarter of one core
SET_FORWARD_MS = 3_600_000
_AFTER_ALL = BucketId(-1)  # where a pass has ended


class LifecycleWorker:
    """Carries out one kind of what is due."""

    everywhere = False
    idle_seconds = IDLE_SECONDS

    def __init__(self, name: str, manifest: Manifest, clock: Clock, deeds: Deeds) -> None:
        self.name = name
        self._manifest = manifest
        self._clock = clock
        self._deeds = deeds
        self._started = clock.instant()

    async def step(self) -> Progress:
        """Go on with a pass for a while, or begin one if it is time."""
        if (ahead_ms := self._ahead_ms()) > SET_FORWARD_MS:
            hours = ahead_ms / 3_600_000
            trouble = f"the clock was set forward by {hours:.1f} h: nothing expires until it is set right, or the server started again"
            return Progress(idle=True, trouble=trouble)
        state = await load_lifecycle(self._manifest, self.name)
        begun = await self._begun(state)
        if begun is None:
            return Progress(idle=True, trouble=state.trouble)
        done: Counter[str] = Counter()
        state = await self._go_on(begun, done)
        return Progress(idle=state.running is None, done=sum(done.values()) - done["kept_locked"], trouble=state.trouble)

    def _ahead_ms(self) -> int:
        now, started = self._clock.instant(), self._started
        return (now.now_ms - started.now_ms) - (now.running_ms - started.running_ms)

    async def _begun(self, state: LifecycleState) -> LifecycleState | None:
        """Return the state with a pass under way; None if there is nothing to do."""
        if state.running is not None:
            return state
        now_ms = self._clock.now_ms()
        today = now_ms // DAY_MS
        # Another day, not a later one: a pass under a clock that was far ahead must not be the last for years.
        if today == state.day and await self._manifest.load_state(wanted_state(self.name)) is None:
            return None
        await self._manifest.save_state(wanted_state(self.name), None)  # rules that are put from now on want another pass
        return replace(state, running=Pass(begun_ms=now_ms), day=today)

    async def _go_on(self, state: LifecycleState, done: Counter[str]) -> LifecycleState:
        until = self._clock.monotonic() + STEP_SECONDS
        for _ in range(STEP_PAGES):
            if state.running is None:
                break
            began, page_done = self._clock.monotonic(), Counter[str]()
            running = await self._page(state.running, page_done)
            state = state.after(running, page_done)
            if running.bucket_id == _AFTER_ALL:
                state = state.ended(self._clock.now_ms())
            await save_lifecycle(self._manifest, self.name, state)
            done += page_done
            if self._clock.monotonic() > until:
                break
            await asyncio.sleep(REST * (self._clock.monotonic() - began))
        return state

    async def _page(self, running: Pass, done: Counter[str]) -> Pass:
        if not running.in_bucket:
            return await self._next_bucket(running)
        bucket = await self._manifest.next_bucket_with(SETTING, after=BucketId(running.bucket_id - 1))
        if bucket is None or bucket.id != running.bucket_id:  # it was deleted, or has no rules any more
            return replace(running, in_bucket=False)
        try:
            return await (self._versions if running.uploads_done else self._uploads)(bucket, running, done)
        except BucketMissing:
            return replace(running, in_bucket=False)

    async def _next_bucket(self, running: Pass) -> Pass:
        bucket = await self._manifest.next_bucket_with(SETTING, after=running.bucket_id)
        if bucket is None:
            return replace(running, bucket_id=_AFTER_ALL)
        wanted = self._deeds.wants(configuration_of(bucket.settings[SETTING]))
        return replace(
            running,
            bucket_id=bucket.id,
            in_bucket=wanted,
            uploads_done=self._deeds.moves,  # uploads are not moved
            place=Place(),
            uploads=UploadPlace(),
        )

    async def _uploads(self, bucket: Bucket, running: Pass, done: Counter[str]) -> Pass:
        page = await self._manifest.walk_uploads(bucket.id, after=running.uploads, now_ms=self._clock.now_ms(), max_rows=ROWS)
        await self._deeds.on_uploads(bucket, page.due, done)
        return replace(running, uploads=page.place, uploads_done=page.ended, rows=running.rows + page.rows)

    async def _versions(self, bucket: Bucket, running: Pass, done: Counter[str]) -> Pass:
        page = await self._manifest.walk_due(
            bucket.id, after=running.place, now_ms=self._clock.now_ms(), moves=self._deeds.moves, max_rows=ROWS, max_due=DUE
        )
        trouble = await self._deeds.on_versions(bucket, page.due, done)
        return replace(
            running,
            place=page.place,
            in_bucket=not page.ended,
            rows=running.rows + page.rows,
            trouble=running.trouble or trouble,
        )
