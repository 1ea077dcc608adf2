"""Objects under KMS keys: another key than the tenant's, refused while it is disabled, and kept alive and recovered all the same."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.config import JournalConfig
from proxy.errors import KmsKeyDisabled, KmsKeyMissing
from proxy.manifest.records import Encryption, KmsKey, ObjectAttributes, ObjectKey, Upload, Version
from proxy.tenancy import add_kms_key, add_tenant
from tests.fault.campaigns.operating import applied, carried_out, planner
from tests.fault.campaigns.test_policy import wide_too
from tests.fault.test_recover import recovered
from tests.laboratory import BytesBody, Laboratory, laboratory, stored

DATA = os.urandom(300_001)
JOURNAL = JournalConfig(interval_ms=3_600_000)


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Laboratory]:
    async with laboratory(tmp_path, adjust=wide_too) as running:
        yield running


async def new_key(lab: Laboratory, alias: str = "") -> KmsKey:
    return await add_kms_key(lab.services.manifest, lab.services.keyring, lab.clock, lab.tenant, alias=alias)


def under(key: KmsKey) -> ObjectAttributes:
    return ObjectAttributes(encryption=Encryption(kms_key_id=key.id))


async def put(lab: Laboratory, key: KmsKey, name: str = "k", data: bytes = DATA) -> Version:
    version = await lab.services.engine.put_object(lab.bucket, lab.tenant, ObjectKey(name), BytesBody(data), under(key))
    await lab.settled()
    return version


async def disable(lab: Laboratory, key: KmsKey) -> None:
    await lab.services.manifest.set_kms_key_enabled(key.id, False)


async def copy(lab: Laboratory, source: Version, attributes: ObjectAttributes) -> Version:
    engine = lab.services.engine
    return await engine.copy_object(source, lab.bucket, lab.tenant, lab.bucket, lab.tenant, ObjectKey("copy"), attributes)


async def test_the_data_key_is_wrapped_by_the_kms_key(lab: Laboratory) -> None:
    key = await new_key(lab)
    await put(lab, key)
    extent, _ = await stored(lab)
    assert extent.layout.tenant_key_id == key.id
    assert len(lab.services.keyring.tenant_cipher(key).unwrap(extent.layout.wrapped_key)) == 32
    with pytest.raises(Exception, match="does not open this data key"):
        lab.services.keyring.tenant_cipher(lab.tenant).unwrap(extent.layout.wrapped_key)
    assert await lab.get("k") == DATA


async def test_a_disabled_key_opens_nothing_until_it_is_enabled_again(lab: Laboratory) -> None:
    key, engine = await new_key(lab), lab.services.engine
    version = await put(lab, key)
    upload = await engine.begin_upload(lab.bucket, lab.tenant, ObjectKey("u"), under(key))
    await disable(lab, key)
    with pytest.raises(KmsKeyDisabled):
        await lab.get("k")
    with pytest.raises(KmsKeyDisabled):
        await put(lab, key, "other")
    with pytest.raises(KmsKeyDisabled):
        await engine.upload_part(lab.bucket, lab.tenant, upload, 1, BytesBody(DATA))
    for attributes in (ObjectAttributes(), under(key)):
        with pytest.raises(KmsKeyDisabled):
            await copy(lab, version, attributes)
    await lab.services.manifest.set_kms_key_enabled(key.id, True)
    assert await lab.get("k") == DATA


async def test_a_key_of_another_tenant_is_no_key(lab: Laboratory) -> None:
    services = lab.services
    await add_tenant(services.manifest, services.keyring, lab.clock, "other")
    other = await services.manifest.find_tenant_by_name("other")
    assert other is not None
    theirs = await add_kms_key(services.manifest, services.keyring, lab.clock, other)
    with pytest.raises(KmsKeyMissing):
        await put(lab, theirs)
    with pytest.raises(KmsKeyMissing):  # nor is another tenant's own
        await services.engine.put_object(
            lab.bucket, lab.tenant, ObjectKey("k"), BytesBody(DATA), ObjectAttributes(encryption=Encryption(kms_key_id=other.id))
        )
    assert not await lab.shards()


async def test_a_copy_shares_under_one_key_and_moves_to_another(lab: Laboratory) -> None:
    one, two = await new_key(lab, "one"), await new_key(lab, "two")
    source = await put(lab, one)
    assert (await copy(lab, source, under(one))).extents == source.extents
    for attributes in (under(two), ObjectAttributes()):
        copied = await copy(lab, source, attributes)
        assert not {*copied.extents} & {*source.extents}
        assert copied.etag == source.etag
        assert await lab.get("copy") == DATA
    plain = await lab.put("plain", DATA)
    aws_s3 = ObjectAttributes(encryption=Encryption(kms_key_id=lab.tenant.id))
    assert (await copy(lab, plain, aws_s3)).extents == plain.extents, "the tenant key is the one that is called aws/s3"


async def test_repair_and_moves_go_on_while_the_key_is_disabled(lab: Laboratory) -> None:
    key = await new_key(lab)
    await put(lab, key)
    extent, segment = await stored(lab)
    await lab.stores[segment.stores[0]].delete(segment.shard_name(0))
    assert await lab.get("k") == DATA
    await lab.settled()
    await disable(lab, key)
    while not (await lab.worker("repair").step()).idle:
        pass
    await carried_out(lab, await applied(lab, await planner(lab).move_policy("bucket", "wide")))
    extent, _ = await stored(lab)
    assert (extent.layout.policy, extent.layout.k, extent.layout.tenant_key_id) == ("wide", 6, key.id)
    await lab.services.manifest.set_kms_key_enabled(key.id, True)
    assert await lab.get("k") == DATA


async def test_key_and_objects_come_back_from_the_journal_and_from_labels(tmp_path: Path) -> None:
    async with laboratory(tmp_path / "old", journal=JOURNAL) as lab:
        key, gone = await new_key(lab, "main"), await new_key(lab)
        await put(lab, key, "journaled")
        upload = await pending(lab, key)
        await disable(lab, gone)
        # Behind the end of the journal:
        await put(lab, key, "labelled", b"l" * 100_000)
        await lab.services.engine.upload_part(lab.bucket, lab.tenant, upload, 1, BytesBody(b"part"))
        await lab.settled()
        async with recovered(tmp_path / "old") as (new, report):
            manifest = new.services.manifest
            assert await manifest.list_kms_keys(new.tenant.id) == await lab.services.manifest.list_kms_keys(lab.tenant.id)
            assert await new.get("journaled") == DATA
            assert await new.get("labelled") == b"l" * 100_000
            assert [part.number for part in await manifest.list_parts(upload.id)] == [1]
            assert (report.versions_from_labels, report.parts_from_labels, report.findings) == (1, 1, ())


async def pending(lab: Laboratory, key: KmsKey) -> Upload:
    return await lab.services.engine.begin_upload(lab.bucket, lab.tenant, ObjectKey("u"), under(key))
