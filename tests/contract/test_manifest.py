"""The contract of a manifest, run on every adapter."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from proxy.clock import ManualClock
from proxy.codec.format import shard_name
from proxy.errors import (
    BucketExists,
    BucketMissing,
    BucketNotEmpty,
    ExtentMissing,
    IntentRevoked,
    KmsKeyExists,
    KmsKeyMissing,
    ManifestFenced,
    PartInvalid,
    PreconditionUnmet,
    SettingChanged,
    TenantExists,
    TenantMissing,
    TenantNotEmpty,
    UploadMissing,
    VersionMissing,
)
from proxy.manifest.drafts import AttributeChange, CompletedPart, Conditions, VersionDraft
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import (
    AccessKey,
    Bucket,
    Caller,
    Garbage,
    GarbageSegment,
    KmsKey,
    Layout,
    Look,
    ObjectAttributes,
    Part,
    PartSummary,
    Readable,
    Role,
    Segment,
    Settlement,
    Upload,
)
from proxy.manifest.sqlite import open_sqlite
from proxy.s3.policy.acl import Acl
from tests.contract.conftest import NOW, tenant
from tests.listed import listed

BUCKET = 1  # the first id that a manifest gives


def segment_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def layout(number: int, *, missing: tuple[int, ...] = ()) -> Layout:
    segment = Segment(id=segment_id(number), size=10, stores=("s0", "s1", "s2"), missing=missing)
    return Layout(size=10, policy="p", k=2, m=1, tenant_key_id="t", wrapped_key=b"k", segments=(segment,))


def upload(upload_id: str, key: str = "k", initiated_ms: int = NOW) -> Upload:
    return Upload(id=upload_id, bucket_id=BUCKET, key=key, tenant_id="t", initiated_ms=initiated_ms)


def draft(key: str, version_id: str = "drawn", **fields: object) -> VersionDraft:
    return VersionDraft(**{"bucket_id": BUCKET, "key": key, "id": version_id, "etag": "e", "modified_ms": NOW, **fields})


async def garbage(manifest: Manifest) -> set[bytes]:
    return {bytes.fromhex(row.name[3:35]) for row in await queued(manifest)}


async def queued(manifest: Manifest) -> list[Garbage]:
    await manifest.split_garbage(before_ms=NOW * 2, limit=1000)
    stores = await manifest.count_garbage()
    return [row for store in stores for row in await manifest.due_garbage(store, before_ms=NOW * 2, limit=1000)]


async def history(manifest: Manifest, key: str) -> list[str]:
    page = await manifest.list_versions(BUCKET, prefix=key, delimiter="", after_key="", after_version="", limit=100)
    return [version.id for version in page.versions]


async def collect(manifest: Manifest) -> None:
    await manifest.finish_garbage(await queued(manifest))


async def test_stores_are_known_for_good(manifest: Manifest) -> None:
    assert await manifest.known_stores() == frozenset()
    await manifest.know_stores(["a", "b"])
    await manifest.know_stores(["b", "c"])
    assert await manifest.known_stores() == {"a", "b", "c"}


async def test_roles_are_put_listed_and_removed_with_their_tenant(manifest: Manifest) -> None:
    role = Role(tenant_id="t", name="reader", trust="{}", policy="{}", created_ms=NOW)
    with pytest.raises(TenantMissing):
        await manifest.put_role(replace(role, tenant_id="nobody"))
    await manifest.put_role(role)
    await manifest.put_role(replace(role, name="another"))
    changed = replace(role, policy="[]")
    await manifest.put_role(changed)
    assert await manifest.find_role("t", "reader") == changed
    assert [one.name for one in await manifest.list_roles("t")] == ["another", "reader"]
    assert await manifest.remove_role("t", "another")
    assert not await manifest.remove_role("t", "another")
    await manifest.add_tenant(tenant("u"))
    assert await manifest.find_role("u", "reader") is None
    await manifest.put_role(replace(role, tenant_id="u"))
    await manifest.remove_tenant("u")
    assert await manifest.list_roles("u") == ()


async def test_an_account_is_found_by_either_of_its_ids(manifest: Manifest) -> None:
    await manifest.add_tenant(tenant("u"))
    assert await manifest.find_account(tenant("u").account_id) == tenant("u")
    assert await manifest.find_account(tenant("u").canonical_id) == tenant("u")
    assert await manifest.find_account("nobody") is None


async def test_tenants_and_keys(manifest: Manifest) -> None:
    with pytest.raises(TenantExists):
        await manifest.add_tenant(tenant("t"))
    with pytest.raises(TenantExists, match="canonical id"):
        await manifest.add_tenant(replace(tenant("other"), canonical_id=tenant("t").canonical_id))
    with pytest.raises(TenantExists, match="account id"):
        await manifest.add_tenant(replace(tenant("other"), account_id=tenant("t").account_id))
    assert await manifest.find_tenant_by_name("other") is None
    await manifest.add_access_key(AccessKey(id="AK", tenant_id="t", sealed_secret=b"s", created_ms=NOW))
    await manifest.set_tenant_enabled("t", False)
    assert (await manifest.list_tenants())[0].enabled is False
    with pytest.raises(TenantNotEmpty):
        await manifest.remove_tenant("t")
    assert await manifest.remove_access_key("AK") is True
    assert await manifest.remove_access_key("AK") is False
    assert (await manifest.find_caller("AK", None)).access_key is None


async def test_kms_keys(manifest: Manifest) -> None:
    await manifest.add_tenant(tenant("other"))
    with pytest.raises(TenantMissing):
        await manifest.add_kms_key(kms_key("a", "nobody"))
    for key in (kms_key("a", "t", "main"), kms_key("b", "t"), kms_key("c", "t"), kms_key("d", "other", "main")):
        await manifest.add_kms_key(key)
    with pytest.raises(KmsKeyExists):
        await manifest.add_kms_key(kms_key("e", "t", "main"))
    assert [key.id for key in await manifest.list_kms_keys("t")] == ["a", "b", "c"]
    assert [key.id for key in await manifest.list_kms_keys()] == ["a", "b", "c", "d"]
    assert await manifest.find_kms_key("a") == kms_key("a", "t", "main")
    assert await manifest.find_kms_key("e") is None
    assert await manifest.find_kms_key_by_alias("other", "main") == kms_key("d", "other", "main")
    assert await manifest.find_kms_key_by_alias("t", "") is None
    await manifest.set_kms_key_enabled("a", False)
    assert await manifest.find_kms_key_by_alias("t", "main") == replace(kms_key("a", "t", "main"), enabled=False)
    with pytest.raises(KmsKeyMissing):
        await manifest.set_kms_key_enabled("e", False)
    await manifest.remove_tenant("other")
    assert [key.id for key in await manifest.list_kms_keys()] == ["a", "b", "c"]


def kms_key(key_id: str, tenant_id: str, alias: str = "") -> KmsKey:
    return KmsKey(id=key_id, tenant_id=tenant_id, alias=alias, root_key_id="r", wrapped_key=b"w", created_ms=NOW)


async def test_a_removed_tenant_takes_its_keys_along_and_no_others(manifest: Manifest) -> None:
    await manifest.add_tenant(tenant("other"))
    for name, owner in (("AK", "other"), ("BK", "other"), ("CK", "t")):
        await manifest.add_access_key(AccessKey(id=name, tenant_id=owner, sealed_secret=b"s", created_ms=NOW))
    await manifest.remove_tenant("other")
    assert [(await manifest.find_caller(name, None)).access_key for name in ("AK", "BK")] == [None, None]
    assert await manifest.list_access_keys("other") == ()
    assert [key.id for key in await manifest.list_access_keys("t")] == ["CK"]


async def test_a_caller_is_found_with_the_bucket_and_its_owner_in_one_read(manifest: Manifest) -> None:
    key = AccessKey(id="AK", tenant_id="other", sealed_secret=b"s", created_ms=NOW)
    await manifest.add_tenant(tenant("other"))
    await manifest.add_access_key(key)
    bucket = await manifest.find_bucket("b")
    theirs = Caller(access_key=key, tenant=tenant("other"), bucket=bucket, owner=tenant("t"))
    assert await manifest.find_caller("AK", "b") == theirs
    assert await manifest.find_caller(None, "b") == Caller(bucket=bucket, owner=tenant("t"))
    assert await manifest.find_caller("AK", None) == Caller(access_key=key, tenant=tenant("other"))
    assert await manifest.find_caller("no key", "no bucket") == Caller()
    own = await manifest.create_bucket(Bucket(name="own", tenant_id="other", policy="p", created_ms=NOW))
    assert await manifest.find_caller("AK", "own") == Caller(access_key=key, tenant=tenant("other"), bucket=own, owner=tenant("other"))


async def test_a_version_is_found_with_who_asks_for_it(manifest: Manifest) -> None:
    await manifest.add_access_key(AccessKey(id="AK", tenant_id="t", sealed_secret=b"s", created_ms=NOW))
    written = await manifest.commit_version(draft("k"))
    readable = await manifest.find_readable(BUCKET, "k")
    assert (await manifest.find_caller("AK", "b", Look("k", to_read=True))).found == readable
    assert (await manifest.find_caller(None, "b", Look("k", to_read=True))).found == readable
    assert (await manifest.find_caller("AK", "b", Look("k", to_read=False))).found == Readable(version=written)
    assert (await manifest.find_caller("AK", "b", Look("other", to_read=False))).found is None
    assert (await manifest.find_caller("AK", "no bucket", Look("k", to_read=True))).found is None
    assert (await manifest.find_caller("no key", "b", Look("k", to_read=True))).found is None


@pytest.mark.parametrize("look", [None, Look("k", to_read=True), Look("missing", to_read=False)])
async def test_a_caller_who_was_found_before_is_found_as_he_is_now(manifest: Manifest, look: Look | None) -> None:
    """Every kind of change of what is kept in memory is seen by the next who asks."""
    await manifest.add_access_key(AccessKey(id="AK", tenant_id="t", sealed_secret=b"s", created_ms=NOW))
    await manifest.commit_version(draft("k"))

    async def found() -> Caller:
        before = await manifest.find_caller("AK", "b", look)
        assert await manifest.find_caller("AK", "b", look) == before
        return before

    assert (await found()).bucket.settings == {}
    await manifest.put_bucket_setting(BUCKET, "policy", "{}")
    assert (await found()).bucket.settings == {"policy": "{}"}
    await manifest.set_versioning(BUCKET, "Enabled")
    assert (await found()).bucket.versioning == "Enabled"
    await manifest.set_tenant_enabled("t", False)
    assert (await found()).tenant.enabled is False
    assert (await found()).owner.enabled is False
    await manifest.remove_access_key("AK")
    assert (await found()).access_key is None
    await manifest.add_access_key(AccessKey(id="AK", tenant_id="t", sealed_secret=b"new", created_ms=NOW))
    assert (await found()).access_key.sealed_secret == b"new"
    await manifest.delete_latest(BUCKET, "k", marker_id="m1", now_ms=NOW)
    for version in (await manifest.list_versions(BUCKET, prefix="", delimiter="", after_key="", after_version="", limit=9)).versions:
        await manifest.delete_version(BUCKET, version.key, version.id, now_ms=NOW)
    await manifest.delete_bucket(BUCKET)
    assert (await found()).bucket is None
    made = await manifest.create_bucket(Bucket(name="b", tenant_id="t", policy="p", created_ms=NOW))
    assert (await found()).bucket == made


async def test_buckets(manifest: Manifest) -> None:
    with pytest.raises(BucketExists) as error:
        await manifest.create_bucket(Bucket(name="b", tenant_id="other", policy="p", created_ms=NOW))
    assert error.value.owner == "t"
    found = await manifest.find_bucket("b")
    assert found is not None
    assert (found.id, found.tenant_id) == (BUCKET, "t")
    await manifest.put_bucket_setting(BUCKET, "tagging", "{}")
    assert (await manifest.find_bucket("b")).settings == {"tagging": "{}"}
    await manifest.put_bucket_setting(BUCKET, "tagging", None)
    assert (await manifest.find_bucket("b")).settings == {}
    await manifest.commit_version(draft("k"))
    with pytest.raises(BucketNotEmpty):
        await manifest.delete_bucket(BUCKET)
    await manifest.delete_latest(BUCKET, "k", marker_id="m", now_ms=NOW)
    await manifest.delete_bucket(BUCKET)
    with pytest.raises(BucketMissing):
        await manifest.commit_version(draft("k"))


async def test_a_setting_is_kept_only_while_those_that_it_was_made_by_are_the_same(manifest: Manifest) -> None:
    seen = [("inventory", None), ("acl", None)]
    await manifest.put_bucket_setting(BUCKET, "inventory", "1", seen=seen)
    with pytest.raises(SettingChanged):
        await manifest.put_bucket_setting(BUCKET, "inventory", "2", seen=seen)
    with pytest.raises(SettingChanged):
        await manifest.put_bucket_setting(BUCKET, "policy", "p", seen=[("inventory", "0")])
    assert (await manifest.find_bucket("b")).settings == {"inventory": "1"}
    await manifest.put_bucket_setting(BUCKET, "inventory", None, seen=[("inventory", "1")])
    assert (await manifest.find_bucket("b")).settings == {}


async def test_a_bucket_needs_a_tenant(manifest: Manifest) -> None:
    with pytest.raises(TenantMissing):
        await manifest.create_bucket(Bucket(name="new", tenant_id="removed", policy="p", created_ms=NOW))
    assert await manifest.find_bucket("new") is None


WRITES: dict[str, Callable[[Manifest], Awaitable[object]]] = {
    "commit_version": lambda manifest: manifest.commit_version(draft("k", new_layouts=(layout(1),))),
    "delete_version": lambda manifest: manifest.delete_version(BUCKET, "k", "null", now_ms=NOW),
    "delete_latest": lambda manifest: manifest.delete_latest(BUCKET, "k", marker_id="m", now_ms=NOW),
    "change_attributes": lambda manifest: manifest.change_attributes(BUCKET, "k", None, AttributeChange(tags={"a": "b"})),
    "set_versioning": lambda manifest: manifest.set_versioning(BUCKET, "Enabled"),
    "put_bucket_setting": lambda manifest: manifest.put_bucket_setting(BUCKET, "tagging", "{}"),
    "begin_upload": lambda manifest: manifest.begin_upload(upload("v")),
    "commit_part": lambda manifest: manifest.commit_part("u", Part(number=1, size=10, etag="e", modified_ms=NOW)),
    "complete_upload": lambda manifest: manifest.complete_upload("u", [CompletedPart(number=1, etag="e")], draft("k")),
    "delete_bucket": lambda manifest: manifest.delete_bucket(BUCKET),
}


@pytest.mark.parametrize("write", WRITES)
async def test_a_write_to_a_deleted_bucket_never_hits_the_next_of_its_name(manifest: Manifest, write: str) -> None:
    await manifest.begin_upload(upload("u"))
    await manifest.delete_bucket(BUCKET)
    await manifest.add_tenant(tenant("other"))
    theirs = await manifest.create_bucket(Bucket(name="b", tenant_id="other", policy="p", created_ms=NOW))
    assert theirs.id != BUCKET
    version = await manifest.commit_version(draft("k", bucket_id=theirs.id))
    with pytest.raises((BucketMissing, UploadMissing)):
        await WRITES[write](manifest)
    assert await manifest.find_bucket("b") == theirs
    assert await manifest.find_version(theirs.id, "k") == version
    assert await manifest.find_version(BUCKET, "k") is None
    assert not (await manifest.list_uploads(theirs.id, prefix="", delimiter="", after_key="", after_upload="", limit=5)).uploads


async def test_a_null_version_replaces_and_its_shards_become_garbage(manifest: Manifest) -> None:
    await manifest.commit_version(draft("k", new_layouts=(layout(1),)))
    second = await manifest.commit_version(draft("k", new_layouts=(layout(2),)))
    assert await garbage(manifest) == {segment_id(1)}
    assert await manifest.find_version(BUCKET, "k") == second


async def test_before_versioning_every_commit_makes_the_null_version_whatever_id_was_drawn(manifest: Manifest) -> None:
    await manifest.commit_version(draft("k", "v1", new_layouts=(layout(1),)))
    second = await manifest.commit_version(draft("k", "v2", versioning="Enabled", new_layouts=(layout(2),)))
    assert second.id == "null"
    assert await manifest.find_version(BUCKET, "k") == second
    assert await history(manifest, "k") == ["null"]
    assert await garbage(manifest) == {segment_id(1)}


async def test_a_suspended_bucket_keeps_its_versions_and_replaces_the_null_one_wherever_it_is(manifest: Manifest) -> None:
    await manifest.set_versioning(BUCKET, "Enabled")
    await manifest.commit_version(draft("k", "v1", new_layouts=(layout(1),)))
    await manifest.set_versioning(BUCKET, "Suspended")
    null = await manifest.commit_version(draft("k", "v2", versioning="Enabled", new_layouts=(layout(2),)))
    assert null.id == "null"
    assert await history(manifest, "k") == ["null", "v1"]
    await manifest.set_versioning(BUCKET, "Enabled")
    await manifest.commit_version(draft("k", "v3", new_layouts=(layout(3),)))
    await manifest.set_versioning(BUCKET, "Suspended")
    newest = await manifest.commit_version(draft("k", "v4", new_layouts=(layout(4),)))
    assert await manifest.find_version(BUCKET, "k") == newest
    assert await history(manifest, "k") == ["null", "v3", "v1"]
    assert await garbage(manifest) == {segment_id(2)}


async def test_a_commit_or_delete_begun_before_versioning_was_enabled_keeps_what_was_there(manifest: Manifest) -> None:
    await manifest.commit_version(draft("k", new_layouts=(layout(1),)))
    await manifest.begin_upload(upload("u"))
    await manifest.commit_part("u", Part(number=1, size=10, etag="e", modified_ms=NOW), new_layouts=[layout(2)])
    await manifest.set_versioning(BUCKET, "Enabled")
    put = await manifest.commit_version(draft("k", "v1", versioning="Unversioned", new_layouts=(layout(3),)))
    completed = await manifest.complete_upload("u", [CompletedPart(number=1, etag="e")], draft("k", "v2", versioning="Unversioned"))
    marker = await manifest.delete_latest(BUCKET, "k", marker_id="v3", now_ms=NOW)
    assert marker is not None
    assert (put.id, completed.id, marker.id) == ("v1", "v2", "v3")
    assert await history(manifest, "k") == ["v3", "v2", "v1", "null"]
    assert await garbage(manifest) == set()


async def test_shared_extents_live_until_the_last_reference(manifest: Manifest) -> None:
    first = await manifest.commit_version(draft("k", new_layouts=(layout(1),)))
    await manifest.commit_version(draft("copy", shared_extents=(first.extents[0],)))
    await manifest.delete_version(BUCKET, "k", "null", now_ms=NOW)
    assert await garbage(manifest) == set()
    await manifest.delete_version(BUCKET, "copy", "null", now_ms=NOW)
    assert await garbage(manifest) == {segment_id(1)}
    with pytest.raises(VersionMissing):
        await manifest.load_extents([first.extents[0].id])
    with pytest.raises(VersionMissing):
        await manifest.commit_version(draft("late", shared_extents=(first.extents[0],)))


async def test_what_is_found_to_be_read_comes_with_its_extents_where_they_are_few(manifest: Manifest) -> None:
    version = await manifest.commit_version(draft("k", new_layouts=(layout(1), layout(2))))
    assert await manifest.find_readable(BUCKET, "absent") is None
    found = await manifest.find_readable(BUCKET, "k")
    assert found is not None
    assert found.version == version
    assert found.extents == await manifest.load_extents([ref.id for ref in version.extents])
    many = await manifest.commit_version(draft("many", new_layouts=tuple(layout(number) for number in range(10, 43))))
    assert await manifest.find_readable(BUCKET, "many", many.id) == Readable(version=many)


async def test_what_is_read_is_never_torn_by_an_overwrite(manifest: Manifest, tmp_path: Path) -> None:
    async def overwrite() -> None:
        async with open_sqlite(tmp_path / "m.sqlite", ManualClock(NOW)) as other:
            for number in range(100):
                await other.commit_version(draft("k", etag=str(number), new_layouts=(layout(number),)))

    await manifest.commit_version(draft("k", new_layouts=(layout(100),)))
    writing = asyncio.create_task(overwrite())
    while not writing.done():
        found = await manifest.find_readable(BUCKET, "k")
        assert found is not None
        assert [ref.id for ref in found.version.extents] == [extent.id for extent in found.extents]
    await writing


async def test_a_version_found_by_its_id_is_there_while_others_come_and_go_above_it(manifest: Manifest, tmp_path: Path) -> None:
    async def come_and_go() -> None:
        async with open_sqlite(tmp_path / "m.sqlite", ManualClock(NOW)) as other:
            for _ in range(100):
                await other.commit_version(draft("k", "v2"))
                await other.delete_version(BUCKET, "k", "v2", now_ms=NOW)

    await manifest.set_versioning(BUCKET, "Enabled")
    await manifest.commit_version(draft("k", "v1"))
    writing = asyncio.create_task(come_and_go())
    while not writing.done():
        assert await manifest.find_version(BUCKET, "k", "v1") is not None
        assert await manifest.find_readable(BUCKET, "k", "v1") is not None
    await writing


async def test_parts_are_loaded_of_the_very_version_that_was_found(manifest: Manifest) -> None:
    parts = tuple(PartSummary(number=number, size=5) for number in (1, 2))
    version = await manifest.commit_version(draft("k", parts=parts, new_layouts=(layout(1),)))
    assert version.parts_count == 2
    assert await manifest.load_parts(BUCKET, version) == parts
    await manifest.change_attributes(BUCKET, "k", None, AttributeChange(tags={"a": "b"}))
    assert await manifest.load_parts(BUCKET, version) == parts
    await manifest.delete_version(BUCKET, "k", "null", now_ms=NOW)
    with pytest.raises(ExtentMissing):
        await manifest.load_parts(BUCKET, version)
    other = await manifest.commit_version(draft("k", parts=parts[:1]))
    assert other.sequence == version.sequence
    with pytest.raises(ExtentMissing):
        await manifest.load_parts(BUCKET, version)


async def test_a_marker_may_be_somebody_elses(manifest: Manifest) -> None:
    await manifest.set_versioning(BUCKET, "Enabled")
    theirs = Acl(owner="f" * 64)
    marker = await manifest.delete_latest(BUCKET, "k", marker_id="m", now_ms=NOW, owner=theirs)
    assert marker is not None
    assert (await manifest.find_version(BUCKET, "k")) == marker
    assert marker.attributes == ObjectAttributes(acl=theirs)


async def test_versions_and_markers(manifest: Manifest) -> None:
    await manifest.set_versioning(BUCKET, "Enabled")
    one = await manifest.commit_version(draft("k", "v1"))
    two = await manifest.commit_version(draft("k", "v2"))
    assert two.sequence > one.sequence
    marker = await manifest.delete_latest(BUCKET, "k", marker_id="m1", now_ms=NOW)
    assert marker is not None
    assert (await manifest.find_version(BUCKET, "k")).is_delete_marker
    assert (await manifest.find_version(BUCKET, "k", "v2")).is_latest is False
    await manifest.delete_version(BUCKET, "k", "m1", now_ms=NOW)
    assert (await manifest.find_version(BUCKET, "k")).id == "v2"
    assert (await manifest.find_version(BUCKET, "k")).is_latest
    assert await history(manifest, "k") == ["v2", "v1"]


async def test_conditions_are_atomic_under_races(manifest: Manifest) -> None:
    async def attempt(number: int) -> bool:
        try:
            await manifest.commit_version(draft("k", etag=str(number)), conditions=Conditions(if_none_match="*"))
        except PreconditionUnmet:
            return False
        return True

    assert sum(await asyncio.gather(*(attempt(number) for number in range(20)))) == 1
    with pytest.raises(PreconditionUnmet) as error:
        await manifest.commit_version(draft("absent"), conditions=Conditions(if_match="x"))
    assert error.value.missing


async def test_a_failed_step_changes_nothing_beside_others_that_succeed(manifest: Manifest) -> None:
    outcomes = await asyncio.gather(
        manifest.commit_version(draft("good", new_layouts=(layout(1),))),
        manifest.commit_version(draft("bad", new_layouts=(layout(2),), bucket_id=BUCKET + 1)),
        manifest.commit_version(draft("good2", new_layouts=(layout(3),))),
        return_exceptions=True,
    )
    assert isinstance(outcomes[1], BucketMissing)
    assert await manifest.find_version(BUCKET, "good2") is not None
    assert await garbage(manifest) == set()


async def test_intents_settle_revoke_and_conflict(manifest: Manifest) -> None:
    ids = [segment_id(number) for number in range(3)]
    intent = await manifest.lease_segments(owner="w", segment_ids=ids, expires_ms=NOW + 1000)
    await manifest.commit_version(draft("k", new_layouts=(layout(0),)), settlements=[Settlement(intent_id=intent.id, mask=1)])
    settled = Settlement(intent_id=intent.id, mask=0b11)
    await manifest.settle([settled], [GarbageSegment(id=ids[0]), GarbageSegment(id=ids[1])], now_ms=NOW)
    assert await garbage(manifest) == {ids[1]}, "what a commit settled is never queued"
    assert await manifest.revoke_expired_intents(now_ms=NOW) == 0
    assert await manifest.renew_intents(owner="w", expires_ms=NOW + 5000) == {intent.id}
    assert await manifest.revoke_expired_intents(now_ms=NOW + 2000) == 0
    assert await manifest.revoke_expired_intents(now_ms=NOW + 6000) == 1
    assert await garbage(manifest) == {ids[1], ids[2]}
    with pytest.raises(IntentRevoked):
        await manifest.commit_version(draft("late"), settlements=[Settlement(intent_id=intent.id, mask=0b100)])
    assert await manifest.find_version(BUCKET, "late") is None


async def test_ids_that_were_abandoned_cannot_be_committed_after_all(manifest: Manifest) -> None:
    intent = await manifest.lease_segments(owner="w", segment_ids=[segment_id(0), segment_id(1)], expires_ms=NOW + 1000)
    settlement = Settlement(intent_id=intent.id, mask=1)
    await manifest.settle([settlement], [GarbageSegment(id=segment_id(0))], now_ms=NOW)
    with pytest.raises(IntentRevoked):
        await manifest.commit_version(draft("late", new_layouts=(layout(0),)), settlements=[settlement])
    assert await manifest.find_version(BUCKET, "late") is None
    assert await garbage(manifest) == {segment_id(0)}


async def test_ids_given_back_unused_are_not_collected(manifest: Manifest) -> None:
    intent = await manifest.lease_segments(owner="w", segment_ids=[segment_id(0), segment_id(1)], expires_ms=NOW)
    await manifest.release_unused([Settlement(intent_id=intent.id, mask=0b10)])
    await manifest.revoke_expired_intents(now_ms=NOW + 1)
    assert await garbage(manifest) == {segment_id(0)}


async def test_a_fenced_manifest_refuses_every_change_for_whoever_has_it_open(manifest: Manifest, tmp_path: Path) -> None:
    async with open_sqlite(tmp_path / "m.sqlite", ManualClock(NOW)) as other:
        await manifest.fence("an old copy")
        for opened in (manifest, other):
            with pytest.raises(ManifestFenced, match="an old copy"):
                await opened.commit_version(draft("k"))
            with pytest.raises(ManifestFenced):
                await opened.take_job("collect", "h", now_ms=NOW, lease_ms=1)
            with pytest.raises(ManifestFenced):
                await opened.finish_garbage([])
            with pytest.raises(ManifestFenced):
                await opened.move_epoch(now_ms=NOW)
        assert await other.find_version(BUCKET, "k") is None
        await other.accept_epoch(above=7, now_ms=NOW)
        assert (await manifest.move_epoch(now_ms=NOW)).number == 9
        await manifest.commit_version(draft("k"))


async def test_garbage_is_counted_by_store_and_no_further_than_is_asked(manifest: Manifest) -> None:
    ids = [segment_id(number) for number in range(3)]
    intent = await manifest.lease_segments(owner="w", segment_ids=ids, expires_ms=NOW)
    segments = [GarbageSegment(id=ids[0], stores=("a", "b", "a")), GarbageSegment(id=ids[1], stores=("a",)), GarbageSegment(id=ids[2])]
    await manifest.settle([Settlement(intent_id=intent.id, mask=0b111)], segments, now_ms=NOW)
    for _ in range(2):
        assert await manifest.count_garbage() == {"": 1, "a": 3, "b": 1}
        assert await manifest.count_garbage(limit=2) == {"": 1, "a": 2, "b": 1}
        await manifest.split_garbage(before_ms=NOW, limit=10)  # by segments or by shards, it is the same
    await manifest.know_stores(["a", "old"])
    assert await manifest.spread_garbage(["new"], limit=10) == 1
    assert await manifest.count_garbage() == {"a": 4, "b": 1, "new": 1, "old": 1}


async def test_the_shards_of_a_segment_are_queued_for_their_stores_once_they_are_due(manifest: Manifest) -> None:
    intent = await manifest.lease_segments(owner="w", segment_ids=[segment_id(1), segment_id(2)], expires_ms=NOW)
    moved = GarbageSegment(id=segment_id(1), stores=("a", "b"), generations=(0, 3))
    await manifest.settle([Settlement(intent_id=intent.id, mask=1)], [moved], now_ms=NOW)
    await manifest.settle([Settlement(intent_id=intent.id, mask=2)], [GarbageSegment(id=segment_id(2), stores=("b",))], now_ms=NOW + 1)
    assert await manifest.split_garbage(before_ms=NOW - 1, limit=10) == 0
    assert await manifest.due_garbage("b", before_ms=NOW * 2, limit=10) == ()
    assert await manifest.split_garbage(before_ms=NOW, limit=10) == 1
    assert await manifest.due_garbage("a", before_ms=NOW, limit=10) == (Garbage(store="a", name=shard_name(segment_id(1), 0), due_ms=NOW),)
    assert await manifest.due_garbage("b", before_ms=NOW, limit=10) == (
        Garbage(store="b", name=shard_name(segment_id(1), 1, 3), due_ms=NOW),
    )
    assert await manifest.split_garbage(before_ms=NOW * 2, limit=10) == 1
    assert len(await manifest.due_garbage("b", before_ms=NOW * 2, limit=10)) == 2


async def test_a_segment_that_is_queued_again_in_the_same_millisecond_is_looked_for_in_all_stores(manifest: Manifest) -> None:
    for store in ("a", "b"):
        intent = await manifest.lease_segments(owner="w", segment_ids=[segment_id(1)], expires_ms=NOW)
        segment = GarbageSegment(id=segment_id(1), stores=(store,))
        await manifest.settle([Settlement(intent_id=intent.id, mask=1)], [segment], now_ms=NOW)
    assert await manifest.spread_garbage(["a", "b", "c"], limit=10) == 1
    assert [row.search for row in await manifest.due_garbage("b", before_ms=NOW, limit=10)] == [True]


async def test_shards_that_come_after_their_intent_was_revoked_are_found(manifest: Manifest) -> None:
    ids = [segment_id(number) for number in range(3)]
    intent = await manifest.lease_segments(owner="w", segment_ids=ids, expires_ms=NOW)
    await manifest.commit_version(draft("k", new_layouts=(layout(0),)), settlements=[Settlement(intent_id=intent.id, mask=1)])
    await manifest.revoke_expired_intents(now_ms=NOW + 1)
    assert await manifest.renew_intents(owner="w", expires_ms=NOW + 5000) == frozenset()
    await collect(manifest)
    abandoned = [GarbageSegment(id=ids[0]), GarbageSegment(id=ids[1], stores=("s0", "s1", "s2"))]
    await manifest.settle([Settlement(intent_id=intent.id, mask=0b11)], abandoned, now_ms=NOW)
    assert await garbage(manifest) == {ids[1]}, "of a writer that says so; what was committed is never queued"
    await collect(manifest)
    day = 24 * 60 * 60 * 1000
    assert await manifest.revoke_expired_intents(now_ms=NOW + day) == 0
    assert await garbage(manifest) == set()
    assert await manifest.revoke_expired_intents(now_ms=NOW + day + 2) == 0, "it was counted when it was revoked"
    assert await garbage(manifest) == {ids[2]}, "of a writer that died before it could"
    await collect(manifest)
    await manifest.revoke_expired_intents(now_ms=NOW + 3 * day)
    assert await garbage(manifest) == set()


async def test_what_is_abandoned_after_its_last_id_was_committed_is_kept(manifest: Manifest) -> None:
    intent = await manifest.lease_segments(owner="w", segment_ids=[segment_id(0)], expires_ms=NOW)
    settlement = Settlement(intent_id=intent.id, mask=1)
    await manifest.commit_version(draft("k", new_layouts=(layout(0),)), settlements=[settlement])
    await manifest.settle([settlement], [GarbageSegment(id=segment_id(0))], now_ms=NOW)
    assert await garbage(manifest) == set()


async def test_multipart(manifest: Manifest) -> None:
    await manifest.begin_upload(upload("u"))
    assert await manifest.find_upload(BUCKET, "other", "u") is None
    for number in (1, 2, 3):
        await manifest.commit_part("u", Part(number=number, size=10, etag=f"e{number}", modified_ms=NOW), new_layouts=[layout(number)])
    await manifest.commit_part("u", Part(number=1, size=10, etag="e1b", modified_ms=NOW), new_layouts=[layout(11)])
    assert await garbage(manifest) == {segment_id(1)}
    with pytest.raises(PartInvalid):
        await manifest.complete_upload("u", [CompletedPart(number=1, etag="e1")], draft("k"))
    listed = [CompletedPart(number=1, etag="e1b"), CompletedPart(number=3, etag="e3")]
    version = await manifest.complete_upload("u", listed, draft("k"))
    extents = await manifest.load_extents([ref.id for ref in version.extents])
    assert [extent.layout.segments[0].id for extent in extents] == [segment_id(11), segment_id(3)]
    assert segment_id(2) in await garbage(manifest)
    assert await manifest.complete_upload("u", listed, draft("k")) == version
    assert await manifest.find_completed("u", listed, BUCKET, "k") == version
    with pytest.raises(UploadMissing):
        await manifest.complete_upload("u", listed[:1], draft("k"))
    with pytest.raises(UploadMissing):
        await manifest.find_completed("u", listed, BUCKET, "other")
    with pytest.raises(UploadMissing):
        await manifest.abort_upload("u", now_ms=NOW)


async def test_the_ids_of_a_part_are_settled_with_it_and_never_under_a_lease_that_was_revoked(manifest: Manifest) -> None:
    ids = [segment_id(number) for number in range(3)]
    intent = await manifest.lease_segments(owner="w", segment_ids=ids, expires_ms=NOW)
    await manifest.begin_upload(upload("u"))
    part = Part(number=1, size=10, etag="e", modified_ms=NOW)
    await manifest.commit_part("u", part, new_layouts=[layout(0)], settlements=[Settlement(intent_id=intent.id, mask=1)])
    await manifest.revoke_expired_intents(now_ms=NOW + 1)
    assert await garbage(manifest) == {ids[1], ids[2]}
    late = Part(number=2, size=10, etag="late", modified_ms=NOW)
    with pytest.raises(IntentRevoked):
        await manifest.commit_part("u", late, new_layouts=[layout(1)], settlements=[Settlement(intent_id=intent.id, mask=0b10)])
    assert [stored.number for stored in await manifest.list_parts("u")] == [1]
    await manifest.complete_upload("u", [CompletedPart(number=1, etag="e")], draft("k"))
    assert await garbage(manifest) == {ids[1], ids[2]}


async def test_a_completion_replaces_what_was_there_and_ends_its_upload(manifest: Manifest) -> None:
    await manifest.commit_version(draft("k", new_layouts=(layout(1),)))
    await manifest.begin_upload(upload("u"))
    await manifest.commit_part("u", Part(number=1, size=10, etag="e", modified_ms=NOW), new_layouts=[layout(2)])
    await manifest.complete_upload("u", [CompletedPart(number=1, etag="e")], draft("k"))
    assert await garbage(manifest) == {segment_id(1)}
    assert await manifest.find_upload(BUCKET, "k", "u") is None
    assert await manifest.list_parts("u") == ()
    with pytest.raises(UploadMissing):
        await manifest.commit_part("u", Part(number=2, size=10, etag="f", modified_ms=NOW), new_layouts=[layout(3)])
    assert await manifest.delete_version(BUCKET, "k", "null", now_ms=NOW) is not None
    assert await garbage(manifest) == {segment_id(1), segment_id(2)}


async def test_an_aborted_upload_leaves_no_part_and_its_shards_are_garbage(manifest: Manifest) -> None:
    await manifest.begin_upload(upload("u"))
    for number in (1, 2):
        await manifest.commit_part("u", Part(number=number, size=10, etag="e", modified_ms=NOW), new_layouts=[layout(number)])
    await manifest.abort_upload("u", now_ms=NOW)
    assert await garbage(manifest) == {segment_id(1), segment_id(2)}
    assert await manifest.find_upload(BUCKET, "k", "u") is None
    assert await manifest.list_parts("u") == ()


async def test_a_bucket_takes_its_uploads_with_it_and_their_shards_are_garbage(manifest: Manifest) -> None:
    await manifest.begin_upload(upload("u"))
    for number in (1, 2):
        await manifest.commit_part("u", Part(number=number, size=10, etag="e", modified_ms=NOW), new_layouts=[layout(number)])
    await manifest.delete_bucket(BUCKET)
    assert await garbage(manifest) == {segment_id(1), segment_id(2)}
    assert await manifest.find_upload(BUCKET, "k", "u") is None
    assert await manifest.list_parts("u") == ()


async def test_a_marker_that_replaces_the_null_version_releases_its_shards(manifest: Manifest) -> None:
    await manifest.commit_version(draft("k", new_layouts=(layout(1),)))
    await manifest.set_versioning(BUCKET, "Suspended")
    marker = await manifest.delete_latest(BUCKET, "k", marker_id="drawn", now_ms=NOW)
    assert marker is not None
    assert (marker.id, marker.is_delete_marker) == ("null", True)
    assert await history(manifest, "k") == ["null"]
    assert await garbage(manifest) == {segment_id(1)}


async def test_a_repeated_completion_is_never_answered_with_another_version_of_the_same_id_and_order(manifest: Manifest) -> None:
    await manifest.begin_upload(upload("u"))
    await manifest.commit_part("u", Part(number=1, size=10, etag="e", modified_ms=NOW), new_layouts=[layout(1)])
    listed = [CompletedPart(number=1, etag="e")]
    completed = await manifest.complete_upload("u", listed, draft("k"))
    await manifest.delete_latest(BUCKET, "k", marker_id="m", now_ms=NOW)
    other = await manifest.commit_version(draft("k", etag="other"))
    assert (other.id, other.sequence) == (completed.id, completed.sequence)
    with pytest.raises(UploadMissing):
        await manifest.find_completed("u", listed, BUCKET, "k")
    with pytest.raises(UploadMissing):
        await manifest.complete_upload("u", listed, draft("k"))
    assert await manifest.find_version(BUCKET, "k") == other


async def test_a_completion_is_repeated_while_its_version_is_there_though_no_longer_the_latest(manifest: Manifest) -> None:
    await manifest.set_versioning(BUCKET, "Enabled")
    await manifest.begin_upload(upload("u"))
    await manifest.commit_part("u", Part(number=1, size=10, etag="e", modified_ms=NOW), new_layouts=[layout(1)])
    listed = [CompletedPart(number=1, etag="e")]
    completed = await manifest.complete_upload("u", listed, draft("k", "v1"))
    await manifest.commit_version(draft("k", "v2"))
    assert await manifest.find_completed("u", listed, BUCKET, "k") == replace(completed, is_latest=False)


async def test_each_key_has_an_order_of_its_own(manifest: Manifest) -> None:
    await manifest.set_versioning(BUCKET, "Enabled")
    assert [(await manifest.commit_version(draft(key, f"v{key}"))).sequence for key in ("a", "b")] == [1, 1]
    later = await manifest.commit_version(draft("a", "earlier clock", modified_ms=NOW - 1000))
    assert later.sequence == 2
    assert await history(manifest, "a") == ["earlier clock", "va"]


async def test_a_version_written_between_two_pages_of_a_history_hides_no_other(manifest: Manifest) -> None:
    await manifest.set_versioning(BUCKET, "Enabled")
    for number in range(5):
        await manifest.commit_version(draft("k", f"v{number}"))
    page = await manifest.list_versions(BUCKET, prefix="", delimiter="", after_key="", after_version="", limit=1)
    assert [version.id for version in page.versions] == ["v4"]
    await manifest.delete_version(BUCKET, "k", "v4", now_ms=NOW)
    again = await manifest.commit_version(draft("k", "v5"))
    assert again.sequence == 5, "that of the version which was deleted"
    page = await manifest.list_versions(BUCKET, prefix="", delimiter="", after_key="k", after_version="v4", limit=10)
    assert [version.id for version in page.versions] == ["v5", "v3", "v2", "v1", "v0"]


async def test_an_extent_that_a_step_both_shares_and_releases_stays(manifest: Manifest) -> None:
    first = await manifest.commit_version(draft("k", new_layouts=(layout(1),)))
    (ref,) = first.extents
    onto_itself = await manifest.commit_version(draft("k", etag="copied onto itself", shared_extents=(ref,)))
    assert onto_itself.extents == first.extents
    assert await garbage(manifest) == set()
    await manifest.commit_version(draft("twice", shared_extents=(ref, ref)))
    await manifest.delete_version(BUCKET, "k", "null", now_ms=NOW)
    assert await garbage(manifest) == set()
    await manifest.delete_version(BUCKET, "twice", "null", now_ms=NOW)
    assert await garbage(manifest) == {segment_id(1)}


async def test_asking_for_a_completion_that_never_was_ends_no_upload(manifest: Manifest) -> None:
    await manifest.begin_upload(upload("u"))
    await manifest.commit_part("u", Part(number=1, size=10, etag="e", modified_ms=NOW), new_layouts=[layout(1)])
    with pytest.raises(UploadMissing):
        await manifest.find_completed("u", [CompletedPart(number=1, etag="e")], BUCKET, "k")
    assert len(await manifest.list_parts("u")) == 1
    assert await manifest.find_version(BUCKET, "k") is None


async def test_two_connections_see_each_others_commits(manifest: Manifest, tmp_path: Path) -> None:
    async with open_sqlite(tmp_path / "m.sqlite", ManualClock(NOW)) as other:
        await asyncio.gather(*(side.commit_version(draft(f"k{n}")) for n in range(50) for side in (manifest, other)))
        assert await other.find_version(BUCKET, "k7") == await manifest.find_version(BUCKET, "k7")
        page = await other.list_objects(BUCKET, prefix="", delimiter="", after="", limit=1000)
        assert len(listed(page)) == 50


async def test_a_cancelled_commit_happened_whole_or_not_at_all(manifest: Manifest) -> None:
    tasks = [asyncio.create_task(manifest.commit_version(draft(f"k{n}", new_layouts=(layout(n),)))) for n in range(50)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for number in range(50):
        version = await manifest.find_version(BUCKET, f"k{number}")
        assert version is not None or number % 2 == 0
        if version is not None:
            await manifest.load_extents([ref.id for ref in version.extents])


KEYS = st.text(alphabet="ab/\u00e9\U0001f600 ", min_size=1, max_size=6)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    keys=st.sets(KEYS, max_size=25),
    prefix=st.text(alphabet="ab/", max_size=2),
    delimiter=st.sampled_from(["", "/", "a", "a/"]),
    limit=st.integers(1, 5),
)
def test_listing_pages_equal_a_simple_model(
    tmp_path_factory: pytest.TempPathFactory, keys: set[str], prefix: str, delimiter: str, limit: int
) -> None:
    expected: list[str] = []
    for key in sorted((key for key in keys if key.startswith(prefix)), key=str.encode):
        at = key.find(delimiter, len(prefix)) if delimiter else -1
        entry = key if at < 0 else "P:" + key[: at + len(delimiter)]
        if entry not in expected:
            expected.append(entry)

    async def pages() -> list[str]:
        async with open_sqlite(tmp_path_factory.mktemp("list") / "m", ManualClock(NOW)) as manifest:
            await manifest.add_tenant(tenant("t"))
            await manifest.create_bucket(Bucket(name="b", tenant_id="t", policy="p", created_ms=NOW))
            shuffled = sorted(keys)
            random.Random(0).shuffle(shuffled)
            await asyncio.gather(*(manifest.commit_version(draft(key)) for key in shuffled))
            found: list[str] = []
            after = ""
            while True:
                page = await manifest.list_objects(BUCKET, prefix=prefix, delimiter=delimiter, after=after, limit=limit)
                entries = [seen.key for seen in listed(page)] + ["P:" + item for item in page.prefixes]
                assert len(entries) <= limit
                found += sorted(entries, key=lambda entry: entry.removeprefix("P:").encode())
                if not page.truncated:
                    return found
                after = page.next_key

    assert asyncio.run(pages()) == expected


@pytest.mark.parametrize("limit", [1, 31, 32, 33, 34, 39, 40, 41, 100])
@pytest.mark.parametrize("folder_at", [0, 1, 31, 32, 33, 39, 40])
async def test_many_entries_before_and_behind_a_common_prefix_are_listed_once(manifest: Manifest, folder_at: int, limit: int) -> None:
    entries = [f"k{number:02}" for number in range(40)]
    folder = f"k{folder_at:02}+/" if folder_at else "a/"
    await asyncio.gather(*(manifest.commit_version(draft(key)) for key in [*entries, f"{folder}1", f"{folder}2"]))
    found: list[str] = []
    after, truncated = "", True
    while truncated:
        page = await manifest.list_objects(BUCKET, prefix="", delimiter="/", after=after, limit=limit)
        keys = [seen.key for seen in listed(page)]
        assert page.count == len(keys)
        assert 0 < len(keys) + len(page.prefixes) <= limit
        found += sorted([*keys, *page.prefixes])
        after, truncated = page.next_key, page.truncated
    assert found == sorted([*entries, folder])


HISTORY_KEYS = st.text(alphabet="a/\0\u007f\u00bf\U0001f600", min_size=1, max_size=4)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    keys=st.lists(HISTORY_KEYS, max_size=25),
    deleted=st.sets(HISTORY_KEYS, max_size=3),
    prefix=st.text(alphabet="a/\u00bf", max_size=2),
    delimiter=st.sampled_from(["", "/", "a", "a/", "\0", "\u007f", "\u00bf", "\U0001f600"]),
    limit=st.integers(1, 5),
)
def test_pages_of_histories_and_uploads_equal_a_simple_model(
    tmp_path_factory: pytest.TempPathFactory, keys: list[str], deleted: set[str], prefix: str, delimiter: str, limit: int
) -> None:
    def model(entries: list[tuple[str, str]]) -> list[tuple[str, str]]:
        found: dict[tuple[str, str], None] = {}
        for key, entry_id in entries:
            at = key.find(delimiter, len(prefix)) if delimiter else -1
            if key.startswith(prefix):
                found[(key, entry_id) if at < 0 else (key[: at + len(delimiter)], "")] = None
        return list(found)

    def by_key(entries: list[tuple[str, str]]) -> list[tuple[str, str]]:
        return sorted(entries, key=lambda entry: entry[0].encode())

    written = [(key, f"v{number:03}") for number, key in enumerate(keys)]
    markers = [(key, f"m{number:03}") for number, key in enumerate(sorted(deleted))]
    all_versions = by_key((written + markers)[::-1])  # the newest of a key first
    latest = [entry for entry in by_key(list({key: (key, entry_id) for key, entry_id in written}.values())) if entry[0] not in deleted]

    async def pages() -> None:
        async with open_sqlite(tmp_path_factory.mktemp("list") / "m", ManualClock(NOW)) as manifest:
            await manifest.add_tenant(tenant("t"))
            await manifest.create_bucket(Bucket(name="b", tenant_id="t", policy="p", versioning="Enabled", created_ms=NOW))
            await asyncio.gather(*(manifest.begin_upload(upload(name, key)) for key, name in written))
            for key, version_id in written:
                await manifest.commit_version(draft(key, version_id, etag=version_id))
            for key, version_id in markers:
                await manifest.delete_latest(BUCKET, key, marker_id=version_id, now_ms=NOW)
            assert await every_object(manifest) == model(latest)
            assert await every_version(manifest) == model(all_versions)
            assert await every_upload(manifest) == model(by_key(written))

    async def every_object(manifest: Manifest) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        after = ""
        while True:
            page = await manifest.list_objects(BUCKET, prefix=prefix, delimiter=delimiter, after=after, limit=limit)
            found += by_key([(seen.key, seen.etag) for seen in listed(page)] + [(common, "") for common in page.prefixes])
            if not page.truncated:
                return found
            after = page.next_key

    async def every_version(manifest: Manifest) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        after = ("", "")
        while True:
            page = await manifest.list_versions(
                BUCKET, prefix=prefix, delimiter=delimiter, after_key=after[0], after_version=after[1], limit=limit
            )
            found += by_key([(version.key, version.id) for version in page.versions] + [(common, "") for common in page.prefixes])
            if not page.truncated:
                return found
            after = (page.next_key, page.next_version)

    async def every_upload(manifest: Manifest) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        after = ("", "")
        while True:
            page = await manifest.list_uploads(
                BUCKET, prefix=prefix, delimiter=delimiter, after_key=after[0], after_upload=after[1], limit=limit
            )
            found += by_key([(upload.key, upload.id) for upload in page.uploads] + [(common, "") for common in page.prefixes])
            if not page.truncated:
                return found
            after = (page.next_key, page.next_upload)

    asyncio.run(pages())


@pytest.mark.parametrize(
    ("after", "behind"), [("", ["a", "a\0", "a/b", "b"]), ("a", ["a\0", "a/b", "b"]), ("a/a", ["a/b", "b"]), ("a/b", ["b"]), ("b", [])]
)
async def test_a_page_begins_right_behind_the_key_that_it_is_told(manifest: Manifest, after: str, behind: list[str]) -> None:
    for key in ("b", "a/b", "a", "a\0"):
        await manifest.commit_version(draft(key))
    page = await manifest.list_objects(BUCKET, prefix="", delimiter="", after=after, limit=10)
    assert [seen.key for seen in listed(page)] == behind


@pytest.mark.parametrize(("limit", "truncated"), [(2, True), (3, False), (4, False)])
@pytest.mark.parametrize("delimiter", ["", "/"])
async def test_only_a_page_with_something_behind_it_is_truncated(manifest: Manifest, delimiter: str, limit: int, truncated: bool) -> None:
    for key in ("a", "b", "c/d"):
        await manifest.commit_version(draft(key))
        await manifest.begin_upload(upload(f"u-{key}", key))
    objects = await manifest.list_objects(BUCKET, prefix="", delimiter=delimiter, after="", limit=limit)
    histories = await manifest.list_versions(BUCKET, prefix="", delimiter=delimiter, after_key="", after_version="", limit=limit)
    uploads = await manifest.list_uploads(BUCKET, prefix="", delimiter=delimiter, after_key="", after_upload="", limit=limit)
    assert [page.truncated for page in (objects, histories, uploads)] == [truncated] * 3
    assert len(listed(objects)) + len(objects.prefixes) == len(histories.versions) + len(histories.prefixes) == min(limit, 3)


async def test_a_history_deleted_page_by_page_is_listed_whole(manifest: Manifest) -> None:
    await manifest.set_versioning(BUCKET, "Enabled")
    for number in range(7):
        await manifest.commit_version(draft("k", f"v{number}"))
    seen: list[str] = []
    after = ("", "")
    truncated = True
    while truncated:
        page = await manifest.list_versions(BUCKET, prefix="", delimiter="/", after_key=after[0], after_version=after[1], limit=3)
        for version in page.versions:
            await manifest.delete_version(BUCKET, version.key, version.id, now_ms=NOW)
            seen.append(version.id)
        after, truncated = (page.next_key, page.next_version), page.truncated
    assert seen == [f"v{number}" for number in range(6, -1, -1)]


async def test_uploads_aborted_page_by_page_are_listed_whole(manifest: Manifest) -> None:
    for number in range(7):
        await manifest.begin_upload(upload(f"u{number}", initiated_ms=NOW + number))
    seen: list[str] = []
    after = ("", "")
    truncated = True
    while truncated:
        page = await manifest.list_uploads(BUCKET, prefix="", delimiter="/", after_key=after[0], after_upload=after[1], limit=3)
        for each in page.uploads:
            await manifest.abort_upload(each.id, now_ms=NOW)
            seen.append(each.id)
        after, truncated = (page.next_key, page.next_upload), page.truncated
    assert seen == [f"u{number}" for number in range(7)]


async def test_a_state_is_kept_replaced_and_forgotten(manifest: Manifest) -> None:
    assert await manifest.load_state("walk") is None
    await manifest.save_state("walk", b"17")
    await manifest.save_state("walk", b"18")
    assert await manifest.load_state("walk") == b"18"
    await manifest.save_state("walk", None)
    assert await manifest.load_state("walk") is None
