"""A pass of comparisons goes slice by slice, and is whole whatever breaks off."""

from __future__ import annotations

import os
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.codec.format import shard_name
from proxy.engine.scrub import comparison, passes
from proxy.engine.scrub.findings import to_repair
from proxy.engine.scrub.once import Named, compare_once
from proxy.engine.scrub.passes import ComparisonPass, PassPosition
from proxy.engine.scrub.slices import ALL, EXTENTS_A_SLICE, SMALL, Slice, slice_count
from proxy.engine.scrub.workers import LIGHT
from proxy.errors import StoreUnavailable
from proxy.stores.protocol import ShardName
from proxy.upkeep import comparing
from tests.laboratory import Laboratory, laboratory
from tests.scrubbing import damage, shards_of

SLICES = 16
DAY_SECONDS = 24 * 3600


@pytest.fixture
async def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Laboratory]:
    monkeypatch.setattr(passes, "slice_count", lambda _: SLICES)
    async with laboratory(tmp_path, background_requests_per_second=1_000_000) as running:
        for number in range(24):
            await running.put(f"k{number}", os.urandom(500))
        yield running


def pass_of(lab: Laboratory, *, everything: bool = False) -> ComparisonPass:
    tools = comparing(lab.services.parts, to_repair(lab.services.manifest, lab.clock))
    return ComparisonPass(tools, lab.services.manifest, name="p", everything=everything)


async def finish(run: ComparisonPass) -> PassPosition:
    while not (position := await run.advance(seconds=0)).finished:
        pass
    return position


@pytest.mark.parametrize("count", [1, 16, 32, 256])
def test_every_segment_is_in_one_slice_and_the_folders_of_a_slice_are_those_of_its_names(count: int) -> None:
    parts = [Slice(number, count) for number in range(count)]
    assert sorted(folder for part in parts for folder in part.folders) == [f"{byte:02x}/" for byte in range(ALL)]
    for byte in range(ALL):
        segment_id = bytes((byte,)) * 16
        (holder,) = [part for part in parts if part.holds_segment(segment_id)]
        assert holder.holds_name(shard_name(segment_id, 0))
        assert shard_name(segment_id, 0)[:3] in holder.folders


def test_there_are_as_few_slices_as_do() -> None:
    assert [slice_count(extents) for extents in (0, SMALL, SMALL + 1, 16 * EXTENTS_A_SLICE, 17 * EXTENTS_A_SLICE, 10**12)] == [
        1, 1, 16, 16, 32, 256
    ]  # fmt: skip


async def test_slices_together_find_what_one_pass_finds(lab: Laboratory) -> None:
    lost = (await shards_of(lab))[::10]
    for shard in lost:
        await lab.stores[shard.store].delete(shard.name)
    orphans = [ShardName(shard_name(secrets.token_bytes(16), 0)) for _ in range(20)]
    for name in orphans:
        await lab.stores["elm"].put(name, [b"x"])
    await lab.stores["fir"].put(ShardName("00/notes"), [b"mine"])
    compared = (await finish(pass_of(lab, everything=True))).compared
    assert (compared.shards, compared.found) == (24 * 6, {"missing": len(lost)})
    assert (compared.orphans, compared.orphan_bytes) == ({"elm": 20}, {"elm": 20})
    assert compared.foreign_examples == {"fir": ["00/notes"]}
    assert await damage(lab) == {(shard.store, shard.name): "missing" for shard in lost}


async def test_a_pass_goes_on_after_a_restart_at_the_slice_it_was_at(tmp_path: Path, lab: Laboratory) -> None:
    lost = (await shards_of(lab))[::7]
    for shard in lost:
        await lab.stores[shard.store].delete(shard.name)
    run = pass_of(lab)
    while (position := await run.advance(seconds=0)).number < 5:
        pass
    await run.advance(seconds=0)  # slice 5 is begun, and its process dies
    again = pass_of(lab)
    folders: list[str] = []
    watch(lab, "elm", folders)
    position = await finish(again)
    assert folders == [f"{byte:02x}/" for byte in range(5 * 16, 256)]
    assert (position.compared.shards, position.compared.found) == (24 * 6, {"missing": len(lost)})
    assert list(tmp_path.glob("*scratch*")) == []


