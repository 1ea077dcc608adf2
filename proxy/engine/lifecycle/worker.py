"""The worker that carries out lifecycle rules: a pass a day over the buckets that have any, and one soon after rules were put.

A pass walks the uploads and the versions of each bucket in the order of keys, a page at a time. It finds by index what is due, and lets the
manifest decide once more as it does it: what was overwritten, retagged or locked meanwhile is left. How far it came is kept after each
page, so that a pass goes on after a restart, or in another process. What is done twice finds nothing to do.

A clock that is set forward makes everything due at once, and what is expired is gone. So a process that notices it, because its own clock
has gone on by much more than it has run, carries out nothing.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from proxy.clock import Clock
from proxy.engine.lifecycle.moving import ClassMover
from proxy.engine.lifecycle.state import LifecycleState, Pass, load_lifecycle, save_lifecycle
from proxy.engine.throttle import Throttle
from proxy.engine.workers import Progress
from proxy.errors import BucketMissing, ProxyError
from proxy.manifest.events import Cause
from proxy.manifest.lifecycle import LIFECYCLE_WANTED, DueVersion, Outcome, Place, UploadPlace
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Bucket, BucketId, VersionId
from proxy.s3.lifecycle.rules import DAY_MS, SETTING
from proxy.s3.notification import SETTING as NOTIFICATION

IDLE_SECONDS = 15.0
STEP_SECONDS = 2.0
STEP_PAGES = 20  # however the time is measured
ROWS = 5000  # in a page: some 10 ms of one of the manifest's readers
DUE = 200  # versions that a page finds; in memory
AT_ONCE = 50  # that are deleted in one step of the manifest: some 10 ms, in which nobody else commits
REST = 3.0  # a pass takes a quarter of one core
SET_FORWARD_MS = 3_600_000
_NAMES: Mapping[Outcome, str] = {
    "expired": "expired",
    "marked": "marked",
    "removed": "removed",
    "moved": "moved",
    "locked": "kept_locked",
}


class LifecycleWorker:
    """Carries out what is due."""

    name = SETTING
    everywhere = False
    idle_seconds = IDLE_SECONDS

    def __init__(self, manifest: Manifest, clock: Clock, mover: ClassMover, throttle: Throttle) -> None:
        self._manifest = manifest
        self._clock = clock
        self._mover = mover
        self._throttle = throttle
        self._started = clock.instant()
        self._trouble = ""

    async def step(self) -> Progress:
        """Go on with a pass for a while, or begin one if it is time."""
        if (ahead_ms := self._ahead_ms()) > SET_FORWARD_MS:
            hours = ahead_ms / 3_600_000
            trouble = f"the clock was set forward by {hours:.1f} h: nothing expires until it is set right, or the server started again"
            return Progress(idle=True, trouble=trouble)
        state = await self._wanted(await load_lifecycle(self._manifest))
        if state is None:
            return Progress(idle=True)
        done: Counter[str] = Counter()
        self._trouble = ""
        state = await self._go_on(state, done)
        return Progress(idle=state.running is None, done=sum(done.values()) - done["kept_locked"], trouble=self._trouble)

    def _ahead_ms(self) -> int:
        now, started = self._clock.instant(), self._started
        return (now.now_ms - started.now_ms) - (now.running_ms - started.running_ms)

    async def _wanted(self, state: LifecycleState) -> LifecycleState | None:
        """Return the state with a pass under way; None if there is nothing to do."""
        if state.running is not None:
            return state
        now_ms = self._clock.now_ms()
        today = now_ms // DAY_MS
        if today <= state.day and await self._manifest.load_state(LIFECYCLE_WANTED) is None:
            return None
        await self._manifest.save_state(LIFECYCLE_WANTED, None)  # rules that are put from now on want another pass
        return replace(state, running=Pass(begun_ms=now_ms), day=today)

    async def _go_on(self, state: LifecycleState, done: Counter[str]) -> LifecycleState:
        until = self._clock.monotonic() + STEP_SECONDS
        for _ in range(STEP_PAGES):
            began, page_done = self._clock.monotonic(), Counter[str]()
            assert state.running is not None
            running = await self._page(state.running, page_done)
            state = replace(state.adding(page_done), running=running)
            if running.bucket_id == _AFTER_ALL:
                state = replace(state, running=None, ended_ms=self._clock.now_ms(), rows=running.rows)
            await save_lifecycle(self._manifest, state)
            done += page_done
            if state.running is None or self._clock.monotonic() > until:
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
        return replace(running, bucket_id=bucket.id, in_bucket=True, uploads_done=False, place=Place(), uploads=UploadPlace())

    async def _uploads(self, bucket: Bucket, running: Pass, done: Counter[str]) -> Pass:
        now_ms = self._clock.now_ms()
        page = await self._manifest.walk_uploads(bucket.id, after=running.uploads, now_ms=now_ms, max_rows=ROWS)
        for upload_id in page.due:  # one a step: an upload may have ten thousand parts
            await self._throttle.take()
            done["aborted"] += await self._manifest.abort_due(bucket.id, [upload_id], now_ms=now_ms)
        return replace(running, uploads=page.place, uploads_done=page.ended, rows=running.rows + page.rows)

    async def _versions(self, bucket: Bucket, running: Pass, done: Counter[str]) -> Pass:
        now_ms = self._clock.now_ms()
        page = await self._manifest.walk_due(bucket.id, after=running.place, now_ms=now_ms, max_rows=ROWS, max_due=DUE)
        expiring = [due for due in page.due if due.action != "move"]
        for start in range(0, len(expiring), AT_ONCE):
            await self._throttle.take()
            await self._expire(bucket, expiring[start : start + AT_ONCE], done)
        for due in page.due:
            if due.action == "move":
                await self._move(bucket, due, done)
        return replace(running, place=page.place, in_bucket=not page.ended, rows=running.rows + page.rows)

    async def _expire(self, bucket: Bucket, due: Sequence[DueVersion], done: Counter[str]) -> None:
        outcomes = await self._manifest.carry_out(
            bucket.id,
            due,
            marker_ids=[VersionId(secrets.token_urlsafe(24)) for _ in due],
            now_ms=self._clock.now_ms(),
            cause=await self._cause(bucket, "LifecycleExpiration:Delete"),
        )
        done.update(_NAMES[outcome] for outcome in outcomes if outcome in _NAMES)

    async def _move(self, bucket: Bucket, due: DueVersion, done: Counter[str]) -> None:
        try:
            outcome = await self._mover.move(bucket, due, await self._cause(bucket, "LifecycleTransition"))
        except BucketMissing:
            raise
        except ProxyError as error:  # the others can be moved all the same; the next pass tries this one again
            self._trouble = self._trouble or str(error)
            return
        done.update([_NAMES[outcome]] if outcome in _NAMES else [])

    async def _cause(self, bucket: Bucket, name: str) -> Cause | None:
        if NOTIFICATION not in bucket.settings:
            return None
        owner = await self._manifest.find_tenant(bucket.tenant_id)
        return None if owner is None else Cause(name=name, owner=owner.canonical_id, principal="s3.amazonaws.com")


_AFTER_ALL = BucketId(-1)  # where a pass has ended
