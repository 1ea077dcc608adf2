"""What a manifest promises about packs: committed at once, each version with its own outcome, and counted for as long as a slot is used."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from proxy.clock import ManualClock
from proxy.errors import BucketMissing, ExtentMissing, IntentRevoked, ManifestConflict, PreconditionUnmet, ProxyError
from proxy.manifest.campaigns import Campaign, CampaignId, ExtentUser
from proxy.manifest.drafts import AttributeChange, Conditions, PackedDraft
from proxy.manifest.packs import SMALL_BYTES, Pack, SlotMove, SlotPlace, kind_of
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Bucket, ExtentId, ExtentRef, GarbageSegment, Layout, ObjectAttributes, Segment, Settlement, Version
from proxy.manifest.sqlite import open_sqlite
from tests.contract.conftest import NOW, tenant
from tests.contract.test_manifest import BUCKET, draft, garbage, history, layout, segment_id

KIND = kind_of("t", "p", 2, 1)
EVERY = SlotPlace()


def pack_layout(number: int, sizes: Sequence[int]) -> Layout:
    segment = Segment(id=segment_id(number), size=2 * sum(sizes) + 2000, stores=("s0", "s1", "s2"))
    return replace(layout(number), size=segment.size, slots=len(sizes), content_size=sum(sizes), segments=(segment,))


def packed(*keys: str, size: int = 100, **fields: object) -> list[PackedDraft]:
    return [PackedDraft(draft(key, f"v{at}", size=size, **fields), 1000 * at) for at, key in enumerate(keys)]


async def leased(manifest: Manifest, number: int) -> Settlement:
    intent = await manifest.lease_segments(owner="w", segment_ids=[segment_id(number)], expires_ms=NOW + 1000)
    return Settlement(intent_id=intent.id, mask=1)


async def commit(manifest: Manifest, drafts: Sequence[PackedDraft], number: int = 1) -> list[Version]:
    made = pack_layout(number, [one.draft.size for one in drafts])
    outcomes = await manifest.commit_pack(made, drafts, settlements=[await leased(manifest, number)], now_ms=NOW)
    return [outcome for outcome in outcomes if isinstance(outcome, Version)]


async def find(manifest: Manifest, extent_id: ExtentId) -> Pack:
    (found,) = await manifest.find_packs([extent_id])
    return found


async def references(manifest: Manifest, extent_id: ExtentId) -> int:
    (counted,) = await manifest.load_counted([extent_id])
    return counted.references


def user(version: Version) -> ExtentUser:
    return ExtentUser(bucket_id=BUCKET, key=version.key, version_id=version.id, sequence=version.sequence)


def move(version: Version, offset: int | None) -> SlotMove:
    return SlotMove(user=user(version), old=version.extents[0], offset=offset, storage_class="STANDARD")


async def test_all_versions_of_a_pack_are_visible_and_share_one_extent(manifest: Manifest) -> None:
    first, second = await commit(manifest, packed("a", "b"))
    (extent,) = await manifest.load_extents([first.extents[0].id])
    assert first.extents == (ExtentRef(id=extent.id, size=100, offset=0),)
    assert second.extents == (ExtentRef(id=extent.id, size=100, offset=1000),)
    assert await manifest.find_version(BUCKET, "b") == second
    assert await references(manifest, extent.id) == 2
    found = await find(manifest, extent.id)
    assert found == Pack(extent_id=extent.id, kind=KIND, whole=200, live=200, slots=2, made_ms=NOW)


async def test_one_that_is_refused_costs_the_others_nothing(manifest: Manifest) -> None:
    drafts = packed("a", "b", "c")
    drafts[1] = PackedDraft(replace(drafts[1].draft, bucket_id=99), drafts[1].offset)
    outcomes = await manifest.commit_pack(pack_layout(1, [100] * 3), drafts, settlements=[await leased(manifest, 1)], now_ms=NOW)
    first, refused, last = outcomes
    assert isinstance(refused, BucketMissing)
    assert isinstance(first, Version)
    assert isinstance(last, Version)
    assert await references(manifest, first.extents[0].id) == 2
    found = await find(manifest, first.extents[0].id)
    assert (found.whole, found.live, found.slots, found.dead_since_ms) == (300, 200, 2, NOW)


async def test_a_pack_that_is_refused_as_a_whole_leaves_nothing_and_its_ids_can_be_collected(manifest: Manifest) -> None:
    settlement = await leased(manifest, 1)
    drafts = [PackedDraft(replace(one.draft, bucket_id=99), one.offset) for one in packed("a", "b")]
    outcomes = await manifest.commit_pack(pack_layout(1, [100] * 2), drafts, settlements=[settlement], now_ms=NOW)
    assert [type(outcome) for outcome in outcomes] == [BucketMissing] * 2
    assert await manifest.walk_extents(after=ExtentId(0), limit=10) == ()
    await manifest.settle([settlement], [GarbageSegment(id=segment_id(1), stores=("s0",))], now_ms=NOW)
    assert await garbage(manifest) == {segment_id(1)}


async def test_with_its_lease_revoked_nothing_of_a_pack_is_committed(manifest: Manifest) -> None:
    settlement = await leased(manifest, 1)
    await manifest.revoke_expired_intents(now_ms=NOW + 2000)
    with pytest.raises(IntentRevoked):
        await manifest.commit_pack(pack_layout(1, [100] * 2), packed("a", "b"), settlements=[settlement], now_ms=NOW)
    assert await history(manifest, "") == []
    assert await manifest.walk_extents(after=ExtentId(0), limit=10) == ()


async def test_of_two_versions_of_one_key_in_a_pack_the_last_wins(manifest: Manifest) -> None:
    versions = await commit(manifest, packed("a", "a"))
    assert await manifest.find_version(BUCKET, "a") == versions[1]
    found = await find(manifest, versions[1].extents[0].id)
    assert (found.whole, found.live, found.slots, found.dead_since_ms) == (200, 100, 1, NOW)
    assert await references(manifest, found.extent_id) == 1


async def test_a_pack_is_garbage_when_its_last_slot_is_left(manifest: Manifest) -> None:
    first, second = await commit(manifest, packed("a", "b"))
    extent_id = first.extents[0].id
    await manifest.delete_version(BUCKET, "a", first.id, now_ms=NOW + 5)
    found = await find(manifest, extent_id)
    assert (found.live, found.slots, found.dead, found.dead_since_ms) == (100, 1, 100, NOW + 5)
    assert await garbage(manifest) == set()
    await manifest.commit_version(draft("b", new_layouts=(layout(7),)))
    assert await manifest.find_packs([extent_id]) == ()
    assert await garbage(manifest) == {segment_id(1)}
    assert second.extents[0].id == extent_id


async def test_a_copy_shares_the_slot_which_lives_until_the_last_of_them_is_gone(manifest: Manifest) -> None:
    first, _ = await commit(manifest, packed("a", "b"))
    copy = await manifest.commit_version(draft("copy", size=100, shared_extents=first.extents))
    assert copy.extents == first.extents
    assert await references(manifest, first.extents[0].id) == 3
    await manifest.delete_latest(BUCKET, "a", marker_id="m", now_ms=NOW + 1)
    assert (await find(manifest, first.extents[0].id)).live == 200
    await manifest.delete_latest(BUCKET, "copy", marker_id="m", now_ms=NOW + 2)
    found = await find(manifest, first.extents[0].id)
    assert (found.live, found.dead_since_ms) == (100, NOW + 2)


async def test_of_deletions_together_each_hears_its_own_result_and_the_pack_is_counted_once(manifest: Manifest) -> None:
    first, *_ = await commit(manifest, packed("a", "b", "c", "d"))
    await manifest.commit_version(draft("copy", size=100, shared_extents=first.extents))
    unmet = manifest.delete_latest(BUCKET, "c", marker_id="m", now_ms=NOW + 1, conditions=Conditions(if_match="another"))
    others = (
        manifest.delete_latest(bucket, key, marker_id="m", now_ms=NOW + 1) for bucket, key in [(BUCKET, "a"), (99, "b"), (BUCKET, "b")]
    )
    outcomes = await asyncio.gather(unmet, *others, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [PreconditionUnmet, type(None), BucketMissing, type(None)]
    left = [version.key for version in await manifest.walk_versions(BUCKET, prefix="", after=("", 0), limit=9)]
    assert left == ["c", "copy", "d"]
    found = await find(manifest, first.extents[0].id)
    assert (found.live, found.slots, found.dead_since_ms) == (300, 3, NOW + 1)  # the copy still uses the slot of "a"
    assert await references(manifest, found.extent_id) == 3


async def test_a_slot_that_is_left_by_all_who_use_it_together_is_counted_out_once(manifest: Manifest) -> None:
    first, *_ = await commit(manifest, packed("a", "b", "c"))
    await manifest.commit_version(draft("copy", size=100, shared_extents=first.extents))
    await asyncio.gather(*(manifest.delete_latest(BUCKET, key, marker_id="m", now_ms=NOW) for key in ("a", "copy")))
    found = await find(manifest, first.extents[0].id)
    assert (found.live, found.slots) == (200, 2)
    assert await references(manifest, found.extent_id) == 2


async def test_a_copy_onto_itself_keeps_the_slot(manifest: Manifest) -> None:
    (first,) = await commit(manifest, packed("a"))
    again = await manifest.commit_version(draft("a", size=100, shared_extents=first.extents))
    assert again.extents == first.extents
    found = await find(manifest, first.extents[0].id)
    assert (found.live, found.slots, found.dead_since_ms) == (100, 1, None)


async def test_a_slot_that_nobody_uses_any_more_is_not_shared_again(manifest: Manifest) -> None:
    first, _ = await commit(manifest, packed("a", "b"))
    await manifest.delete_version(BUCKET, "a", first.id, now_ms=NOW)
    with pytest.raises(ExtentMissing):
        await manifest.commit_version(draft("copy", size=100, shared_extents=first.extents))


async def test_attributes_change_and_the_slot_stays(manifest: Manifest) -> None:
    (first,) = await commit(manifest, packed("a"))
    await manifest.change_attributes(BUCKET, "a", None, AttributeChange(tags={"k": "v"}))
    changed = await manifest.find_version(BUCKET, "a")
    assert changed is not None
    assert changed.extents == first.extents
    (found,) = await manifest.walk_slots(first.extents[0].id, after=EVERY, limit=10)
    assert found.ref == first.extents[0]


async def test_the_users_of_a_pack_are_walked_by_slot(manifest: Manifest) -> None:
    first, second = await commit(manifest, packed("b", "a"))
    copy = await manifest.commit_version(draft("z", size=100, shared_extents=first.extents))
    extent_id = first.extents[0].id
    walked = await manifest.walk_slots(extent_id, after=EVERY, limit=10)
    assert [(one.offset, one.user) for one in walked] == [(0, user(first)), (0, user(copy)), (1000, user(second))]
    assert {(one.policy, one.storage_class) for one in walked} == {("p", "STANDARD")}
    assert await manifest.walk_slots(extent_id, after=walked[0].place, limit=10) == walked[1:]
    assert await manifest.walk_slots(extent_id, after=SlotPlace(offset=0, bucket_id=2**62), limit=10) == walked[2:]
    assert await manifest.walk_slots(extent_id, after=walked[2].place, limit=10) == ()


async def test_packs_are_found_by_what_is_dead_in_them(manifest: Manifest) -> None:
    packs = [await commit(manifest, packed(*(f"{number}/{at}" for at in range(4))), number) for number in range(1, 4)]
    ids = [versions[0].extents[0].id for versions in packs]
    for at, (number, count) in enumerate([(2, 3), (0, 1)]):
        for version in packs[number][:count]:
            await manifest.delete_version(BUCKET, version.key, version.id, now_ms=NOW + at)
    assert [one.extent_id for one in await manifest.half_dead_packs(after=ExtentId(0), limit=10)] == [ids[2]]
    assert await manifest.half_dead_packs(after=ids[2], limit=10) == ()
    dead = await manifest.dead_packs(before_ms=NOW + 2, after=(0, ExtentId(0)), limit=10)
    assert [one.extent_id for one in dead] == [ids[2], ids[0]]
    assert [one.extent_id for one in await manifest.dead_packs(before_ms=NOW + 1, after=(0, ExtentId(0)), limit=10)] == [ids[2]]
    assert [one.extent_id for one in await manifest.dead_packs(before_ms=NOW + 2, after=(NOW, ids[2]), limit=10)] == [ids[0]]
    assert await manifest.oldest_dead_ms() == NOW
    assert [one.extent_id for one in await manifest.packs_between(first=ids[1], last=ids[2])] == ids[1:]


async def test_nothing_is_dead_where_there_is_no_pack(manifest: Manifest) -> None:
    await manifest.commit_version(draft("k", new_layouts=(layout(1),)))
    assert await manifest.oldest_dead_ms() is None
    assert await manifest.small_packs(after=("", ExtentId(0)), limit=10) == ()


async def test_small_packs_are_found_by_kind(manifest: Manifest) -> None:
    await manifest.create_bucket(Bucket(name="c", tenant_id="t", policy="q", created_ms=NOW))
    (small,) = await commit(manifest, packed("a"))
    (large,) = await commit(manifest, packed("b", size=SMALL_BYTES), 2)
    other = replace(pack_layout(3, [100]), policy="another")
    (drafted,) = packed("c")
    (third,) = await manifest.commit_pack(other, [drafted], settlements=[await leased(manifest, 3)], now_ms=NOW)
    assert isinstance(third, Version)
    found = await manifest.small_packs(after=("", ExtentId(0)), limit=10)
    assert [one.extent_id for one in found] == [third.extents[0].id, small.extents[0].id]
    assert await manifest.small_packs(after=(found[0].kind, found[0].extent_id), limit=10) == found[1:]
    assert large.extents[0].id not in {one.extent_id for one in found}


async def test_slots_of_several_packs_are_exchanged_for_those_of_one(manifest: Manifest) -> None:
    first, _ = await commit(manifest, packed("a", "b"))
    third, fourth = await commit(manifest, packed("c", "d"), 2)
    new = pack_layout(3, [100, 100, 100])
    moves = [move(first, 0), move(third, 500), move(fourth, 900)]
    extent_id = await manifest.exchange_slots(new, moves, settlements=[await leased(manifest, 3)], now_ms=NOW + 9)
    assert extent_id is not None
    moved = await manifest.find_version(BUCKET, "c")
    assert moved == replace(third, extents=(ExtentRef(id=extent_id, size=100, offset=500),))
    assert await garbage(manifest) == {segment_id(2)}
    old, made = await manifest.find_packs([first.extents[0].id, extent_id])
    assert (old.live, old.slots, old.dead_since_ms) == (100, 1, NOW + 9)
    assert (made.whole, made.live, made.slots, made.made_ms, made.dead_since_ms) == (300, 300, 3, NOW + 9, None)
    assert await references(manifest, extent_id) == 3


async def test_copies_of_a_slot_are_exchanged_for_one_slot(manifest: Manifest) -> None:
    (first,) = await commit(manifest, packed("a"))
    copies = [await manifest.commit_version(draft(key, size=100, shared_extents=first.extents)) for key in ("x", "y", "z")]
    new = pack_layout(2, [100])
    moves = [move(first, 16), move(copies[0], 16)]
    extent_id = await manifest.exchange_slots(new, moves, settlements=[await leased(manifest, 2)], now_ms=NOW)
    assert extent_id is not None
    assert await manifest.join_slots(extent_id, [move(copies[1], 16), move(copies[2], 16)], now_ms=NOW) == 2
    found = await find(manifest, extent_id)
    assert (found.live, found.slots, await references(manifest, extent_id)) == (100, 1, 4)
    assert await garbage(manifest) == {segment_id(1)}


async def test_a_slot_that_is_left_again_is_joined_by_nobody(manifest: Manifest) -> None:
    first, second = await commit(manifest, packed("a", "b"))
    copy = await manifest.commit_version(draft("copy", size=100, shared_extents=first.extents))
    moves = [move(first, 0), move(second, 500)]
    extent_id = await manifest.exchange_slots(pack_layout(2, [100] * 2), moves, settlements=[await leased(manifest, 2)], now_ms=NOW)
    assert extent_id is not None
    await manifest.delete_version(BUCKET, "a", first.id, now_ms=NOW)
    assert await manifest.join_slots(extent_id, [move(copy, 0)], now_ms=NOW) == 0
    assert await manifest.find_version(BUCKET, "copy") == copy
    with pytest.raises(ExtentMissing):
        await manifest.join_slots(ExtentId(99), [move(copy, 0)], now_ms=NOW)


async def test_what_has_changed_meanwhile_is_not_exchanged(manifest: Manifest) -> None:
    versions = await commit(manifest, packed("stays", "overwritten", "deleted", "moved class", "moved away"))
    moves = [move(version, 1000 * at) for at, version in enumerate(versions)]
    await manifest.commit_version(draft("overwritten", new_layouts=(layout(5),)))
    await manifest.delete_version(BUCKET, "deleted", versions[2].id, now_ms=NOW)
    moves[3] = replace(moves[3], storage_class="GLACIER_IR")
    moves[4] = replace(moves[4], old=replace(moves[4].old, offset=1))
    new = pack_layout(2, [100] * 5)
    extent_id = await manifest.exchange_slots(new, moves, settlements=[await leased(manifest, 2)], now_ms=NOW + 1)
    assert extent_id is not None
    assert [(one.offset, one.user.key) for one in await manifest.walk_slots(extent_id, after=EVERY, limit=10)] == [(0, "stays")]
    found = await find(manifest, extent_id)
    assert (found.whole, found.live, found.slots, found.dead_since_ms) == (500, 100, 1, NOW + 1)
    assert (await find(manifest, versions[0].extents[0].id)).slots == 2


async def test_a_version_that_came_again_under_the_same_sequence_is_not_exchanged(manifest: Manifest) -> None:
    await manifest.set_versioning(BUCKET, "Enabled")
    old, _ = await commit(manifest, packed("a", "b"))
    copy = await manifest.commit_version(draft("copy", size=100, shared_extents=old.extents))
    await manifest.delete_version(BUCKET, "a", old.id, now_ms=NOW)
    again = await manifest.commit_version(draft("a", "w", size=100, shared_extents=copy.extents))
    assert again.sequence == old.sequence
    assert await manifest.exchange_slots(pack_layout(2, [100]), [move(old, 0)], settlements=[], now_ms=NOW) is None


async def test_if_none_can_be_exchanged_nothing_is_added_and_the_ids_are_not_settled(manifest: Manifest) -> None:
    (version,) = await commit(manifest, packed("a"))
    campaign = Campaign(id=CampaignId("policy-1"), verb="policy", bucket_id=BUCKET, bucket="b", policy="q", planned_ms=NOW)
    await manifest.add_campaign(campaign)
    await manifest.order_campaign(campaign.id, "apply", now_ms=NOW)
    settlement = await leased(manifest, 2)
    assert await manifest.exchange_slots(pack_layout(2, [100]), [move(version, 0)], settlements=[settlement], now_ms=NOW) is None
    assert len(await manifest.walk_extents(after=ExtentId(0), limit=10)) == 1
    await manifest.settle([settlement], [GarbageSegment(id=segment_id(2), stores=("s0",))], now_ms=NOW)
    assert await garbage(manifest) == {segment_id(2)}


async def test_a_body_that_fits_no_pack_is_exchanged_for_an_extent_of_its_own(manifest: Manifest) -> None:
    (version,) = await commit(manifest, packed("a"))
    extent_id = await manifest.exchange_slots(layout(2), [move(version, None)], settlements=[await leased(manifest, 2)], now_ms=NOW)
    assert extent_id is not None
    found = await manifest.find_version(BUCKET, "a")
    assert found is not None
    assert found.extents == (ExtentRef(id=extent_id, size=100),)
    assert await manifest.find_packs([extent_id, version.extents[0].id]) == ()


async def test_a_pack_of_one_bucket_alone_is_put_under_another_policy(manifest: Manifest) -> None:
    first, second = await commit(manifest, packed("a", "b"))
    other = await manifest.create_bucket(Bucket(name="c", tenant_id="t", policy="p", created_ms=NOW))
    elsewhere = await manifest.commit_version(replace(draft("c", size=100, shared_extents=second.extents), bucket_id=other.id))
    extent_id = first.extents[0].id
    assert not await manifest.adopt_extent(user(first), extent_id, "q")
    await manifest.delete_version(other.id, "c", elsewhere.id, now_ms=NOW)
    assert await manifest.adopt_extent(user(first), extent_id, "q")
    assert (await find(manifest, extent_id)).kind == kind_of("t", "q", 2, 1)


class Machine:
    """Does at random what packs go through, and holds the sums against the versions that there are."""

    def __init__(self, manifest: Manifest, chance: random.Random) -> None:
        self.manifest = manifest
        self.chance = chance
        self.number = 0

    async def step(self) -> None:
        self.number += 1
        step = self.chance.choice(
            [self._pack, self._pack, self._copy, self._delete, self._delete_latest, self._version, self._exchange, self._put]
        )
        with suppress(ManifestConflict):
            await step()

    def _key(self) -> str:
        return self.chance.choice("abcd")

    async def _any(self) -> Version | None:
        return await self.manifest.find_version(BUCKET, self._key())

    async def _pack(self) -> None:
        drafts = [
            PackedDraft(
                draft(self._key(), f"{self.number}-{at}", size=10 + at, bucket_id=self.chance.choice([BUCKET, BUCKET, BUCKET, 9])), at * 100
            )
            for at in range(self.chance.randrange(1, 5))
        ]
        await commit(self.manifest, drafts, self.number)

    async def _put(self) -> None:
        await self.manifest.commit_version(draft(self._key(), f"{self.number}", size=10, new_layouts=(layout(self.number),)))

    async def _copy(self) -> None:
        source = await self._any()
        if source is not None:
            await self.manifest.commit_version(draft(self._key(), f"{self.number}", size=source.size, shared_extents=source.extents))

    async def _delete(self) -> None:
        version = await self._any()
        if version is not None:
            await self.manifest.delete_version(BUCKET, version.key, version.id, now_ms=NOW)

    async def _delete_latest(self) -> None:
        """Some keys together, one of them perhaps twice."""
        keys = [self._key() for _ in range(self.chance.randrange(1, 5))]
        steps = (self.manifest.delete_latest(BUCKET, key, marker_id=f"{self.number}-{at}", now_ms=NOW) for at, key in enumerate(keys))
        await asyncio.gather(*steps)

    async def _version(self) -> None:
        await self.manifest.set_versioning(BUCKET, self.chance.choice(["Enabled", "Suspended"]))

    async def _exchange(self) -> None:
        found = [version for key in "abcd" if (version := await self.manifest.find_version(BUCKET, key)) and version.extents]
        moves = [move(version, 7 * at) for at, version in enumerate(found) if version.extents[0].offset is not None]
        if moves:
            new = pack_layout(self.number, [one.old.size for one in moves])
            await self.manifest.exchange_slots(new, moves[self.number % 2 :], settlements=[], now_ms=NOW)

    async def check(self) -> None:
        versions = await self.manifest.walk_versions(BUCKET, prefix="", after=("", 0), limit=10_000)
        used: dict[ExtentId, list[tuple[ExtentRef, str]]] = {}
        for version in versions:
            for ref in version.extents:
                used.setdefault(ref.id, []).append((ref, version.id))
        extents = {extent.id: extent for extent in await self.manifest.walk_extents(after=ExtentId(0), limit=10_000)}
        assert extents.keys() == used.keys()
        packs = {one.extent_id: one for one in await self.manifest.packs_between(first=ExtentId(0), last=ExtentId(2**40))}
        assert packs.keys() == {extent.id for extent in extents.values() if extent.layout.slots}
        for extent_id, refs in used.items():
            assert await references(self.manifest, extent_id) == len(refs)
        for one in packs.values():
            slots = {ref.offset: ref.size for ref, _ in used[one.extent_id]}
            assert (one.live, one.slots, one.whole) == (sum(slots.values()), len(slots), extents[one.extent_id].layout.content_size)
            assert (one.dead_since_ms is not None) == (one.slots < extents[one.extent_id].layout.slots)
            walked = await self.manifest.walk_slots(one.extent_id, after=EVERY, limit=10_000)
            assert sorted((user.offset, user.user.version_id) for user in walked) == sorted(
                (ref.offset or 0, version_id) for ref, version_id in used[one.extent_id]
            )


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
async def test_the_sums_of_packs_are_those_of_the_versions_whatever_happens(seed: int) -> None:
    with TemporaryDirectory() as directory:
        async with open_sqlite(Path(directory) / "m.sqlite", ManualClock(NOW)) as manifest:
            await manifest.add_tenant(tenant("t"))
            await manifest.create_bucket(Bucket(name="b", tenant_id="t", policy="p", created_ms=NOW))
            machine = Machine(manifest, random.Random(seed))
            for _ in range(25):
                with suppress(ProxyError):
                    await machine.step()
            await machine.check()


async def test_a_version_whose_storage_class_is_another_by_now_stays(manifest: Manifest) -> None:
    (version,) = await commit(manifest, packed("a", attributes=ObjectAttributes(storage_class="STANDARD_IA")))
    stays = await manifest.exchange_slots(pack_layout(2, [100]), [move(version, 0)], settlements=[], now_ms=NOW)
    assert stays is None
