"""The walk sees every extent once a pass, whatever breaks off; the tally counts what there is."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import pytest

from proxy.engine.walking.audit import AUDIT
from proxy.engine.walking.tally import TallyObserver, load_tally
from proxy.engine.walking.walk import Position, PositionsInMemory, Walk, load_position
from proxy.manifest.damage import Damage
from proxy.manifest.records import Extent, ExtentId
from tests.laboratory import Laboratory, laboratory


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Laboratory]:
    async with laboratory(tmp_path) as running:
        yield running


class Seen:
    """An observer that keeps the ids it was shown."""

    name = "seen"

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.passes: list[list[int]] = []
        self.fails_at = 0

    def begin(self, kept: bytes | None) -> None:
        self.ids = [] if kept is None else msgspec.msgpack.decode(kept)

    async def see(self, extents: Sequence[Extent]) -> None:
        if any(extent.id == self.fails_at for extent in extents):
            raise ArithmeticError
        self.ids += [extent.id for extent in extents]

    def keep(self) -> bytes:
        return msgspec.msgpack.encode(self.ids)

    async def finish(self) -> None:
        self.passes.append(self.ids)


def walk_of(lab: Laboratory, observer: Seen, *, positions: object = None, batch: int = 2) -> Walk:
    manifest = lab.services.manifest
    return Walk(manifest, positions or manifest, lab.clock, [observer], name="w", batch=batch)  # type: ignore[arg-type]


async def ids_of(lab: Laboratory) -> list[int]:
    return [extent.id for extent in await lab.services.manifest.walk_extents(after=0, limit=1000)]  # type: ignore[arg-type]


async def test_each_pass_sees_every_extent_once_in_bounded_batches(lab: Laboratory) -> None:
    for number in range(5):
        await lab.put(f"k{number}", os.urandom(100))
    seen = Seen()
    walk = walk_of(lab, seen)
    counts = [(await walk.advance(seconds=0)).seen for _ in range(6)]
    assert counts == [2, 2, 1, 2, 2, 1]
    assert seen.passes == [await ids_of(lab)] * 2


async def test_a_walk_goes_on_in_another_process_where_it_was_kept(lab: Laboratory) -> None:
    for number in range(5):
        await lab.put(f"k{number}", os.urandom(100))
    first, second = Seen(), Seen()
    await walk_of(lab, first).advance(seconds=0)
    await walk_of(lab, second).advance(seconds=60)
    assert (first.passes, second.passes) == ([], [await ids_of(lab)])


async def test_a_batch_that_broke_off_comes_again_and_is_counted_once(lab: Laboratory) -> None:
    for number in range(5):
        await lab.put(f"k{number}", os.urandom(100))
    ids, seen = await ids_of(lab), Seen()
    walk = walk_of(lab, seen)
    seen.fails_at = ids[3]
    with pytest.raises(ArithmeticError):
        await walk.advance(seconds=60)
    seen.fails_at = 0
    await walk.advance(seconds=60)
    assert seen.passes == [ids]


async def test_what_is_written_during_a_pass_comes_in_the_next_and_what_is_deleted_is_not_missed(lab: Laboratory) -> None:
    for number in range(5):
        await lab.put(f"k{number}", os.urandom(100))
    ids, seen = await ids_of(lab), Seen()
    walk = walk_of(lab, seen, batch=3)
    await walk.advance(seconds=0)
    await lab.put("k3", os.urandom(100))
    await lab.put("late", os.urandom(100))
    await walk.advance(seconds=60)
    assert seen.passes == [ids[:3] + ids[4:]], "the batch that ends the pass has newer ones, too"
    await walk.advance(seconds=60)
    assert seen.passes[1] == await ids_of(lab)


async def test_a_walk_over_nothing_ends(lab: Laboratory) -> None:
    seen = Seen()
    advance = await walk_of(lab, seen).advance(seconds=0)
    assert (advance.finished, advance.seen, seen.passes) == (True, 0, [[]])
    assert await load_position(lab.services.manifest, "w") is None


async def test_a_walk_in_memory_leaves_nothing_in_the_manifest(lab: Laboratory) -> None:
    await lab.put("k", os.urandom(100))
    await lab.put("l", os.urandom(100))
    positions = PositionsInMemory()
    walk = walk_of(lab, Seen(), positions=positions, batch=1)
    await walk.advance(seconds=0)
    position = await load_position(positions, "w")
    assert position is not None
    assert (position.seen, position.remaining) == (1, 1)
    assert await load_position(lab.services.manifest, "w") is None


async def test_the_audit_tallies_what_there_is_by_remaining_redundancy_and_by_store(lab: Laboratory) -> None:
    await lab.put("whole", os.urandom(1000))
    lab.stores["elm"].down = True
    await lab.put("short", os.urandom(3000))
    progress = await lab.worker(AUDIT).step()
    tally = await load_tally(lab.services.manifest)
    assert tally is not None
    assert (progress.done, progress.remaining) == (2, 0)
    assert (tally.extents, tally.segments, tally.plaintext_bytes) == (2, 2, 4000)
    assert sum(tally.by_redundancy.values()) == 2
    assert tally.by_redundancy[2] == 1
    listed = dict.fromkeys(lab.stores, 0)
    for name, store in lab.stores.items():
        store.down = False
        async for shard, size in store.list():
            listed[name] += 0 if shard.startswith("epoch/") else size
    assert tally.by_store == {name: size for name, size in listed.items() if size}


async def test_the_fewer_extents_there_are_the_sooner_they_are_counted_again(lab: Laboratory) -> None:
    audit, waits = lab.worker(AUDIT), []
    for number in range(3):
        await audit.step()
        waits.append(audit.idle_seconds)
        await lab.put(f"k{number}", b"data")
    assert waits == [60, 61, 62]
    await lab.services.manifest.save_state(
        AUDIT, msgspec.msgpack.encode(Position(begun_ms=lab.clock.now_ms(), newest=ExtentId(3), seen=10_000))
    )
    await audit.step()
    assert audit.idle_seconds == 600


async def test_a_shard_that_was_found_damaged_does_not_count_as_redundancy(lab: Laboratory) -> None:
    await lab.put("k", os.urandom(1000))
    manifest = lab.services.manifest
    (extent,) = await manifest.walk_extents(after=0, limit=10)  # type: ignore[arg-type]
    (segment,) = extent.layout.segments
    damage = Damage(extent_id=extent.id, segment_id=segment.id, shard_index=3, kind="forged", store=segment.stores[3])
    await manifest.report_damage([damage], now_ms=lab.clock.now_ms())
    await lab.worker(AUDIT).step()
    tally = await load_tally(manifest)
    assert tally is not None
    assert tally.by_redundancy == {1: 1}
    assert segment.stores[3] not in tally.by_store


async def test_a_tally_is_the_same_however_often_its_pass_was_broken_off(lab: Laboratory) -> None:
    for number in range(6):
        await lab.put(f"k{number}", os.urandom(100 * number + 1))
    manifest, tallies = lab.services.manifest, []
    for seconds in (0, 60):
        while True:
            observer = TallyObserver(manifest, lab.clock, lab.stores)
            if (await Walk(manifest, manifest, lab.clock, [observer], name="t", batch=1).advance(seconds=seconds)).finished:
                break
        tallies.append(await load_tally(manifest))
    assert tallies[0] is not None
    assert tallies[0].extents == 6
    assert tallies[0] == tallies[1]
