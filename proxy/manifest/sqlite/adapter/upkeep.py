"""What the manifest does with leases, garbage, background jobs and the epoch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from proxy.manifest.records import (
    Epoch,
    Garbage,
    GarbageSegment,
    Intent,
    IntentId,
    Job,
    JobReport,
    SegmentId,
    Settlement,
)  # fmt: skip
from proxy.manifest.sqlite import epoch, extents, jobs, ledger, trusted_time
from proxy.manifest.sqlite.adapter.runner import StepRunner


class Upkeep(StepRunner):
    """See the protocol."""

    # Leases

    async def lease_segments(self, *, owner: str, segment_ids: Sequence[SegmentId], expires_ms: int) -> Intent:
        return await self._write(ledger.lease_segments, owner, segment_ids, expires_ms)

    async def renew_intents(self, *, owner: str, expires_ms: int) -> frozenset[IntentId]:
        return await self._note(ledger.renew_intents, owner, expires_ms)

    async def settle(self, settlements: Sequence[Settlement], garbage: Sequence[GarbageSegment], *, now_ms: int) -> None:
        await self._write(ledger.settle_abandoned, settlements, garbage, now_ms)

    async def revoke_expired_intents(self, *, now_ms: int) -> int:
        return await self._note(ledger.revoke_expired_intents, now_ms)

    # Collecting

    async def release_unused(self, settlements: Sequence[Settlement]) -> None:
        await self._note(ledger.release_unused, settlements)

    async def bury_extents(self, *, now_ms: int) -> int:
        return await self._note(extents.bury_extents, now_ms)

    async def spread_garbage(self, configured: Iterable[str], *, limit: int) -> int:
        return await self._note(ledger.spread_garbage, tuple(configured), limit)

    async def split_garbage(self, *, before_ms: int, limit: int) -> int:
        return await self._note(ledger.split_garbage, before_ms, limit)

    async def due_garbage(self, store: str, *, before_ms: int, limit: int) -> tuple[Garbage, ...]:
        return await self._list(ledger.due_garbage, store=store, before_ms=before_ms, limit=limit)

    async def finish_garbage(self, gone: Sequence[Garbage], *, put_off: Sequence[Garbage] = (), due_ms: int = 0) -> None:
        await self._note(ledger.finish_garbage, gone, put_off, due_ms)

    async def count_garbage(self, *, limit: int = 1_000_000) -> Mapping[str, int]:
        return await self._list(ledger.count_garbage, limit=limit)

    # Background jobs

    async def list_jobs(self) -> tuple[Job, ...]:
        return await self._read(jobs.list_jobs)

    async def find_job(self, name: str) -> Job:
        return await self._read(jobs.find_job, name=name)

    async def take_job(self, name: str, holder: str, *, now_ms: int, lease_ms: int) -> Job | None:
        return await self._note(jobs.take_job, name, holder, now_ms, lease_ms)

    async def extend_job(self, name: str, holder: str, *, now_ms: int, lease_ms: int) -> Job | None:
        return await self._note(jobs.extend_job, name, holder, now_ms, lease_ms)

    async def finish_job(self, name: str, holder: str, report: JobReport, *, now_ms: int) -> Job | None:
        return await self._note(jobs.finish_job, name, holder, report, now_ms)

    async def report_job(self, name: str, report: JobReport, *, now_ms: int) -> None:
        await self._note(jobs.report_job, name, report, now_ms)

    async def give_job_back(self, name: str, holder: str) -> None:
        await self._note(jobs.give_job_back, name, holder)

    async def pause_job(self, name: str, paused: bool) -> None:  # noqa: FBT001 - the new state
        await self._note(jobs.pause_job, name, paused=paused)

    # Where background work stands

    async def load_state(self, name: str) -> bytes | None:
        return await self._read(jobs.load_state, name=name)

    async def save_state(self, name: str, value: bytes | None) -> None:
        await self._note(jobs.save_state, name, value)

    # The time that locks are held against

    async def renew_trusted_time(self) -> int | None:
        return await self._note(trusted_time.renew_trusted_time, self._clock.instant())

    # The epoch

    @property
    def changed_ms(self) -> int:
        return self._changed_ms

    async def find_epoch(self) -> Epoch:
        return await self._read(epoch.find_epoch)

    async def move_epoch(self, *, now_ms: int) -> Epoch:
        return await self._note(epoch.move_epoch, now_ms)

    async def fence(self, reason: str) -> None:
        await self._committer.run(lambda connection: epoch.set_fence(connection, reason))

    async def accept_epoch(self, *, above: int, now_ms: int) -> Epoch:
        return await self._committer.run(lambda connection: epoch.accept_epoch(connection, above, now_ms))
