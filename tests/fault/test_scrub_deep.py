"""The deep scrub opens everything, so whatever a store gives that was not put there is found."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import pytest

from proxy.codec.format import END, FIXED_PART_SIZE, SHARE_SIZE, shard_name
from proxy.config import Config
from proxy.engine.scrub.deep import NO_MEMORY
from proxy.engine.scrub.inspector import Inspector, Look, Shard
from proxy.engine.scrub.pace import LONGEST_WAIT_SECONDS
from proxy.engine.scrub.workers import DEEP, DEEP_BATCH, load_report
from proxy.engine.walking.walk import load_position
from proxy.errors import BudgetExhausted, StoreError
from proxy.manifest.records import Extent, ExtentId
from proxy.stores.protocol import ShardName
from tests.laboratory import Laboratory, laboratory
from tests.scrubbing import damage, flip, read, scrub, shards_of, spoil

DAY_SECONDS = 24 * 3600
SHARE_AT = -END.size - FIXED_PART_SIZE - SHARE_SIZE


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Laboratory]:
    async with laboratory(tmp_path, background_requests_per_second=1_000_000) as running:
        for number in range(4):
            await running.put(f"k{number}", os.urandom(300_000 + number))
        yield running


async def test_every_shard_is_read_once_and_nothing_is_found_where_nothing_is_wrong(lab: Laboratory) -> None:
    report = await scrub(lab, DEEP)
    sizes = [len(await read(lab, shard)) for shard in await shards_of(lab)]
    assert (report.shards, report.size_bytes, report.found, report.unreachable) == (24, sum(sizes), {}, {})
    assert report.requests == 24
    assert await damage(lab) == {}


@pytest.mark.parametrize(
    ("what", "at"),
    [
        ("a cell", 70_000),
        ("the first byte", 0),
        ("the label", SHARE_AT - 20),
        ("the share", SHARE_AT + 3),
        ("the commitment", -END.size - 3),
        ("the generation", -END.size + 3),
        ("the size of the label", -3),
    ],
)
async def test_a_flipped_bit_is_found_wherever_it_is(lab: Laboratory, what: str, at: int) -> None:
    shard = (await shards_of(lab))[10]
    await flip(lab, shard, at)
    report = await scrub(lab, DEEP)
    assert report.found == {"forged": 1}, what
    assert await damage(lab) == {(shard.store, shard.name): "forged"}


async def test_a_shard_that_was_cut_short_or_deleted_is_found(lab: Laboratory) -> None:
    shards = await shards_of(lab)
    await spoil(lab, shards[3], (await read(lab, shards[3]))[:1000])
    await lab.stores[shards[9].store].delete(shards[9].name)
    report = await scrub(lab, DEEP)
    assert report.found == {"truncated": 1, "missing": 1}
    assert await damage(lab) == {(shards[3].store, shards[3].name): "truncated", (shards[9].store, shards[9].name): "missing"}


async def test_a_shard_of_another_segment_or_with_another_index_in_its_place_is_found(lab: Laboratory) -> None:
    shards = await shards_of(lab)
    await spoil(lab, shards[0], await read(lab, shards[6]))
    await spoil(lab, shards[13], await read(lab, shards[14]))
    assert (await scrub(lab, DEEP)).found == {"forged": 2}
    assert set(await damage(lab)) == {(shard.store, shard.name) for shard in (shards[0], shards[13])}


async def test_a_share_of_another_segment_in_a_shard_that_is_whole_otherwise_is_found(lab: Laboratory) -> None:
    shards = await shards_of(lab)
    content, other = bytearray(await read(lab, shards[0])), await read(lab, shards[6])
    content[SHARE_AT : SHARE_AT + SHARE_SIZE] = other[SHARE_AT : SHARE_AT + SHARE_SIZE]
    await spoil(lab, shards[0], bytes(content))
    assert (await scrub(lab, DEEP)).found == {"forged": 1}


async def test_an_older_generation_under_the_name_of_a_newer_is_found(lab: Laboratory) -> None:
    """Its cells open: a move copies them as they are."""
    shard, manifest = (await shards_of(lab))[0], lab.services.manifest
    drawn = await manifest.draw_generation(shard.extent.id, shard.segment.id, {0: shard.store}, expires_ms=2**60)
    assert drawn is not None
    older = await read(lab, shard)
    await lab.stores[shard.store].put(shard_name(shard.segment.id, 0, drawn.drawn), [older])  # type: ignore[arg-type]
    assert await manifest.replace_shards(shard.extent.id, shard.segment.id, {0: shard.store}, drawn.drawn, now_ms=lab.clock.now_ms())
    assert (await scrub(lab, DEEP)).found == {"forged": 1}
    newer = older[: -END.size] + END.pack(drawn.drawn, END.unpack(older[-END.size :])[1])
    await spoil(lab, (await shards_of(lab))[0], newer)
    lab.clock.advance(31 * DAY_SECONDS)
    assert (await scrub(lab, DEEP)).found == {}


async def test_a_store_that_is_down_has_lost_nothing_and_what_was_passed_over_is_read_when_it_is_back(lab: Laboratory) -> None:
    lab.stores["elm"].down = True
    lost, kept, *_ = (shard for shard in await shards_of(lab) if shard.store == "elm")
    progress = await lab.worker(DEEP).step()
    assert "elm" in progress.trouble or progress.remaining
    for _ in range(5):
        lab.clock.advance(LONGEST_WAIT_SECONDS)
        await lab.worker(DEEP).step()
    assert await load_report(lab.services.manifest, DEEP) is None, "the pass is not over"
    assert await damage(lab) == {}
    lab.stores["elm"].down = False
    await lab.stores["elm"].delete(lost.name)
    read_before = lab.stores["alder"].calls["get"]
    lab.clock.advance(LONGEST_WAIT_SECONDS)
    await lab.services.fleet["elm"].get(ShardName(kept.name))  # one that was down is asked once before it is asked by many
    report = await scrub(lab, DEEP)
    assert (report.found, report.unreachable, report.shards) == ({"missing": 1}, {}, 24)
    assert lab.stores["alder"].calls["get"] == read_before, "the others were read already"


async def test_a_pass_ends_when_its_time_is_over_and_tells_what_it_could_not_read(lab: Laboratory) -> None:
    lab.stores["elm"].down = True
    await lab.worker(DEEP).step()
    lab.clock.advance(31 * DAY_SECONDS)
    report = await scrub(lab, DEEP)
    assert report.unreachable == {"elm": 4}
    assert report.shards == 20
    assert "4 shards in elm could not be read" in (await lab.worker(DEEP).step()).trouble


async def test_a_pass_goes_on_after_a_restart_where_it_was(tmp_path: Path) -> None:
    async with laboratory(tmp_path, background_requests_per_second=1_000_000) as lab:
        for number in range(DEEP_BATCH + 4):
            await lab.put(f"k{number}", os.urandom(100))
        progress = await lab.worker(DEEP).step()
        assert (progress.done, progress.remaining) == (6 * DEEP_BATCH, 4 * 6)
        position = await load_position(lab.services.manifest, DEEP)
        now = lab.clock.now_ms()
    async with laboratory(tmp_path, background_requests_per_second=1_000_000, now_ms=now) as lab:
        assert await load_position(lab.services.manifest, DEEP) == position
        last = (await shards_of(lab))[-1]
        await lab.stores[last.store].delete(last.name)
        report = await scrub(lab, DEEP)
        assert sum(store.calls["get"] for store in lab.stores.values()) == 4 * 6
        assert (report.shards, report.found) == (6 * DEEP_BATCH + 24, {"missing": 1})


async def test_a_pass_is_spread_over_its_days(tmp_path: Path) -> None:
    async with laboratory(tmp_path, background_requests_per_second=1_000_000) as lab:
        for number in range(2 * DEEP_BATCH):
            await lab.put(f"k{number}", os.urandom(100))
        worker = lab.worker(DEEP)
        progress = await worker.step()
        assert progress.idle
        assert worker.idle_seconds == LONGEST_WAIT_SECONDS, "half of the work is done, and half of the time is to pass"
        lab.clock.advance(15 * DAY_SECONDS)
        await worker.step()
        assert (await load_report(lab.services.manifest, DEEP)) is not None


async def test_memory_is_held_for_what_is_read_and_given_back(lab: Laboratory) -> None:
    held: list[int] = []
    for store in lab.stores.values():
        store.before = lambda verb: held.append(lab.services.budget.held_bytes) if verb == "get" else None
    await scrub(lab, DEEP)
    assert min(held) >= 300_000 // 4
    assert lab.services.budget.held_bytes == 0


async def test_a_shard_that_was_moved_while_it_was_read_is_not_damaged(lab: Laboratory) -> None:
    shard, manifest, done = (await shards_of(lab))[0], lab.services.manifest, False
    store = lab.stores[shard.store]
    ask = store.get

    async def moved_meanwhile(name):
        nonlocal done
        if name == shard.name and not done:
            done = True
            drawn = await manifest.draw_generation(shard.extent.id, shard.segment.id, {0: shard.store}, expires_ms=2**60)
            whole = bytes(await ask(name))
            newer = whole[: -END.size] + END.pack(1, END.unpack(whole[-END.size :])[1])
            await store.put(shard_name(shard.segment.id, 0, 1), [newer])
            await manifest.replace_shards(shard.extent.id, shard.segment.id, {0: shard.store}, drawn.drawn, now_ms=lab.clock.now_ms())
            await store.delete(name)
        return await ask(name)

    store.get = moved_meanwhile  # type: ignore[method-assign]
    report = await scrub(lab, DEEP)
    assert done
    assert report.found == {}
    assert await manifest.walk_extents(after=ExtentId(0), limit=1)


async def test_a_shard_that_there_is_no_memory_for_is_told_and_the_pass_goes_on(lab: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Sequence[Shard]] = []

    async def open_together(self: Inspector, shards: Sequence[Shard]) -> tuple[Look | StoreError, ...]:
        asked.append(shards)
        if len(asked) == 3:
            raise BudgetExhausted("clients have it all")
        return await whole(self, shards)

    whole = Inspector.open_together
    monkeypatch.setattr(Inspector, "open_together", open_together)
    report = await scrub(lab, DEEP)
    assert report.unreachable == {NO_MEMORY: len(asked[2])}
    assert report.shards == len(await shards_of(lab)) - len(asked[2])


async def test_small_shards_of_a_segment_are_opened_together_and_large_ones_one_by_one(
    lab: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time costs the loop, which serves clients, too: a turn, memory and a thread."""
    asked: list[int] = []

    async def open_together(self: Inspector, shards: Sequence[Shard]) -> tuple[Look | StoreError, ...]:
        asked.append(len(shards))
        return await whole(self, shards)

    whole = Inspector.open_together
    monkeypatch.setattr(Inspector, "open_together", open_together)
    await lab.put("large", os.urandom(3_000_000))
    report = await scrub(lab, DEEP)
    assert sorted(asked) == [1] * 6 + [6] * 4
    assert report.requests == report.shards == 30


def small_segments(config: Config) -> Config:
    policies = {"standard": msgspec.structs.replace(config.policies["standard"], segment_mib=1)}
    return msgspec.structs.replace(config, policies=policies)


async def test_an_extent_of_many_segments_is_read_once_for_all_that_is_found_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with laboratory(tmp_path, adjust=small_segments, background_requests_per_second=1_000_000) as lab:
        await lab.put("k", os.urandom(10 * 2**20))
        shards = await shards_of(lab)
        for shard in shards[::6]:
            await lab.stores[shard.store].delete(shard.name)
        read: list[ExtentId] = []

        async def walk_extents(*, after: ExtentId, limit: int) -> tuple[Extent, ...]:
            read.append(after)
            return await whole(after=after, limit=limit)

        whole = lab.services.parts.manifest.walk_extents
        monkeypatch.setattr(lab.services.parts.manifest, "walk_extents", walk_extents)
        report = await scrub(lab, DEEP)
        assert report.found == {"missing": 10}
        assert len(read) <= 3, "the walk, what lies behind it, and all that was found"
