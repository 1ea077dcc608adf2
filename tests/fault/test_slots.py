"""Reading slots of packs from stores that misbehave: the right bytes or none, few requests, and the right store to blame."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from proxy.codec.format import CELL_SIZE, SEALED_CELL_SIZE, TAG_SIZE
from proxy.codec.geometry import Scheme
from proxy.errors import IntegrityError, NotEnoughShards, ShardMismatch
from proxy.manifest.records import Extent, ExtentRef
from proxy.server.errors import translate
from proxy.stores.protocol import ShardName
from tests.laboratory import Laboratory, laboratory
from tests.packs import StoredPack, store_pack
from tests.patience import PATIENCE_SECONDS

LYING = ["flips_bits", "truncates"]
SCHEMES = [Scheme(4, 2), Scheme(2, 4), Scheme(1, 3), Scheme(3, 1)]
KINDS = {"flips_bits": "forged", "truncates": "truncated"}


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Laboratory]:
    async with laboratory(tmp_path, get_timeout_seconds=1000) as running:
        yield running


def _bodies() -> list[bytes]:
    """Return bodies that lie inside a cell, on the edge of one, and across two or three."""
    sizes = [4096, 100_000, CELL_SIZE - TAG_SIZE, 1, 128 * 1024, 100_000, 5000, 120_000, 16, 70_000]
    return [os.urandom(size) for size in sizes]


def _asked(lab: Laboratory) -> list[tuple[str, ShardName, int, int]]:
    return [(name, *asked) for name, store in lab.stores.items() for asked in store.ranges]


def _forget(lab: Laboratory) -> None:
    for store in lab.stores.values():
        store.ranges.clear()


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
async def test_a_healthy_read_is_one_request_of_just_the_slot_to_just_its_store(lab: Laboratory, scheme: Scheme) -> None:
    pack = await store_pack(lab, _bodies(), scheme=scheme)
    for body, content in enumerate(pack.bodies):
        _forget(lab)
        assert await pack.read(body) == content
        slot = pack.slot(body)
        assert _asked(lab) == [(pack.store_of_slot(body), pack.segment.shard_name(slot.column), slot.start, slot.length)]
        assert slot.length <= len(content) + TAG_SIZE + 3 * TAG_SIZE
    assert await pack.damage() == {}


@pytest.mark.parametrize(("start", "length"), [(0, 1), (99_999, 1), (60_000, 30_000), (5, 0)])
async def test_a_range_of_a_slot_is_just_that_range(lab: Laboratory, start: int, length: int) -> None:
    pack = await store_pack(lab, _bodies())
    assert await pack.read(1, start, length) == pack.bodies[1][start : start + length]
    assert len(_asked(lab)) == (1 if length else 0)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize("fault", ["down", "rejects", *LYING])
@pytest.mark.parametrize("body", [0, 4], ids=["in a cell", "across cells"])
async def test_a_store_that_fails_or_lies_costs_the_same_bytes_of_k_others(lab: Laboratory, scheme: Scheme, fault: str, body: int) -> None:
    pack = await store_pack(lab, _bodies(), scheme=scheme)
    setattr(lab.stores[pack.store_of_slot(body)], fault, True)
    assert await pack.read(body) == pack.bodies[body]
    slot, asked = pack.slot(body), _asked(lab)
    assert {one[2:] for one in asked} == {(slot.start, slot.length)}
    assert len(asked) == 1 + scheme.k
    assert await pack.damage() == ({(pack.store_of_slot(body), KINDS[fault]): 1} if fault in KINDS else {})


@pytest.mark.impatient
@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
async def test_a_store_that_hangs_costs_the_same_bytes_of_others(lab: Laboratory, scheme: Scheme) -> None:
    pack = await store_pack(lab, _bodies(), scheme=scheme)
    for body in (0, 4):
        lab.stores[pack.store_of_slot(body)].hanging = True
        _forget(lab)
        async with asyncio.timeout(PATIENCE_SECONDS):  # a store's deadline is 1,000 s here
            assert await pack.read(body) == pack.bodies[body]
        slot = pack.slot(body)
        assert {one[2:] for one in _asked(lab)} == {(slot.start, slot.length)}
        lab.stores[pack.store_of_slot(body)].hanging = False
    assert await pack.damage() == {}


async def test_a_slot_survives_any_two_dead_stores(lab: Laboratory) -> None:
    pack = await store_pack(lab, _bodies())
    for pair in itertools.combinations(lab.stores, 2):
        for name in pair:
            lab.stores[name].down = True
        for body, content in enumerate(pack.bodies):
            assert await pack.read(body) == content
        for name in pair:
            lab.stores[name].down = False
        lab.clock.advance(5)  # what was seen to be down is asked again
    assert await pack.damage() == {}


@pytest.mark.parametrize("fault", LYING)
async def test_of_any_two_liars_each_that_was_asked_is_told_of_and_nobody_else(tmp_path: Path, fault: str) -> None:
    """Two data columns, one data column and one of parity, or parity alone: the tags of the cells pin each."""
    for number, pair in enumerate(itertools.combinations(range(6), 2)):
        async with laboratory(tmp_path / str(number)) as lab:
            pack = await store_pack(lab, [os.urandom(size) for size in (100_000, 4096, 100, 70_000)])
            liars = {pack.store_of(index) for index in pair}
            for name in liars:
                setattr(lab.stores[name], fault, True)
            for body, content in enumerate(pack.bodies):
                assert await pack.read(body) == content
            damage = set(await pack.damage())
            assert damage <= {(name, KINDS[fault]) for name in liars}
            assert damage >= {(pack.store_of(index), KINDS[fault]) for index in pair if index < 4}  # parity need not have been asked


async def test_a_liar_among_the_others_is_pinned_while_the_slots_own_store_is_dead(lab: Laboratory) -> None:
    pack = await store_pack(lab, _bodies())
    liar = pack.store_of(pack.others(0)[0])
    lab.stores[liar].flips_bits = True
    lab.stores[pack.store_of_slot(0)].down = True
    assert await pack.read(0) == pack.bodies[0]
    assert await pack.damage() == {(liar, "forged"): 1}


@pytest.mark.parametrize("scheme", [Scheme(4, 2), Scheme(2, 4)], ids=str)
async def test_pinning_reads_the_cells_that_the_slot_touches_and_never_the_pack(lab: Laboratory, scheme: Scheme) -> None:
    pack = await store_pack(lab, [os.urandom(100_000) for _ in range(24)], scheme=scheme)
    body = next(number for number in range(24) if len(pack.slot(number).plaintext_runs()) == 2)
    slot = pack.slot(body)
    for index in (slot.column, pack.others(body)[0]):
        lab.stores[pack.store_of(index)].flips_bits = True
    _forget(lab)
    assert await pack.read(body) == pack.bodies[body]
    asked = _asked(lab)
    cells = [one for one in asked if one[2:] != (slot.start, slot.length)]
    assert all(start % SEALED_CELL_SIZE == 0 and length <= SEALED_CELL_SIZE for _, _, start, length in cells)
    assert len({start for _, _, start, _ in cells}) == 2
    assert len(cells) <= 2 * scheme.n


async def test_a_store_that_answers_with_another_pack_is_refused_and_told(lab: Laboratory) -> None:
    pack, other = await store_pack(lab, _bodies()), await store_pack(lab, _bodies())
    for body in range(4):
        column = pack.slot(body).column
        liar = lab.stores[pack.store_of(column)]
        liar.swaps_with = ShardName(other.segment.shard_name(column))
        assert await pack.read(body) == pack.bodies[body]
        liar.swaps_with = None
    assert await pack.damage() == {(pack.store_of(pack.slot(body).column), "forged"): 1 for body in range(4)}


async def test_a_store_that_answers_with_an_older_shard_of_its_place_is_refused(lab: Laboratory) -> None:
    """What lay there before is sealed under other keys: names are never used twice, so only a store's own confusion brings it."""
    older, pack = await store_pack(lab, [b"old" * 1000] * 4), await store_pack(lab, [b"new" * 1000] * 4)
    for index, name in enumerate(pack.segment.stores):
        lab.stores[name].swaps_with = ShardName(older.segment.shard_name(index))
    with pytest.raises(NotEnoughShards):
        await pack.read(0)
    lab.stores[pack.store_of_slot(0)].swaps_with = None
    assert await pack.read(0) == b"new" * 1000


