"""Checkpoints: with the journal behind them they restate the manifest, whatever is changed while they are made, and whoever makes them."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from proxy.config import JournalConfig
from proxy.engine.journal import reading, store
from proxy.engine.journal.checkpoint import CheckpointMaker, RunSize
from proxy.engine.journal.checkpointing import CheckpointWorker, request_checkpoint
from proxy.errors import JournalUnavailable, ManifestConflict
from proxy.manifest.journal import TABLES, Checkpoint, Column, Key
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import ObjectKey
from tests.contract.test_journal import Steps
from tests.fault.test_journal import counting
from tests.laboratory import Laboratory, laboratory

KEPT = JournalConfig(interval_ms=10**9, checkpoint_min_mib=10_000, keep_seconds=1000.0)
SMALL = RunSize(rows=3, size_bytes=2000, segment_bytes=500, rows_at_once=2)
Table = dict[Key, tuple[Column, ...]]


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Laboratory]:
    async with laboratory(tmp_path, journal=KEPT) as opened:
        shrink(opened)
        yield opened


def shrink(lab: Laboratory, size: RunSize = SMALL) -> CheckpointWorker:
    """Have small runs, so that there are many."""
    worker = lab.worker("checkpoint")
    assert isinstance(worker, CheckpointWorker)
    old = worker._maker
    worker._maker = CheckpointMaker(
        old._manifest, old._writer, old._flusher, old._clock, old._throttle, old._memory, run_size=size
    )  # fmt: skip
    return worker


async def checkpoint(lab: Laboratory) -> Checkpoint:
    """Make one, and return it as the stores have it."""
    await request_checkpoint(lab.services.manifest)
    while not (await lab.worker("checkpoint").step()).idle:
        pass
    found = await checkpoints(lab)
    return found[-1]


async def checkpoints(lab: Laboratory) -> list[Checkpoint]:
    reader = lab.services.journal.reader
    return [await store.read_checkpoint(reader, copy) for copy in (await reader.find("c/")).found]


async def restored(lab: Laboratory, base: Checkpoint | None) -> dict[str, Table]:
    """What a recovery would make of a checkpoint and the journal behind it."""
    reader = lab.services.journal.reader
    tables: dict[str, Table] = {table.name: {} for table in TABLES}
    for run in base.runs if base else ():
        async for rows in store.read_run(reader, base.identity, run):
            for row in rows:
                assert row.table == run.table
                assert row.key not in tables[row.table]
                tables[row.table][row.key] = row.value
    number = base.number if base else 0
    read = [await store.read_segment(reader, copy) for copy in (await reader.find("j/")).found if copy.number > number]
    previous = base.digest if base else bytes(32)
    for each in counting(read):
        assert each.segment.previous == previous
        previous = each.digest
        for row in each.segment.rows:
            if row.value is None:
                tables[row.table].pop(row.key, None)
            else:
                tables[row.table][row.key] = row.value
    return without_quiet(tables)


async def present(manifest: Manifest) -> dict[str, Table]:
    return without_quiet({
        table.name: {row.key: row.value for row in await manifest.rows_of(table.name, limit=100_000)} for table in TABLES
    })  # fmt: skip


def without_quiet(tables: dict[str, Table]) -> dict[str, Table]:
    for table in TABLES:
        quiet = [table.columns.index(column) for column in table.quiet]
        tables[table.name] = {
            key: tuple(None if index in quiet else column for index, column in enumerate(value))
            for key, value in tables[table.name].items()
        }
    return tables


async def test_a_checkpoint_restates_the_manifest(lab: Laboratory) -> None:
    for number in range(10):
        await lab.put(f"k{number}", b"data")
    made = await checkpoint(lab)
    assert len([run for run in made.runs if run.table == "version"]) == 4
    assert await restored(lab, made) == await present(lab.services.manifest)


async def test_runs_of_one_table_follow_each_other_without_a_gap(lab: Laboratory) -> None:
    for number in range(10):
        await lab.put(f"k{number}", b"data")
    made = await checkpoint(lab)
    for table in TABLES:
        runs = [run for run in made.runs if run.table == table.name]
        if runs:
            assert runs[0].first == ()
            assert [run.end for run in runs[:-1]] == [run.first for run in runs[1:]]
            assert runs[-1].end is None


async def test_runs_that_nobody_touched_are_referred_to(lab: Laboratory) -> None:
    for number in range(12):
        await lab.put(f"k{number:02d}", b"data")
    first = await checkpoint(lab)
    await lab.put("k05", b"other")
    second = await checkpoint(lab)
    versions = [[run for run in made.runs if run.table == "version"] for made in (first, second)]
    fresh = [run for run in versions[1] if run not in versions[0]]
    assert [run.number for run in fresh] == [second.number]
    assert len(versions[1]) == len(versions[0]) == 4
    assert await restored(lab, second) == await present(lab.services.manifest)
    assert await restored(lab, first) == await present(lab.services.manifest)


async def test_nothing_is_written_anew_when_nothing_has_changed(lab: Laboratory) -> None:
    await lab.put("k", b"data")
    first = await checkpoint(lab)
    second = await checkpoint(lab)
    assert second.number > first.number
    assert second.runs == first.runs


async def test_a_row_between_runs_is_not_lost(lab: Laboratory) -> None:
    """All rows of a run are deleted, so that the next checkpoint has none there, and then there are some again."""
    for number in range(9):
        await lab.put(f"k{number}", b"")
    await checkpoint(lab)
    for number in (3, 4, 5):
        await delete(lab, f"k{number}")
    await checkpoint(lab)
    await lab.put("k4", b"")
    third = await checkpoint(lab)
    assert await restored(lab, third) == await present(lab.services.manifest)


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_is_changed_while_it_is_made_it_restates_the_manifest(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    names = [name[1:] for name in vars(Steps) if name.startswith("_") and not name.startswith(("__", "_damage"))]
    async with laboratory(tmp_path, journal=KEPT) as lab:
        worker = shrink(lab, RunSize(rows=2, size_bytes=10_000, segment_bytes=300, rows_at_once=2))
        manifest = lab.services.manifest
        steps = Steps(lab.services.journal.flusher._manifest)  # without waiting for the journal after each
        made: set[int] = set()
        while len(made) < 3:
            await steps.take(rng.choice([*names, "put", "put", "put", "copy", "tag"]), rng.randrange(3))
            if rng.random() < 0.2:
                await lab.services.journal.flusher.flush()
            if rng.random() < 0.05:
                await request_checkpoint(manifest)
            if rng.random() < 0.7:
                await worker.step()
            last = (await manifest.checkpoint_state(before_ms=0)).last
            if last is not None and last.number not in made:
                made.add(last.number)
                await lab.services.journal.flusher.flush()
                there = await present(manifest)
                for base in (None, *await checkpoints(lab)):
                    assert await restored(lab, base) == there


async def test_the_journal_behind_a_checkpoint_reaches_beyond_its_last_run(lab: Laboratory) -> None:
    await lab.put("k", b"data")
    await request_checkpoint(lab.services.manifest)
    worker = lab.worker("checkpoint")
    await worker.step()
    while (await lab.services.manifest.checkpoint_state(before_ms=0)).making.table:
        await worker.step()
        await lab.put("k", b"data, again")
    while not (await worker.step()).idle:
        pass
    (made,) = await checkpoints(lab)
    assert made.until > made.number
    assert await restored(lab, made) == await present(lab.services.manifest)


async def test_a_checkpoint_that_the_journal_cannot_follow_is_not_made(tmp_path: Path) -> None:
    async with laboratory(tmp_path, journal=KEPT) as lab:
        worker = shrink(lab)
        await request_checkpoint(lab.services.manifest)
        await worker.step()
        while (await lab.services.manifest.checkpoint_state(before_ms=0)).making.table:
            await worker.step()
        await lab.put("k", b"data")
        for held in lab.stores.values():
            held.down = True
        with lab.no_time_for_the_journal(), pytest.raises(JournalUnavailable):
            await worker.step()
        for held in lab.stores.values():
            held.down = False
        lab.clock.advance(60)
        assert not await checkpoints(lab)
        while not (await worker.step()).idle:
            pass
        assert len(await checkpoints(lab)) == 1


async def test_another_process_goes_on_where_one_died(tmp_path: Path) -> None:
    async with laboratory(tmp_path, journal=KEPT) as lab:
        worker = shrink(lab)
        for number in range(10):
            await lab.put(f"k{number}", b"data")
        await request_checkpoint(lab.services.manifest)
        while (await lab.services.manifest.checkpoint_state(before_ms=0)).making is None:
            await worker.step()
        while (await lab.services.manifest.checkpoint_state(before_ms=0)).making.table != "version":
            await worker.step()
        await worker.step()
        before = (await lab.services.manifest.checkpoint_state(before_ms=0)).making
        assert before.first
    async with laboratory(tmp_path, journal=KEPT) as lab:
        worker = shrink(lab)
        await lab.put("k0", b"new")
        while not (await worker.step()).idle:
            pass
        (made,) = await checkpoints(lab)
        assert made.number == before.number
        assert await restored(lab, made) == await present(lab.services.manifest)


async def test_two_that_make_one_do_not_both_go_on(lab: Laboratory) -> None:
    manifest = lab.services.manifest
    await request_checkpoint(manifest)
    await lab.worker("checkpoint").step()
    making = (await manifest.checkpoint_state(before_ms=0)).making
    await lab.worker("checkpoint").step()
    with pytest.raises(ManifestConflict):
        await manifest.advance_checkpoint(making, replace(making, table="bucket"))


async def test_a_run_that_has_lost_a_shard_is_written_anew(lab: Laboratory) -> None:
    for number in range(6):
        await lab.put(f"k{number}", b"data")
    first = await checkpoint(lab)
    run = next(run for run in first.runs if run.table == "version")
    segment = run.layout.segments[0]
    held = lab.stores[segment.stores[0]]
    (name,) = [name async for name, _ in held.list("r/") if segment.id.hex() in name]
    await held.delete(name)
    second = await checkpoint(lab)
    assert run not in second.runs
    assert len(set(second.runs) & set(first.runs)) == len(first.runs) - 1
    assert await restored(lab, second) == await present(lab.services.manifest)


async def test_a_store_that_is_silent_does_not_have_all_written_anew(lab: Laboratory) -> None:
    await lab.put("k", b"data")
    first = await checkpoint(lab)
    lab.stores[next(iter(lab.stores))].down = True
    await request_checkpoint(lab.services.manifest)
    while not (await lab.worker("checkpoint").step()).idle:
        pass
    lab.stores[next(iter(lab.stores))].down = False
    assert (await checkpoints(lab))[-1].runs == first.runs


async def names(lab: Laboratory, prefix: str) -> set[str]:
    return {name for held in lab.stores.values() async for name, _ in held.list(prefix)}


async def test_what_a_checkpoint_makes_useless_is_removed_after_a_while(lab: Laboratory) -> None:
    for number in range(6):
        await lab.put(f"k{number}", b"data")
        await lab.services.journal.flusher.flush()
    first = await checkpoint(lab)
    await lab.put("k0", b"data, again")
    second = await checkpoint(lab)
    before = {prefix: await names(lab, prefix) for prefix in ("j/", "c/", "r/")}
    assert (await lab.worker("checkpoint").step()).idle
    assert before == {prefix: await names(lab, prefix) for prefix in ("j/", "c/", "r/")}
    lab.clock.advance(1001)
    while not (await lab.worker("checkpoint").step()).idle:
        pass
    assert {number_of(name) for name in await names(lab, "j/")} == set(range(second.number, max(map(number_of, before["j/"])) + 1))
    assert {number_of(name) for name in await names(lab, "c/")} == {second.number}
    live = {segment.id.hex() for run in second.runs for segment in run.layout.segments}
    assert {name.split("-")[1] for name in await names(lab, "r/")} == live
    assert await restored(lab, second) == await present(lab.services.manifest)
    assert first.number < second.number


async def test_a_store_that_is_down_is_tidied_later(lab: Laboratory) -> None:
    await checkpoint(lab)
    await lab.put("k0", b"data")
    second = await checkpoint(lab)
    held = lab.stores[next(iter(lab.stores))]
    held.down = True
    lab.clock.advance(1001)
    assert "down on purpose" in (await lab.worker("checkpoint").step()).trouble
    held.down = False
    assert any(number_of(name) < second.number for name in await names(lab, "j/"))
    lab.clock.advance(60)
    await lab.worker("checkpoint").step()
    assert not any(number_of(name) < second.number for name in await names(lab, "j/"))


async def test_a_store_whose_listing_has_no_end_holds_no_checkpoint_up(lab: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    await checkpoint(lab)
    held = lab.stores[next(iter(lab.stores))]

    async def endless(prefix: str = "") -> AsyncIterator[tuple[str, int]]:
        for number in itertools.count():
            yield f"{prefix}{number:020d}-{number:032x}-00", 1

    monkeypatch.setattr(held, "list", endless)
    monkeypatch.setattr(reading, "NAMES", 1000)
    await lab.put("k0", b"data")
    second = await checkpoint(lab)
    lab.clock.advance(1001)
    assert "lists more than 1,000 names" in (await lab.worker("checkpoint").step()).trouble
    assert await restored(lab, second) == await present(lab.services.manifest)


async def test_another_manifests_copies_are_left_alone(lab: Laboratory) -> None:
    held = lab.stores[next(iter(lab.stores))]
    other = f"j/{'f' * 32}/{1:020d}-{'a' * 32}-00"
    await held.put(other, [b"x"])
    await checkpoint(lab)
    await lab.put("k0", b"data")
    await checkpoint(lab)
    lab.clock.advance(1001)
    while not (await lab.worker("checkpoint").step()).idle:
        pass
    assert other in await names(lab, "j/")


def number_of(name: str) -> int:
    return int(name.split("/")[2].split("-", maxsplit=1)[0])


async def test_a_checkpoint_is_due_when_the_journal_outgrows_a_share_of_it(tmp_path: Path) -> None:
    settings = replace(KEPT, checkpoint_min_mib=1, checkpoint_share=0.5)
    async with laboratory(tmp_path, journal=settings) as lab:
        worker = lab.worker("checkpoint")
        assert (await worker.step()).idle
        for number in range(4):
            await lab.services.manifest.put_bucket_setting(lab.bucket.id, "policy", "x" * 300_000 + str(number))
            await lab.services.journal.flusher.flush()
        assert not (await worker.step()).idle
        while not (await worker.step()).idle:
            pass
        assert len(await checkpoints(lab)) == 1
        state = await lab.services.manifest.checkpoint_state(before_ms=0)
        assert state.journal_bytes < 1000
        assert state.last.size_bytes > 300_000


async def test_what_was_forgotten_while_no_journal_was_kept_is_in_the_next_checkpoint(tmp_path: Path) -> None:
    async with laboratory(tmp_path, journal=KEPT) as lab:
        await lab.put("before", b"data")
        await checkpoint(lab)
    async with laboratory(tmp_path) as lab:
        await lab.put("meanwhile", b"data")
        await lab.worker("journal").step()
        assert (await lab.services.manifest.journal_position()).rows == 0
    async with laboratory(tmp_path, journal=KEPT) as lab:
        await lab.put("after", b"data")
        await lab.services.journal.flusher.flush()
        before = (await checkpoints(lab))[-1]
        with pytest.raises(AssertionError):  # the chain has a gap
            await restored(lab, before)
        worker = shrink(lab)
        while not (await worker.step()).idle:
            pass
        made = (await checkpoints(lab))[-1]
        assert made.number > before.number
        assert not set(made.runs) & set(before.runs)
        assert await restored(lab, made) == await present(lab.services.manifest)


async def delete(lab: Laboratory, key: str) -> None:
    await lab.services.manifest.delete_latest(lab.bucket.id, ObjectKey(key), marker_id="m", now_ms=lab.clock.now_ms())  # type: ignore[arg-type]
