"""What the manifest promises about garbage, background jobs and the epoch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from proxy.manifest.records import (
    Epoch,
    Garbage,
    Job,
    JobReport,
    Settlement,
)  # fmt: skip


class Upkeep(Protocol):
    """See `Manifest`."""

    # Collecting
    async def release_unused(self, settlements: Sequence[Settlement]) -> None: ...

    """Settle ids under which nothing was ever put: there is nothing to collect of them."""

    async def bury_extents(self, *, now_ms: int) -> int: ...

    """Queue shards of extents that nobody refers to any more as garbage, as many as one step should; return how many extents those were.
    A step that releases few segments does so itself. Until then they are stored extents as any, and may be shared again."""

    async def spread_garbage(self, configured: Iterable[str], *, limit: int) -> int: ...

    """Turn the oldest garbage of unknown placement into a search of every store, those known and those configured; return how many."""

    async def split_garbage(self, *, before_ms: int, limit: int) -> int: ...

    """Queue the shards of segments that are due, each for its store; return how many segments those were. Until then nobody else finds
    them due."""

    async def due_garbage(self, store: str, *, before_ms: int, limit: int) -> tuple[Garbage, ...]: ...

    """What is due in one store, oldest first. Nothing is claimed: deleting twice is harmless, and one job collects at a time."""

    async def finish_garbage(self, gone: Sequence[Garbage], *, put_off: Sequence[Garbage] = (), due_ms: int = 0) -> None: ...

    """Forget what is deleted, and put what could not be at a later place in its store's queue."""

    async def count_garbage(self, *, limit: int = 1_000_000) -> Mapping[str, int]: ...

    """What is queued by store, "" for what may lie in any; of each, no more than `limit` are counted, so that asking costs little."""

    # Background jobs: what a turn does is in `proxy.manifest.jobs`
    async def list_jobs(self) -> tuple[Job, ...]: ...
    async def find_job(self, name: str) -> Job: ...  # a new one if it has never run
    async def take_job(self, name: str, holder: str, *, now_ms: int, lease_ms: int) -> Job | None: ...  # None: not now
    async def extend_job(self, name: str, holder: str, *, now_ms: int, lease_ms: int) -> Job | None: ...  # None: somebody else's
    async def finish_job(self, name: str, holder: str, report: JobReport, *, now_ms: int) -> Job | None: ...  # None: somebody else's
    async def report_job(self, name: str, report: JobReport, *, now_ms: int) -> None: ...  # of one that every process runs
    async def give_job_back(self, name: str, holder: str) -> None: ...
    async def pause_job(self, name: str, paused: bool) -> None: ...  # noqa: FBT001 - the new state

    # Where background work stands, in its own words
    async def load_state(self, name: str) -> bytes | None: ...
    async def save_state(self, name: str, value: bytes | None) -> None: ...  # None forgets it

    # The time that locks are held against
    async def renew_trusted_time(self) -> int | None: ...

    """Keep how far the trusted time is, and return it; None while there has never been a bucket with object lock."""

    # The epoch: see `proxy.engine.epoch`
    @property
    def changed_ms(self) -> int: ...  # when this process last asked for a change that a copy of the manifest would miss; 0: never

    async def find_epoch(self) -> Epoch: ...
    async def move_epoch(self, *, now_ms: int) -> Epoch: ...  # to the next number

    async def fence(self, reason: str) -> None: ...

    """From now on every change, by whatever process, raises `ManifestFenced` with the reason."""

    async def accept_epoch(self, *, above: int, now_ms: int) -> Epoch: ...

    """Lift the fence: the number becomes higher than any before and than `above`, and live leases are forgotten, also of moves, and
    nothing is queued of them. A commit under one of them raises `IntentRevoked`."""
