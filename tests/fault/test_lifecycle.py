"""The worker that carries out lifecycle rules, under a clock that is moved by hand."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from proxy.engine.lifecycle import worker as lifecycle_worker
from proxy.engine.lifecycle.state import load_lifecycle
from proxy.engine.workers import Progress
from proxy.errors import ProxyError
from proxy.manifest.drafts import AttributeChange
from proxy.manifest.lifecycle import JOBS, MOVING
from proxy.manifest.plans.locks import OBJECT_LOCK
from proxy.manifest.records import Bucket, BucketName, ObjectAttributes, ObjectKey, Retention, Version
from proxy.s3.lifecycle.reading import read_configuration
from proxy.s3.lifecycle.rules import DAY_MS, SETTING, encode_configuration
from proxy.s3.notification import SETTING as NOTIFICATION
from tests.laboratory import BytesBody, Laboratory, laboratory

DAY = DAY_MS // 1000
NOW_MS = 1_750_000_000_000
LARGE = b"large enough to move" * 10_000
CLASSES = ("STANDARD_IA", "ONEZONE_IA", "GLACIER_IR", "REDUCED_REDUNDANCY")


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Laboratory]:
    async with laboratory(tmp_path) as running:
        yield running


def rule(**parts: Any) -> dict[str, Any]:
    return {"ID": "r", "Status": "Enabled", "Filter": {}, **parts}


EXPIRE = rule(Expiration={"Days": 3})
TO_OTHER_SCHEME = rule(Transitions=[{"Days": 30, "StorageClass": "ONEZONE_IA"}])


async def set_rules(lab: Laboratory, *rules: dict[str, Any], bucket: Bucket | None = None) -> None:
    named = [{**one, "ID": str(number)} for number, one in enumerate(rules)]
    configuration = read_configuration({"Rules": named}, minimum_size=None, storage_classes=CLASSES)
    await lab.services.engine.put_bucket_setting(bucket or lab.bucket, SETTING, encode_configuration(configuration))


async def run(lab: Laboratory) -> Progress:
    """Take steps of both jobs until there is nothing left to do; return the sum of what they did."""
    done, trouble = 0, ""
    for job in JOBS:
        idle = False
        while not idle:
            progress = await lab.worker(job).step()
            done, trouble, idle = done + progress.done, trouble or progress.trouble, progress.idle
    return Progress(idle=True, done=done, trouble=trouble)


async def put(lab: Laboratory, key: str, data: bytes = b"data", **attributes: Any) -> Version:
    found = await lab.services.manifest.find_bucket(lab.bucket.name)
    assert found is not None
    version = await lab.services.engine.put_object(found, lab.tenant, ObjectKey(key), BytesBody(data), ObjectAttributes(**attributes))
    await lab.settled()
    return version


async def find(lab: Laboratory, key: str) -> Version | None:
    return await lab.services.manifest.find_version(lab.bucket.id, ObjectKey(key))


async def schemes(lab: Laboratory, version: Version) -> set[tuple[int, int]]:
    extents = await lab.services.manifest.load_extents([ref.id for ref in version.extents])
    return {(extent.layout.k, extent.layout.m) for extent in extents}


async def totals(lab: Laboratory) -> dict[str, int]:
    states = [await load_lifecycle(lab.services.manifest, job) for job in JOBS]
    return {name: count for state in states for name, count in state.totals.items() if count}


async def test_objects_expire_at_the_midnight_after_their_days_and_their_shards_are_collected(lab: Laboratory) -> None:
    await set_rules(lab, EXPIRE)
    await put(lab, "k", LARGE)
    to_midnight = DAY - lab.clock.now_ms() // 1000 % DAY
    lab.clock.advance(to_midnight + 3 * DAY - 1)
    assert (await run(lab)).done == 0
    lab.clock.advance(1)
    assert (await run(lab)).done == 1
    assert await find(lab, "k") is None
    assert await totals(lab) == {"expired": 1}
    await lab.collect()
    assert await lab.shards() == set()


async def test_a_pass_is_made_once_a_day_and_after_rules_were_put(lab: Laboratory) -> None:
    await put(lab, "k")
    manifest = lab.services.manifest

    async def passes() -> bool:
        before = (await load_lifecycle(manifest, SETTING)).ended_ms
        lab.clock.advance(1)
        await run(lab)
        return (await load_lifecycle(manifest, SETTING)).ended_ms > before

    assert await passes()
    assert not await passes()
    await set_rules(lab, EXPIRE)
    assert await passes()
    assert not await passes()
    lab.clock.advance(DAY)
    assert await passes()
    assert not await passes()
    assert (await load_lifecycle(manifest, SETTING)).rows == 1


async def test_a_pass_under_a_clock_that_was_years_ahead_is_not_the_last_for_years(tmp_path: Path) -> None:
    years = 10 * 365 * DAY
    async with laboratory(tmp_path, now_ms=NOW_MS + years * 1000) as ahead:
        await set_rules(ahead, EXPIRE)
        await run(ahead)
    async with laboratory(tmp_path, now_ms=NOW_MS) as lab:
        await put(lab, "k")
        await run(lab)
        lab.clock.advance(5 * DAY)
        assert (await run(lab)).done == 1


async def test_rules_that_are_put_wake_the_job_at_once(lab: Laboratory) -> None:
    await run(lab)
    manifest, now_ms = lab.services.manifest, lab.clock.now_ms()
    job = await manifest.take_job(SETTING, "me", now_ms=now_ms, lease_ms=1)
    assert job is not None
    await set_rules(lab, EXPIRE)
    assert (await manifest.find_job(SETTING)).due_ms == 0


async def test_a_pass_goes_on_where_it_was_in_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle_worker, "ROWS", 2)
    monkeypatch.setattr(lifecycle_worker, "STEP_PAGES", 2)
    keys = [f"k{number}" for number in range(9)]
    async with laboratory(tmp_path) as lab:
        await set_rules(lab, EXPIRE)
        for key in keys:
            await put(lab, key)
        lab.clock.advance(5 * DAY)
        now_ms = lab.clock.now_ms()
        for _ in range(2):
            assert not (await lab.worker(SETTING).step()).idle
        assert 0 < (await totals(lab))["expired"] < 9
        state = await load_lifecycle(lab.services.manifest, SETTING)
    async with laboratory(tmp_path, now_ms=now_ms) as again:
        assert await load_lifecycle(again.services.manifest, SETTING) == state
        await run(again)
        assert await totals(again) == {"expired": 9}
        assert [await find(again, key) for key in keys] == [None] * 9


async def test_every_bucket_has_its_rules_carried_out_and_one_that_goes_meanwhile_holds_up_nobody(
    lab: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle_worker, "STEP_PAGES", 1)
    manifest = lab.services.manifest
    others = [
        await manifest.create_bucket(Bucket(name=BucketName(name), tenant_id=lab.tenant.id, policy=lab.bucket.policy, created_ms=0))
        for name in ("gone", "last")
    ]
    for bucket in (lab.bucket, *others):
        await set_rules(lab, EXPIRE, bucket=bucket)
    await put(lab, "k")
    last = await lab.services.engine.put_object(others[1], lab.tenant, ObjectKey("k"), BytesBody(b""), ObjectAttributes())
    lab.clock.advance(5 * DAY)
    while (await load_lifecycle(manifest, SETTING)).running is None or (await totals(lab)) == {}:
        await lab.worker(SETTING).step()
    await manifest.delete_bucket(others[0].id)
    await run(lab)
    assert await totals(lab) == {"expired": 2}
    assert await manifest.find_version(others[1].id, last.key) is None


async def test_locked_versions_stay_until_their_lock_ends_and_go_then(lab: Laboratory) -> None:
    engine = lab.services.engine
    await engine.set_versioning(lab.bucket, "Enabled")
    await engine.put_bucket_setting(lab.bucket, OBJECT_LOCK, "{}")
    await set_rules(lab, rule(NoncurrentVersionExpiration={"NoncurrentDays": 1}))
    until_ms = lab.clock.now_ms() + 10 * DAY_MS
    locked = await put(lab, "k", retention=Retention(mode="COMPLIANCE", until_ms=until_ms))
    free = await put(lab, "k")
    current = await put(lab, "k")
    lab.clock.advance(5 * DAY)
    assert (await run(lab)).done == 1
    assert await totals(lab) == {"removed": 1, "kept_locked": 1}
    assert await lab.services.manifest.find_version(lab.bucket.id, locked.key, free.id) is None
    lab.clock.advance(6 * DAY)
    assert (await run(lab)).done == 1
    assert await lab.services.manifest.find_version(lab.bucket.id, locked.key, locked.id) is None
    assert await find(lab, "k") == current


async def test_a_version_moves_to_another_class_and_stays_the_same_to_whoever_reads_it(lab: Laboratory) -> None:
    await set_rules(lab, TO_OTHER_SCHEME)
    before = await put(lab, "k", LARGE, metadata={"m": "n"}, tags={"a": "b"})
    assert await schemes(lab, before) == {(4, 2)}
    lab.clock.advance(29 * DAY)
    assert (await run(lab)).done == 0
    lab.clock.advance(2 * DAY)
    assert (await run(lab)).done == 1
    after = await find(lab, "k")
    assert after is not None
    assert after == replace(before, attributes=replace(before.attributes, storage_class="ONEZONE_IA"), extents=after.extents)
    assert await schemes(lab, after) == {(3, 2)}
    assert await lab.get("k") == LARGE
    assert (await run(lab)).done == 0
    assert await totals(lab) == {"moved": 1}


async def test_a_class_of_the_same_scheme_moves_no_data(lab: Laboratory) -> None:
    await set_rules(lab, rule(Transitions=[{"Days": 30, "StorageClass": "STANDARD_IA"}]))
    before = await put(lab, "k", LARGE)
    shards = await lab.shards()
    lab.clock.advance(31 * DAY)
    assert (await run(lab)).done == 1
    after = await find(lab, "k")
    assert after is not None
    assert (after.extents, after.attributes.storage_class) == (before.extents, "STANDARD_IA")
    assert await lab.shards() == shards


async def test_copies_go_on_to_share_what_was_moved(lab: Laboratory) -> None:
    await set_rules(lab, TO_OTHER_SCHEME)
    source = await put(lab, "k", LARGE)
    engine = lab.services.engine
    await engine.copy_object(source, lab.bucket, lab.tenant, lab.bucket, lab.tenant, ObjectKey("copy"), ObjectAttributes())
    lab.clock.advance(31 * DAY)
    assert (await run(lab)).done == 2
    first, second = await find(lab, "k"), await find(lab, "copy")
    assert first is not None
    assert second is not None
    assert first.extents == second.extents != source.extents
    assert await lab.get("copy") == LARGE


async def test_a_move_that_broke_off_before_the_class_was_changed_is_ended_by_the_next_pass(
    lab: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    await set_rules(lab, TO_OTHER_SCHEME)
    await put(lab, "k", LARGE)
    lab.clock.advance(31 * DAY)
    manifest = lab.services.parts.manifest
    with monkeypatch.context() as patched:

        async def lost(*_: object, **__: object) -> str:
            raise ProxyError("the process died here")

        patched.setattr(manifest, "change_class", lost)
        assert "died here" in (await run(lab)).trouble
    moved = await find(lab, "k")
    assert moved is not None
    assert (moved.attributes.storage_class, await schemes(lab, moved)) == ("STANDARD", {(3, 2)})
    shards = await lab.shards()
    lab.clock.advance(DAY)
    assert (await run(lab)).done == 1
    after = await find(lab, "k")
    assert after is not None
    assert (after.attributes.storage_class, after.extents) == ("ONEZONE_IA", moved.extents)
    assert await lab.shards() == shards


async def test_a_store_that_is_down_holds_up_no_expiration(lab: Laboratory) -> None:
    moving = rule(Filter={"Prefix": "m"}, Transitions=[{"Days": 30, "StorageClass": "ONEZONE_IA"}])
    await set_rules(lab, moving, rule(Filter={"Prefix": "x"}, Expiration={"Days": 30}))
    for key in ("m", "x"):
        await put(lab, key, LARGE)
    for name in ("alder", "birch", "cedar"):
        lab.stores[name].down = True
    lab.clock.advance(31 * DAY)
    progress = await run(lab)
    assert progress.trouble
    assert await find(lab, "x") is None
    assert (await lab.worker(MOVING).step()).trouble == progress.trouble, "it is told until a pass has gone well"
    for name in ("alder", "birch", "cedar"):
        lab.stores[name].down = False
    lab.clock.advance(DAY)
    await run(lab)
    assert await totals(lab) == {"expired": 1, "moved": 1}
    assert (await lab.worker(MOVING).step()).trouble == ""
    assert await lab.get("m") == LARGE


async def test_a_class_that_the_policy_gave_up_is_told(lab: Laboratory) -> None:
    await set_rules(lab, rule(Transitions=[{"Days": 30, "StorageClass": "ONEZONE_IA"}]))
    await put(lab, "k", LARGE)
    lab.clock.advance(31 * DAY)
    policy = lab.services.policies[lab.bucket.policy]
    object.__setattr__(policy, "storage_classes", {})
    assert "ONEZONE_IA" in (await run(lab)).trouble
    found = await find(lab, "k")
    assert found is not None
    assert found.attributes.storage_class == "STANDARD"


async def test_a_clock_that_is_set_forward_expires_nothing_while_the_server_runs(lab: Laboratory) -> None:
    await set_rules(lab, EXPIRE)
    await put(lab, "k")
    await run(lab)
    lab.clock.set_by(365 * DAY)
    progress = await lab.worker(SETTING).step()
    assert (progress.idle, progress.done) == (True, 0)
    assert "set forward by 8760.0 h" in progress.trouble
    assert await find(lab, "k") is not None
    lab.clock.set_by(-365 * DAY)
    lab.clock.advance(5 * DAY)
    assert (await run(lab)).done == 1


async def test_what_was_retagged_while_it_waited_its_turn_is_left(lab: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    await set_rules(lab, rule(Filter={"Tag": {"Key": "temporary", "Value": "yes"}}, Expiration={"Days": 1}))
    version = await put(lab, "k", tags={"temporary": "yes"})
    lab.clock.advance(3 * DAY)
    manifest = lab.services.parts.manifest
    carry_out = manifest.carry_out

    async def retagged_first(*args: Any, **kwargs: Any) -> object:
        await manifest.change_attributes(lab.bucket.id, version.key, version.id, AttributeChange(tags={"temporary": "no"}))
        return await carry_out(*args, **kwargs)

    monkeypatch.setattr(manifest, "carry_out", retagged_first)
    assert (await run(lab)).done == 0
    assert await find(lab, "k") is not None


async def test_uploads_that_nobody_completes_are_aborted(lab: Laboratory) -> None:
    await set_rules(lab, rule(AbortIncompleteMultipartUpload={"DaysAfterInitiation": 2}))
    engine = lab.services.engine
    upload = await engine.begin_upload(lab.bucket, lab.tenant, ObjectKey("k"), ObjectAttributes())
    await engine.upload_part(lab.bucket, lab.tenant, upload, 1, BytesBody(LARGE))
    await lab.settled()
    lab.clock.advance(4 * DAY)
    assert (await run(lab)).done == 1
    assert await engine.find_upload(lab.bucket, ObjectKey("k"), upload.id) is None
    await lab.collect()
    assert await lab.shards() == set()


async def test_those_who_listen_are_told_of_each_kind(lab: Laboratory) -> None:
    engine, manifest = lab.services.engine, lab.services.manifest
    await engine.set_versioning(lab.bucket, "Enabled")
    events = ["s3:LifecycleExpiration:*", "s3:LifecycleTransition"]
    document = {"QueueConfigurations": [{"Id": "all", "QueueArn": "arn:aws:sqs:::hook", "Events": events}]}
    await engine.put_bucket_setting(lab.bucket, NOTIFICATION, json.dumps(document))
    await set_rules(
        lab,
        rule(Filter={"Prefix": "x"}, Expiration={"Days": 30}, NoncurrentVersionExpiration={"NoncurrentDays": 30}),
        rule(Filter={"Prefix": "m"}, Transitions=[{"Days": 30, "StorageClass": "ONEZONE_IA"}]),
    )
    for key in ("m", "x", "x"):
        await put(lab, key, LARGE)
    lab.clock.advance(31 * DAY)
    await run(lab)
    told = [delivery.event for delivery in await manifest.due_events("hook", limit=10)]
    assert sorted((event.cause.name, event.key) for event in told) == [
        ("LifecycleExpiration:Delete", "x"),
        ("LifecycleExpiration:DeleteMarkerCreated", "x"),
        ("LifecycleTransition", "m"),
    ]
    assert {event.cause.owner for event in told} == {lab.tenant.canonical_id}
