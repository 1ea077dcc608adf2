"""What the manifest promises about its journal."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from proxy.manifest.copies import NeededCopies
from proxy.manifest.journal import Changes, CheckpointRecord, CheckpointState, JournalPosition, Key, Place, Row, Run, StoredSegment


class Journal(Protocol):
    """See `Manifest`. Every step notes the journaled rows it changes, in the same transaction."""

    async def journal_position(self) -> JournalPosition: ...
    def journal_turn(self) -> AbstractContextManager[bool]: ...

    """Take the turn to write the journal, if no other process has it: of several, one is to do the work. Yields whether it was taken."""

    async def read_changes(self, *, limit_bytes: int) -> Changes: ...

    """What has changed since the last segment recorded, as it is at one instant; not much more than `limit_bytes` of it.
    ManifestFenced."""

    async def unjournaled(self, limit: int) -> frozenset[Place]: ...

    """Which rows have changed since the last segment recorded; of more than `limit` places, as many."""

    async def record_segment(self, segment: StoredSegment, *, previous: bytes) -> None: ...

    """The segment is stored: forget the notes up to its sequence. ManifestConflict if it does not follow the last one any more."""

    async def forget_changes(self, *, leap: int = 1) -> None: ...

    """Forget what is noted, where no journal is kept. One that is kept later has a gap here, until a checkpoint follows it: as many numbers
    are left out."""

    async def rows_of(self, table: str, *, start: Key = (), after: Key = (), until: Key | None = None, limit: int) -> tuple[Row, ...]: ...

    """Rows in the order of their keys, from `start` on or behind `after`, and before `until`."""

    # Checkpoints: one is made at a time, run by run, in the order of the tables and of their keys
    async def checkpoint_state(self, *, before_ms: int) -> CheckpointState: ...  # `superseded` as of then
    async def begin_checkpoint(self, *, stores: Sequence[str], now_ms: int) -> CheckpointRecord | None: ...

    """Begin a checkpoint behind the last journal segment. None if that is not whole, or a checkpoint follows it already."""

    async def runs_of(self, number: int, table: str) -> tuple[Run, ...]: ...

    """The runs of a table in a checkpoint, in order; of the one being made, those that it has so far."""

    async def touched_runs(self, number: int, runs: Sequence[Run]) -> tuple[bool, ...]: ...

    """Of each run of the last checkpoint, `number`, whether the journal has had a row of its range since."""

    async def advance_checkpoint(
        self, now: CheckpointRecord, then: CheckpointRecord, *, added: Sequence[Run] = (), kept: Sequence[Run] = ()
    ) -> None: ...

    """Add runs to the checkpoint being made, new ones and those of the last one that it refers to. ManifestConflict if it is not as it
    was `now`: another process goes on with it."""

    async def finish_checkpoint(self, now: CheckpointRecord, made: CheckpointRecord) -> None: ...  # ManifestConflict

    """It is stored. Journal segments before it are forgotten."""

    async def forget_noted(self, *, limit: int) -> bool: ...

    """Forget which rows had changed before the last checkpoint, so many at once; return whether there are more."""

    async def forget_checkpoints(self, *, below: int) -> None: ...

    """Forget checkpoints of lower numbers, and the runs that none but those refer to."""

    async def live_runs(self) -> frozenset[bytes]: ...  # the ids of all segments of runs on record
    async def needed_copies(self) -> NeededCopies: ...  # what a recovery would read now

    # For recovery: a fence does not stop these
    async def apply_rows(self, rows: Sequence[Row], *, note: bool) -> None: ...

    """Put and delete rows, in order; may be done twice. `note`: the journal does not have them yet."""

    async def continue_journal(self, segment: StoredSegment, *, identity: str, epoch: int) -> None: ...

    """Be the manifest of this identity, whose journal ends with this segment: the next one follows it. The epoch is at least this one.
    What was noted before is forgotten, so apply what the journal does not have after this."""
