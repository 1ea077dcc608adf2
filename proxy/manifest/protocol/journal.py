"""What the manifest promises about its journal."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from proxy.manifest.journal import Changes, JournalPosition, Key, Row, StoredSegment


class Journal(Protocol):
    """See `Manifest`. Every step notes the journaled rows it changes, in the same transaction."""

    async def journal_position(self) -> JournalPosition: ...
    def journal_turn(self) -> AbstractContextManager[bool]: ...

    """Take the turn to write the journal, if no other process has it: of several, one is to do the work. Yields whether it was taken."""

    async def read_changes(self, *, limit_bytes: int) -> Changes: ...

    """What has changed since the last segment recorded, as it is at one instant; not much more than `limit_bytes` of it.
    ManifestFenced."""

    async def record_segment(self, segment: StoredSegment, *, previous: bytes) -> None: ...

    """The segment is stored: forget the notes up to its sequence. ManifestConflict if it does not follow the last one any more."""

    async def forget_changes(self) -> None: ...

    """Forget what is noted, where no journal is kept. One that is kept later has a gap here, until a checkpoint follows it."""

    async def rows_of(self, table: str, *, after: Key = (), until: Key | None = None, limit: int) -> tuple[Row, ...]: ...

    """Rows in the order of their keys, behind `after` and before `until`."""

    # For recovery: a fence does not stop these
    async def apply_rows(self, rows: Sequence[Row], *, note: bool) -> None: ...

    """Put and delete rows, in order; may be done twice. `note`: the journal does not have them yet."""

    async def continue_journal(self, segment: StoredSegment, *, identity: str, epoch: int) -> None: ...

    """Be the manifest of this identity, whose journal ends with this segment: the next one follows it. The epoch is at least this one.
    What was noted before is forgotten, so apply what the journal does not have after this."""
