"""Small bodies that come at once are stored and committed together. Each client hears its own result; what breaks off leaves nothing."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from proxy.codec.customer import CustomerKey
from proxy.codec.format import MAX_PACK_SIZE, MAX_PACK_SLOTS, MAX_TABLE_SIZE, is_shard_name
from proxy.config import Config
from proxy.engine.packing.departures import Pace
from proxy.engine.packing.pack import Packer
from proxy.engine.packing.packable import Arrived
from proxy.engine.tasks import BackgroundTasks
from proxy.engine.writing.body import Body, Digests, HereAlready, OpenEnded
from proxy.engine.writing.whole_body import WholeBody
from proxy.errors import BucketMissing, BudgetExhausted, IntentRevoked, ManifestUnavailable, NotEnoughShards, StoreUnavailable
from proxy.manifest.drafts import Conditions
from proxy.manifest.records import Bucket, BucketName, Encryption, ObjectAttributes, ObjectKey, Tenant, Version
from proxy.stores.protocol import ShardName
from proxy.tenancy import add_kms_key, add_tenant
from tests.fault.campaigns.test_policy import other_bucket, two_policies
from tests.fault.test_repair import repair
from tests.laboratory import BytesBody, Laboratory, laboratory
from tests.packing import extent_of
from tests.patience import PATIENCE_SECONDS

SMALL = 4096
NOTHING = ObjectAttributes()


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Laboratory]:
    async with laboratory(tmp_path, packs=True, put_timeout_seconds=100) as running:
        yield running


def put(
    lab: Laboratory, key: str, body: Body | None = None, attributes: ObjectAttributes = NOTHING, bucket: Bucket | None = None
) -> asyncio.Task[Version]:
    """Begin to put an object: its key is its content, if there is no other."""
    body = body or BytesBody(content(key))
    return asyncio.create_task(lab.services.engine.put_object(bucket or lab.bucket, lab.tenant, ObjectKey(key), body, attributes))


def content(key: str, size: int = SMALL) -> bytes:
    return (key.encode() * size)[:size]


def puts(lab: Laboratory) -> int:
    return sum(store.calls["put"] for store in lab.stores.values())


def packs_of(versions: Sequence[Version]) -> list[int]:
    """Return how many versions there are in each extent, and demand that they are slots."""
    extents = [version.extents[0] for version in versions]
    assert all(ref.offset is not None for ref in extents)
    ids = [ref.id for ref in extents]
    return sorted(ids.count(extent_id) for extent_id in set(ids))


def is_alone(version: Version) -> bool:
    return [ref.offset for ref in version.extents] == [None]


class Hanging:
    """All stores hang within the block: what is put meanwhile is on its way."""

    def __init__(self, lab: Laboratory) -> None:
        self._lab = lab

    async def __aenter__(self) -> None:
        for store in self._lab.stores.values():
            store.hanging = True

    async def __aexit__(self, *_: object) -> None:
        for store in self._lab.stores.values():
            store.hanging = False


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0)


async def turns(count: int = 50) -> None:
    """Let everything go on that can."""
    for _ in range(count):
        await asyncio.sleep(0)


def gathered(lab: Laboratory) -> int:
    """Return how many bodies wait for a pack."""
    packer = lab.services.engine._packer
    assert isinstance(packer, Packer)
    return sum(len(gate._waiting) for gate in packer._gates.values())


async def bucket_of_another(lab: Laboratory) -> tuple[Bucket, Tenant]:
    """Return a bucket of a new tenant."""
    manifest = lab.services.manifest
    await add_tenant(manifest, lab.services.keyring, lab.clock, "u")
    stranger = next(tenant for tenant in await manifest.list_tenants() if tenant.name == "u")
    bucket = Bucket(name=BucketName("theirs"), tenant_id=stranger.id, policy="standard", created_ms=1)
    return await manifest.create_bucket(bucket), stranger


async def assert_nothing_is_left(lab: Laboratory) -> None:
    assert lab.services.budget.held_bytes == 0
    await lab.collect()
    assert await lab.shards() == set()
    packer = lab.services.engine._packer
    assert isinstance(packer, Packer)
    assert packer._gates == {}


async def test_bodies_that_come_while_a_pack_is_on_its_way_share_the_next_one(lab: Laboratory) -> None:
    async with Hanging(lab):
        first = put(lab, "first")
        await until(lambda: puts(lab) == 6)
        others = [put(lab, f"k{number}") for number in range(5)]
        await until(lambda: gathered(lab) == 5)
    versions = await asyncio.gather(first, *others)
    assert packs_of(versions) == [1, 5]
    assert puts(lab) == 12
    for version in versions:
        assert await lab.get(version.key) == content(version.key)
    await lab.settled()
    assert lab.services.budget.held_bytes == 0


async def test_all_that_comes_before_a_pack_leaves_begins_no_other(lab: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, start = list[str](), BackgroundTasks.start

    def counted(tasks: BackgroundTasks, coroutine: Coroutine[object, object, object]) -> asyncio.Task[object]:
        begun.append(coroutine.__qualname__)
        return start(tasks, coroutine)

    monkeypatch.setattr(BackgroundTasks, "start", counted)
    versions = await asyncio.gather(*(put(lab, f"k{number}") for number in range(16)))
    assert packs_of(versions) == [16]
    assert begun.count("_Gate._carry") == 1


async def test_what_one_pack_has_no_room_for_leaves_in_the_next(lab: Laboratory) -> None:
    versions = await asyncio.gather(*(put(lab, f"k{number}") for number in range(MAX_PACK_SLOTS + 44)))
    assert packs_of(versions) == [44, MAX_PACK_SLOTS]


async def test_no_pack_is_larger_than_packs_may_be(lab: Laboratory) -> None:
    versions = await asyncio.gather(*(put(lab, f"k{number}", BytesBody(content(f"k{number}", 100_000))) for number in range(60)))
    packed = [version for version in versions if not is_alone(version)]
    assert len(packs_of(packed)) > 1
    sizes = Counter[int]()
    for version in packed:
        sizes[version.extents[0].id] += version.size
    assert max(sizes.values()) <= MAX_PACK_SIZE
    assert len(packed) >= 58


async def test_no_table_of_a_pack_is_longer_than_tables_may_be(lab: Laboratory) -> None:
    """It lies in one column, and makes all others as long."""
    told = ObjectAttributes(metadata={"x": "m" * 2000})
    keys = [f"k{number}" for number in range(MAX_PACK_SLOTS)]
    versions = await asyncio.gather(*(put(lab, key, BytesBody(b"x"), told) for key in keys))
    assert max(packs_of(versions)) < MAX_TABLE_SIZE // 2000
    extents = await lab.services.manifest.load_extents(list({version.extents[0].id for version in versions}))
    scheme = lab.services.policies["standard"].scheme
    assert all(extent.layout.size <= scheme.k * (MAX_TABLE_SIZE + SMALL) for extent in extents)


async def test_a_lone_body_waits_for_nobody_and_is_read_by_one_request(lab: Laboratory) -> None:
    version = await lab.put("k", content("k"))
    assert packs_of([version]) == [1]
    assert await lab.get("k") == content("k")
    assert sum(len(store.ranges) for store in lab.stores.values()) == 1


async def test_many_writers_cost_less_than_one_put_an_object(lab: Laboratory) -> None:
    async def write(writer: int) -> None:
        for number in range(8):
            await put(lab, f"{writer}/{number}")

    await asyncio.gather(*(write(writer) for writer in range(16)))
    assert puts(lab) <= 16 * 8
    for key in ("0/0", "15/7"):
        assert await lab.get(key) == content(key)


async def test_a_pack_leaves_beside_others_once_it_is_worth_its_puts(lab: Laboratory) -> None:
    async with Hanging(lab):
        tasks = [put(lab, "first")]
        await until(lambda: puts(lab) == 6)
        tasks += [put(lab, f"k{number}") for number in range(7)]
        await until(lambda: puts(lab) == 12)
        tasks += [put(lab, f"l{number}", BytesBody(os.urandom(20_000))) for number in range(4)]
        await until(lambda: puts(lab) == 18)
        tasks += [put(lab, f"m{number}") for number in range(20)]
        await until(lambda: gathered(lab) == 20)
        await turns()
        assert puts(lab) == 18, "no more than three are in flight"
    assert packs_of(await asyncio.gather(*tasks)) == [1, 4, 7, 20]


async def test_nobody_waits_long_for_a_pack_that_does_not_land(lab: Laboratory) -> None:
    packer = lab.services.engine._packer
    assert isinstance(packer, Packer)
    gone_on = asyncio.Event()
    carry = packer._carrier.carry

    async def carry_the_first_for_ever(bodies: Sequence[Arrived]) -> None:
        if bodies[0].draft.key == "first":
            await gone_on.wait()
        await carry(bodies)

    packer._carrier.carry = carry_the_first_for_ever  # type: ignore[method-assign]
    stays = put(lab, "before")  # whose gate goes on, as it is not deserted before the next comes
    await until(lambda: puts(lab) == 6)
    first = put(lab, "first")
    await stays
    await until(lambda: gathered(lab) == 0)
    await put(lab, "second")
    assert not first.done()
    gone_on.set()
    await first


async def test_a_pack_lingers_for_others_where_that_is_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual, over = asyncio.sleep, asyncio.Event()

    async def sleep(seconds: float) -> None:
        await (over.wait() if seconds == 0.75 else usual(seconds))

    async with laboratory(tmp_path, packs=True, adjust=with_packs(linger_ms=750)) as lab:
        monkeypatch.setattr(asyncio, "sleep", sleep)
        tasks = [put(lab, "first")]
        for number in range(2):
            await turns()
            assert (puts(lab), gathered(lab)) == (0, number + 1)
            tasks.append(put(lab, f"k{number}"))
        await turns()
        over.set()
        assert packs_of(await asyncio.gather(*tasks)) == [3]


def with_packs(**settings: object) -> Callable[[Config], Config]:
    """Return how to configure packs otherwise than usual."""
    return lambda config: replace(config, packs=replace(config.packs, **settings))


@pytest.mark.parametrize("below_kib", [0, 4, 8])
async def test_what_is_small_is_as_configured(tmp_path: Path, below_kib: int) -> None:
    async with laboratory(tmp_path, adjust=with_packs(below_kib=below_kib)) as lab:
        sizes = [1, 4095, 4096, 8191, 8192]
        versions = [await lab.put(f"k{size}", content("k", size)) for size in sizes]
        assert [not is_alone(version) for version in versions] == [size < below_kib * 1024 for size in sizes]


async def test_a_slow_client_holds_nobody_up(lab: Laboratory) -> None:
    slow = Slow(content("slow"))
    task = put(lab, "slow", slow)
    await slow.has_begun.wait()
    assert await asyncio.gather(*(put(lab, f"k{number}") for number in range(3)))
    slow.go_on.set()
    await task
    assert await lab.get("slow") == content("slow")


class Slow(BytesBody):
    """Sends half of its bytes, and the rest when it is told to."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.has_begun, self.go_on = asyncio.Event(), asyncio.Event()

    async def chunks(self) -> AsyncIterator[bytes]:
        half = len(self._data) // 2
        yield self._data[:half]
        self.has_begun.set()
        await self.go_on.wait()
        yield self._data[half:]


