"""Carrying bodies of one kind to the stores: most as one pack, those that would fill it badly each as a segment of its own.

Whatever happens, each body has its outcome at the end, and its memory is given back or belongs to late puts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import chain
from traceback import clear_frames
from typing import TypeAlias

from msgspec.structs import replace

from proxy.codec.geometry import SegmentGeometry
from proxy.codec.slots import Composition, arrange, compose
from proxy.engine.memory.budget import Budget
from proxy.engine.memory.grant import Grant
from proxy.engine.packing.pack_segment import PackKind, PackPutter, StoredSegment, pack_geometry, pack_memory
from proxy.engine.packing.packable import Arrived
from proxy.engine.tasks import BackgroundTasks
from proxy.engine.writing.filling import segment_memory
from proxy.errors import ManifestConflict
from proxy.manifest.drafts import PackedDraft, VersionDraft
from proxy.manifest.records import ExtentId, Settlement, Version

MAX_RECORD_SIZE = 4096  # of an object in a pack: all records share one column. One with a long key and much metadata has a longer one

RecordPack: TypeAlias = Callable[[int, int], None]  # is told of each pack that is stored: objects and bytes in it


class PackCarrier:
    """Stores and commits what has gathered."""

    def __init__(
        self, putter: PackPutter, budget: Budget, tasks: BackgroundTasks, *, record: RecordPack = lambda _slots, _size_bytes: None
    ) -> None:
        self._putter = putter
        self._budget = budget
        self._tasks = tasks
        self._record = record

    async def carry(self, bodies: Sequence[Arrived]) -> None:
        """Store bodies of one kind, and tell each what became of it. Raises nothing but `CancelledError`, unless it is at fault itself."""
        try:
            await self._carry(bodies)
        except BaseException as error:
            _fail([body for body in bodies if not body.outcome.done()], error)
            raise

    async def _carry(self, bodies: Sequence[Arrived]) -> None:
        first = bodies[0].destination
        kind = PackKind(policy=first.policy, scheme=first.scheme, cipher=first.cipher)
        fitting = [body for body in bodies if len(body.content.record) <= MAX_RECORD_SIZE]
        composition = compose([body.size_bytes for body in fitting], kind.scheme.k)
        alone = [body for body in bodies if len(body.content.record) > MAX_RECORD_SIZE]
        alone += [fitting[place] for place in composition.left_out]
        pack = self._store_pack(kind, fitting, composition) if any(composition.columns) else None
        if alone:  # seldom: a task for each costs as much as putting a shard
            await asyncio.gather(*(self._store_alone(kind, body) for body in alone), *(() if pack is None else (pack,)))
        elif pack is not None:
            await pack

    async def _store_pack(self, kind: PackKind, bodies: Sequence[Arrived], composition: Composition) -> None:
        places = sorted(chain.from_iterable(composition.columns))
        members = [bodies[place] for place in places]
        held = self._budget.join([member.held for member in members])
        try:
            stored = await self._seal_and_put(kind, bodies, composition, held)
            packed = [PackedDraft(_draft(bodies[place]), stored.offsets[place]) for place in places]
            outcomes = await self._putter.commit(stored, _PackCommit(members[0], stored, packed))
        except BaseException as error:
            held.release()  # what its members held
            _fail(members, error)
            if isinstance(error, asyncio.CancelledError):
                raise
            return
        self._record(len(members), stored.layout.content_size)
        for member, outcome in zip(members, outcomes, strict=True):
            if not isinstance(outcome, Version) or member.destination.manifest.is_confirmed(outcome, member.draft):
                member.end(outcome)
            else:
                self._tasks.start(_confirm(member, outcome))

    async def _seal_and_put(self, kind: PackKind, bodies: Sequence[Arrived], composition: Composition, held: Grant) -> StoredSegment:
        contents = [body.content for body in bodies]
        arrangement = arrange(contents, composition)
        packed_size = sum(bodies[place].size_bytes for place in arrangement.offsets)
        held.keep(packed_size + pack_memory(pack_geometry(kind.scheme, arrangement)))
        stored = await self._putter.store(kind, contents, arrangement, held)
        for place in arrangement.offsets:
            bodies[place].let_go()
        return stored

    async def _store_alone(self, kind: PackKind, body: Arrived) -> None:
        try:
            body.held.keep(body.size_bytes + segment_memory(SegmentGeometry(kind.scheme, body.size_bytes)))
            stored = await self._putter.store_alone(kind, body.content, body.held)
            body.let_go()
            body.end(await self._putter.commit(stored, _LoneCommit(body, stored)))
        except BaseException as error:
            _fail([body], error)
            if isinstance(error, asyncio.CancelledError):
                raise


class _PackCommit:
    """The commit of a pack."""

    def __init__(self, first: Arrived, stored: StoredSegment, packed: Sequence[PackedDraft]) -> None:
        self._destination = first.destination
        self._layout = stored.layout
        self._packed = packed

    async def __call__(self, settlements: Sequence[Settlement]) -> tuple[ExtentId | None, list[Version | ManifestConflict]]:
        manifest, now_ms = self._destination.manifest, self._destination.clock.now_ms()
        outcomes = await manifest.commit_pack(self._layout, self._packed, settlements=settlements, now_ms=now_ms)
        extent_id = next((outcome.extents[0].id for outcome in outcomes if isinstance(outcome, Version)), None)
        return extent_id, outcomes


class _LoneCommit:
    """The commit of a body with a segment of its own."""

    def __init__(self, body: Arrived, stored: StoredSegment) -> None:
        self._destination = body.destination
        self._draft = body.draft
        self._layout = stored.layout

    async def __call__(self, settlements: Sequence[Settlement]) -> tuple[ExtentId | None, Version]:
        version = await self._destination.commit(self._draft, (self._layout,), settlements)
        return version.extents[0].id, version


async def _confirm(member: Arrived, version: Version) -> None:
    """Tell a member of its version once that may be acknowledged: one that has to wait holds up no other."""
    try:
        member.end(await member.destination.manifest.confirm_version(version, member.draft))
    except BaseException as error:
        member.end(error)
        if isinstance(error, asyncio.CancelledError):
            raise


def _draft(body: Arrived) -> VersionDraft:
    cause = body.destination.cause
    return body.draft if cause is None else replace(body.draft, cause=cause)


def _fail(bodies: Sequence[Arrived], error: BaseException) -> None:
    """Tell all what has failed, without the frames that it failed in: they hold the bytes."""
    clear_frames(error.__traceback__)
    for body in bodies:
        body.held.release()
        body.let_go()
        body.end(error.with_traceback(None))
