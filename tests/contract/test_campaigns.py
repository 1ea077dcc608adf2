"""What a manifest promises about campaigns, run on every adapter."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from proxy.errors import CampaignRefused, ExtentMissing, IntentRevoked, PolicyMoved
from proxy.manifest.campaigns import (
    SETTLE_MS,
    START,
    Advance,
    Bill,
    Campaign,
    CampaignId,
    Estimate,
    ExtentUser,
    Position,
    added,
)
from proxy.manifest.drafts import CompletedPart
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import ExtentId, Layout, Part, Settlement, Version
from tests.contract.conftest import NOW
from tests.contract.test_manifest import BUCKET, draft, layout, segment_id, upload

DRAIN = Campaign(id=CampaignId("drain-1"), verb="drain", store="s1", planned_ms=NOW)
MOVE = Campaign(id=CampaignId("policy-1"), verb="policy", bucket_id=BUCKET, bucket="b", policy="q", planned_ms=NOW)


async def applied(manifest: Manifest, campaign: Campaign) -> Campaign:
    await manifest.add_campaign(campaign)
    return await manifest.order_campaign(campaign.id, "apply", now_ms=NOW)


async def ended_round(manifest: Manifest, campaign: Campaign, *, left: int, now_ms: int) -> Campaign:
    found = await manifest.find_campaign(campaign.id)
    assert found is not None
    step = Advance(before=found.position, position=found.position, round_ended=True, left=left)
    changed = await manifest.advance_campaign(campaign.id, step, now_ms=now_ms)
    assert changed is not None
    return changed


def user(version: Version) -> ExtentUser:
    return ExtentUser(bucket_id=BUCKET, key=version.key, version_id=version.id, sequence=version.sequence)


def moved(number: int) -> Layout:
    return replace(layout(number), policy="q", k=3, m=1)


async def store(manifest: Manifest, key: str, number: int) -> Version:
    return await manifest.commit_version(draft(key, new_layouts=(layout(number),)))


async def leased(manifest: Manifest, number: int) -> Settlement:
    intent = await manifest.lease_segments(owner="w", segment_ids=[segment_id(number)], expires_ms=NOW + 1000)
    return Settlement(intent_id=intent.id, mask=1)


async def test_a_plan_changes_nothing_and_can_be_found_again(manifest: Manifest) -> None:
    await manifest.add_campaign(DRAIN)
    assert await manifest.find_campaign(DRAIN.id) == DRAIN
    assert await manifest.list_campaigns() == (DRAIN,)
    assert await manifest.leaving_stores() == frozenset()
    assert await manifest.find_campaign(CampaignId("other")) is None


async def test_a_store_is_left_from_the_moment_its_drain_is_applied_until_that_is_cancelled(manifest: Manifest) -> None:
    assert (await applied(manifest, DRAIN)).state == "running"
    for order in ("pause", "resume"):
        await manifest.order_campaign(DRAIN.id, order, now_ms=NOW)
        assert await manifest.leaving_stores() == {"s1"}
    await ended_round(manifest, DRAIN, left=0, now_ms=NOW + SETTLE_MS)
    assert (await ended_round(manifest, DRAIN, left=0, now_ms=NOW + SETTLE_MS)).state == "done"
    assert await manifest.leaving_stores() == {"s1"}
    await manifest.order_campaign(DRAIN.id, "cancel", now_ms=NOW)
    assert await manifest.leaving_stores() == frozenset()


async def test_a_move_that_had_begun_before_and_brings_a_shard_after_the_end_makes_the_campaign_look_again(manifest: Manifest) -> None:
    version = await manifest.commit_version(draft("k", new_layouts=(layout(1),)))
    extent_id = version.extents[0].id
    target = {0: DRAIN.store}
    drawn = await manifest.draw_generation(extent_id, segment_id(1), target, expires_ms=NOW + 1)
    assert drawn is not None
    await applied(manifest, DRAIN)
    await ended_round(manifest, DRAIN, left=0, now_ms=NOW + SETTLE_MS)
    assert (await ended_round(manifest, DRAIN, left=0, now_ms=NOW + SETTLE_MS)).state == "done"
    assert await manifest.replace_shards(extent_id, segment_id(1), target, drawn.drawn, now_ms=NOW + SETTLE_MS)
    again = await manifest.find_campaign(DRAIN.id)
    assert again is not None
    assert (again.state, again.position) == ("running", START)


async def test_orders_that_make_no_sense_are_refused(manifest: Manifest) -> None:
    with pytest.raises(CampaignRefused, match="there is no campaign"):
        await manifest.order_campaign(DRAIN.id, "apply", now_ms=NOW)
    await manifest.add_campaign(DRAIN)
    with pytest.raises(CampaignRefused, match="is planned: there is nothing to pause"):
        await manifest.order_campaign(DRAIN.id, "pause", now_ms=NOW)
    await manifest.order_campaign(DRAIN.id, "apply", now_ms=NOW)
    with pytest.raises(CampaignRefused, match="is running"):
        await manifest.order_campaign(DRAIN.id, "apply", now_ms=NOW)
    await manifest.order_campaign(DRAIN.id, "cancel", now_ms=NOW)
    with pytest.raises(CampaignRefused, match="is cancelled"):
        await manifest.order_campaign(DRAIN.id, "resume", now_ms=NOW)


async def test_what_fills_a_store_and_what_empties_it_do_not_go_on_together(manifest: Manifest) -> None:
    await applied(manifest, DRAIN)
    into = Campaign(id=CampaignId("replace-1"), verb="replace", store="s0", new_store="s1", planned_ms=NOW)
    await manifest.add_campaign(into)
    with pytest.raises(CampaignRefused, match="drain-1 is running"):
        await manifest.order_campaign(into.id, "apply", now_ms=NOW)


async def test_a_step_counts_once_though_two_processes_took_it(manifest: Manifest) -> None:
    await applied(manifest, DRAIN)
    done = Estimate(segments=2, copied=2, bills=(Bill(store="s1", gets=2),))
    step = Advance(before=START, position=Position(extent_id=ExtentId(9)), left=2, done=done)
    first = await manifest.advance_campaign(DRAIN.id, step, now_ms=NOW)
    assert first is not None
    assert (first.position, first.actual) == (step.position, added(Estimate(), done))
    assert await manifest.advance_campaign(DRAIN.id, step, now_ms=NOW) is None
    assert await manifest.find_campaign(DRAIN.id) == first


async def test_a_campaign_is_done_when_a_whole_round_has_met_nothing(manifest: Manifest) -> None:
    await applied(manifest, MOVE)
    again = await ended_round(manifest, MOVE, left=1, now_ms=NOW)
    assert (again.state, again.position, again.rounds) == ("running", START, 1)
    assert (await ended_round(manifest, MOVE, left=0, now_ms=NOW)).state == "done"


async def test_a_drain_is_not_done_before_every_process_knows_of_it(manifest: Manifest) -> None:
    """A process that had not heard of it could still have put a shard behind the walk."""
    await applied(manifest, DRAIN)
    assert (await ended_round(manifest, DRAIN, left=0, now_ms=NOW + SETTLE_MS)).state == "running"
    assert (await ended_round(manifest, DRAIN, left=0, now_ms=NOW + SETTLE_MS + 1)).state == "done"


async def test_what_is_paused_or_cancelled_takes_no_end(manifest: Manifest) -> None:
    await applied(manifest, MOVE)
    await manifest.order_campaign(MOVE.id, "pause", now_ms=NOW)
    assert (await ended_round(manifest, MOVE, left=0, now_ms=NOW)).state == "paused"
    await manifest.order_campaign(MOVE.id, "cancel", now_ms=NOW)
    step = Advance(before=START, position=START, round_ended=True)
    assert await manifest.advance_campaign(MOVE.id, step, now_ms=NOW) is None


async def test_a_bucket_gets_its_policy_when_the_campaign_is_applied(manifest: Manifest) -> None:
    await manifest.add_campaign(MOVE)
    found = await manifest.find_bucket("b")  # type: ignore[arg-type]
    assert found is not None
    assert found.policy == "p"
    await manifest.order_campaign(MOVE.id, "apply", now_ms=NOW)
    found = await manifest.find_bucket("b")  # type: ignore[arg-type]
    assert found is not None
    assert found.policy == "q"


async def test_a_write_that_began_under_the_former_policy_makes_the_campaign_look_again(manifest: Manifest) -> None:
    await applied(manifest, MOVE)
    await ended_round(manifest, MOVE, left=0, now_ms=NOW)
    await manifest.commit_version(draft("new", new_layouts=(replace(layout(1), policy="q"),)))
    found = await manifest.find_campaign(MOVE.id)
    assert found is not None
    assert found.state == "done"
    await store(manifest, "late", 2)
    found = await manifest.find_campaign(MOVE.id)
    assert found is not None
    assert found.state == "running"
    assert (await ended_round(manifest, MOVE, left=0, now_ms=NOW)).state == "running"  # it came in during this round
    assert (await ended_round(manifest, MOVE, left=0, now_ms=NOW)).state == "done"


async def test_a_part_that_began_under_the_former_policy_does_so_too(manifest: Manifest) -> None:
    await manifest.begin_upload(upload("u"))
    await applied(manifest, MOVE)
    await ended_round(manifest, MOVE, left=0, now_ms=NOW)
    await manifest.commit_part("u", Part(number=1, size=10, etag="e", modified_ms=NOW), new_layouts=[layout(1)])  # type: ignore[arg-type]
    found = await manifest.find_campaign(MOVE.id)
    assert found is not None
    assert found.state == "running"


async def test_what_lies_under_the_former_policy_is_not_shared_any_more(manifest: Manifest) -> None:
    source = await store(manifest, "k", 1)
    await applied(manifest, MOVE)
    with pytest.raises(PolicyMoved):
        await manifest.commit_version(draft("copy", shared_extents=(source.extents[0],)))
    assert await manifest.find_version(BUCKET, "copy") is None  # type: ignore[arg-type]


async def test_a_walk_meets_each_part_and_each_version_with_data_once(manifest: Manifest) -> None:
    await manifest.set_versioning(BUCKET, "Enabled")  # type: ignore[arg-type]
    await manifest.begin_upload(upload("u", "k9"))
    for number in (1, 2):
        part = Part(number=number, size=10, etag="e", modified_ms=NOW)
        await manifest.commit_part("u", part, new_layouts=[layout(number)])  # type: ignore[arg-type]
    versions = [
        await manifest.commit_version(draft(key, f"v{number}", new_layouts=(layout(10 + number),))) for number, key in enumerate("aab")
    ]
    await manifest.delete_latest(BUCKET, "a", marker_id="m", now_ms=NOW)  # type: ignore[arg-type]
    met, position = [], START
    while True:
        page = await manifest.walk_users(BUCKET, after=position, limit=1)  # type: ignore[arg-type]
        met += page
        if page:
            position = page[-1].position
        elif position.parts_done:
            break
        else:
            position = Position(parts_done=True)
    assert [(used.user.key, used.user.part_number, used.user.version_id) for used in met] == [
        ("k9", 1, ""), ("k9", 2, ""), ("a", 0, "v1"), ("a", 0, "v0"), ("b", 0, "v2"),
    ]  # fmt: skip
    assert met[2].extents == versions[1].extents


async def test_an_extent_of_one_user_is_put_under_another_policy(manifest: Manifest) -> None:
    version = await store(manifest, "k", 1)
    (ref,) = version.extents
    assert await manifest.adopt_extent(user(version), ref.id, "q")
    assert (await manifest.load_extents([ref.id]))[0].layout == replace(layout(1), policy="q")


async def test_an_extent_of_two_users_stays_under_its_policy(manifest: Manifest) -> None:
    version = await store(manifest, "k", 1)
    (ref,) = version.extents
    copy = await manifest.commit_version(draft("copy", shared_extents=(ref,)))
    assert not await manifest.adopt_extent(user(version), ref.id, "q")
    await manifest.delete_version(BUCKET, version.key, version.id, now_ms=NOW)  # type: ignore[arg-type]
    assert not await manifest.adopt_extent(user(version), ref.id, "q")  # its one user is another now
    assert await manifest.adopt_extent(user(copy), ref.id, "q")


async def test_an_exchange_keeps_all_of_a_version_but_its_extent_and_queues_the_old_one(manifest: Manifest) -> None:
    version = await store(manifest, "k", 1)
    settlement = await leased(manifest, 2)
    new = await manifest.exchange_extent(user(version), version.extents[0].id, moved(2), settlements=[settlement], now_ms=NOW)
    found = await manifest.find_version(BUCKET, version.key)  # type: ignore[arg-type]
    assert found == replace(version, extents=(new,))
    assert (await manifest.load_extents([new.id]))[0].layout == moved(2)
    with pytest.raises(ExtentMissing):
        await manifest.load_extents([version.extents[0].id])
    assert await manifest.split_garbage(before_ms=NOW, limit=9) == 1
    assert {row.name for row in await manifest.due_garbage("s0", before_ms=NOW, limit=9)} == {layout(1).segments[0].shard_name(0)}
    with pytest.raises(IntentRevoked):  # its ids are settled
        await manifest.commit_version(draft("other", new_layouts=(layout(3),)), settlements=[settlement])


async def test_an_exchange_in_a_part_goes_with_it_into_the_object(manifest: Manifest) -> None:
    await manifest.begin_upload(upload("u"))
    part = await manifest.commit_part("u", Part(number=1, size=10, etag="e", modified_ms=NOW), new_layouts=[layout(1)])  # type: ignore[arg-type]
    using = ExtentUser(bucket_id=BUCKET, key="k", upload_id="u", part_number=1)
    new = await manifest.exchange_extent(using, part.extents[0].id, moved(2), settlements=[], now_ms=NOW)
    version = await manifest.complete_upload("u", [CompletedPart(number=1, etag="e")], draft("k"))  # type: ignore[arg-type]
    assert version.extents == (new,)


@pytest.mark.parametrize("change", ["deleted", "overwritten"])
async def test_an_exchange_under_a_version_that_is_gone_changes_nothing(manifest: Manifest, change: str) -> None:
    version = await store(manifest, "k", 1)
    settlement = await leased(manifest, 2)
    await manifest.delete_version(BUCKET, version.key, version.id, now_ms=NOW)  # type: ignore[arg-type]
    later = await store(manifest, "k", 3) if change == "overwritten" else None
    with pytest.raises(ExtentMissing):
        await manifest.exchange_extent(user(version), version.extents[0].id, moved(2), settlements=[settlement], now_ms=NOW)
    assert await manifest.find_version(BUCKET, version.key) == later  # type: ignore[arg-type]
    await manifest.commit_version(draft("k2", new_layouts=(layout(2),)), settlements=[settlement])  # the ids are free still


async def test_copies_go_on_to_share_after_an_exchange(manifest: Manifest) -> None:
    version = await store(manifest, "k", 1)
    old = version.extents[0].id
    copy = await manifest.commit_version(draft("copy", shared_extents=version.extents))
    assert not await manifest.share_successor(user(copy), old, "q", 3, 1, now_ms=NOW)
    new = await manifest.exchange_extent(user(version), old, moved(2), settlements=[], now_ms=NOW)
    assert not await manifest.share_successor(user(copy), old, "q", 4, 1, now_ms=NOW)  # another scheme
    assert await manifest.share_successor(user(copy), old, "q", 3, 1, now_ms=NOW)
    for key in ("k", "copy"):
        found = await manifest.find_version(BUCKET, key)  # type: ignore[arg-type]
        assert found is not None
        assert found.extents == (new,)
    with pytest.raises(ExtentMissing):
        await manifest.load_extents([old])
    await manifest.delete_version(BUCKET, version.key, version.id, now_ms=NOW)  # type: ignore[arg-type]
    assert await manifest.load_extents([new.id])  # counted twice


async def test_a_successor_that_is_gone_is_not_shared(manifest: Manifest) -> None:
    version = await store(manifest, "k", 1)
    old = version.extents[0].id
    copy = await manifest.commit_version(draft("copy", shared_extents=version.extents))
    await manifest.exchange_extent(user(version), old, moved(2), settlements=[], now_ms=NOW)
    await manifest.delete_version(BUCKET, version.key, version.id, now_ms=NOW)  # type: ignore[arg-type]
    assert not await manifest.share_successor(user(copy), old, "q", 3, 1, now_ms=NOW)


async def test_what_a_round_could_not_do_is_told_until_the_next_one_has_tried_it_again(manifest: Manifest) -> None:
    await applied(manifest, MOVE)
    later = Position(parts_done=True)
    steps = [
        (Advance(before=START, position=later, left=1, trouble="store s1: full"), "store s1: full"),
        (Advance(before=later, position=later, round_ended=True), "store s1: full"),
        (Advance(before=START, position=later, left=1), ""),
    ]
    for step, told in steps:
        changed = await manifest.advance_campaign(MOVE.id, step, now_ms=NOW)
        assert changed is not None
        assert changed.trouble == told