class BadClaim(BytesBody):
    def finish(self) -> Digests:
        raise ValueError("the digest is another")


class BadEnd(BytesBody):
    async def chunks(self) -> AsyncIterator[bytes]:
        yield self._data
        raise ValueError("the end of the body is wrong")


class Here(BytesBody, HereAlready):
    """Is here whole before anybody asks for it."""

    def take_at_once(self) -> bytes:
        return self._data


class HereWithBadClaim(BadClaim, Here):
    pass


class HereWithBadEnd(Here):
    def take_at_once(self) -> bytes:
        raise ValueError("the end of the body is wrong")


@pytest.mark.parametrize("kind", [BadClaim, BadEnd, HereWithBadClaim, HereWithBadEnd])
async def test_a_body_that_fails_its_checks_is_in_no_pack(lab: Laboratory, kind: type[BytesBody]) -> None:
    with pytest.raises(ValueError, match="the"):
        await put(lab, "bad", kind(content("bad")))
    assert puts(lab) == 0
    await assert_nothing_is_left(lab)


async def test_a_client_that_goes_away_takes_its_body_along_while_it_waits(lab: Laboratory) -> None:
    async with Hanging(lab):
        first = put(lab, "first")
        await until(lambda: puts(lab) == 6)
        gone, stays = put(lab, "gone"), put(lab, "stays")
        await until(lambda: gathered(lab) == 2)
        gone.cancel()
        await until(gone.done)
        assert gathered(lab) == 1
    await asyncio.gather(first, stays)
    await lab.settled()
    assert lab.services.budget.held_bytes == 0
    assert await lab.services.manifest.find_version(lab.bucket.id, ObjectKey("gone")) is None