async def test_with_k_minus_one_columns_left_the_answer_is_unavailable_and_never_not_found(lab: Laboratory) -> None:
    pack = await store_pack(lab, _bodies())
    for fault in ("down", "flips_bits"):
        broken = [pack.slot(0).column, *pack.others(0)[:2]]
        for index in broken:
            setattr(lab.stores[pack.store_of(index)], fault, True)
        with pytest.raises(NotEnoughShards) as raised:
            await pack.read(0)
        assert translate(raised.value, writing=False).status == 503
        for index in broken:
            setattr(lab.stores[pack.store_of(index)], fault, False)
        lab.clock.advance(5)
    assert await pack.damage() == {(pack.store_of(index), "forged"): 1 for index in broken}
    assert lab.services.budget.held_bytes == 0


async def test_a_liar_is_pinned_although_too_few_others_are_left(lab: Laboratory) -> None:
    pack = await store_pack(lab, _bodies())
    liar = pack.store_of_slot(0)
    lab.stores[liar].flips_bits = True
    for index in pack.others(0)[:2]:
        lab.stores[pack.store_of(index)].down = True
    with pytest.raises(NotEnoughShards):
        await pack.read(0)
    assert await pack.damage() == {(liar, "forged"): 1}


@pytest.mark.parametrize("missing", [(0,), (0, 1), (0, 5), (1, 2)])
async def test_a_shard_on_record_as_missing_is_not_asked_for(lab: Laboratory, missing: tuple[int, ...]) -> None:
    pack = await store_pack(lab, _bodies())
    body = next(number for number in range(4) if pack.slot(number).column == 0)
    layout = pack.extent.layout
    extent = Extent(id=pack.extent.id, layout=replace(layout, segments=(replace(pack.segment, missing=missing),)))
    assert await pack.read(body, extent=extent) == pack.bodies[body]
    assert not {pack.store_of(index) for index in missing} & {one[0] for one in _asked(lab)}


