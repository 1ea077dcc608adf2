"""Locks survive what objects survive: the loss of the manifest, moves to another policy, wrong clocks, repeated writes."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from proxy.clock import ManualClock
from proxy.errors import VersionLocked
from proxy.manifest.drafts import AttributeChange, CompletedPart
from proxy.manifest.plans.locks import OBJECT_LOCK
from proxy.manifest.records import ObjectAttributes, ObjectKey, Retention, Version
from proxy.s3.object_lock import DefaultRetention, encode_default
from proxy.services import open_services
from tests.fault.test_recover import JOURNAL, recovered
from tests.laboratory import BytesBody, Laboratory, laboratory, laboratory_config

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


async def lock_bucket(lab: Laboratory, default: DefaultRetention | None = None) -> None:
    await lab.services.engine.set_versioning(lab.bucket, "Enabled")
    await lab.services.engine.put_bucket_setting(lab.bucket, OBJECT_LOCK, encode_default(default))
    found = await lab.services.manifest.find_bucket(lab.bucket.name)
    assert found is not None
    lab.bucket = found


async def put(lab: Laboratory, key: str, attributes: ObjectAttributes, data: bytes = b"data") -> Version:
    version = await lab.services.engine.put_object(lab.bucket, lab.tenant, ObjectKey(key), BytesBody(data), attributes)
    await lab.settled()
    return version


async def stays(lab: Laboratory, version: Version) -> Retention | None:
    """Check that a version cannot be deleted, and return its retention."""
    with pytest.raises(VersionLocked):
        await lab.services.engine.delete_version(lab.bucket, version.key, version.id, bypass_governance=True)
    found = await lab.services.engine.find_version(lab.bucket, version.key, version.id)
    assert found is not None
    return found.attributes.retention


def compliance(lab: Laboratory, hours: int = 1) -> Retention:
    return Retention(mode="COMPLIANCE", until_ms=lab.clock.now_ms() + hours * HOUR_MS)


async def test_locks_come_back_from_labels_and_from_the_journal(tmp_path: Path) -> None:
    """With `acknowledge = "needed"` a change of a lock waits for the journal, and a new object for nothing but its shards."""
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        await lock_bucket(lab)
        retained, longer = compliance(lab), compliance(lab, hours=2)
        labelled = await put(lab, "labelled", ObjectAttributes(retention=retained))
        held = await put(lab, "held", ObjectAttributes(legal_hold="ON"))
        later = await put(lab, "later", ObjectAttributes())
        extended = await put(lab, "extended", ObjectAttributes(retention=retained))
        engine = lab.services.engine
        await engine.change_attributes(lab.bucket, extended.key, extended.id, AttributeChange(retention=longer))
        await engine.change_attributes(lab.bucket, later.key, later.id, AttributeChange(retention=retained))
        behind = await put(lab, "behind", ObjectAttributes(retention=longer))
        async with recovered(tmp_path / "old") as (new, _):
            assert [await stays(new, version) for version in (labelled, later, extended, behind)] == [retained, retained, longer, longer]
            assert await stays(new, held) is None
            new.clock.advance(3 * 3600)
            await new.services.engine.delete_version(new.bucket, labelled.key, labelled.id)


async def test_trusted_time_goes_on_in_a_manifest_that_was_recovered(tmp_path: Path) -> None:
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        await lock_bucket(lab)
        version = await put(lab, "k", ObjectAttributes(retention=compliance(lab, hours=24)))
        async with recovered(tmp_path / "old") as (new, _):
            new.clock.set_by(10 * 365 * 24 * 3600)
            await new.worker("trusted-time").step()
            assert await stays(new, version)


async def test_a_default_retention_counts_from_the_write_and_no_clock_that_is_set_back_makes_it_shorter(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        await lock_bucket(lab, DefaultRetention("COMPLIANCE", days=2))
        start_ms = lab.clock.now_ms()
        first = await put(lab, "first", ObjectAttributes())
        assert first.attributes.retention == Retention(mode="COMPLIANCE", until_ms=start_ms + 2 * DAY_MS)
        lab.clock.set_by(-365 * 24 * 3600)
        second = await put(lab, "second", ObjectAttributes())
        assert second.attributes.retention is not None
        assert second.attributes.retention.until_ms >= start_ms + 2 * DAY_MS


async def test_a_restart_with_a_clock_that_is_set_back_makes_no_default_retention_shorter(tmp_path: Path) -> None:
    """The order of writes begins anew with the process; the trusted time does not."""
    async with laboratory(tmp_path, journal=JOURNAL) as lab:
        await lock_bucket(lab, DefaultRetention("COMPLIANCE", days=2))
        start_ms, bucket, tenant = lab.clock.now_ms(), lab.bucket, lab.tenant
    config = laboratory_config(tmp_path, journal=JOURNAL)
    clock = ManualClock(start_ms)
    clock.set_by(-365 * 24 * 3600)
    async with open_services(config, clock=clock) as services:
        engine, key = services.engine, ObjectKey("k")
        put = await engine.put_object(bucket, tenant, key, BytesBody(b"data"), ObjectAttributes())
        assert (await services.manifest.journal_position()).rows == 0, "its label tells of less: it waited for the journal"
        upload = await engine.begin_upload(bucket, tenant, key, ObjectAttributes())
        part = await engine.upload_part(bucket, tenant, upload, 1, BytesBody(b"part"))
        completed = await engine.complete_upload(bucket, upload, [CompletedPart(number=1, etag=part.etag)])
        copied = await engine.copy_object(put, bucket, tenant, bucket, tenant, key, ObjectAttributes())
        wanted = Retention(mode="COMPLIANCE", until_ms=start_ms + 2 * DAY_MS)
        assert [version.attributes.retention for version in (put, completed, copied)] == [wanted] * 3


async def test_an_own_retention_comes_before_the_default_one(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        await lock_bucket(lab, DefaultRetention("COMPLIANCE", years=1))
        own = Retention(mode="GOVERNANCE", until_ms=lab.clock.now_ms() + HOUR_MS)
        assert (await put(lab, "k", ObjectAttributes(retention=own))).attributes.retention == own


async def test_a_copy_and_a_completed_upload_get_the_default_retention_too(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        await lock_bucket(lab, DefaultRetention("GOVERNANCE", days=1))
        engine, key = lab.services.engine, ObjectKey("k")
        source = await put(lab, "source", ObjectAttributes(retention=compliance(lab)))
        upload = await engine.begin_upload(lab.bucket, lab.tenant, key, ObjectAttributes())
        part = await engine.upload_part(lab.bucket, lab.tenant, upload, 1, BytesBody(b"part"))
        lab.clock.advance(3600)
        wanted = Retention(mode="GOVERNANCE", until_ms=lab.clock.now_ms() + DAY_MS)
        copied = await engine.copy_object(source, lab.bucket, lab.tenant, lab.bucket, lab.tenant, key, ObjectAttributes())
        completed = await engine.complete_upload(lab.bucket, upload, [CompletedPart(number=1, etag=part.etag)])
        assert (copied.attributes.retention, completed.attributes.retention) == (wanted, wanted)


async def test_what_an_upload_began_with_becomes_the_lock_of_its_object(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        await lock_bucket(lab)
        engine, wanted = lab.services.engine, compliance(lab)
        attributes = ObjectAttributes(retention=wanted, legal_hold="ON")
        upload = await engine.begin_upload(lab.bucket, lab.tenant, ObjectKey("k"), attributes)
        part = await engine.upload_part(lab.bucket, lab.tenant, upload, 1, BytesBody(b"part"))
        completed = await engine.complete_upload(lab.bucket, upload, [CompletedPart(number=1, etag=part.etag)])
        assert completed.attributes == replace(attributes, retention=wanted)
        assert await stays(lab, completed) == wanted


async def test_the_operator_is_told_when_the_clock_and_the_trusted_time_differ(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        keeper = lab.worker("trusted-time")
        assert (await keeper.step()).done == 0
        await lock_bucket(lab)
        assert (await keeper.step()).trouble == ""
        lab.clock.set_by(7200)
        assert "2.0 h behind the clock" in (await keeper.step()).trouble
        lab.clock.set_by(-14400)
        assert "set it right" in (await keeper.step()).trouble
