"""What the manifest does with the journal."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.manifest.journal import Changes, JournalPosition, Key, Row, StoredSegment
from proxy.manifest.sqlite import journal
from proxy.manifest.sqlite.adapter.runner import StepRunner


class Journal(StepRunner):
    """See the protocol."""

    async def journal_position(self) -> JournalPosition:
        return await self._read(journal.journal_position)

    async def read_changes(self, *, limit_bytes: int) -> Changes:
        return await self._list(journal.read_changes, limit_bytes)

    async def record_segment(self, segment: StoredSegment, *, previous: bytes) -> None:
        await self._note(journal.record_segment, segment, previous)

    async def rows_of(self, table: str, *, after: Key = (), until: Key | None = None, limit: int) -> tuple[Row, ...]:
        return await self._list(journal.rows_of, table, after, until, limit)

    async def apply_rows(self, rows: Sequence[Row], *, note: bool) -> None:
        await self._committer.run(lambda connection: journal.apply_rows(connection, rows, note=note))

    async def continue_journal(self, segment: StoredSegment, *, identity: str, epoch: int) -> None:
        await self._committer.run(lambda connection: journal.continue_journal(connection, segment, identity, epoch))