async def test_a_shard_that_was_moved_is_read_where_it_is_now(lab: Laboratory) -> None:
    pack = await store_pack(lab, _bodies(), generations=[3, 0, 1, 0, 2, 0])
    for body, content in enumerate(pack.bodies):
        assert await pack.read(body) == content
    names = {one[1] for one in _asked(lab)}
    assert {name.rpartition(".")[2] for name in names if "." in name} == {"3", "1"}


async def test_a_store_that_is_not_configured_any_more_is_done_without(lab: Laboratory) -> None:
    pack = await store_pack(lab, _bodies())
    stores = dict(lab.services.fleet.stores)
    del stores[pack.store_of_slot(0)]
    lab.services.fleet.stores = stores
    assert await pack.read(0) == pack.bodies[0]


@pytest.mark.impatient
async def test_reads_of_slots_soon_leave_out_a_store_that_hangs(lab: Laboratory) -> None:
    pack = await store_pack(lab, _bodies())
    late = lab.stores[pack.store_of_slot(0)]
    late.hanging = True
    for _ in range(3):
        assert await pack.read(0) == pack.bodies[0]
    _forget(lab)
    assert await pack.read(0) == pack.bodies[0]
    assert late.ranges == []
    assert {task for task in asyncio.all_tasks() if "get_range" in repr(task.get_coro())} == set()


async def test_a_read_whose_client_goes_away_leaves_no_request_and_no_memory(lab: Laboratory) -> None:
    pack = await store_pack(lab, _bodies())
    for store in lab.stores.values():
        store.hanging = True
    reading = asyncio.create_task(pack.read(0))
    while not _asked(lab):
        await asyncio.sleep(0)
    assert lab.services.budget.held_bytes > 0
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert {task for task in asyncio.all_tasks() if "get_range" in repr(task.get_coro())} == set()
    assert lab.services.budget.held_bytes == 0


@pytest.mark.parametrize("change", [{"size": 4095}, {"offset": 1}], ids=["size", "offset"])
async def test_a_slot_that_is_wrong_on_record_is_refused_and_no_store_blamed(lab: Laboratory, change: dict[str, int]) -> None:
    pack = await store_pack(lab, _bodies())
    wrong = _referring_to(pack, replace(pack.versions[0].extents[0], **change))
    with pytest.raises(IntegrityError):
        await wrong.read(0)
    assert await pack.damage() == {}


@pytest.mark.parametrize("offset", [2**40, 10**6])
async def test_a_slot_that_lies_in_no_column_is_refused_before_anybody_is_asked(lab: Laboratory, offset: int) -> None:
    pack = await store_pack(lab, [b"x" * 1000])
    wrong = _referring_to(pack, replace(pack.versions[0].extents[0], offset=offset))
    with pytest.raises(ShardMismatch):
        await wrong.read(0)
    assert _asked(lab) == []
    assert lab.services.budget.held_bytes == 0


