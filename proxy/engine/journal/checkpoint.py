"""Checkpoints: the whole manifest restated as sorted runs, so that a recovery need not replay the journal from its beginning.

A run is a range of one table's keys, and the rows in it. Runs are written one after the other, table by table, while everybody reads and
writes: no two of them are of the same instant. That is right all the same:

Let the checkpoint begin behind journal segment B. Each run is read after that. Take any row. Either it has not changed since its run was
read, so the run has it as it is. Or it has: the change was noted after B's snapshot, because B was recorded before the run was read, so it
is in a segment behind B, with the row as it was then or later. The journal is replayed from B + 1 on, in order, and each segment sets the
row to what it was at that segment's snapshot. So after the last one the row is as it was at the last snapshot, whatever the run had. This
takes the journal up to a segment that was written after the last run was read. Its number is the checkpoint's `until`.

A run of the checkpoint before is referred to, and not written anew, if the journal has had none of its rows in a segment behind that
checkpoint. By the same argument it has the rows as they were at B, or the journal behind B has them.

Where the making stands is in the manifest, with each run that is stored. A process that dies leaves one run that nobody knows of; another
process goes on behind the last that is known.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from msgspec.structs import replace

from proxy.clock import Clock
from proxy.codec.format import RUN_PREFIX
from proxy.engine.journal.flush import Flusher
from proxy.engine.journal.store import put_checkpoint
from proxy.engine.journal.writing import BegunCopy, CopyWriter
from proxy.engine.memory.background import BackgroundMemory
from proxy.engine.throttle import Throttle
from proxy.manifest.journal import TABLES, Checkpoint, CheckpointRecord, CheckpointState, Key, Row, Run, encode_rows, sized
from proxy.manifest.protocol import Manifest

IN_MEMORY = 8  # times a segment of a run: rows as objects, encoded, coded and sealed
LOOK_AHEAD = 64  # runs of the last checkpoint, among which one is looked for that need not be written anew


class RunSize(NamedTuple):
    """How large a run may get. Its segments are in memory, one at a time."""

    rows: int = 100_000
    size_bytes: int = 16 * 1024 * 1024
    segment_bytes: int = 2 * 1024 * 1024
    rows_at_once: int = 2000  # read from the manifest


USUAL_SIZE = RunSize()


@dataclass(slots=True)
class Made:
    """What has been written since it was asked last."""

    rows: int = 0
    requests: int = 0
    size_bytes: int = 0


class CheckpointMaker:
    """Makes one checkpoint, a run at a time."""

    def __init__(
        self,
        manifest: Manifest,
        writer: CopyWriter,
        flusher: Flusher,
        clock: Clock,
        throttle: Throttle,
        memory: BackgroundMemory,
        *,
        run_size: RunSize = USUAL_SIZE,
    ) -> None:
        self._manifest = manifest
        self._writer = writer
        self._flusher = flusher
        self._clock = clock
        self._throttle = throttle
        self._memory = memory
        self._run_size = run_size
        self._made = Made()

    def take_made(self) -> Made:
        """Return what has been written since this was called last."""
        made, self._made = self._made, Made()
        return made

    async def advance(self, state: CheckpointState, making: CheckpointRecord, damaged: Collection[bytes]) -> bool:
        """Make or refer to the next runs, or end. Return whether the checkpoint is made. `damaged` segments are not referred to."""
        if making.table:
            await self._advance(state.last, making, damaged)
            return False
        await self._finish(making)
        return True

    async def _advance(self, last: CheckpointRecord | None, making: CheckpointRecord, damaged: Collection[bytes]) -> None:
        old = await self._manifest.runs_of(last.number, making.table) if last and last.reusable else ()
        ahead = [run for run in old if run.first >= making.first][:LOOK_AHEAD]
        fresh = [run for run, good in zip(ahead, await self._are_good(last, ahead, damaged), strict=True) if good]
        if fresh and fresh[0].first == making.first:
            kept = _in_a_row(ahead, fresh)
            then = _behind(making, kept[-1].end, sum(run.rows for run in kept), sum(run.layout.size for run in kept))
            await self._manifest.advance_checkpoint(making, then, kept=kept)
            return
        until = fresh[0].first if fresh else (ahead[-1].end if len(ahead) == LOOK_AHEAD else None)
        run = await self._write_run(making, until)
        then = _behind(making, run.end, run.rows, run.layout.size)
        await self._manifest.advance_checkpoint(making, then, added=(run,) if run.rows else ())

    async def _are_good(self, last: CheckpointRecord | None, runs: Sequence[Run], damaged: Collection[bytes]) -> list[bool]:
        if last is None:
            return [False] * len(runs)
        touched = await self._manifest.touched_runs(last.number, runs)
        return [not changed and self._is_sound(run, damaged) for run, changed in zip(runs, touched, strict=True)]

    def _is_sound(self, run: Run, damaged: Collection[bytes]) -> bool:
        """Tell whether the run is stored as one would be now: the policy may have changed, and a shard may be lost."""
        policy, layout = self._writer.policy, run.layout
        stores = {str(info.name) for info in policy.stores}
        return (layout.k, layout.m, layout.policy) == (policy.scheme.k, policy.scheme.m, policy.name) and not any(
            segment.id in damaged or segment.missing or not stores.issuperset(segment.stores) for segment in layout.segments
        )

    async def _write_run(self, making: CheckpointRecord, until: Key | None) -> Run:
        identity = (await self._manifest.find_epoch()).identity
        begun = self._writer.begin(RUN_PREFIX, identity, making.number)
        async with self._memory.held(IN_MEMORY * self._run_size.segment_bytes):
            count, end = await self._write_rows(begun, making, until)
        return Run(table=making.table, first=making.first, end=end, rows=count, number=making.number, layout=begun.layout())

    async def _write_rows(self, begun: BegunCopy, making: CheckpointRecord, until: Key | None) -> tuple[int, Key | None]:
        """Store rows until there are no more, or enough for a run; return how many, and where the next run begins."""
        limits = self._run_size
        rows: list[Row] = []
        count, size, after = 0, 0, Key()
        while True:
            found = await self._manifest.rows_of(
                making.table, start=() if after else making.first, after=after, until=until, limit=limits.rows_at_once
            )
            for row in found:
                if count == limits.rows or begun.size_bytes + size >= limits.size_bytes:
                    await self._add(begun, rows)
                    return count, row.key
                rows.append(row)
                count, size, after = count + 1, size + sized(row), row.key
                if size >= limits.segment_bytes:
                    await self._add(begun, rows)
                    rows, size = [], 0
            if len(found) < limits.rows_at_once:
                await self._add(begun, rows)
                return count, until

    async def _add(self, begun: BegunCopy, rows: Sequence[Row]) -> None:
        if not rows:
            return
        plaintext = encode_rows(rows)
        scheme = self._writer.policy.scheme
        for _ in range(scheme.n):
            await self._throttle.take(len(plaintext) // scheme.k)
        await begun.add(plaintext)
        self._made.rows += len(rows)
        self._made.requests += scheme.n
        self._made.size_bytes += len(plaintext)

    async def _finish(self, making: CheckpointRecord) -> None:
        await self._flusher.stored()  # then the journal has whatever was changed while the last run was read
        until = (await self._manifest.journal_position()).whole
        epoch = await self._manifest.find_epoch()
        made = replace(making, until=until, made_ms=self._clock.now_ms())
        runs = [run for table in TABLES for run in await self._manifest.runs_of(making.number, table.name)]
        checkpoint = Checkpoint(
            number=making.number,
            until=until,
            identity=epoch.identity,
            epoch=epoch.number,
            digest=making.digest,
            sequence=making.sequence,
            made_ms=made.made_ms,
            runs=tuple(runs),
        )
        stored = await put_checkpoint(self._writer, checkpoint)
        self._made.requests += self._writer.policy.scheme.n
        await self._manifest.finish_checkpoint(making, replace(made, document=stored.document, index=stored.runs))


def _in_a_row(ahead: Sequence[Run], fresh: Sequence[Run]) -> list[Run]:
    """Return the runs from the first one on that are all good."""
    kept: list[Run] = []
    for run, good in zip(ahead, fresh, strict=False):
        if run is not good or (kept and kept[-1].end != run.first):  # between two there may be rows by now
            break
        kept.append(run)
    return kept


def _behind(making: CheckpointRecord, end: Key | None, rows: int, size_bytes: int) -> CheckpointRecord:
    """Return the record of what is being made as it is behind a run that ends here: None is the end of the table."""
    then = replace(making, rows=making.rows + rows, size_bytes=making.size_bytes + size_bytes)
    if end is not None:
        return replace(then, first=end)
    names = [table.name for table in TABLES]
    following = names[names.index(making.table) + 1 :]
    return replace(then, first=(), table=following[0] if following else "")
