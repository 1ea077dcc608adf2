"""What the manifest does with the journal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from proxy.manifest.copies import NeededCopies
from proxy.manifest.journal import Changes, CheckpointRecord, CheckpointState, JournalPosition, Key, Place, Row, Run, StoredSegment
from proxy.manifest.sqlite import checkpoints, copies, journal
from proxy.manifest.sqlite.adapter.runner import StepRunner
from proxy.manifest.sqlite.turn import Turn


class Journal(StepRunner):
    """See the protocol."""

    async def journal_position(self) -> JournalPosition:
        return await self._read(journal.journal_position)

    @contextmanager
    def journal_turn(self) -> Iterator[bool]:
        turn = Turn(self._path, "journal")
        try:
            yield turn.taken_at_once()
        finally:
            turn.close()

    async def read_changes(self, *, limit_bytes: int) -> Changes:
        return await self._list(journal.read_changes, limit_bytes)

    async def unjournaled(self, limit: int) -> frozenset[Place]:
        return await self._list(journal.unjournaled, limit)

    async def record_segment(self, segment: StoredSegment, *, previous: bytes) -> None:
        kept = 0
        while (further := await self._note(journal.keep_notes, segment, kept)) is not None:
            kept = further
        await self._note(journal.record_segment, segment, previous, kept)

    async def forget_changes(self, *, leap: int = 1) -> None:
        await self._note(journal.forget_changes, leap)

    async def rows_of(self, table: str, *, start: Key = (), after: Key = (), until: Key | None = None, limit: int) -> tuple[Row, ...]:
        return await self._list(journal.rows_of, table, start, after, until, limit)

    async def checkpoint_state(self, *, before_ms: int) -> CheckpointState:
        return await self._list(checkpoints.checkpoint_state, before_ms)

    async def begin_checkpoint(self, *, stores: Sequence[str], now_ms: int) -> CheckpointRecord | None:
        return await self._note(checkpoints.begin_checkpoint, tuple(stores), now_ms)

    async def runs_of(self, number: int, table: str) -> tuple[Run, ...]:
        return await self._list(checkpoints.runs_of, number, table)

    async def touched_runs(self, number: int, runs: Sequence[Run]) -> tuple[bool, ...]:
        return await self._list(checkpoints.touched_runs, number, runs)

    async def advance_checkpoint(
        self, now: CheckpointRecord, then: CheckpointRecord, *, added: Sequence[Run] = (), kept: Sequence[Run] = ()
    ) -> None:
        await self._note(checkpoints.advance_checkpoint, now, then, added, kept)

    async def finish_checkpoint(self, now: CheckpointRecord, made: CheckpointRecord) -> None:
        await self._note(checkpoints.finish_checkpoint, now, made)

    async def forget_noted(self, *, limit: int) -> bool:
        return await self._note(checkpoints.forget_noted, limit)

    async def forget_checkpoints(self, *, below: int) -> None:
        await self._note(checkpoints.forget_checkpoints, below)

    async def live_runs(self) -> frozenset[bytes]:
        return await self._list(checkpoints.live_runs)

    async def needed_copies(self) -> NeededCopies:
        return await self._list(copies.needed_copies)

    async def apply_rows(self, rows: Sequence[Row], *, note: bool) -> None:
        await self._committer.run(lambda connection: journal.apply_rows(connection, rows, note=note))

    async def continue_journal(self, segment: StoredSegment, *, identity: str, epoch: int) -> None:
        await self._committer.run(lambda connection: journal.continue_journal(connection, segment, identity, epoch))
