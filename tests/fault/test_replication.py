"""Replication: another bucket gets each version once, in order, whatever comes between."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from proxy.config import Config
from proxy.engine.outgoing.replication import stronger
from proxy.manifest.drafts import AttributeChange
from proxy.manifest.records import Bucket, BucketName, ObjectAttributes, ObjectKey, Retention, Version
from proxy.s3.object_lock import DefaultRetention, encode_default
from tests.fault.test_recover import JOURNAL, recovered
from tests.laboratory import BytesBody, Laboratory, laboratory
from tests.unit.s3.test_replication import document, rule

DATA = os.urandom(300_000)
HOUR, DAY = 3600, 24 * 3600
Told = tuple[Literal["GOVERNANCE", "COMPLIANCE"], int] | None


def two_policies(config: Config) -> Config:
    standard = config.policies["standard"]
    return msgspec.structs.replace(
        config, policies={**config.policies, "other": msgspec.structs.replace(standard, scheme="3+3", storage_classes={})}
    )


@pytest.fixture(params=["standard", "other"])
async def lab(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Laboratory]:
    """A bucket that keeps versions, and one of the same or of another policy that gets them."""
    async with laboratory(tmp_path, adjust=two_policies) as running:
        engine = running.services.engine
        copy = await engine.create_bucket(
            Bucket(name=BucketName("copy"), tenant_id=running.tenant.id, policy=request.param, created_ms=running.clock.now_ms())
        )
        for bucket in (running.bucket, copy):
            await engine.set_versioning(bucket, "Enabled")
        await engine.put_bucket_setting(running.bucket, "replication", json.dumps(document(rule(markers=True))))
        yield running


async def put(lab: Laboratory, key: str, data: bytes = DATA, **tags: str) -> Version:
    bucket = await find(lab, "bucket")
    return await lab.services.engine.put_object(bucket, lab.tenant, ObjectKey(key), BytesBody(data), ObjectAttributes(tags=tags))


async def find(lab: Laboratory, name: str) -> Bucket:
    bucket = await lab.services.manifest.find_bucket(BucketName(name))
    assert bucket is not None
    return bucket


async def copied(lab: Laboratory, key: str, version: Version | None = None) -> Version | None:
    bucket = await find(lab, "copy")
    return await lab.services.manifest.find_version(bucket.id, ObjectKey(key), None if version is None else version.id)


async def status(lab: Laboratory, version: Version) -> str | None:
    found = await lab.services.manifest.find_version(lab.bucket.id, version.key, version.id)
    assert found is not None
    return found.attributes.replication


async def run(lab: Laboratory) -> str:
    """Let the worker go on until it has nothing to do; return its last trouble."""
    trouble = ""
    while not (progress := await lab.worker("replication").step()).idle:
        trouble = progress.trouble
    return progress.trouble or trouble


async def test_a_copy_is_the_version_itself(lab: Laboratory) -> None:
    version = await put(lab, "k", color="red")
    assert version.attributes.replication == "PENDING"
    lab.clock.advance(60)
    assert await run(lab) == ""
    copy = await copied(lab, "k")
    assert copy is not None
    assert (copy.id, copy.etag, copy.modified_ms, copy.size) == (version.id, version.etag, version.modified_ms, len(DATA))
    assert (copy.attributes.tags, copy.attributes.replication) == ({"color": "red"}, "REPLICA")
    assert await status(lab, version) == "COMPLETED"
    pieces = await lab.services.engine.open_read(copy, lab.tenant, 0, copy.size)
    assert b"".join([bytes(piece) async for piece in pieces]) == DATA


async def test_versions_of_a_key_keep_their_order(lab: Laboratory) -> None:
    versions = [await put(lab, "k", bytes([n]) * 100) for n in range(5)]
    await run(lab)
    bucket = await find(lab, "copy")
    page = await lab.services.manifest.list_versions(bucket.id, prefix="", delimiter="", after_key="", after_version="", limit=10)
    assert [version.id for version in page.versions] == [version.id for version in reversed(versions)]


async def test_a_change_of_tags_is_copied_and_the_copy_is_made_once(lab: Laboratory) -> None:
    version = await put(lab, "k")
    await run(lab)
    before = await copied(lab, "k")
    await lab.services.engine.change_attributes(lab.bucket, version.key, version.id, AttributeChange(tags={"a": "b"}))
    assert await status(lab, version) == "PENDING"
    await run(lab)
    after = await copied(lab, "k")
    assert before is not None
    assert after is not None
    assert after.attributes.tags == {"a": "b"}
    assert after.extents == before.extents
    assert await status(lab, version) == "COMPLETED"


async def test_a_delete_marker_is_copied_and_the_deletion_of_a_version_is_not(lab: Laboratory) -> None:
    version = await put(lab, "k")
    await run(lab)
    marker = await lab.services.engine.delete_latest(await find(lab, "bucket"), ObjectKey("k"))
    assert marker is not None
    await lab.services.engine.delete_version(await find(lab, "bucket"), ObjectKey("k"), version.id)
    await run(lab)
    latest = await copied(lab, "k")
    assert latest is not None
    assert (latest.id, latest.is_delete_marker) == (marker.id, True)
    assert await copied(lab, "k", version) is not None


async def test_a_version_that_is_gone_is_passed_over(lab: Laboratory) -> None:
    version = await put(lab, "k")
    await lab.services.engine.delete_version(await find(lab, "bucket"), ObjectKey("k"), version.id)
    assert await run(lab) == ""
    assert await copied(lab, "k") is None
    assert await lab.services.manifest.count_replicas() == (0, 0)


async def test_a_destination_that_is_gone_is_tried_for_a_day_and_then_the_version_has_failed(lab: Laboratory) -> None:
    version = await put(lab, "k")
    await lab.services.engine.delete_bucket(await find(lab, "copy"))
    assert "is gone" in await run(lab)
    assert await status(lab, version) == "PENDING"
    assert await lab.services.manifest.due_replicas(now_ms=lab.clock.now_ms(), limit=1) == (), "it is left alone for a while"
    lab.clock.advance(DAY + 1)
    await run(lab)
    assert await status(lab, version) == "FAILED"
    assert await lab.services.manifest.count_replicas() == (0, 0)


async def test_one_destination_that_failed_is_told_though_another_has_the_version(lab: Laboratory) -> None:
    both = document(rule(1, bucket="copy"), rule(2, bucket="nowhere"))
    await lab.services.engine.put_bucket_setting(await find(lab, "bucket"), "replication", json.dumps(both))
    version = await put(lab, "k")
    await lab.services.engine.set_versioning(await find(lab, "copy"), "Suspended")
    lab.clock.advance(DAY + 1)
    replicas = {
        str(replica.destination): replica for replica in await lab.services.manifest.due_replicas(now_ms=lab.clock.now_ms(), limit=9)
    }
    await lab.services.manifest.finish_replica(replicas["nowhere"], "FAILED")
    assert await status(lab, version) == "FAILED"
    await lab.services.engine.set_versioning(await find(lab, "copy"), "Enabled")
    await run(lab)
    assert await copied(lab, "k") is not None
    assert await status(lab, version) == "FAILED"
    await lab.services.manifest.finish_replica(replicas["nowhere"], "COMPLETED")
    assert await status(lab, version) == "FAILED", "one that was taken out already says nothing"


async def test_a_server_that_was_off_for_a_day_has_not_tried_for_a_day(lab: Laboratory) -> None:
    version = await put(lab, "k")
    await lab.services.engine.set_versioning(await find(lab, "copy"), "Suspended")
    lab.clock.set_by(2 * DAY)
    assert "keeps no versions" in await run(lab)
    assert await status(lab, version) == "PENDING"
    await lab.services.engine.set_versioning(await find(lab, "copy"), "Enabled")
    lab.clock.advance(HOUR)
    await run(lab)
    assert await status(lab, version) == "COMPLETED"


async def test_what_was_put_off_by_a_clock_that_was_years_ahead_is_tried_when_it_is_right(lab: Laboratory) -> None:
    version = await put(lab, "k")
    await lab.services.engine.set_versioning(await find(lab, "copy"), "Suspended")
    lab.clock.set_by(10 * 365 * DAY)
    await run(lab)
    lab.clock.set_by(-10 * 365 * DAY)
    lab.clock.advance(60)  # a destination that took nothing has rested
    await lab.services.engine.set_versioning(await find(lab, "copy"), "Enabled")
    await run(lab)
    assert await status(lab, version) == "COMPLETED"


async def test_a_version_that_comes_back_from_its_label_is_copied(tmp_path: Path) -> None:
    async with laboratory(tmp_path / "old", journal=JOURNAL) as old:
        engine = old.services.engine
        copy = Bucket(name=BucketName("copy"), tenant_id=old.tenant.id, policy="standard", created_ms=old.clock.now_ms())
        for bucket in (old.bucket, await engine.create_bucket(copy)):
            await engine.set_versioning(bucket, "Enabled")
        await engine.put_bucket_setting(old.bucket, "replication", json.dumps(document(rule())))
        assert old.services.journal is not None
        await old.services.journal.flusher.flush()
        version = await put(old, "k")
        await old.settled()
        async with recovered(tmp_path / "old") as (lab, _):
            assert await status(lab, version) == "PENDING"
            await run(lab)
            assert await copied(lab, "k", version) is not None
            assert await status(lab, version) == "COMPLETED"


async def test_a_replica_is_not_copied_on(lab: Laboratory) -> None:
    back = document(rule(Destination={"Bucket": "arn:aws:s3:::bucket"}))
    await lab.services.engine.put_bucket_setting(await find(lab, "copy"), "replication", json.dumps(back))
    await put(lab, "k")
    await run(lab)
    assert await lab.services.manifest.count_replicas() == (0, 0)


async def test_a_worker_that_died_after_the_copy_does_not_copy_again(lab: Laboratory) -> None:
    await put(lab, "k")
    (replica,) = await lab.services.manifest.due_replicas(now_ms=lab.clock.now_ms(), limit=1)
    await run(lab)
    before = await lab.shards()
    version = await lab.services.manifest.find_version(lab.bucket.id, ObjectKey("k"))
    assert version is not None
    await lab.services.engine.change_attributes(lab.bucket, version.key, version.id, AttributeChange(tags={}))  # queued once more
    await run(lab)
    assert await lab.shards() == before
    assert replica.version_id == version.id


async def test_what_no_rule_wants_is_not_marked(lab: Laboratory) -> None:
    await lab.services.engine.put_bucket_setting(lab.bucket, "replication", json.dumps(document(rule(Filter={"Prefix": "a/"}))))
    assert (await put(lab, "b/k")).attributes.replication is None
    assert (await put(lab, "a/k")).attributes.replication == "PENDING"


async def test_a_replica_has_the_default_retention_of_its_own_bucket_and_no_change_of_the_source_weakens_its_lock(lab: Laboratory) -> None:
    ten_days = encode_default(DefaultRetention(mode="COMPLIANCE", days=10))
    await lab.services.engine.put_bucket_setting(await find(lab, "copy"), "object_lock", ten_days)
    version = await put(lab, "k")
    await run(lab)
    before = await copied(lab, "k")
    assert before is not None
    assert before.attributes.retention == Retention(mode="COMPLIANCE", until_ms=version.modified_ms + 10 * DAY * 1000)
    held = AttributeChange(legal_hold="ON")
    await lab.services.engine.change_attributes(await find(lab, "copy"), version.key, version.id, held)
    change = AttributeChange(
        tags={"a": "b"}, legal_hold="OFF", retention=Retention(mode="GOVERNANCE", until_ms=version.modified_ms + DAY * 1000)
    )
    await lab.services.engine.change_attributes(lab.bucket, version.key, version.id, change)
    assert await run(lab) == ""
    after = await copied(lab, "k")
    assert after is not None
    assert (after.attributes.tags, after.attributes.retention, after.attributes.legal_hold) == (
        {"a": "b"},
        before.attributes.retention,
        "ON",
    )


@pytest.mark.parametrize(
    ("told", "wanted", "outcome"),
    [
        (None, ("GOVERNANCE", 5), "wanted"),
        (("GOVERNANCE", 5), None, "told"),
        (("GOVERNANCE", 5), ("GOVERNANCE", 4), "told"),
        (("GOVERNANCE", 5), ("GOVERNANCE", 6), "wanted"),
        (("GOVERNANCE", 5), ("COMPLIANCE", 5), "wanted"),
        (("COMPLIANCE", 5), ("GOVERNANCE", 6), "told"),
        (("COMPLIANCE", 1), ("GOVERNANCE", 6), "wanted"),
    ],
)
def test_of_two_retentions_the_stronger_one_stays(told: Told, wanted: Told, outcome: str) -> None:
    there, asked = (None if one is None else Retention(mode=one[0], until_ms=one[1]) for one in (told, wanted))
    assert stronger(there, asked, now_ms=2) == {"told": there, "wanted": asked}[outcome]


async def test_a_destination_that_is_gone_is_not_in_the_way_of_others(lab: Laboratory) -> None:
    both = document(rule(1, bucket="nowhere", Filter={"Prefix": "old/"}), rule(2, Filter={"Prefix": "new/"}))
    await lab.services.engine.put_bucket_setting(lab.bucket, "replication", json.dumps(both))
    for n in range(40):
        await put(lab, f"old/{n}", b"x")
    version = await put(lab, "new/k")
    await lab.worker("replication").step()
    await lab.worker("replication").step()
    assert await status(lab, version) == "COMPLETED"