def _referring_to(pack: StoredPack, ref: ExtentRef) -> StoredPack:
    version = replace(pack.versions[0], size=ref.size, extents=(ref,))
    return StoredPack(lab=pack.lab, extent=pack.extent, versions=(version,), bodies=pack.bodies)


async def test_a_failure_that_nobody_foresaw_is_not_held_against_a_store(lab: Laboratory) -> None:
    pack = await store_pack(lab, _bodies())
    lab.stores[pack.store_of_slot(0)].before = _raise
    with pytest.raises(ZeroDivisionError):
        await pack.read(0)


def _raise(_: str) -> None:
    raise ZeroDivisionError("a fault of ours, on purpose")


async def test_a_degraded_read_holds_the_memory_of_k_columns(lab: Laboratory) -> None:
    pack = await store_pack(lab, _bodies())
    version, held = pack.versions[4], []
    slot = pack.slot(4)
    for down in (False, True):
        lab.stores[pack.store_of_slot(4)].down = down
        for _ in range(3 if down else 0):  # until it is known to be down
            await pack.read(4)
        reading = await lab.services.engine.open_read(version, lab.tenant, 0, version.size, extents=[pack.extent])
        await reading.group()
        held.append(lab.services.budget.held_bytes)
        await reading.aclose()
    assert held == [2 * slot.length, 3 * 4 * slot.length]


async def test_what_a_store_has_in_memory_is_read_without_a_request_and_without_a_task(lab: Laboratory) -> None:
    pack = await store_pack(lab, _bodies())
    await _read_twice_at_once(pack)
    _forget(lab)
    before = asyncio.all_tasks()
    reading = await lab.services.engine.open_read(pack.versions[0], lab.tenant, 10, 100, extents=[pack.extent])
    with pytest.raises(StopIteration) as ended:
        reading.whole().send(None)  # all in one step: it never waits
    assert ended.value.value == pack.bodies[0][10:110]
    assert (_asked(lab), asyncio.all_tasks()) == ([], before)
    assert lab.services.budget.held_bytes == 0


async def test_a_store_that_is_left_out_is_not_read_from_memory_either(lab: Laboratory) -> None:
    pack = await store_pack(lab, _bodies())
    await _read_twice_at_once(pack)
    own = pack.store_of_slot(0)
    for _ in range(3):
        lab.services.fleet[own].overtaken("get_range")
    before = lab.stores[own].calls["read_at_once"]
    assert await pack.read(0) == pack.bodies[0]
    assert lab.stores[own].calls["read_at_once"] == before


@pytest.mark.parametrize("fault", LYING)
async def test_a_lie_from_memory_is_no_better_than_one_from_afar(lab: Laboratory, fault: str) -> None:
    pack = await store_pack(lab, _bodies())
    await _read_twice_at_once(pack)
    liar = pack.store_of_slot(0)
    setattr(lab.stores[liar], fault, True)
    assert await pack.read(0) == pack.bodies[0]
    assert await pack.damage() == {(liar, KINDS[fault]): 1}


@pytest.mark.parametrize("fault", LYING)
async def test_a_lie_from_memory_about_a_cell_is_worked_around_and_told(lab: Laboratory, fault: str) -> None:
    data = os.urandom(300_000)
    version = await lab.put("k", data)
    for store in lab.stores.values():
        store.answers_at_once = True
    for _ in range(2):
        assert await lab.get("k") == data
    assert sum(store.calls["read_at_once"] for store in lab.stores.values()) == 4
    (extent,) = await lab.services.manifest.load_extents([ref.id for ref in version.extents])
    liar = extent.layout.segments[0].stores[2]
    setattr(lab.stores[liar], fault, True)
    assert await lab.get("k") == data
    await lab.settled()
    assert (await lab.services.manifest.count_damage()).by_store == {(liar, KINDS[fault]): 1}


async def _read_twice_at_once(pack: StoredPack) -> None:
    """Read every slot, first from disk and then from memory."""
    for store in pack.lab.stores.values():
        store.answers_at_once = True
    for _ in range(2):
        assert [await pack.read(body) for body in range(len(pack.bodies))] == list(pack.bodies)
    assert sum(store.calls["read_at_once"] for store in pack.lab.stores.values()) >= len(pack.bodies)