async def test_a_pack_that_has_left_is_committed_though_its_clients_are_gone(lab: Laboratory) -> None:
    async with Hanging(lab):
        first = put(lab, "first")
        await until(lambda: puts(lab) == 6)
        others = [put(lab, f"k{number}") for number in range(3)]
        await until(lambda: gathered(lab) == 3)
        first.cancel()
        await until(first.done)
    assert len(await asyncio.gather(*others)) == 3
    await lab.settled()
    assert await lab.get("first") == content("first")
    assert lab.services.budget.held_bytes == 0


async def test_a_client_that_goes_away_in_the_middle_of_its_body_leaves_nothing(lab: Laboratory) -> None:
    slow = Slow(content("slow"))
    task = put(lab, "slow", slow)
    await slow.has_begun.wait()
    task.cancel()
    await until(task.done)
    await assert_nothing_is_left(lab)


async def test_all_hear_that_the_stores_failed_and_nothing_is_left(lab: Laboratory) -> None:
    for store in list(lab.stores.values())[:5]:
        store.down = True
    outcomes = await asyncio.gather(*(put(lab, f"k{number}") for number in range(5)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {NotEnoughShards}
    for store in lab.stores.values():
        store.down = False
    await assert_nothing_is_left(lab)


async def test_all_hear_that_the_commit_failed_and_nothing_is_left(lab: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object, **__: object) -> list[Version]:
        raise ManifestUnavailable("fails on purpose")

    with monkeypatch.context() as broken:
        broken.setattr(lab.services.manifest, "commit_pack", fail)
        outcomes = await asyncio.gather(*(put(lab, f"k{number}") for number in range(5)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {ManifestUnavailable}
    await lab.settled()
    await assert_nothing_is_left(lab)
    assert len(await asyncio.gather(*(put(lab, f"k{number}") for number in range(5)))) == 5


async def test_with_its_lease_revoked_a_pack_is_committed_by_halves_to_nobody(lab: Laboratory) -> None:
    async with Hanging(lab):
        tasks = [put(lab, f"k{number}") for number in range(3)]
        await until(lambda: puts(lab) == 6)
        await lab.services.manifest.revoke_expired_intents(now_ms=lab.clock.now_ms() + 10**9)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {IntentRevoked}
    await lab.settled()
    await assert_nothing_is_left(lab)


async def test_one_whose_bucket_is_gone_hears_so_and_the_others_are_stored(lab: Laboratory) -> None:
    manifest = lab.services.manifest
    other = await manifest.create_bucket(Bucket(name=BucketName("other"), tenant_id=lab.tenant.id, policy="standard", created_ms=1))
    async with Hanging(lab):
        first = put(lab, "first")
        await until(lambda: puts(lab) == 6)
        tasks = [put(lab, "a"), put(lab, "b", bucket=other), put(lab, "c")]
        await until(lambda: gathered(lab) == 3)
        await manifest.delete_bucket(other.id)
    outcomes = await asyncio.gather(first, *tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Version, Version, BucketMissing, Version]
    assert await lab.get("c") == content("c")
    (found,) = await manifest.find_packs([outcomes[1].extents[0].id])  # type: ignore[union-attr]
    assert (found.slots, found.dead) == (2, SMALL)


async def test_of_two_writes_to_one_key_in_one_pack_the_last_wins(lab: Laboratory) -> None:
    async with Hanging(lab):
        first = put(lab, "first")
        await until(lambda: puts(lab) == 6)
        tasks = [put(lab, "k", BytesBody(b"one")), put(lab, "k", BytesBody(b"other"))]
        await until(lambda: gathered(lab) == 2)
    assert packs_of(await asyncio.gather(first, *tasks)) == [1, 2]
    assert await lab.get("k") == b"other"


async def test_bodies_of_two_owners_or_storage_classes_share_no_pack(lab: Laboratory) -> None:
    manifest = lab.services.manifest
    theirs, stranger = await bucket_of_another(lab)
    engine = lab.services.engine
    rarely = ObjectAttributes(storage_class="REDUCED_REDUNDANCY")
    async with Hanging(lab):
        tasks = [put(lab, "first"), put(lab, "r", attributes=rarely)]
        tasks.append(asyncio.create_task(engine.put_object(theirs, stranger, ObjectKey("k"), BytesBody(b"theirs"), NOTHING)))
        await turns()
        tasks += [put(lab, "a"), put(lab, "b", attributes=rarely)]
        tasks.append(asyncio.create_task(engine.put_object(theirs, stranger, ObjectKey("l"), BytesBody(b"theirs"), NOTHING)))
        await turns()
    versions = await asyncio.gather(*tasks)
    extents = await manifest.load_extents([version.extents[0].id for version in versions])
    kinds = {
        (extent.id, version.attributes.storage_class, extent.layout.tenant_key_id)
        for extent, version in zip(extents, versions, strict=True)
    }
    assert len(kinds) == len({extent.id for extent in extents})
    assert {extent.layout.tenant_key_id for extent in extents} == {lab.tenant.id, stranger.id}


async def test_bodies_of_one_owner_under_two_policies_or_keys_share_no_pack(tmp_path: Path) -> None:
    async with laboratory(tmp_path, packs=True, adjust=two_policies, put_timeout_seconds=100) as lab:
        services, other = lab.services, await other_bucket(lab, "same")
        key = await add_kms_key(services.manifest, services.keyring, lab.clock, lab.tenant, alias="key")
        kinds = {("standard", lab.tenant.id): (lab.bucket, NOTHING), ("same", lab.tenant.id): (other, NOTHING)}
        kinds["standard", key.id] = (lab.bucket, ObjectAttributes(encryption=Encryption(kms_key_id=key.id)))

        def one_of_each(name: str) -> list[asyncio.Task[Version]]:
            return [put(lab, f"{name}{n}", None, attributes, bucket) for n, (bucket, attributes) in enumerate(kinds.values())]

        async with Hanging(lab):
            first = one_of_each("first")
            await until(lambda: puts(lab) == 6 * len(kinds))
            second, third = one_of_each("second"), one_of_each("third")
            await until(lambda: gathered(lab) == 2 * len(kinds))
        versions = await asyncio.gather(*first, *second, *third)
        extents = await services.manifest.load_extents([version.extents[0].id for version in versions])
        assert [(extent.layout.policy, extent.layout.tenant_key_id) for extent in extents] == list(kinds) * 3
        assert packs_of(versions) == [1, 1, 1, 2, 2, 2]


class Endless(BytesBody, OpenEnded):
    @property
    def sure_bytes(self) -> int:
        return len(self._data)

    async def settle(self) -> None:
        pass


async def test_what_is_no_body_for_a_pack_is_stored_alone(lab: Laboratory) -> None:
    engine = lab.services.engine
    conditional = await engine.put_object(
        lab.bucket, lab.tenant, ObjectKey("c"), BytesBody(b"c"), NOTHING, conditions=Conditions(if_none_match="*")
    )
    key = CustomerKey(bytes(32))
    theirs = ObjectAttributes(encryption=Encryption(customer_check=key.check_value(bytes(24))))
    enciphered = await engine.put_object(lab.bucket, lab.tenant, ObjectKey("s"), BytesBody(b"s"), theirs, customer_key=key)
    large = await lab.put("l", bytes(128 * 1024))
    open_ended = await put(lab, "e", Endless(b"e"))
    empty = await lab.put("nothing", b"")
    assert [is_alone(version) for version in (conditional, enciphered, large, open_ended)] == [True] * 4
    assert empty.extents == ()


@pytest.mark.parametrize("size", [100_000, 20_000])
async def test_a_body_that_would_be_alone_in_a_pack_and_waste_it_is_a_segment_of_its_own(lab: Laboratory, size: int) -> None:
    version = await lab.put("k", content("k", size))
    assert is_alone(version)
    (extent,) = await lab.services.manifest.load_extents([version.extents[0].id])
    assert (extent.layout.slots, extent.layout.size) == (0, size)
    assert await lab.get("k") == content("k", size)
    assert lab.services.budget.held_bytes == 0


async def test_larger_bodies_that_come_at_once_are_packed(lab: Laboratory) -> None:
    async with Hanging(lab):
        first = put(lab, "first")
        await until(lambda: puts(lab) == 6)
        tasks = [put(lab, f"k{number}", BytesBody(content(f"k{number}", 100_000))) for number in range(4)]
        await until(lambda: puts(lab) >= 12)
    await first
    versions = await asyncio.gather(*tasks)
    assert any(not is_alone(version) for version in versions)
    for version in versions:
        assert await lab.get(version.key) == content(version.key, 100_000)


async def test_one_with_a_long_record_leaves_the_pack(lab: Laboratory) -> None:
    long = ObjectAttributes(metadata={"x": "m" * 6000})
    async with Hanging(lab):
        first = put(lab, "first")
        await until(lambda: puts(lab) == 6)
        tasks = [put(lab, "a"), put(lab, "b", attributes=long), put(lab, "c")]
        await until(lambda: gathered(lab) == 3)
    await first
    versions = await asyncio.gather(*tasks)
    assert [is_alone(version) for version in versions] == [False, True, False]
    assert await lab.get("b") == content("b")


async def test_who_leaves_the_pack_is_stored_beside_it(lab: Laboratory) -> None:
    long = ObjectAttributes(metadata={"x": "m" * 6000})
    async with Hanging(lab):
        tasks = [put(lab, "a"), put(lab, "b", attributes=long), put(lab, "c", attributes=long)]
        async with asyncio.timeout(PATIENCE_SECONDS):
            await until(lambda: puts(lab) == 3 * 6)
    assert [is_alone(version) for version in await asyncio.gather(*tasks)] == [False, True, True]


async def test_a_body_with_much_metadata_pays_for_the_room_of_its_record_in_each_column(lab: Laboratory) -> None:
    held = [0]
    async with Hanging(lab):
        tasks = [put(lab, "first")]
        await until(lambda: puts(lab) == 6)
        for attributes in (NOTHING, ObjectAttributes(metadata={"x": "m" * 3000})):
            held.append(lab.services.budget.held_bytes)
            tasks.append(put(lab, f"k{len(tasks)}", attributes=attributes))
            await until(lambda: gathered(lab) == len(tasks) - 1)
        held.append(lab.services.budget.held_bytes)
    await asyncio.gather(*tasks)
    plain, described = held[2] - held[1], held[3] - held[2]
    assert described - plain > lab.services.policies["standard"].scheme_of("STANDARD").k * 2000


@pytest.mark.parametrize("fails", [False, True])
async def test_a_late_shard_of_a_pack_counts_as_stored_only_if_it_was(lab: Laboratory, fails: bool) -> None:
    late, go_on = next(iter(lab.stores.values())), asyncio.Event()
    put_now = late.put

    async def put_late(name: ShardName, body: Sequence[bytes | bytearray | memoryview]) -> None:
        await go_on.wait()
        if fails:
            raise StoreUnavailable(late.info.name, "fails late on purpose")
        await put_now(name, body)

    late.put = put_late  # type: ignore[method-assign]
    version = await put(lab, "k")
    assert lab.services.budget.held_bytes > 0
    go_on.set()
    await lab.settled()
    (extent,) = await lab.services.manifest.load_extents([version.extents[0].id])
    (segment,) = extent.layout.segments
    assert [segment.stores[index] for index in segment.missing] == ([late.info.name] if fails else [])
    assert lab.services.budget.held_bytes == 0


async def test_a_pack_with_a_store_down_is_on_record_as_damaged_and_mended(lab: Laboratory) -> None:
    down = lab.stores["birch"]
    down.down = True
    versions = await asyncio.gather(*(put(lab, f"k{number}") for number in range(4)))
    assert packs_of(versions) == [4]
    (segment,) = (await extent_of(lab, versions)).layout.segments
    assert [segment.stores[index] for index in segment.missing] == ["birch"]
    found = await lab.services.manifest.count_damage()
    assert (found.by_store, found.by_redundancy) == ({("birch", "missing"): 1}, {1: 1})
    for version in versions:
        assert await lab.get(version.key) == content(version.key)
    down.down = False
    await repair(lab)
    assert (await lab.services.manifest.count_damage()).by_store == {}
    assert (await extent_of(lab, versions)).layout.segments[0].missing == ()
    assert len(await lab.shards()) == 6
    lab.stores["alder"].down = lab.stores["fir"].down = True
    for version in versions:
        assert await lab.get(version.key) == content(version.key)


async def test_a_pack_whose_detour_may_have_left_a_stray_is_searched_for_when_it_is_deleted(lab: Laboratory) -> None:
    """Two stores keep what they say that they refuse: it is stored elsewhere as well."""
    liars = [lab.stores["cedar"], lab.stores["elm"]]
    for store in liars:
        store.keeps_what_it_refuses = True
    versions = await asyncio.gather(*(put(lab, f"k{number}") for number in range(4)))
    (segment,) = (await extent_of(lab, versions)).layout.segments
    assert segment.strays
    assert not {"cedar", "elm"} & set(segment.stores)
    for store in liars:
        store.keeps_what_it_refuses = False
    assert {store.info.name for store in liars if [name async for name, _ in store.list() if is_shard_name(name)]} == {"cedar", "elm"}
    for version in versions:
        await lab.services.engine.delete_latest(lab.bucket, version.key)
    await assert_nothing_is_left(lab)


async def test_a_pack_is_deleted_with_its_last_object(lab: Laboratory) -> None:
    async with Hanging(lab):
        tasks = [put(lab, "first")]
        await until(lambda: puts(lab) == 6)
        tasks += [put(lab, f"k{number}") for number in range(3)]
        await until(lambda: gathered(lab) == 3)
    versions = await asyncio.gather(*tasks)
    await lab.settled()
    engine = lab.services.engine
    for version in versions[:-1]:
        await engine.delete_latest(lab.bucket, version.key)
    await lab.collect()
    assert len(await lab.shards()) == 6
    assert await lab.get("k2") == content("k2")
    await engine.delete_latest(lab.bucket, versions[-1].key)
    await assert_nothing_is_left(lab)


async def test_a_copy_shares_the_slot_and_a_part_that_is_copied_does_not(lab: Laboratory) -> None:
    source = await put(lab, "k", WholeBody(content("k")))  # it has a checksum, so that a part could share it
    engine, before = lab.services.engine, puts(lab)
    copy = await engine.copy_object(source, lab.bucket, lab.tenant, lab.bucket, lab.tenant, ObjectKey("copy"), NOTHING)
    assert copy.extents == source.extents
    assert puts(lab) == before
    assert await lab.get("copy") == content("k")
    upload = await engine.begin_upload(lab.bucket, lab.tenant, ObjectKey("large"), NOTHING)
    part = await engine.copy_part(source, lab.bucket, lab.tenant, 0, SMALL, lab.bucket, lab.tenant, upload, 1)
    assert [ref.offset for ref in part.extents] == [None]
    assert part.extents[0].id != source.extents[0].id


async def test_a_copy_whose_data_moves_is_packed(lab: Laboratory) -> None:
    source = await lab.put("k", content("k"))
    rarely = ObjectAttributes(storage_class="REDUCED_REDUNDANCY")
    copy = await lab.services.engine.copy_object(source, lab.bucket, lab.tenant, lab.bucket, lab.tenant, ObjectKey("copy"), rarely)
    assert packs_of([copy]) == [1]
    assert copy.extents[0].id != source.extents[0].id
    assert await lab.get("copy") == content("k")
    assert lab.services.budget.held_bytes == 0


@pytest.mark.parametrize("kind", [BytesBody, Here])
async def test_many_writers_share_a_small_budget_and_all_are_stored(tmp_path: Path, kind: type[BytesBody]) -> None:
    async with laboratory(tmp_path, packs=True, memory_mib=8) as lab:
        keys = [f"k{number}" for number in range(120)]
        await asyncio.gather(*(put(lab, key, kind(content(key, 60_000))) for key in keys))
        await lab.settled()
        assert lab.services.budget.held_bytes == 0
        for key in keys[::20]:
            assert await lab.get(key) == content(key, 60_000)


@pytest.mark.parametrize("kind", [BytesBody, Here])
async def test_what_gathers_is_given_up_when_another_tenant_lacks_its_share_of_memory(tmp_path: Path, kind: type[BytesBody]) -> None:
    """The packs before it hang, and may for long: it could as well be taken back. Its client may try again."""
    async with laboratory(tmp_path, packs=True, memory_mib=16, memory_wait_seconds=60, put_timeout_seconds=100) as lab:
        theirs, stranger = await bucket_of_another(lab)
        async with Hanging(lab):
            tasks = [put(lab, f"k{number}", kind(content(f"k{number}", 60_000))) for number in range(100)]
            await until(lambda: puts(lab) == 3 * 6 and lab.services.budget.keeps_waiting(others_than=""))
            body = BytesBody(content("k", 60_000))
            mine = asyncio.create_task(lab.services.engine.put_object(theirs, stranger, ObjectKey("k"), body, NOTHING))
            async with asyncio.timeout(PATIENCE_SECONDS):
                await until(lambda: puts(lab) > 3 * 6)
            given_up = [task for task in tasks if task.done()]
        assert (await mine).size == 60_000
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert given_up
        assert all(isinstance(task.exception(), BudgetExhausted) for task in given_up)
        for number, outcome in enumerate(outcomes):
            if not isinstance(outcome, BaseException):
                assert await lab.get(f"k{number}") == content(f"k{number}", 60_000)
        await lab.settled()
        assert lab.services.budget.held_bytes == 0


async def test_packs_are_counted(tmp_path: Path) -> None:
    async with laboratory(tmp_path, packs=True) as lab:
        counted: list[tuple[int, int]] = []
        packer = lab.services.engine._packer
        assert isinstance(packer, Packer)
        packer._carrier._record = lambda slots, size_bytes: counted.append((slots, size_bytes))
        await asyncio.gather(put(lab, "a"), put(lab, "b"))
        assert sum(slots for slots, _ in counted) == 2
        assert sum(size for _, size in counted) == 2 * SMALL


@pytest.mark.parametrize("are_nearby", [False, True])
async def test_on_a_busy_machine_bodies_gather_though_packs_take_long(lab: Laboratory, are_nearby: bool) -> None:
    """Packs that take as long as from afar are not taken to be, if their stores are known to be in this machine."""
    packer = lab.services.engine._packer
    assert isinstance(packer, Packer)
    packer._paces["standard"] = Pace(usual_seconds=10.0)
    for store in lab.services.fleet.stores.values():
        store.is_nearby = are_nearby
    async with Hanging(lab):
        tasks = [put(lab, "first")]
        await until(lambda: puts(lab) == 6)
        tasks += [put(lab, "second"), put(lab, "third")]
        async with asyncio.timeout(PATIENCE_SECONDS):
            await until(lambda: gathered(lab) == 2 if are_nearby else puts(lab) == 12)
        await turns()
        assert puts(lab) == (6 if are_nearby else 12)
    await asyncio.gather(*tasks)
