"""The journal in the stores: its segments, its checkpoints and their runs, written and read as records.

A checkpoint is always one segment: one of many runs names **runs of runs** instead, whose rows are the runs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

import msgspec

from proxy.codec.format import CHECKPOINT_PREFIX, JOURNAL_PREFIX, RUN_PREFIX
from proxy.engine.journal.reading import CopyReader, FoundCopy
from proxy.engine.journal.writing import CopyWriter
from proxy.errors import IntegrityError
from proxy.manifest.journal import (
    Checkpoint,
    JournalSegment,
    Row,
    Run,
    StoredSegment,
    decode_checkpoint,
    decode_rows,
    decode_runs,
    decode_segment,
    digest_of,
    encode_checkpoint,
    encode_runs,
    encode_segment,
)  # fmt: skip
from proxy.manifest.records import Layout

MAX_RUNS = 2000  # that a checkpoint names itself: some 2 MiB


class ReadSegment(NamedTuple):
    """A journal segment that was read, and the digest by which the next one names it."""

    segment: JournalSegment
    digest: bytes
    size_bytes: int


class StoredCheckpoint(NamedTuple):
    """How a checkpoint is stored. `runs` is the run of its runs, if it has so many."""

    document: Layout
    runs: Layout | None


async def put_segment(writer: CopyWriter, segment: JournalSegment) -> StoredSegment:
    """Store a journal segment."""
    plaintext = encode_segment(segment)
    return StoredSegment(
        number=segment.number,
        epoch=segment.epoch,
        digest=digest_of(plaintext),
        sequence=segment.sequence,
        whole=segment.whole,
        size_bytes=len(plaintext),
        stored_ms=segment.made_ms,
        layout=await _put(writer, JOURNAL_PREFIX, segment.identity, segment.number, [plaintext]),
    )


async def read_segment(reader: CopyReader, found: FoundCopy) -> ReadSegment:
    """Read a journal segment that was found. Raises `NotEnoughShards`, or `IntegrityError` if it is not the one its names promise."""
    plaintext = await reader.read(found)
    segment = decode_segment(plaintext)
    _check(found, segment.identity, segment.number)
    return ReadSegment(segment, digest_of(plaintext), len(plaintext))


async def put_checkpoint(writer: CopyWriter, checkpoint: Checkpoint) -> StoredCheckpoint:
    """Store a checkpoint, whose runs are stored. What it says is true from then on."""
    runs, identity, number = checkpoint.runs, checkpoint.identity, checkpoint.number
    index: Layout | None = None
    if len(runs) > MAX_RUNS:
        groups = [runs[start : start + MAX_RUNS] for start in range(0, len(runs), MAX_RUNS)]
        index = await _put(writer, RUN_PREFIX, identity, number, [encode_runs(group) for group in groups])
        checkpoint = msgspec.structs.replace(checkpoint, runs=(Run(table="", first=(), rows=len(runs), number=number, layout=index),))
    return StoredCheckpoint(await _put(writer, CHECKPOINT_PREFIX, identity, number, [encode_checkpoint(checkpoint)]), index)


async def read_checkpoint(reader: CopyReader, found: FoundCopy) -> Checkpoint:
    """Read a checkpoint that was found, with all its runs. Raises `NotEnoughShards`, or `IntegrityError` as `read_segment`."""
    checkpoint = decode_checkpoint(await reader.read(found))
    _check(found, checkpoint.identity, checkpoint.number)
    runs: list[Run] = []
    for run in checkpoint.runs:
        if run.table:
            runs.append(run)
        else:
            async for plaintext in reader.read_layout(RUN_PREFIX, checkpoint.identity, run.number, run.layout):
                runs += decode_runs(plaintext)
    return msgspec.structs.replace(checkpoint, runs=tuple(runs))


async def read_checkpoint_number(reader: CopyReader, found: FoundCopy) -> int:
    """Return the number of a checkpoint, which its runs need not be there for. Raises as `read_checkpoint`."""
    checkpoint = decode_checkpoint(await reader.read(found))
    _check(found, checkpoint.identity, checkpoint.number)
    return checkpoint.number


async def read_run(reader: CopyReader, identity: str, run: Run) -> AsyncIterator[tuple[Row, ...]]:
    """Yield the rows of a run that a checkpoint of this manifest names, some MiB at a time. Raises `NotEnoughShards`."""
    async for plaintext in reader.read_layout(RUN_PREFIX, identity, run.number, run.layout):
        yield decode_rows(plaintext)


async def _put(writer: CopyWriter, prefix: str, identity: str, number: int, plaintexts: Sequence[bytes]) -> Layout:
    begun = writer.begin(prefix, identity, number)
    for plaintext in plaintexts:
        await begun.add(plaintext)
    return begun.layout()


def _check(found: FoundCopy, identity: str, number: int) -> None:
    if (found.identity, found.number) != (identity, number):
        raise IntegrityError(f"a copy of number {number} of manifest {identity} has the name of number {found.number} of {found.identity}")
