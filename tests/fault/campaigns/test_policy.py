"""A bucket gets another policy: every byte, ETag, version and part stays as it was, and what is stored keeps the new policy's promises."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import pytest

from proxy.codec.geometry import Scheme
from proxy.codec.label import Label, decode_label
from proxy.config import Config, PolicyConfig
from proxy.config.sections import MayFailConfig
from proxy.engine.moving.sources import SegmentSources
from proxy.engine.placing.classify import keeps_promises
from proxy.manifest.drafts import CompletedPart, VersionDraft
from proxy.manifest.records import Bucket, BucketName, Extent, ExtentId, ObjectAttributes, ObjectKey, Version, VersionId
from tests.fault.campaigns.operating import STEPS, Clients, applied, carried_out, check_rules, found, planner, traffic
from tests.laboratory import BytesBody, Laboratory, laboratory

WIDE = PolicyConfig(scheme="6+3", may_fail=MayFailConfig(providers=1), segment_mib=1)
SAME = PolicyConfig(scheme="4+2", may_fail=MayFailConfig(providers=1), stores=("birch", "cedar", "dogwood", "elm", "fir"))


def wide_too(config: Config) -> Config:
    return msgspec.structs.replace(config, policies={**config.policies, "wide": WIDE})


def two_policies(config: Config) -> Config:
    return msgspec.structs.replace(config, policies={**config.policies, "wide": WIDE, "same": SAME})


async def versions(lab: Laboratory) -> list[Version]:
    page = await lab.services.manifest.list_versions(lab.bucket.id, prefix="", delimiter="", after_key="", after_version="", limit=1000)
    found = [await lab.services.manifest.find_version(lab.bucket.id, listed.key, listed.id) for listed in page.versions]
    return [version for version in found if version is not None]


async def bytes_of(lab: Laboratory, version: Version) -> bytes:
    pieces = await lab.services.engine.open_read(version, lab.tenant, 0, version.size)
    return b"".join([bytes(piece) async for piece in pieces])


async def extents(lab: Laboratory) -> tuple[Extent, ...]:
    return await lab.services.manifest.walk_extents(after=ExtentId(0), limit=10_000)


async def moved(lab: Laboratory, policy: str) -> None:
    await carried_out(lab, await applied(lab, await planner(lab).move_policy("bucket", policy)))


async def other_bucket(lab: Laboratory, policy: str = "standard") -> Bucket:
    await lab.services.manifest.create_bucket(Bucket(name=BucketName("other"), tenant_id=lab.tenant.id, policy=policy, created_ms=0))
    bucket = await lab.services.manifest.find_bucket(BucketName("other"))
    assert bucket is not None
    return bucket


async def copied(lab: Laboratory, source: Version, bucket: Bucket, key: str = "copy") -> Version:
    return await lab.services.engine.copy_object(source, lab.bucket, lab.tenant, bucket, lab.tenant, ObjectKey(key), ObjectAttributes())


async def multipart(lab: Laboratory, key: str, parts: list[bytes]) -> Version:
    engine = lab.services.engine
    upload = await engine.begin_upload(lab.bucket, lab.tenant, ObjectKey(key), ObjectAttributes())
    done = [await engine.upload_part(lab.bucket, lab.tenant, upload, number, BytesBody(part)) for number, part in enumerate(parts, 1)]
    return await engine.complete_upload(lab.bucket, upload, [CompletedPart(number=part.number, etag=part.etag) for part in done])


async def test_every_version_keeps_its_etag_and_bytes_under_another_scheme(tmp_path: Path) -> None:
    async with laboratory(tmp_path, adjust=two_policies) as lab:
        manifest = lab.services.manifest
        await lab.put("k", b"null version" * 1000)
        await manifest.set_versioning(lab.bucket.id, "Enabled")
        for number, size in enumerate((1, 300_000, 3_000_000)):
            await lab.put("k", bytes([number]) * size)
        await lab.put("empty", b"")
        await manifest.delete_latest(lab.bucket.id, ObjectKey("gone"), marker_id=VersionId("m"), now_ms=1)
        whole = await multipart(lab, "parts", [b"p" * (5 * 2**20), b"q" * 100])
        parts = await manifest.load_parts(lab.bucket.id, whole)
        before = await versions(lab)
        contents = [await bytes_of(lab, version) for version in before if not version.is_delete_marker]
        await moved(lab, "wide")
        after = await versions(lab)
        assert [msgspec.structs.replace(version, extents=()) for version in after] == [
            msgspec.structs.replace(version, extents=()) for version in before
        ]
        assert [await bytes_of(lab, version) for version in after if not version.is_delete_marker] == contents
        assert await manifest.load_parts(lab.bucket.id, whole) == parts
        assert {(extent.layout.policy, extent.layout.k, extent.layout.m) for extent in await extents(lab)} == {("wide", 6, 3)}
        await lab.collect()
        assert len(await lab.shards()) == sum(len(segment.stores) for extent in await extents(lab) for segment in extent.layout.segments)


async def test_under_traffic_nobody_notices(tmp_path: Path) -> None:
    async with laboratory(tmp_path, adjust=two_policies) as lab:
        clients = Clients(lab, 4)
        await clients.fill(60)
        await lab.settled()
        campaign = await applied(lab, await planner(lab).move_policy("bucket", "wide"))
        assert campaign.estimate.rewritten == sum(-(-len(data) // 2**20) for data in clients.written.values())
        lab.bucket = msgspec.structs.replace(lab.bucket, policy="wide")  # as each request finds it from now on
        async with traffic(clients):
            for _ in range(STEPS):
                await lab.worker("campaigns").step()
                if (await found(lab, campaign.id)).rounds:
                    break
        await lab.settled()
        await carried_out(lab, campaign)
        await clients.check()
        assert {(extent.layout.policy, extent.layout.k) for extent in await extents(lab)} == {("wide", 6)}
        await lab.collect()
        assert len(await lab.shards()) == sum(len(segment.stores) for extent in await extents(lab) for segment in extent.layout.segments)


async def test_with_the_same_scheme_only_shards_in_other_stores_move(tmp_path: Path) -> None:
    async with laboratory(tmp_path, adjust=two_policies) as lab:
        for number in range(10):
            await lab.put(f"k{number}", bytes([number]) * 200_000)
        plan = await planner(lab).move_policy("bucket", "same")
        assert (plan.estimate.copied, plan.estimate.rewritten) == (10, 0)
        ids = [extent.id for extent in await extents(lab)]
        campaign = await applied(lab, plan)
        for _ in range(STEPS):
            await lab.worker("campaigns").step()
            await check_rules(lab)
            if (await found(lab, campaign.id)).rounds:
                break
        done = await carried_out(lab, campaign)
        assert (done.actual.copied, done.actual.rewritten) == (10, 0)
        policy = lab.services.policies["same"]
        assert all(keeps_promises(policy, policy.scheme, extent.layout) for extent in await extents(lab))
        assert [extent.id for extent in await extents(lab)] == ids
        assert [await lab.get(f"k{number}") for number in range(10)] == [bytes([number]) * 200_000 for number in range(10)]


async def test_a_copy_in_another_bucket_keeps_its_extent_and_its_policy(tmp_path: Path) -> None:
    async with laboratory(tmp_path, adjust=two_policies) as lab:
        source = await lab.put("k", b"x" * 100_000)
        bucket = await other_bucket(lab)
        copy = await copied(lab, source, bucket)
        assert copy.extents == source.extents
        await moved(lab, "same")
        there = await lab.services.manifest.find_version(bucket.id, ObjectKey("copy"))
        assert there == copy
        kept = {extent.id: extent.layout.policy for extent in await extents(lab)}
        assert sorted(kept.values()) == ["same", "standard"]
        assert kept[copy.extents[0].id] == "standard"
        assert await bytes_of(lab, copy) == await lab.get("k") == b"x" * 100_000


async def test_copies_in_the_bucket_go_on_to_share_what_was_stored_anew(tmp_path: Path) -> None:
    async with laboratory(tmp_path, adjust=two_policies) as lab:
        source = await lab.put("k", b"x" * 100_000)
        for number in range(20):
            await copied(lab, source, lab.bucket, f"copy-{number}")
        plan = await planner(lab).move_policy("bucket", "wide")
        assert plan.estimate.rewritten == 1
        done = await carried_out(lab, await applied(lab, plan))
        assert done.actual.rewritten == 1
        (extent,) = await extents(lab)
        assert {version.extents[0].id for version in await versions(lab)} == {extent.id}
        assert await lab.get("copy-7") == b"x" * 100_000


async def test_a_part_that_waits_for_its_completion_moves_too(tmp_path: Path) -> None:
    async with laboratory(tmp_path, adjust=two_policies) as lab:
        engine = lab.services.engine
        upload = await engine.begin_upload(lab.bucket, lab.tenant, ObjectKey("k"), ObjectAttributes())
        part = await engine.upload_part(lab.bucket, lab.tenant, upload, 1, BytesBody(b"p" * 400_000))
        await moved(lab, "wide")
        (extent,) = await extents(lab)
        assert (extent.layout.policy, extent.layout.k) == ("wide", 6)
        version = await engine.complete_upload(lab.bucket, upload, [CompletedPart(number=1, etag=part.etag)])
        assert version.etag == hashlib.md5(bytes.fromhex(part.etag)).hexdigest() + "-1"
        assert await lab.get("k") == b"p" * 400_000


async def test_a_write_that_had_begun_under_the_former_policy_is_moved_when_it_comes(tmp_path: Path) -> None:
    async with laboratory(tmp_path, adjust=two_policies) as lab:
        campaign = await carried_out(lab, await applied(lab, await planner(lab).move_policy("bucket", "wide")))
        await lab.put("late", b"l" * 100_000)  # lab.bucket is as it was found before the move
        assert (await found(lab, campaign.id)).state == "running"
        await carried_out(lab, campaign)
        assert {(extent.layout.policy, extent.layout.k) for extent in await extents(lab)} == {("wide", 6)}
        assert await lab.get("late") == b"l" * 100_000


@pytest.mark.parametrize("overwritten", [False, True])
async def test_what_is_deleted_while_it_is_stored_anew_stays_deleted(tmp_path: Path, overwritten: bool) -> None:
    async with laboratory(tmp_path, adjust=two_policies) as lab:
        await lab.put("k", b"x" * 100_000)
        campaign = await applied(lab, await planner(lab).move_policy("bucket", "wide"))
        lab.bucket = msgspec.structs.replace(lab.bucket, policy="wide")
        manifest, exchange = lab.services.manifest, lab.services.manifest.exchange_extent

        async def late(*args: object, **kwargs: object) -> object:
            manifest.exchange_extent = exchange  # type: ignore[method-assign]
            await manifest.delete_latest(lab.bucket.id, ObjectKey("k"), marker_id=VersionId("m"), now_ms=lab.clock.now_ms())
            if overwritten:
                await lab.put_promptly("k", b"newer")  # the exchange itself is among the tasks that are waited for elsewhere
            return await exchange(*args, **kwargs)  # type: ignore[arg-type]

        manifest.exchange_extent = late  # type: ignore[assignment, method-assign]
        await carried_out(lab, campaign)
        await lab.collect()
        if overwritten:
            assert await lab.get("k") == b"newer"
        else:
            assert await manifest.find_version(lab.bucket.id, ObjectKey("k")) is None
        assert len(await lab.shards()) == (9 if overwritten else 0)


async def test_after_the_scheme_of_a_policy_has_changed_its_buckets_are_brought_under_it(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        await lab.put("k", b"x" * 100_000)

    def changed(config: Config) -> Config:
        policy = msgspec.structs.replace(config.policies["standard"], scheme="6+3", storage_classes={})
        return msgspec.structs.replace(config, policies={"standard": policy})

    async with laboratory(tmp_path, adjust=changed) as lab:
        await moved(lab, "standard")
        assert {(extent.layout.policy, extent.layout.k) for extent in await extents(lab)} == {("standard", 6)}
        assert await lab.get("k") == b"x" * 100_000


async def test_the_scheme_of_a_storage_class_is_that_of_the_new_policy(tmp_path: Path) -> None:
    def classes(config: Config) -> Config:
        wide = msgspec.structs.replace(WIDE, storage_classes={"STANDARD_IA": "5+3"})
        return msgspec.structs.replace(config, policies={**config.policies, "wide": wide})

    async with laboratory(tmp_path, adjust=classes) as lab:
        body, attributes = BytesBody(b"x" * 1000), ObjectAttributes(storage_class="STANDARD_IA")
        await lab.services.engine.put_object(lab.bucket, lab.tenant, ObjectKey("k"), body, attributes)
        await moved(lab, "wide")
        assert {(extent.layout.k, extent.layout.m) for extent in await extents(lab)} == {(5, 3)}
        assert lab.services.policies["wide"].scheme_of("STANDARD_IA") == Scheme(5, 3)


async def test_what_is_stored_anew_carries_the_label_it_had(tmp_path: Path) -> None:
    """Whoever recovers from the stores alone finds the same version in it, with its record in the last of its segments."""
    async with laboratory(tmp_path, adjust=two_policies) as lab:
        version = await lab.put("k", b"x" * 2_500_000)
        before = await label_of(lab)
        await moved(lab, "wide")
        (extent,) = await extents(lab)
        assert len(extent.layout.segments) == 3  # of 1 MiB: before it was one
        after = await label_of(lab)
        assert after == msgspec.structs.replace(before, segment=2, offset=2 * 2**20)
        assert msgspec.msgpack.decode(after.record, type=VersionDraft).etag == version.etag


async def label_of(lab: Laboratory) -> Label:
    """Return the label of the last segment of the one extent there is."""
    (extent,) = await extents(lab)
    sources = SegmentSources(
        extent,
        extent.layout.segments[-1],
        lab.services.keyring.tenant_cipher(lab.tenant),
        fleet=lab.services.fleet,
        threads=lab.services.parts.threads,
        throttle=lab.services.parts.throttle,
        reporter=lab.services.parts.reporter,
    )
    last = sources.geometry.stripe_count - 1
    await sources.columns(last, last, suspect=())
    footer = next(iter(sources.footers.values()))
    return decode_label(sources.keys.label_cipher().open(footer.sealed_label))
