"""Shards are moved and rebuilt: the same bytes under a new name, and at every instant the segment is as it was or as it is meant to be."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from proxy.codec.format import END
from proxy.engine.moving.moving import ShardMover
from proxy.errors import MoveFailed, MoveRefused, NotEnoughShards
from proxy.manifest.records import ObjectKey, Segment
from proxy.upkeep import make_mover
from tests.laboratory import Laboratory, laboratory, stored

DATA = os.urandom(700_000)  # two full stripes of 4+2 and a short one


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Laboratory]:
    async with laboratory(tmp_path) as running:
        yield running


async def shard(lab: Laboratory, segment: Segment, index: int) -> bytes:
    return bytes(await lab.stores[segment.stores[index]].inner.get(segment.shard_name(index)))


def without_generation(whole: bytes) -> bytes:
    _, label_size = END.unpack(whole[-END.size :])
    return whole[: -END.size] + label_size.to_bytes(4, "big")


async def move(lab: Laboratory, verb: str, targets: Mapping[int, str]) -> None:
    extent, segment = await stored(lab)
    await getattr(mover(lab), verb)(extent, segment, targets)


def mover(lab: Laboratory) -> ShardMover:
    return make_mover(lab.services.parts, lab.services.parts.throttle)


@pytest.mark.parametrize("verb", ["copy", "rebuild"])
async def test_a_moved_shard_is_the_same_bytes_but_for_its_generation(lab: Laboratory, verb: str) -> None:
    await lab.put("k", DATA)
    _, before = await stored(lab)
    old = {index: await shard(lab, before, index) for index in (0, 5)}
    await move(lab, verb, {0: before.stores[5], 5: before.stores[0]})
    _, after = await stored(lab)
    assert [after.stores[0], after.stores[5]] == [before.stores[5], before.stores[0]]
    assert after.generations == (1, 0, 0, 0, 0, 1)
    for index, bytes_before in old.items():
        whole = await shard(lab, after, index)
        assert without_generation(whole) == without_generation(bytes_before)
        assert END.unpack(whole[-END.size :])[0] == 1
    await lab.collect()
    assert await lab.shards() == {after.shard_name(index) for index in range(6)}
    assert await lab.get("k") == DATA


async def test_what_is_lost_is_rebuilt_from_any_k_others(lab: Laboratory) -> None:
    await lab.put("k", DATA)
    _, segment = await stored(lab)
    for index in (1, 4):
        await lab.stores[segment.stores[index]].inner.delete(segment.shard_name(index))
    await move(lab, "rebuild", {1: segment.stores[1], 4: segment.stores[4]})
    _, after = await stored(lab)
    for name in after.stores[2:4]:
        lab.stores[name].down = True
    assert await lab.get("k") == DATA, "the two that were rebuilt are needed"


async def test_a_copy_reads_its_own_shard_once_and_no_other(lab: Laboratory) -> None:
    await lab.put("k", DATA)
    _, segment = await stored(lab)
    for store in lab.stores.values():
        store.calls.clear()
    await move(lab, "copy", {0: segment.stores[0]})
    calls = {name: dict(store.calls) for name, store in lab.stores.items() if store.calls}
    assert calls == {segment.stores[0]: {"get_range": 1, "put": 1}}


async def test_a_forged_source_is_reported_and_another_taken(lab: Laboratory) -> None:
    await lab.put("k", DATA)
    _, segment = await stored(lab)
    await lab.stores[segment.stores[5]].inner.delete(segment.shard_name(5))
    lab.stores[segment.stores[0]].flips_bits = True
    await move(lab, "rebuild", {5: segment.stores[5]})
    await lab.settled()
    found = await lab.services.manifest.count_damage()
    assert found.by_store == {(segment.stores[0], "forged"): 1}
    _, after = await stored(lab)
    for name in after.stores[1:2]:
        lab.stores[name].down = True
    assert await lab.get("k") == DATA


async def test_a_forged_footer_is_not_copied_into_a_rebuilt_shard(lab: Laboratory) -> None:
    await lab.put("k", DATA)
    extent, segment = await stored(lab)
    store = lab.stores[segment.stores[0]]
    whole = bytearray(await shard(lab, segment, 0))
    whole[-segment.footer_size + 5] ^= 1  # within the label
    await store.inner.delete(segment.shard_name(0))
    await store.inner.put(segment.shard_name(0), [bytes(whole)])
    before = await shard(lab, segment, 5)
    await mover(lab).rebuild(extent, segment, {5: segment.stores[5]}, suspect=(1,))
    _, after = await stored(lab)
    assert without_generation(await shard(lab, after, 5)) == without_generation(before)
    await lab.settled()
    assert (await lab.services.manifest.count_damage()).by_store == {(segment.stores[0], "forged"): 1}


async def test_a_shard_that_does_not_open_is_not_copied(lab: Laboratory) -> None:
    await lab.put("k", DATA)
    _, segment = await stored(lab)
    lab.stores[segment.stores[0]].flips_bits = True
    with pytest.raises(MoveFailed, match="does not open"):
        await move(lab, "copy", {0: segment.stores[1]})
    assert (await stored(lab))[1].stores == segment.stores
    await lab.collect()
    assert await lab.shards() == {segment.shard_name(index) for index in range(6)}


async def test_of_several_shards_those_move_that_can(lab: Laboratory) -> None:
    await lab.put("k", DATA)
    extent, segment = await stored(lab)
    lab.stores[segment.stores[1]].full = True
    moved = await mover(lab).rebuild(extent, segment, {0: segment.stores[0], 1: segment.stores[1]})
    assert moved.stores == {0: segment.stores[0]}
    assert "full on purpose" in moved.trouble[0]
    _, after = await stored(lab)
    assert after.generations == (1, 0, 0, 0, 0, 0)
    await lab.collect()
    assert await lab.shards() == {after.shard_name(index) for index in range(6)}


async def test_too_few_good_shards_move_nothing(lab: Laboratory) -> None:
    await lab.put("k", DATA)
    _, segment = await stored(lab)
    for name in segment.stores[:3]:
        lab.stores[name].truncates = True
    with pytest.raises(NotEnoughShards):
        await move(lab, "rebuild", {0: segment.stores[0]})
    assert (await stored(lab))[1].stores == segment.stores
    await lab.settled()
    kinds = (await lab.services.manifest.count_damage()).by_store
    assert kinds == {(name, "truncated"): 1 for name in segment.stores[:3]}


async def test_of_two_that_move_one_segment_one_is_refused(lab: Laboratory) -> None:
    await lab.put("k", DATA)
    extent, segment = await stored(lab)
    outcomes = await asyncio.gather(
        *(mover(lab).rebuild(extent, segment, {index: segment.stores[index]}) for index in (0, 1)), return_exceptions=True
    )
    assert sorted(isinstance(outcome, MoveRefused) for outcome in outcomes) == [False, True]
    with pytest.raises(MoveRefused, match="changed"):
        await mover(lab).copy(extent, segment, {2: segment.stores[2]})
    await lab.collect()
    _, after = await stored(lab)
    assert await lab.shards() == {after.shard_name(index) for index in range(6)}


async def test_an_object_deleted_during_a_move_leaves_nothing(lab: Laboratory) -> None:
    await lab.put("k", DATA)
    extent, segment = await stored(lab)
    putting = asyncio.Event()
    store = lab.stores[segment.stores[0]]
    store.before = lambda verb: putting.set() if verb == "put" else None
    store.hanging = True
    work = asyncio.create_task(mover(lab).rebuild(extent, segment, {0: segment.stores[0]}))
    await putting.wait()
    await lab.services.manifest.delete_version(lab.bucket.id, ObjectKey("k"), "null", now_ms=lab.clock.now_ms())  # type: ignore[arg-type]
    store.hanging = False
    with pytest.raises(MoveRefused):
        await work
    store.before = None
    await lab.collect()
    assert await lab.shards() == set()


@pytest.mark.parametrize("verb", ["copy", "rebuild"])
async def test_a_move_that_is_broken_off_anywhere_leaves_the_old_or_the_new_and_no_orphan(lab: Laboratory, verb: str) -> None:
    await lab.put("k", DATA)
    steps = 0
    while True:
        _, before = await stored(lab)
        extent, _ = await stored(lab)
        targets = {0: before.stores[5], 5: before.stores[0]}
        work = asyncio.create_task(getattr(mover(lab), verb)(extent, before, targets))
        for _ in range(steps):
            await asyncio.sleep(0)
        ended = work.done()
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await lab.settled()
        _, after = await stored(lab)
        found = await lab.services.manifest.find_damaged(extent.id, after.id)
        assert found is not None
        assert not found.drawn, "the next move need not wait until the draw expires"
        moved = after.generations != before.generations
        assert (after.stores[0], after.stores[5]) == (
            (before.stores[5], before.stores[0]) if moved else (before.stores[0], before.stores[5])
        )
        await lab.collect()
        assert await lab.shards() == {after.shard_name(index) for index in range(6)}
        assert await lab.get("k") == DATA
        if ended:
            break
        steps += 1 if steps < 20 else 7
    assert moved
    assert steps > 20


async def test_what_another_move_has_left_since_somebody_looked_is_looked_at_first(lab: Laboratory) -> None:
    await lab.put("k", DATA)
    extent, segment = await stored(lab)
    lab.stores[segment.stores[5]].loses_answers = True
    with pytest.raises(MoveFailed):  # shard 0 is in a second store now, until that has confirmed its deletion
        await mover(lab).copy(extent, segment, {0: segment.stores[5]})
    with pytest.raises(MoveRefused):
        await mover(lab).copy(extent, segment, {1: segment.stores[5]})
    await lab.collect()
    assert await lab.shards() == {segment.shard_name(index) for index in range(6)}


@pytest.mark.parametrize("verb", ["copy", "rebuild"])
async def test_moves_of_which_one_needs_the_place_of_another_are_made_together_or_not_at_all(lab: Laboratory, verb: str) -> None:
    await lab.put("k", DATA)
    extent, segment = await stored(lab)
    lab.stores[segment.stores[5]].full = True
    with pytest.raises(MoveFailed, match="only some") as failure:
        await getattr(mover(lab), verb)(extent, segment, {0: segment.stores[5], 5: segment.stores[0]}, may_stand=lambda _: False)
    assert failure.value.stores == {segment.stores[5]}
    _, after = await stored(lab)
    assert after.stores == segment.stores
    lab.stores[segment.stores[5]].full = False
    await lab.collect()
    assert await lab.shards() == {after.shard_name(index) for index in range(6)}
