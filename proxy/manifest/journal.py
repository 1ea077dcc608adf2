"""The journal's records: what the manifest holds, as rows, so that the stores can keep a copy of it.

A **row** is the present value of one row of a table: its key, and the other columns, or None once it is deleted. A **journal segment**
holds the rows that changed since the one before. Replaying one is putting and deleting rows, so it may be done twice, and rows say nothing
of the steps that made them: a step added later cannot be forgotten here, and none can be replayed wrongly. (Rejected: a record for each
step. It is longer, a step may forget to make it, and its replay is code of its own, which must do for ever what the step did once.)

Which columns a row has is said once, in `TABLES`: it is the format of the journal, and what the triggers of the SQLite schema are made of.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar

import msgspec

from proxy.codec.format import DIGEST_SIZE
from proxy.errors import IntegrityError
from proxy.manifest.records import Layout, Record

if TYPE_CHECKING:
    Column: TypeAlias = int | str | bytes | None
else:
    Column = object  # msgspec decodes no union of text and bytes, though MessagePack tells them apart
Key: TypeAlias = tuple[Column, ...]
Decoded = TypeVar("Decoded")

NO_DIGEST = bytes(DIGEST_SIZE)  # what the first segment follows


class Table(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A table whose rows are journaled.

    A change of a `quiet` column alone is not noted: it matters only now. The row has it all the same, as it was at the last change of
    another. A `derived` column is not in the row: whoever replays it makes that of the others.
    """

    name: str
    key: tuple[str, ...]
    columns: tuple[str, ...] = ()  # the others, in order
    quiet: tuple[str, ...] = ()
    derived: tuple[str, ...] = ()


TABLES: tuple[Table, ...] = (
    Table(name="store", key=("name",)),
    Table(name="tenant", key=("id",), columns=("name", "canonical_id", "account_id", "record")),
    Table(name="access_key", key=("id",), columns=("tenant_id", "record")),
    Table(name="role", key=("tenant_id", "name"), columns=("record",)),
    Table(name="kms_key", key=("id",), columns=("tenant_id", "alias", "record")),
    Table(name="bucket", key=("id",), columns=("name", "tenant_id", "record")),
    Table(
        name="version",
        key=("bucket", "key", "order_key"),
        columns=("version_id", "latest", "marker", "record", "parts", "pack", "slot"),
        derived=("line",),
    ),
    Table(name="extent", key=("id",), columns=("refs", "layout")),
    Table(name="pack", key=("extent",), columns=("kind", "whole", "live", "slots", "made", "dead_since")),
    Table(name="damage", key=("extent", "segment", "shard"), columns=("kind", "store", "generation", "since")),
    Table(name="repair", key=("extent", "segment"), columns=("redundancy", "since", "due", "failures"), quiet=("due", "failures")),
    Table(name="upload", key=("id",), columns=("bucket", "key", "initiated", "record")),
    Table(name="part", key=("upload", "number"), columns=("record",)),
    Table(name="completed_upload", key=("id",), columns=("bucket", "key", "version_id", "parts", "completed")),
    # What is to be deleted still lies in the stores for a while, and must not be taken for an object again.
    Table(name="garbage", key=("store", "due", "name"), columns=("search", "shards")),
    Table(name="leftover", key=("name", "store"), columns=("shard",)),
    Table(name="draw", key=("segment", "generation"), columns=("targets", "expires", "revoked"), quiet=("expires",)),
    # An id that was leased and not settled when the journal ends: its shards are of a write that was under way.
    Table(name="intent", key=("id",), columns=("owner", "expires", "ids", "settled"), quiet=("expires",)),
    Table(
        name="replica",
        key=("sequence",),
        columns=("bucket", "key", "version_id", "destination", "storage_class", "since", "due"),
        quiet=("due",),
    ),
    Table(name="campaign", key=("id",), columns=("planned", "record")),
    # Whoever recovers must not rebuild what an operator has not confirmed to be lost.
    Table(name="loss", key=("store",), columns=("since", "last", "found", "state", "shards")),
    # Renewed each minute, and told once a day: where nothing happens, nothing is written.
    Table(name="trusted_time", key=("id",), columns=("day", "trusted", "running", "boot"), quiet=("trusted", "running")),
)

