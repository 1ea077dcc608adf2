"""The manifest's copy in faulty stores: journal segments and checkpoints, found by their names and read with the root key alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace

from proxy.codec.format import CHECKPOINT_PREFIX, JOURNAL_PREFIX, RUN_PREFIX, parse_copy_name
from proxy.engine.journal import store
from proxy.engine.journal.reading import CopyReader
from proxy.engine.journal.writing import CopyWriter
from proxy.engine.tasks import BackgroundTasks
from proxy.engine.writing.quorum import ShardPutter
from proxy.errors import IntegrityError, NotEnoughShards
from proxy.manifest.journal import Checkpoint, JournalSegment, Row, Run, digest_of, encode_rows, encode_segment
from tests.laboratory import Laboratory, laboratory

IDENTITY = "0123456789abcdef" * 2


@dataclass
class Desk:
    """What copies are written and read with."""

    lab: Laboratory
    writer: CopyWriter
    reader: CopyReader
    tasks: BackgroundTasks

    async def put(self, segment: JournalSegment) -> None:
        await store.put_segment(self.writer, segment)
        await self.tasks.drain(60)

    async def find(self, number: int) -> list[store.FoundCopy]:
        return list((await self.reader.find(JOURNAL_PREFIX, identity=IDENTITY, number=number)).found)

    async def names(self, prefix: str) -> list[tuple[str, str]]:
        return [(name, shard) for name, held in self.lab.stores.items() async for shard, _ in held.list(prefix)]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with laboratory(tmp_path) as lab:
        services, tasks = lab.services, BackgroundTasks()
        cipher = services.keyring.journal_cipher()
        with ThreadPoolExecutor(1) as threads:
            putter = ShardPutter(services.fleet, max_grace_seconds=0.05, tasks=tasks, budget=services.budget)
            writer = CopyWriter(putter, services.policies[services.default_policy], cipher, tasks, threads)
            yield Desk(lab, writer, CopyReader(services.fleet.stores, cipher), tasks)
            await tasks.drain(60)


def segment(number: int = 7, rows: int = 3) -> JournalSegment:
    return JournalSegment(
        number=number,
        identity=IDENTITY,
        epoch=2,
        previous=b"p" * 32,
        sequence=40,
        made_ms=1,
        rows=tuple(Row("version", (1, f"k{row}".encode(), -1), ("v", 1, 0, b"r" * 100, None)) for row in range(rows)),
    )


@pytest.mark.parametrize("rows", [0, 3, 3000])
async def test_a_segment_is_found_by_its_number_and_read(desk: Desk, rows: int) -> None:
    await desk.put(segment(rows=rows))
    (found,) = await desk.find(7)
    read = await store.read_segment(desk.reader, found)
    assert read.segment == segment(rows=rows)
    assert read.digest == digest_of(encode_segment(read.segment))
    assert not await desk.find(8)


async def test_what_the_policy_lets_fail_may_fail(desk: Desk) -> None:
    await desk.put(segment())
    policy = desk.writer.policy
    for name in list(desk.lab.stores)[: policy.may_fail.most]:
        desk.lab.stores[name].down = True
    listing = await desk.reader.find(JOURNAL_PREFIX, identity=IDENTITY, number=7)
    assert len(listing.silent) == policy.may_fail.most
    assert (await store.read_segment(desk.reader, listing.found[0])).segment == segment()


@pytest.mark.parametrize("fault", ["loses_puts", "truncates", "flips_bits", "loses_answers", "keeps_what_it_refuses", "full"])
async def test_a_store_that_fails_or_lies_costs_nothing(desk: Desk, fault: str) -> None:
    for name in list(desk.lab.stores)[: desk.writer.policy.may_fail.most]:
        setattr(desk.lab.stores[name], fault, True)
    await desk.put(segment())
    (found,) = await desk.find(7)
    assert (await store.read_segment(desk.reader, found)).segment == segment()


async def test_no_store_alone_tells_anything_but_number_and_size(desk: Desk) -> None:
    await desk.put(segment())
    for name, shard in await desk.names(JOURNAL_PREFIX):
        held = bytes(await desk.lab.stores[name].get(shard))
        assert b"version" not in held
        assert b"r" * 10 not in held


async def test_what_lies_is_told_from_what_was_written(desk: Desk) -> None:
    """Shards of another segment under this one's name do no harm as long as k tell the truth; alone they are refused."""
    await desk.put(segment(6))
    await desk.put(segment(7))
    held = {name: dict(await _shards(desk, name)) for name in desk.lab.stores}
    liars = list(desk.lab.stores)
    for count, name in enumerate(liars, 1):
        old = next(shard for shard in held[name] if "000006-" in shard)
        new = next(shard for shard in held[name] if "000007-" in shard)
        await desk.lab.stores[name].put(new, [await desk.lab.stores[name].get(old)])
        (found,) = await desk.find(7)
        if count <= desk.writer.policy.may_fail.most:
            assert (await store.read_segment(desk.reader, found)).segment == segment(7)
    with pytest.raises((NotEnoughShards, IntegrityError)):
        await store.read_segment(desk.reader, found)


