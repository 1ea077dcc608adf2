"""What tenants see when providers fail, lie or hang: nothing, as long as the policy allows it."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from proxy.codec.format import is_shard_name
from proxy.engine.memory.budget import SMALL_SIZE
from proxy.errors import NotEnoughShards, PolicyMissing
from proxy.manifest.records import ObjectAttributes, ObjectKey, VersionId
from proxy.server.errors import translate
from tests.fault.test_repair import repair
from tests.laboratory import BytesBody, Laboratory, laboratory
from tests.packing import alone, company, extent_of, has_packs, packs_leave, put_together, read_all, sized, some_objects
from tests.patience import PATIENCE_SECONDS

SIZES = {"alone": [1, 5000, 1_500_000, 18_000_000], "packed": [1, 5000, 100_000]}
SMALL = 4096
PARITY = 4  # the first shard that has no data


@pytest.fixture(params=[False, True], ids=["alone", "packed"])
async def lab(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Laboratory]:
    async with laboratory(tmp_path, packs=request.param) as running, packs_leave(running):
        yield running


@sized(**SIZES)
async def test_get_survives_any_two_dead_stores(lab: Laboratory, size: int) -> None:
    objects = some_objects(lab, size)
    await put_together(lab, objects)
    pairs = list(itertools.combinations(lab.stores, 2))
    for pair in pairs if size < 100_000 else pairs[::5]:
        for name in pair:
            lab.stores[name].down = True
        assert await read_all(lab, objects) == objects
        for name in pair:
            lab.stores[name].down = False
        lab.clock.advance(5)  # what was seen to be down is asked again


async def test_get_with_too_few_stores_says_so(lab: Laboratory) -> None:
    data, refused = b"data" * 1000, 0
    await lab.put("k", data)
    for three in itertools.combinations(lab.stores, 3):
        for name in three:
            lab.stores[name].down = True
        try:
            assert await lab.get("k") == data
        except NotEnoughShards:
            refused += 1
        for name in three:
            lab.stores[name].down = False
        lab.clock.advance(5)
    # An object in a pack lies in one store. While that is up, it is read there, whatever the others do.
    assert refused == (10 if has_packs(lab) else 20)


@pytest.mark.parametrize("fault", ["flips_bits", "truncates"])
@sized(**SIZES)
async def test_get_never_serves_a_lie(lab: Laboratory, fault: str, size: int) -> None:
    objects = some_objects(lab, size)
    await put_together(lab, objects)
    for pair in itertools.islice(itertools.combinations(lab.stores, 2), 0, None, 4):
        for name in pair:
            setattr(lab.stores[name], fault, True)
        assert await read_all(lab, objects) == objects
        for name in pair:
            setattr(lab.stores[name], fault, False)


@alone
@pytest.mark.impatient
@pytest.mark.parametrize("fault", ["down", "hanging", "flips_bits", "truncates"])
async def test_get_goes_on_when_two_stores_fail_in_mid_stream(lab: Laboratory, fault: str) -> None:
    data = os.urandom(20_000_000)
    pieces = await _read_with_a_break(lab, data, lambda: [setattr(lab.stores[name], fault, True) for name in ("cedar", "alder")])
    assert b"".join(pieces) == data


@alone
async def test_get_raises_rather_than_end_early_when_too_many_fail_in_mid_stream(lab: Laboratory) -> None:
    data = os.urandom(20_000_000)
    pieces: list[bytes] = []
    with pytest.raises(NotEnoughShards):
        await _read_with_a_break(lab, data, lambda: [setattr(lab.stores[name], "down", True) for name in ("cedar", "alder", "elm")], pieces)
    sent = b"".join(pieces)
    assert sent == data[: len(sent)]
    assert 0 < len(sent) < len(data)
    assert lab.services.budget.held_bytes == 0


async def _read_with_a_break(lab: Laboratory, data: bytes, strike: Callable[[], object], pieces: list[bytes] | None = None) -> list[bytes]:
    """Read an object of these data; strike after the first piece."""
    pieces = [] if pieces is None else pieces
    await lab.put("k", data)
    version = await lab.services.manifest.find_version(lab.bucket.id, ObjectKey("k"))
    assert version is not None
    async for piece in await lab.services.engine.open_read(version, lab.tenant, 0, version.size):
        if not pieces:
            strike()
        pieces.append(bytes(piece))
    return pieces


async def test_a_swapped_shard_is_refused(lab: Laboratory) -> None:
    await lab.put("a", b"a" * 5000)
    await lab.put("b", b"b" * 5000)
    liar = next(iter(lab.stores.values()))
    names = [name async for name, _ in liar.list() if is_shard_name(name)]
    for name in names:
        liar.swaps_with = name
        assert await lab.get("a") == b"a" * 5000
        assert await lab.get("b") == b"b" * 5000


@sized(alone=[3_000_000], packed=[SMALL])
async def test_put_with_one_provider_down_succeeds_and_records_what_is_missing(lab: Laboratory, size: int) -> None:
    lab.stores["cedar"].down = True
    objects = some_objects(lab, size)
    extent = await extent_of(lab, await put_together(lab, objects))
    assert [segment.stores[segment.missing[0]] for segment in extent.layout.segments] == ["cedar"]
    assert (await lab.services.manifest.count_damage()).by_store == {("cedar", "missing"): 1}
    lab.stores["alder"].down = True  # and the next failure is survived as well
    assert await read_all(lab, objects) == objects


@sized(alone=[3_000_000], packed=[SMALL])
async def test_put_doubles_up_when_two_stores_are_down(lab: Laboratory, size: int) -> None:
    lab.stores["cedar"].down = lab.stores["elm"].down = True
    objects = some_objects(lab, size)
    extent = await extent_of(lab, await put_together(lab, objects))
    (segment,) = extent.layout.segments
    assert set(segment.stores) == {"alder", "birch", "dogwood", "fir"}
    assert segment.missing == ()
    assert segment.strays, "either may have what it was sent, and said it had not taken"
    for third in ("alder", "birch", "dogwood", "fir"):
        lab.stores[third].down = True
        assert await read_all(lab, objects) == objects
        lab.stores[third].down = False
        lab.clock.advance(5)


@sized(alone=[3_000_000], packed=[SMALL])
async def test_put_with_more_failures_than_the_policy_allows_leaves_nothing(lab: Laboratory, size: int) -> None:
    dead = [lab.stores[name] for name in ("alder", "birch", "cedar", "elm")]
    for store in dead:
        store.down = True
    objects = some_objects(lab, size)
    outcomes = await asyncio.gather(*(lab.put(key, data) for key, data in objects.items()), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {NotEnoughShards}
    for key in objects:
        assert await lab.services.manifest.find_version(lab.bucket.id, ObjectKey(key)) is None
    for store in dead:
        store.down = False
    await lab.collect()
    assert await lab.shards() == set()


@pytest.mark.impatient
async def test_a_hanging_store_costs_a_bounded_delay_and_leaks_nothing(tmp_path: Path) -> None:
    async with laboratory(tmp_path, put_timeout_seconds=6, get_timeout_seconds=6) as lab:
        lab.stores["fir"].hanging = True
        data = os.urandom(1_500_000)
        async with asyncio.timeout(PATIENCE_SECONDS):
            for number in range(12):
                await lab.put_promptly(f"k{number}", data)
                assert await lab.get(f"k{number}") == data
        hung = [thread for thread in threading.enumerate() if thread.name.startswith("store-fir")]
        assert len(hung) <= 4
        assert threading.active_count() < 60  # four lanes a store, the coding threads, the manifest's
        async with asyncio.timeout(PATIENCE_SECONDS):  # the tails end by their deadline
            while lab.services.budget.held_bytes:
                await asyncio.sleep(0.05)


@pytest.mark.impatient
async def test_a_hanging_store_cannot_take_the_memory_of_the_others(tmp_path: Path) -> None:
    async with laboratory(tmp_path, memory_mib=32, put_timeout_seconds=6) as lab:
        lab.stores["fir"].hanging = True
        data = os.urandom(16_000_000)
        for number in range(4):
            version = await lab.put_promptly(f"k{number}", data)
        assert lab.services.budget.held_bytes <= lab.services.budget.capacity_bytes // 4 + 8_000_000 // 2
        assert await lab.get("k0") == data
        (extent,) = await lab.services.manifest.load_extents([ref.id for ref in version.extents])
        assert extent.layout.segments[0].stores[extent.layout.segments[0].missing[0]] == "fir"


async def test_a_straggler_is_recorded_when_it_arrives(lab: Laboratory) -> None:
    gate = asyncio.Event()
    slow = lab.stores["birch"]
    original = slow.inner.put

    async def put_late(name, body) -> None:
        await gate.wait()
        await original(name, body)

    slow.inner.put = put_late  # type: ignore[method-assign]
    version = await lab.put_promptly("k", os.urandom(5000))
    (extent,) = await lab.services.manifest.load_extents([ref.id for ref in version.extents])
    assert extent.layout.segments[0].stores.index("birch") in extent.layout.segments[0].missing
    gate.set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await lab.services.manifest.count_damage()).by_store:
            await asyncio.sleep(0.01)
    (extent,) = await lab.services.manifest.load_extents([ref.id for ref in version.extents])
    assert extent.layout.segments[0].missing == ()


@sized(alone=[100_000], packed=[SMALL])
async def test_a_lost_put_is_worked_around_told_and_mended(lab: Laboratory, size: int) -> None:
    lab.stores["dogwood"].loses_puts = True
    objects, index = dict[str, bytes](), PARITY
    while index >= PARITY:  # a read meets only what is lost of the data
        objects = some_objects(lab, size)
        (segment,) = (await extent_of(lab, await put_together(lab, objects))).layout.segments
        index = segment.stores.index("dogwood")
        assert segment.missing == (), "it has said that it took it"
    assert await read_all(lab, objects) == objects
    await lab.settled()
    assert (await lab.services.manifest.count_damage()).by_store == {("dogwood", "missing"): 1}
    lab.stores["dogwood"].loses_puts = False
    await repair(lab)
    lab.stores["alder"].down = lab.stores["fir"].down = True
    assert await read_all(lab, objects) == objects


@alone
async def test_a_small_range_asks_one_store(lab: Laboratory) -> None:
    data = os.urandom(5_000_000)
    await lab.put("k", data)
    before = sum(store.calls["get_range"] for store in lab.stores.values())
    assert await lab.get("k", 65_536 * 5, 65_536) == data[65_536 * 5 : 65_536 * 6]
    assert sum(store.calls["get_range"] for store in lab.stores.values()) == before + 1


async def test_replaced_and_deleted_data_is_collected(lab: Laboratory) -> None:
    await lab.put("k", os.urandom(5000))
    old = await lab.shards()
    await lab.put("k", os.urandom(5000))
    await lab.services.manifest.delete_latest(lab.bucket.id, "other", marker_id="m", now_ms=lab.clock.now_ms())  # type: ignore[arg-type]
    await lab.collect()
    assert not old & await lab.shards()
    assert len(await lab.shards()) == 6


async def test_garbage_waits_for_a_store_that_is_down(lab: Laboratory) -> None:
    await lab.put("k", os.urandom(5000))
    await lab.services.manifest.delete_latest(lab.bucket.id, "k", marker_id="m", now_ms=lab.clock.now_ms())  # type: ignore[arg-type]
    lab.stores["elm"].down = True
    await lab.collect()
    assert len(await lab.shards_but("elm")) == 0
    assert await lab.garbage() > 0
    lab.stores["elm"].down = False
    await lab.collect()  # the first call that is let through finds the store well again
    await lab.collect()
    assert await lab.garbage() == 0
    assert await lab.shards() == set()


@sized(alone=[30_000_000], packed=[5000])
async def test_a_body_that_breaks_off_leaves_nothing(lab: Laboratory, size: int) -> None:
    class Broken(BytesBody):
        async def chunks(self) -> AsyncIterator[bytes]:
            yield self._data[: size * 17 // 30]
            raise ConnectionResetError

    async with company(lab):
        with pytest.raises(ConnectionResetError):
            await lab.services.engine.put_object(lab.bucket, lab.tenant, ObjectKey("k"), Broken(bytes(size)), ObjectAttributes())
    assert lab.services.budget.held_bytes == 0
    await lab.collect()
    assert await lab.shards() == set()


async def test_memory_is_bounded_and_waiting_uploads_get_their_turn(tmp_path: Path) -> None:
    async with laboratory(tmp_path / "small", memory_mib=48) as lab:
        data = os.urandom(16_000_000)
        await asyncio.gather(*(lab.put(f"k{number}", data) for number in range(6)))
        assert await lab.get("k5") == data
        assert lab.services.budget.held_bytes == 0


async def test_uploads_that_send_nothing_hold_no_memory(tmp_path: Path) -> None:
    class Silent(BytesBody):
        async def chunks(self) -> AsyncIterator[bytes]:
            await silence.wait()
            yield self._data

    silence = asyncio.Event()
    async with laboratory(tmp_path, memory_mib=48) as lab:
        engine, attributes = lab.services.engine, ObjectAttributes()
        bodies = [Silent(b"x" * 16_000_000) for _ in range(4)]
        silent = [
            asyncio.create_task(engine.put_object(lab.bucket, lab.tenant, ObjectKey(f"s{n}"), body, attributes))
            for n, body in enumerate(bodies)
        ]
        await lab.put("k", b"y" * 16_000_000)
        assert lab.services.budget.held_bytes == 0
        silence.set()
        await asyncio.gather(*silent)
        assert await lab.get("s3") == bodies[3]._data


@pytest.mark.impatient
async def test_reads_soon_leave_out_a_store_that_hangs(lab: Laboratory) -> None:
    data = os.urandom(2000)
    await lab.put("k", data)
    for _ in range(20):
        assert await lab.get("k") == data  # now it is known how fast they are
    version = await lab.services.manifest.find_version(lab.bucket.id, ObjectKey("k"))
    assert version is not None
    (extent,) = await lab.services.manifest.load_extents([ref.id for ref in version.extents])
    store = lab.stores[extent.layout.segments[0].stores[0]]
    store.hanging = True
    for _ in range(3):
        assert await lab.get("k") == data
    asked = store.calls["get_range"]
    for _ in range(20):
        assert await lab.get("k") == data
    assert store.calls["get_range"] == asked
    store.hanging = False
    lab.clock.advance(5)
    assert await lab.get("k") == data
    assert store.calls["get_range"] == asked + 1


@sized(alone=[500_000], packed=[SMALL])
async def test_a_store_that_is_only_slow_is_read_when_others_die(lab: Laboratory, size: int) -> None:
    objects = some_objects(lab, size)
    await put_together(lab, objects)
    for _ in range(3):
        lab.services.fleet["fir"].overtaken("get_range")
    assert not lab.services.fleet.readable("fir")
    lab.stores["alder"].down = lab.stores["birch"].down = True
    assert await read_all(lab, objects) == objects


@pytest.mark.impatient
async def test_reads_whose_clients_go_away_do_not_speak_against_the_stores(tmp_path: Path) -> None:
    async with laboratory(tmp_path, get_timeout_seconds=1000) as lab, asyncio.timeout(PATIENCE_SECONDS):
        await _break_reads_off(lab)


async def _break_reads_off(lab: Laboratory) -> None:
    data = os.urandom(5000)
    await lab.put("k", data)
    for _ in range(20):
        await lab.get("k")
    for store in lab.stores.values():
        store.hanging = True
        store.calls.clear()
    reads = [asyncio.create_task(lab.get("k")) for _ in range(8)]
    while sum(store.calls["get_range"] for store in lab.stores.values()) < 8 * 6:  # others are asked beside the late ones
        await asyncio.sleep(0.01)
    for read in reads:
        read.cancel()
    await asyncio.gather(*reads, return_exceptions=True)
    for store in lab.stores.values():
        store.hanging = False
    assert all(lab.services.fleet.readable(name) for name in lab.stores)
    assert await lab.get("k") == data


async def test_shards_of_lost_answers_are_collected(lab: Laboratory) -> None:
    for store in list(lab.stores.values())[:1]:
        store.loses_answers = True
    await lab.put("k", b"data" * 100)
    await lab.put("k", b"newer")
    for store in lab.stores.values():
        store.loses_answers = False
    await lab.services.manifest.delete_latest(lab.bucket.id, ObjectKey("k"), marker_id=VersionId("m"), now_ms=lab.clock.now_ms())
    lab.clock.advance(10)
    await lab.collect()
    assert await lab.shards() == set()


@alone
async def test_a_read_holds_the_memory_of_what_it_fetches(lab: Laboratory) -> None:
    async def held_by_first_call(start: int, length: int) -> int:
        held: list[int] = []
        for store in lab.stores.values():
            store.before = lambda _: held.append(lab.services.budget.held_bytes)
        await lab.get("k", start, length)
        return held[0]

    version = await lab.put("k", os.urandom(5_000_000))
    (extent,) = await lab.services.manifest.load_extents([ref.id for ref in version.extents])
    assert await held_by_first_call(0, 1) == 2 * 65_536
    assert await held_by_first_call(65_000, 1000) == 2 * 2 * 65_536
    assert await held_by_first_call(0, 5_000_000) == 2 * 1024 * 1024
    lab.stores[extent.layout.segments[0].stores[0]].down = True
    for _ in range(5):
        await lab.get("k", 0, 1)
    assert await held_by_first_call(0, 1) == 3 * 4 * 65_536, "once the store is known to be down"
    assert await held_by_first_call(0, 5_000_000) <= SMALL_SIZE, "the first byte never waits behind large requests"


@sized(alone=[500_000], packed=[SMALL])
async def test_stores_that_are_all_back_serve_at_once(lab: Laboratory, size: int) -> None:
    data = os.urandom(size)
    await lab.put("k", data)
    for store in lab.stores.values():
        store.down = True
    for _ in range(5):
        with pytest.raises(NotEnoughShards):
            await lab.get("k")
        with pytest.raises(NotEnoughShards):
            await lab.put("k", data)
    assert not any(lab.services.fleet.readable(name) for name in lab.stores)
    for store in lab.stores.values():
        store.down = False
    assert await asyncio.gather(*(lab.get("k") for _ in range(8))) == [data] * 8
    for _ in range(8):
        await lab.put("k", data)


async def test_what_was_refused_is_collected_where_it_was_kept(lab: Laboratory) -> None:
    liar = lab.stores["cedar"]
    liar.keeps_what_it_refuses = True
    await lab.put("k", os.urandom(5000))
    assert len([name async for name, _ in liar.list() if is_shard_name(name)]) == 1
    await lab.services.manifest.delete_latest(lab.bucket.id, ObjectKey("k"), marker_id=VersionId("m"), now_ms=lab.clock.now_ms())
    liar.keeps_what_it_refuses = False
    await lab.collect()
    assert await lab.shards() == set()


@sized(alone=[200_000], packed=[SMALL])
async def test_a_shard_on_record_as_missing_is_not_asked_for(lab: Laboratory, size: int) -> None:
    data = os.urandom(size)
    lab.stores["cedar"].down = True
    keys = [f"k{number}" for number in range(24)]  # each placed in a turn of its own
    for key in keys:
        await lab.put(key, data)
    lab.stores["cedar"].down = False
    lab.clock.advance(5)
    assert lab.services.fleet.readable("cedar")
    for dead in ("alder", "elm"):  # so that others are asked instead
        lab.stores[dead].down = True
        for key in keys:
            assert await lab.get(key) == data
        lab.stores[dead].down = False
        lab.clock.advance(5)
    assert lab.stores["cedar"].calls["get_range"] == 0


async def test_damaged_shards_are_counted(lab: Laboratory) -> None:
    assert (await lab.services.manifest.count_damage()).by_store == {}
    next(iter(lab.stores.values())).down = True
    await lab.put("k", b"data")
    found = await lab.services.manifest.count_damage()
    assert (found.by_store, found.by_redundancy) == ({("alder", "missing"): 1}, {1: 1})


async def test_a_bucket_whose_policy_is_gone_takes_no_writes_and_still_reads(lab: Laboratory) -> None:
    await lab.put("k", b"data")
    lab.services.engine._policies = {}
    with pytest.raises(PolicyMissing, match="standard"):
        await lab.put("k", b"newer")
    assert await lab.get("k") == b"data"
    assert translate(PolicyMissing("p")).status == 503