# The tables that are not journaled, with the reason.
NOT_JOURNALED = {
    "epoch": "every journal segment bears identity and epoch",
    "job": "says what background work does now; a new manifest begins it anew",
    "state": "where background work stands; a new manifest begins it anew",
    "quarantine": "what nothing explains is found by the next fsck, too",
    "probe": "always empty",
    "event": "what is still to be told; who listens is told of what comes later",
    "successor": "where copies share again what was stored anew; without it they do not, which costs space alone",
    "gone": "what was deleted and is not in the journal yet",
    "outbox": "the notes that the journal is made of",
    "noted": "which rows the journal has had since the last checkpoint",
    "checkpoint": "as with the journal",
    "run": "as with the journal",
    "generation": "counts changes for those who keep rows in memory, and these end with the manifest",
    "journal": "where the journal stands; whoever recovers knows it from the journal itself",
}


class Place(NamedTuple):
    """Where a row is, or was."""

    table: str
    key: Key


class Row(msgspec.Struct, frozen=True, array_like=True):
    """One row as it is: `value` has the columns beside the key, and is None once the row is deleted."""

    table: str
    key: Key
    value: tuple[Column, ...] | None = None

    @property
    def place(self) -> Place:
        return Place(self.table, self.key)


class JournalSegment(Record, frozen=True, kw_only=True, omit_defaults=True):
    """What changed since the segment before. Numbers begin at 1 and have no gap.

    `sequence`: all changes that the manifest noted up to this one are in this segment or an earlier one. Without `whole` there were more
    than fit: the manifest is consistent again only after the next segment that is whole, and nothing before that is acknowledged.

    Two segments may bear one number: a process died after it had stored the first, and before the manifest knew of it. The next segment's
    `previous` tells which counts. At the end of the journal, where there is none, it is the one of higher `rank`.
    """

    number: int
    identity: str
    epoch: int
    previous: bytes  # SHA-256 of the plaintext of the segment before
    sequence: int
    whole: bool = True
    made_ms: int
    rows: tuple[Row, ...]

    @property
    def rank(self) -> tuple[bool, int, int]:
        """Of several at the end of the journal the highest counts: it holds all that was acknowledged.

        A later attempt has all that an earlier one had, and more, as long as both are whole; of one that is not, nothing was acknowledged.
        The epoch comes before the sequence: a recovered manifest goes on in a higher one, and may have noted less.
        """
        return self.whole, self.epoch, self.sequence


class Run(Record, frozen=True, kw_only=True, omit_defaults=True):
    """Rows of one table in the order of their keys: all there are from `first` up to `end`, which is None after the table's last row.

    A run is stored under names of its own. Each of its segments holds whole rows, and can be read without the others. With no `table`, it
    is a run of runs (see `Checkpoint`).
    """

    table: str
    first: Key  # () before the table's first row
    end: Key | None = None  # the next run's first
    rows: int
    number: int  # of the checkpoint that it was written for: its names bear it
    layout: Layout


class Checkpoint(Record, frozen=True, kw_only=True, omit_defaults=True):
    """The whole manifest as runs, and where the journal goes on.

    One of very many runs names runs of runs instead. The rows were read while others changed them: they are right once the journal from
    `number` + 1 on has been replayed, to `until` at least.
    """

    number: int  # of the journal segment that it follows
    until: int
    identity: str
    epoch: int
    digest: bytes  # SHA-256 of journal segment `number`: the next one's `previous`
    sequence: int  # of that segment
    made_ms: int
    runs: tuple[Run, ...] = ()


