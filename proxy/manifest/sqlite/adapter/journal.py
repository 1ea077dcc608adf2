"""What the manifest does with the journal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from proxy.manifest.journal import Changes, JournalPosition, Key, Row, StoredSegment
from proxy.manifest.sqlite import journal
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

    async def record_segment(self, segment: StoredSegment, *, previous: bytes) -> None:
        await self._note(journal.record_segment, segment, previous)

    async def forget_changes(self) -> None:
        await self._note(journal.forget_changes)

    async def rows_of(self, table: str, *, after: Key = (), until: Key | None = None, limit: int) -> tuple[Row, ...]:
        return await self._list(journal.rows_of, table, after, until, limit)

    async def apply_rows(self, rows: Sequence[Row], *, note: bool) -> None:
        await self._committer.run(lambda connection: journal.apply_rows(connection, rows, note=note))

    async def continue_journal(self, segment: StoredSegment, *, identity: str, epoch: int) -> None:
        await self._committer.run(lambda connection: journal.continue_journal(connection, segment, identity, epoch))