async def test_two_processes_that_take_turns_disturb_each_other_but_finish(lab: Laboratory) -> None:
    for first in (0x08, 0x18):  # one in each of the first two slices
        await lab.stores["elm"].put(ShardName(shard_name(bytes((first,)) * 16, 0)), [b"x"])
    runs = [pass_of(lab), pass_of(lab)]
    await runs[0].advance(seconds=0)
    await runs[1].advance(seconds=0)
    position = await runs[0].advance(seconds=3600)
    assert position.number == 1, "it begins the slice that the other has taken anew"
    position = await finish(runs[1])
    assert (position.compared.shards, position.compared.orphans) == (24 * 6, {"elm": 2})


async def test_a_slice_that_fails_is_done_again_and_counted_once(lab: Laboratory) -> None:
    lost = (await shards_of(lab))[::7]
    for shard in lost:
        await lab.stores[shard.store].delete(shard.name)
    run, asked, fails = pass_of(lab), lab.services.manifest.walk_garbage, 3

    async def walk_garbage(**options):
        nonlocal fails
        fails -= 1
        if fails in {0, 1}:
            raise ArithmeticError
        return await asked(**options)

    lab.services.manifest.walk_garbage = walk_garbage  # type: ignore[method-assign]
    failures = 0
    while True:
        try:
            position = await finish(run)
            break
        except ArithmeticError:
            failures += 1
    assert failures == 2
    assert (position.compared.shards, position.compared.found) == (24 * 6, {"missing": len(lost)})


async def test_the_light_scrub_spreads_its_slices_over_the_day(lab: Laboratory) -> None:
    worker, begun = lab.worker(LIGHT), lab.clock.now_ms()
    while (await lab.services.manifest.load_state(f"{LIGHT}-last")) is None:
        await worker.step()
        lab.clock.advance(worker.idle_seconds)
    assert 0.8 * DAY_SECONDS < (lab.clock.now_ms() - begun) / 1000 < DAY_SECONDS


async def test_the_shards_that_are_left_are_told_once_they_were_counted(lab: Laboratory) -> None:
    await lab.worker("audit").step()
    progress = await lab.worker(LIGHT).step()
    assert progress.remaining == round(24 * 6 * 15 / 16)


async def test_a_store_that_lists_names_without_end_is_left_out(lab: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "MOST_NAMES", 2 * comparison.PAGE)

    async def endless(prefix: str = "") -> AsyncIterator[tuple[ShardName, int]]:
        while True:
            yield ShardName(shard_name(bytes((int(prefix[:2], 16),)) + secrets.token_bytes(15), 0)), 1

    lab.stores["elm"].list = endless  # type: ignore[method-assign]
    report = await scrub_all(lab)
    assert set(report.compared.unlisted) == {"elm"}
    assert (report.compared.found, report.compared.orphans, report.compared.shards) == ({}, {}, 24 * 5)


async def scrub_all(lab: Laboratory) -> PassPosition:
    return await compare_once(comparing(lab.services.parts, Named()), lambda _: None)


async def test_a_store_that_breaks_off_in_a_later_slice_is_not_asked_again_in_the_pass(lab: Laboratory) -> None:
    lost = [shard for shard in await shards_of(lab) if shard.store == "elm"]
    faulty, whole, calls = lab.stores["elm"], lab.stores["elm"].list, Counter[str]()

    async def fails_at_80(prefix: str = "") -> AsyncIterator[tuple[ShardName, int]]:
        calls[prefix] += 1
        if prefix >= "80/":
            raise StoreUnavailable("elm", "fails on purpose")
        async for entry in whole(prefix):
            yield entry

    faulty.list = fails_at_80  # type: ignore[method-assign]
    position = await scrub_all(lab)
    assert max(calls) == "80/"
    assert position.compared.found == {}
    assert position.compared.shards == 24 * 5 + sum(shard.segment.id[0] < 0x80 for shard in lost)


def watch(lab: Laboratory, name: str, prefixes: list[str]) -> None:
    """Note which prefixes a store is asked to list."""
    store = lab.stores[name]
    whole = store.list

    def listing(prefix: str = "") -> AsyncIterator[tuple[ShardName, int]]:
        prefixes.append(prefix)
        return whole(prefix)

    store.list = listing  # type: ignore[method-assign]