class CheckpointRecord(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A checkpoint as the manifest remembers it. While it is made, `made_ms` is 0, and its next run begins at `first` of `table`."""

    number: int
    epoch: int
    digest: bytes
    sequence: int
    begun_ms: int
    made_ms: int = 0
    until: int = 0
    rows: int = 0
    size_bytes: int = 0  # of the plaintext of its runs
    stores: tuple[str, ...] = ()  # of the policy that it was made under
    reusable: bool = True  # whether it is known what has changed since its runs were read
    table: str = ""
    first: Key = ()
    document: Layout | None = None  # how it is stored itself, once it is made
    index: Layout | None = None  # the run of its runs, if there are so many


class CheckpointState(Record, frozen=True, kw_only=True, omit_defaults=True):
    """What there is to decide on: whether a checkpoint is due, and what it makes garbage."""

    making: CheckpointRecord | None = None
    last: CheckpointRecord | None = None  # the newest that was made
    superseded: CheckpointRecord | None = None  # the newest of those that were made before the time asked about
    journal_segments: int = 0  # behind the last checkpoint
    journal_bytes: int = 0
    gap: bool = False  # changes behind the last checkpoint were forgotten: only a new one makes the copy whole again


class JournalPosition(Record, frozen=True, kw_only=True, omit_defaults=True):
    """Where the journal of this manifest stands."""

    number: int = 0  # of the last segment stored
    epoch: int = 0  # of that segment
    digest: bytes = NO_DIGEST
    whole: int = 0  # the last one that is whole
    sequence: int = 0  # of that one: up to this, everything is stored
    stored_ms: int = 0  # when that one was stored
    noted: int = 0  # the last change noted
    rows: int = 0  # notes that wait, about
    backlog: int = 0  # of those, the ones that no segment has, whole or not


class Changes(Record, frozen=True, kw_only=True, omit_defaults=True):
    """What is to go into the next journal segment, read in one transaction."""

    number: int  # of that segment
    previous: bytes
    identity: str
    epoch: int
    sequence: int
    whole: bool
    rows: tuple[Row, ...]
    began: bool = False  # an epoch that no segment bears yet

    @property
    def due(self) -> bool:
        """Whether there is anything to write: rows, or the news of an epoch, so that a journal whose end is hidden can be told."""
        return bool(self.rows) or self.began


class StoredSegment(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A journal segment that is in the stores, as the manifest remembers it."""

    number: int
    epoch: int
    digest: bytes
    sequence: int
    whole: bool = True
    size_bytes: int  # of its plaintext
    stored_ms: int
    layout: Layout


_ROW_SIZE = 100  # of a row, beside its text and bytes: numbers, the table's name, and what MessagePack adds
_segments = msgspec.msgpack.Decoder(JournalSegment)
_checkpoints = msgspec.msgpack.Decoder(Checkpoint)
_rows = msgspec.msgpack.Decoder(tuple[Row, ...])
_runs = msgspec.msgpack.Decoder(tuple[Run, ...])
_encoder = msgspec.msgpack.Encoder()


def encode_segment(segment: JournalSegment) -> bytes:
    return _encoder.encode(segment)


def decode_segment(plaintext: bytes) -> JournalSegment:
    """Read a journal segment's plaintext. Raises `IntegrityError`."""
    return _decoded(_segments, plaintext, "journal segment")


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    return _encoder.encode(checkpoint)


def decode_checkpoint(plaintext: bytes) -> Checkpoint:
    """Read a checkpoint's plaintext. Raises `IntegrityError`."""
    return _decoded(_checkpoints, plaintext, "checkpoint")


def encode_rows(rows: Sequence[Row]) -> bytes:
    return _encoder.encode(rows)


def decode_rows(plaintext: bytes) -> tuple[Row, ...]:
    """Read the plaintext of one segment of a run. Raises `IntegrityError`."""
    return _decoded(_rows, plaintext, "run")


def encode_runs(runs: Sequence[Run]) -> bytes:
    return _encoder.encode(runs)


def decode_runs(plaintext: bytes) -> tuple[Run, ...]:
    """Read the plaintext of one segment of a run of runs. Raises `IntegrityError`."""
    return _decoded(_runs, plaintext, "run of runs")


def sized(row: Row) -> int:
    """Return about how many bytes a row takes when it is encoded."""
    size = _ROW_SIZE
    for column in (*row.key, *(row.value or ())):
        if isinstance(column, str | bytes):
            size += len(column)
    return size


def digest_of(plaintext: bytes) -> bytes:
    """Return what the next journal segment's `previous` is to be."""
    return sha256(plaintext).digest()


def _decoded(decoder: msgspec.msgpack.Decoder[Decoded], plaintext: bytes, what: str) -> Decoded:
    try:
        return decoder.decode(plaintext)
    except msgspec.DecodeError as error:
        raise IntegrityError(f"this is no {what}, or one that this version does not know: {error}") from error
