"""Breaks made on purpose: each takes away one thing that keeps data safe. The machine must find every one."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import msgspec
from msgspec.structs import replace as with_fields

from proxy.codec.cells import CellCipher
from proxy.codec.format import TAG_SIZE, is_shard_name
from proxy.codec.slot_cipher import SlotCipher
from proxy.engine.collect import Collector
from proxy.engine.epoch import EpochKeeper
from proxy.engine.journal.flush import Flusher
from proxy.engine.moving.moving import ShardMover
from proxy.engine.packing.pack import Packer
from proxy.engine.packing.packable import read_whole
from proxy.engine.recover.history import HistoryReplay
from proxy.engine.recover.labelled import LabelledRecovery
from proxy.engine.verbs.objects import ObjectVerbs
from proxy.engine.writing import write
from proxy.engine.writing.delivery import Delivery
from proxy.engine.writing.destination import VersionDestination
from proxy.engine.writing.intents import IntentLedger
from proxy.engine.writing.write import Writer
from proxy.errors import CellForged, ProxyError, SlotForged
from proxy.manifest.records import NULL_VERSION, ExtentId, ExtentRef, GarbageSegment, Version
from proxy.manifest.sqlite import extents, packs, slots
from tests.fault.machine.audit import extents as stored_extents

Break = Callable[[], AbstractContextManager[object]]


@contextmanager
def commit_before_quorum() -> Iterator[None]:
    """One shard in a store is taken for enough, and the others are not waited for."""

    async def no_grace(self: Any, max_seconds: float) -> None:
        """Wait for nobody."""

    enough = patch("proxy.engine.writing.quorum.survives", lambda policy, scheme, held: len(held) >= 1)
    with enough, patch("proxy.engine.writing.quorum._SegmentPuts.grace", no_grace):
        yield


def collect_on_absence() -> AbstractContextManager[object]:
    """Whatever lies in a store and is not in the manifest is deleted, however young it is."""
    step = Collector.step

    async def eager_step(self: Any) -> Any:
        known = await self._manifest._read(_names)
        for store in self._fleet.stores.values():
            for name in [name async for name, _ in store.list() if is_shard_name(name) and name not in known]:
                await store.delete(name)
        return await step(self)

    return patch.object(Collector, "step", eager_step)


def _names(connection: sqlite3.Connection) -> set[str]:
    segments = (segment for extent, _ in stored_extents(connection) for segment in extent.layout.segments)
    return {segment.shard_name(index) for segment in segments for index in range(len(segment.stores))}


def reuse_a_name() -> AbstractContextManager[object]:
    """Segment ids come from so small a space that they come again."""

    def few(size: int) -> bytes:
        return bytes(size - 1) + bytes([secrets.token_bytes(1)[0] % 64])

    return patch("proxy.engine.writing.intents.secrets", SimpleNamespace(token_bytes=few))


@contextmanager
def commit_twice() -> Iterator[None]:
    """A commit is made again for good measure, as if its answer had been lost, without the ids that make it count once."""
    commit = write._commit

    async def twice(destination: Any, recorded: Any, layouts: Any, settlements: Any) -> Any:
        await destination.commit(recorded, layouts, ())
        return await commit(destination, recorded, layouts, settlements)

    with patch.object(write, "_commit", twice):
        yield


def forget_garbage() -> AbstractContextManager[object]:
    """What nobody refers to any more is not queued for deletion."""
    return patch.object(extents, "queue_garbage", lambda connection, segments, now_ms: None)


def serve_unverified() -> AbstractContextManager[object]:
    """A cell that does not open is passed on as it is."""
    opened = CellCipher.open_into

    def passed_on(self: Any, stripe: int, sealed: bytes | memoryview, room: memoryview) -> None:
        try:
            opened(self, stripe, sealed, room)
        except CellForged:
            cell = bytes(sealed)[:-TAG_SIZE]
            room[: len(cell)] = cell

    return patch.object(CellCipher, "open_into", passed_on)


def acknowledge_before_the_commit() -> AbstractContextManager[object]:
    """A PUT is answered while its commit is still under way."""
    in_order = Writer.write

    async def commit_some_time(delivery: Delivery, placed: Any, commit: Any) -> None:
        with suppress(ProxyError):  # nobody waits for it
            await delivery.commit(placed, commit)

    async def early(self: Any, destination: Any, body: Any) -> Any:
        if not isinstance(destination, VersionDestination):
            return await in_order(self, destination, body)
        segments, recorded = await self._store(destination, body)
        commit = partial(write._commit, destination, recorded, segments.layouts(body.size_bytes))
        delivery = self._delivery
        delivery._tasks.start(commit_some_time(delivery, segments.placed, commit))
        keeps_versions = destination.bucket.versioning == "Enabled"
        return SimpleNamespace(id=destination.version_id if keeps_versions else NULL_VERSION)

    return patch.object(Writer, "write", early)


def check_conditions_before_the_body_only() -> AbstractContextManager[object]:
    """A conditional PUT is not held against what is there when it commits."""
    return patch("proxy.manifest.plans.versions.check_conditions", lambda current, conditions: None)


@contextmanager
def leave_what_a_failed_write_has_stored() -> Iterator[None]:
    """The ids of a write that failed are settled, and its shards left where they are."""

    async def settle_only(self: Any, segments: Sequence[GarbageSegment]) -> None:
        ids = [segment.id for segment in segments if segment.id in self._taken]
        await self._manifest.release_unused(self.settlements(ids))
        self.forget(ids)

    with patch.object(IntentLedger, "abandon", settle_only):
        yield


@contextmanager
def remember_what_was_looked_up() -> Iterator[None]:
    """Each process keeps what it has looked up until it writes that key itself."""
    find, put = ObjectVerbs.find_readable, ObjectVerbs.put_object

    async def remembered(self: Any, bucket: Any, key: Any, version_id: Any = None) -> Any:
        known = self.__dict__.setdefault("known", {})
        if known.get((bucket.id, key, version_id)) is None:
            known[bucket.id, key, version_id] = await find(self, bucket, key, version_id)
        return known[bucket.id, key, version_id]

    async def forgotten(self: Any, bucket: Any, owner: Any, key: Any, *rest: Any, **options: Any) -> Any:
        self.__dict__.setdefault("known", {}).pop((bucket.id, key, None), None)
        return await put(self, bucket, owner, key, *rest, **options)

    with patch.object(ObjectVerbs, "find_readable", remembered), patch.object(ObjectVerbs, "put_object", forgotten):
        yield


@contextmanager
def skip_the_fence() -> Iterator[None]:
    """An old copy of the manifest is taken for the newest, whatever the stores and the journal there say."""

    async def silent(self: Any) -> str:
        return ""

    with patch("proxy.engine.epoch.reason_to_fence", lambda epoch, markers: ""), patch.object(EpochKeeper, "_reason_of_journal", silent):
        yield


def delete_the_old_before_the_move_is_committed() -> AbstractContextManager[object]:
    """A shard that is moved is deleted where it was as soon as it is stored where it goes."""
    commit = ShardMover._replace

    async def too_early(self: Any, draw: Any, stores: Any) -> None:
        for index in stores:
            with suppress(ProxyError):
                await self._fleet[draw.segment.stores[index]].delete(draw.segment.shard_name(index))
        await commit(self, draw, stores)

    return patch.object(ShardMover, "_replace", too_early)


def acknowledge_before_the_journal() -> AbstractContextManager[object]:
    """Whoever should wait until the journal has something is told at once that it has."""

    async def at_once(self: Any) -> None:
        """Wait for nothing."""

    return patch.object(Flusher, "stored", at_once)


def replay_the_journal_backwards() -> AbstractContextManager[object]:
    """A recovery puts the segments of the journal into the manifest in the wrong order."""
    return _replay(lambda links: links[::-1])


def replay_the_journal_but_for_one() -> AbstractContextManager[object]:
    """A recovery leaves out a segment of the journal."""
    return _replay(lambda links: links[: len(links) // 2] + links[len(links) // 2 + 1 :])


def _replay(order: Callable[[tuple[Any, ...]], tuple[Any, ...]]) -> AbstractContextManager[object]:
    run = HistoryReplay.run

    async def otherwise(self: Any, history: Any) -> int:
        return await run(self, replace(history, chain=history.chain._replace(links=order(history.chain.links))))

    return patch.object(HistoryReplay, "run", otherwise)


def take_garbage_for_objects() -> AbstractContextManager[object]:
    """A recovery brings back whatever labels tell of, also what was to be deleted."""
    return patch("proxy.engine.recover.labelled.segment_of", lambda name: None)


# Of packs


def acknowledge_before_the_commit_of_a_pack() -> AbstractContextManager[object]:
    """A client whose body has joined a pack is answered at once."""

    async def early(self: Any, destination: Any, body: Any) -> Any:
        self._gate(destination).join(await read_whole(destination, body, self._budget))
        keeps_versions = destination.bucket.versioning == "Enabled"
        return SimpleNamespace(id=destination.version_id if keeps_versions else NULL_VERSION)

    return patch.object(Packer, "write", early)


def open_slots_unverified() -> AbstractContextManager[object]:
    """A slot that does not open is passed on as it is."""
    opened = SlotCipher.open

    def passed_on(self: Any, offset: int, sealed: bytes | memoryview) -> bytes:
        try:
            return opened(self, offset, sealed)
        except SlotForged:
            return bytes(sealed)[:-TAG_SIZE]

    return patch.object(SlotCipher, "open", passed_on)


def exchange_without_compare() -> AbstractContextManager[object]:
    """Whatever is the latest version of a key by now is moved to the slot that was made for an older one."""

    def latest(connection: sqlite3.Connection, moves: Sequence[Any], policy: str) -> Iterator[Any]:
        for move in moves:
            row = connection.execute(
                "SELECT record FROM version WHERE bucket = ? AND key = ? AND NOT marker ORDER BY order_key LIMIT 1",
                (move.user.bucket_id, move.user.key.encode()),
            ).fetchone()
            if row is not None:
                version = msgspec.msgpack.decode(row[0], type=Version)
                user = with_fields(move.user, version_id=version.id, sequence=version.sequence)
                yield packs._Movable(with_fields(move, user=user), version)

    return patch.object(packs, "_movable", latest)


@contextmanager
def miscount_live_bytes() -> Iterator[None]:
    """A slot that nobody uses any more counts as one in use, so that nothing of it is ever rewritten."""

    def none(released: Iterable[ExtentRef]) -> dict[ExtentId, dict[int, int]]:
        return {}

    with patch.object(extents, "slots_of", none), patch.object(slots, "slots_of", none):
        yield


def read_the_tables_of_known_packs() -> AbstractContextManager[object]:
    """A recovery takes what tables say for true also where the journal knows what became of it."""
    name = LabelledRecovery._name_segments

    async def but_for_packs(self: Any) -> None:
        await name(self)
        extents = await self._manifest.walk_extents(after=ExtentId(0), limit=1_000)
        ids = [(segment.id,) for extent in extents if extent.layout.slots for segment in extent.layout.segments]
        await self._notes.run(lambda notebook: notebook._connection.executemany("DELETE FROM named WHERE segment = ?", ids))

    return patch.object(LabelledRecovery, "_name_segments", but_for_packs)


BREAKS: tuple[Break, ...] = (
    commit_before_quorum,
    collect_on_absence,
    reuse_a_name,
    commit_twice,
    forget_garbage,
    serve_unverified,
    acknowledge_before_the_commit,
    check_conditions_before_the_body_only,
    leave_what_a_failed_write_has_stored,
    remember_what_was_looked_up,
    skip_the_fence,
    delete_the_old_before_the_move_is_committed,
)
IN_RECOVERY: tuple[Break, ...] = (
    acknowledge_before_the_journal,
    replay_the_journal_backwards,
    replay_the_journal_but_for_one,
    take_garbage_for_objects,
)
OVER_PACKS: tuple[Break, ...] = (
    commit_before_quorum,
    acknowledge_before_the_commit_of_a_pack,
    open_slots_unverified,
    exchange_without_compare,
    miscount_live_bytes,
    forget_garbage,
)
IN_RECOVERY_OF_PACKS: tuple[Break, ...] = (read_the_tables_of_known_packs,)