async def test_a_name_that_promises_another_number_is_refused(desk: Desk) -> None:
    await desk.put(segment(6))
    for name, shard in await desk.names(JOURNAL_PREFIX):
        copy = parse_copy_name(shard)
        assert copy is not None
        await desk.lab.stores[name].put(str(copy._replace(number=7)), [await desk.lab.stores[name].get(shard)])
    (found,) = await desk.find(7)
    with pytest.raises(IntegrityError, match="number 6"):
        await store.read_segment(desk.reader, found)


async def test_two_attempts_at_one_number_are_two_copies(desk: Desk) -> None:
    await desk.put(segment(7))
    await desk.put(replace(segment(7), sequence=41))
    read = [await store.read_segment(desk.reader, found) for found in await desk.find(7)]
    assert sorted(each.segment.sequence for each in read) == [40, 41]
    assert max(read, key=lambda each: each.segment.rank).segment.sequence == 41


async def test_anothers_copies_in_a_shared_store_are_not_found(desk: Desk) -> None:
    await desk.put(replace(segment(7), identity="f" * 32))
    assert not await desk.find(7)
    assert len((await desk.reader.find(JOURNAL_PREFIX)).found) == 1


@pytest.mark.parametrize("count", [2, 4001])
async def test_a_checkpoint_is_read_with_its_runs(desk: Desk, count: int) -> None:
    parts = [[Row("store", (f"{part}{row}",), ()) for row in range(3)] for part in range(2)]
    begun = desk.writer.begin(RUN_PREFIX, IDENTITY, 9)
    for part in parts:
        await begun.add(encode_rows(part))
    run = Run(table="store", first=(), rows=6, number=9, layout=begun.layout())
    checkpoint = Checkpoint(number=9, until=11, identity=IDENTITY, epoch=2, digest=b"d" * 32, sequence=3, made_ms=1, runs=(run,) * count)
    await store.put_checkpoint(desk.writer, checkpoint)
    await desk.tasks.drain(60)
    desk.lab.stores[run.layout.segments[0].stores[0]].down = True
    (found,) = (await desk.reader.find(CHECKPOINT_PREFIX, identity=IDENTITY)).found
    assert await store.read_checkpoint(desk.reader, found) == checkpoint
    assert [list(rows) async for rows in store.read_run(desk.reader, IDENTITY, run)] == parts


async def test_a_run_is_found_where_it_was_not_put(desk: Desk) -> None:
    """A provider's bucket may have been copied elsewhere: the names are what counts."""
    begun = desk.writer.begin(RUN_PREFIX, IDENTITY, 9)
    await begun.add(encode_rows([Row("store", ("s",), ())]))
    await desk.tasks.drain(60)
    layout = begun.layout()
    elsewhere = replace(layout, segments=tuple(replace(part, stores=part.stores[::-1]) for part in layout.segments))
    run = Run(table="store", first=(), rows=1, number=9, layout=elsewhere)
    assert [rows async for rows in store.read_run(desk.reader, IDENTITY, run)] == [(Row("store", ("s",), ()),)]


async def _shards(desk: Desk, name: str) -> list[tuple[str, int]]:
    return [entry async for entry in desk.lab.stores[name].list(JOURNAL_PREFIX)]
