"""The labels of the segments that nothing names: k footers each, joined to the data key, which opens the label.

Footers are read side by side, segment by segment of a batch; the batch is then joined and opened in a thread, while the next one is read.
What a footer says is believed only after the commitment: see `codec.claims`. Each batch is noted with the position behind it, in one step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from msgspec.structs import replace

from proxy.codec.claims import JoinedSegment, OpenedLabel, join_segment, open_label
from proxy.codec.footer import Footer
from proxy.codec.format import SEGMENT_ID_SIZE, footer_size
from proxy.codec.keys import DerivedKeys
from proxy.engine.moving.stored_anew import is_needless
from proxy.engine.recover.footers import FooterReader, FootersRead
from proxy.engine.recover.notes import Notes, Tell
from proxy.engine.recover.placing import place_shards
from proxy.errors import IntegrityError, KeyUnavailable, NotEnoughShards
from proxy.keyring import TenantCipher
from proxy.manifest.records import BucketName, ObjectKey, SegmentId, UploadId, VersionId
from proxy.manifest.recovery import Finding, Labelled, UnnamedSegment
from proxy.manifest.sqlite.notebook import Notebook
from proxy.stores.observe import ObservedStore

BATCH = 256
AT_ONCE = 64  # segments whose footers are read side by side
POSITION = "labels"
BODY_ID = bytes(SEGMENT_ID_SIZE)  # no segment has it: what a data key commits to for it tells bodies apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What is known when labels are read: whose keys there are, which stores were silent, and which a bucket's policy uses."""

    ciphers: Mapping[str, TenantCipher]
    silent: Collection[str]
    stores_of: Mapping[BucketName, Sequence[str]]
    all_stores: Sequence[str]
    journal_number: int  # of the last segment of the journal that was found


@dataclass(frozen=True, slots=True)
class _Task:
    segment: UnnamedSegment
    read: FootersRead


class LabelReader:
    """Reads the labels of all unnamed segments into the notebook."""

    def __init__(
        self, stores: Mapping[str, ObservedStore], surroundings: Surroundings, notes: Notes, threads: Executor, tell: Tell
    ) -> None:
        self._footers = FooterReader(stores)
        self._surroundings = surroundings
        self._notes = notes
        self._threads = threads
        self._tell = tell

    async def run(self) -> None:
        """Go on from where the notebook says."""
        before = await self._notes.run(Notebook.load, POSITION)
        position = SegmentId(before or b"")
        total = await self._notes.run(Notebook.count_unnamed, position)
        done = 0
        opening: asyncio.Task[None] | None = None
        while batch := await self._notes.run(Notebook.unnamed, position, BATCH):
            position = batch[-1].id
            tasks = await self._read(batch)
            if opening is not None:
                await opening
            opening = asyncio.create_task(self._open(tasks, position))
            done += len(batch)
            self._tell("labels", done, total)
        if opening is not None:
            await opening

    async def _read(self, batch: Sequence[UnnamedSegment]) -> list[_Task]:
        gate = asyncio.Semaphore(AT_ONCE)

        async def read(segment: UnnamedSegment) -> _Task:
            task = _Task(segment, self._footers.begin(segment.sightings))
            async with gate:
                await self._footers.read(task.read)
            return task

        return await asyncio.gather(*(read(segment) for segment in batch))

    async def _open(self, tasks: Sequence[_Task], position: SegmentId) -> None:
        """Open what can be opened, read more of what cannot, and note the batch."""
        opened = await self._in_thread(tasks)
        again = [
            task for task, one in zip(tasks, opened, strict=True) if isinstance(one, Finding) and (task.read.left or task.read.unanswered)
        ]
        for task in again:
            await self._footers.read_all(task.read)
        anew = iter(await self._in_thread(again))
        final = [next(anew) if any(task is other for other in again) else one for task, one in zip(tasks, opened, strict=True)]
        labelled = [one for one in final if isinstance(one, Labelled)]
        findings = [one for one in final if isinstance(one, Finding)]
        await self._notes.run(Notebook.add_labelled, labelled, findings, name=POSITION, position=position)

    async def _in_thread(self, tasks: Sequence[_Task]) -> list[Labelled | Finding | None]:
        if not tasks:
            return []
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: [self._identify(task) for task in tasks])

    def _identify(self, task: _Task) -> Labelled | Finding | None:
        """Return what a label says, or why it cannot be read; None of what is not needed."""
        reasons = list(task.read.reasons)
        try:
            joined = join_segment(task.read.footers, self._open_share, reasons)
            opened = open_label(joined, task.read.footers)
            return None if is_needless(opened.label, self._surroundings.journal_number) else self._labelled(task, joined, opened)
        except (IntegrityError, KeyUnavailable, NotEnoughShards) as error:
            return Finding(sort="unread", subject=f"segment {task.segment.id.hex()}", reason=_reason(error, task))

    def _open_share(self, footer: Footer) -> bytes:
        tenant = footer.fixed.tenant_key_id
        cipher = self._surroundings.ciphers.get(tenant)
        if cipher is None:
            raise KeyUnavailable(f"no tenant and no KMS key {tenant} is in the journal")
        return cipher.open_share(footer)

    def _labelled(self, task: _Task, joined: JoinedSegment, opened: OpenedLabel) -> Labelled:
        fixed, known, label = joined.fixed, self._surroundings, opened.label
        bucket = BucketName(label.bucket)
        footer = footer_size(len(opened.sealed))
        placed = place_shards(
            task.segment.id,
            size=fixed.segment_size,
            shard_count=fixed.scheme.n,
            shard_size=fixed.geometry.cells_size + footer,
            sightings=task.segment.sightings,
            silent=known.silent,
            stores=known.stores_of.get(bucket, known.all_stores),
        )
        return Labelled(
            bucket=bucket,
            key=ObjectKey(label.key),
            version_id=VersionId(label.version_id),
            upload_id=UploadId(label.upload_id),
            part_number=label.part_number,
            body=DerivedKeys(joined.data_key, BODY_ID).commitment(),
            number=label.segment,
            offset=label.offset,
            k=fixed.scheme.k,
            m=fixed.scheme.m,
            tenant_key_id=fixed.tenant_key_id,
            wrapped_key=known.ciphers[fixed.tenant_key_id].wrap(joined.data_key),
            segment=replace(placed, footer_size=footer),
            record=label.record,
            table_offset=label.table_offset,
            table_size=label.table_size,
        )


def _reason(error: Exception, task: _Task) -> str:
    if isinstance(error, NotEnoughShards):
        return str(error).partition(": ")[2]
    return "; ".join(dict.fromkeys(task.read.reasons)) if not task.read.footers else str(error)
